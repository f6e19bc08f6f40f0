//! What happens before a request exists.
