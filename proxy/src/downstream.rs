//! What every transport towards clients shares.
//!
//! [`dispatch`] answers messages; [`conversation`] is one call's ordered queue towards its client;
//! [`session`] is a legacy session as a sealed token, [`live`] what of it lives in memory, and
//! [`session_log`] what of it is kept; [`incoming`] is what a legacy client's messages mean,
//! [`outlet`] the way back to it. [`endpoints`] chooses the transport: [`streamable_http`], with
//! [`stream`] as a running call on it and [`replay`] for clients that come back; or [`sse`] and
//! [`websocket`], which share [`connection`]; [`xiaozhi`] are clients that are dialled. [`mode`] says which tools a client is shown, and `smart_mode`
//! has the four that find the others. [`tasks`] is work that outlives its call.
//! [`subscriptions`] are what clients hear beside their calls, with what [`resource_updates`] and
//! [`log_feed`] have for them.

pub mod abilities;
mod bounds;
pub mod connection;
pub mod conversation;
pub mod dispatch;
pub mod endpoints;
pub mod in_flight;
pub mod incoming;
pub mod initialize;
pub mod live;
pub mod log_feed;
pub mod log_levels;
pub mod mode;
pub mod modern_checks;
pub mod outlet;
pub mod replay;
mod resource_subscribe;
pub mod resource_updates;
pub mod session;
pub mod session_log;
pub mod session_notes;
mod smart_mode;
pub mod sse;
pub mod stream;
pub mod streamable_http;
pub mod subscriptions;
pub mod tasks;
mod verbs;
pub mod websocket;
pub mod xiaozhi;
