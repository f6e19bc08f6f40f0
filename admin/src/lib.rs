//! The control plane: the REST API, and the embedded console.
//!
//! [`service`] makes one tower service of it, which the listener calls in process for every path
//! that isn't MCP. It knows nothing of the listener; it changes what the store remembers, and asks
//! the data plane through [`proxy::control::Control`].
//!
//! Reading order: `routes` is every route in one list; `api/<noun>/<operation>` is one operation;
//! `extract` is what an operation is given (the `Admin` among it, which proves a token that holds);
//! `error` is everything that can go wrong; `frame` stands around all of it.

mod api;
mod app;
mod audit;
mod backup;
mod client_files;
pub mod declared;
mod doc;
mod error;
mod extract;
mod fields;
pub mod first_admin;
mod frame;
mod idempotency;
pub mod log_ring;
mod merge;
mod password;
mod query;
pub mod reset_password;
mod routes;
mod session;
mod templates;
mod throttle;
pub mod transfer;
mod ui;

#[cfg(test)]
mod testing;

use std::convert::Infallible;
use std::sync::Arc;

use proxy::control::Control;
use sql::Store;
use sql::model::{Secret, Settings};
use tokio::sync::watch;
use tower::util::BoxCloneSyncService;

pub(crate) use crate::app::App;
use crate::log_ring::LogRing;
pub use crate::routes::openapi;
/// The body of requests and answers of [`service`].
pub use axum::body::Body;

/// What the control plane stands on. Clones stand on the same.
#[derive(Clone)]
pub struct Deps {
    /// What the gateway remembers.
    pub store: Store,
    /// The data plane.
    pub control: Control,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// The settings that the environment fixes, as `group.key`: no admin can change them.
    pub locked: Vec<String>,
    /// What the first registration from another machine must show; without one it isn't possible.
    pub setup_token: Option<Secret<String>>,
    /// Where clients reach the gateway, if the operator says so.
    pub public_url: Option<String>,
    /// The last lines of the gateway's log.
    pub logs: LogRing,
    /// The version of the gateway.
    pub version: &'static str,
}

/// The service that [`service`] makes. Each request carries a [`proxy::context::ClientContext`]
/// among its extensions.
pub type AdminService = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Infallible>;

/// The control plane as one service.
pub fn service(deps: Deps) -> AdminService {
    BoxCloneSyncService::new(routes::router(App::new(deps, password::COST)))
}
