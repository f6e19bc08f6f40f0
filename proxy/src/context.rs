//! What is known of a client before it is known who it is.

use std::net::IpAddr;
use std::sync::Arc;

/// Where a request comes from and what it is called in logs, set in the first phase of the pipeline
/// and handed to the control plane as a request extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientContext {
    /// The client's address after trusted proxies are taken into account; IPv4-mapped IPv6 is unmapped.
    pub address: IpAddr,
    /// The request's name in logs, problem bodies and audit events.
    pub request_id: Arc<str>,
}
