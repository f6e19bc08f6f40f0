//! The pipeline of a request, as a few lines.
