//! The operations, by noun.

pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod backup;
pub(crate) mod clients;
pub(crate) mod document;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod items;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod oauth;
pub(crate) mod rules;
pub(crate) mod settings;
pub(crate) mod stats;
pub(crate) mod templates;
pub(crate) mod upstreams;
pub(crate) mod xiaozhi;
