//! What every transport towards clients shares.
//!
//! [`dispatch`] answers messages; [`conversation`] is one call's ordered queue towards its client;
//! [`session`] is a legacy session as a sealed token, [`live`] what of it lives in memory, and
//! [`session_log`] what of it is kept; [`streamable_http`] is the transport, [`stream`] a running call
//! on it, [`subscriptions`] its long-lived streams, with what [`resource_updates`] and [`log_feed`]
//! have for them.

pub mod abilities;
pub mod conversation;
pub mod dispatch;
pub mod in_flight;
pub mod initialize;
pub mod live;
pub mod log_feed;
pub mod log_levels;
pub mod modern_checks;
mod resource_subscribe;
pub mod resource_updates;
pub mod session;
pub mod session_log;
pub mod stream;
pub mod streamable_http;
pub mod subscriptions;
mod verbs;
