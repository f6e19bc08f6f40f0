//! Every deliberate no.
