//! What two eras need of each other.
