//! Which family of routes a path belongs to.
