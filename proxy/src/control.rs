//! What the control plane may ask of the data plane.
