//! Fetching the lists of an upstream.
