//! Between a Pingora session and `http` types.
