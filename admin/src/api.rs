//! The operations, by noun.

pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod document;
pub(crate) mod health;
pub(crate) mod keys;
pub(crate) mod oauth;
pub(crate) mod settings;
pub(crate) mod tools;
pub(crate) mod upstreams;
