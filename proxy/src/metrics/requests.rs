//! How many requests came, over what, and what became of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use http::{Method, StatusCode};

use super::page::{Kind, Page};
use crate::facet::{Facet, McpTransport};

/// What a request is for, as a metric labels it.
const TRANSPORTS: [&str; 6] = ["streamable-http", "sse", "sse-messages", "websocket", "admin", "unknown"];
const METHODS: [&str; 5] = ["GET", "POST", "DELETE", "PATCH", "other"];
const OUTCOMES: [&str; 4] = ["ok", "refused", "client_error", "server_error"];

/// Counts of requests. A fixed array: a request looks nothing up.
#[derive(Default)]
pub(crate) struct RequestMeters {
    counts: [[[AtomicU64; OUTCOMES.len()]; METHODS.len()]; TRANSPORTS.len()],
    /// Refusals alone take a lock, and their reasons are words of ours.
    refusals: Mutex<BTreeMap<&'static str, u64>>,
}

impl RequestMeters {
    /// Counts one that was answered.
    pub(crate) fn count(
        &self,
        facet: Facet,
        method: &Method,
        status: Option<StatusCode>,
        refusal: Option<&'static str>,
    ) {
        let transport = match facet {
            Facet::Mcp(path) => match path.transport {
                McpTransport::StreamableHttp => 0,
                McpTransport::Sse => 1,
                McpTransport::SseMessages => 2,
                McpTransport::Websocket => 3,
            },
            Facet::Admin => 4,
            Facet::McpUnknown | Facet::Health | Facet::Ready => 5,
        };
        let method = match *method {
            Method::GET => 0,
            Method::POST => 1,
            Method::DELETE => 2,
            Method::PATCH => 3,
            _ => 4,
        };
        let outcome = match (refusal, status) {
            (Some(_), _) => 1,
            (None, Some(status)) if status.is_client_error() => 2,
            (None, Some(status)) if !status.is_server_error() => 0,
            (None, _) => 3,
        };
        self.counts[transport][method][outcome].fetch_add(1, Ordering::Relaxed);
        if let Some(reason) = refusal {
            *self.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
        }
    }

    /// Puts them on the page; what never happened isn't there.
    pub(crate) fn show(&self, page: &mut Page) {
        let requests =
            page.family("mpg_requests", Kind::Counter, "Requests by what they were for and how they ended");
        for (transport, methods) in TRANSPORTS.into_iter().zip(&self.counts) {
            for (method, outcomes) in METHODS.into_iter().zip(methods) {
                for (outcome, count) in OUTCOMES.into_iter().zip(outcomes) {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        requests.add(
                            &[("transport", transport), ("method", method), ("outcome", outcome)],
                            count,
                        );
                    }
                }
            }
        }
        let refused = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let refusals = page.family("mpg_refusals", Kind::Counter, "Requests that were refused, by reason");
        for (reason, count) in refused {
            refusals.add(&[("reason", reason)], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_were_for() {
        let meters = RequestMeters::default();
        for (path, method, status, refusal) in [
            ("/mcp", Method::POST, 200, None),
            ("/mcp", Method::POST, 429, Some("rate_limited")),
            ("/mcp/ws", Method::GET, 101, None),
            ("/mcp/none", Method::PUT, 404, Some("not_found")),
            ("/api/admin/keys", Method::PATCH, 412, None),
            ("/api/admin/keys", Method::GET, 503, None),
        ] {
            meters.count(Facet::of(path), &method, StatusCode::from_u16(status).ok(), refusal);
        }
        let mut page = Page::default();
        meters.show(&mut page);
        let text = page.render();
        for line in [
            "mpg_requests_total{transport=\"streamable-http\",method=\"POST\",outcome=\"ok\"} 1",
            "mpg_requests_total{transport=\"streamable-http\",method=\"POST\",outcome=\"refused\"} 1",
            "mpg_requests_total{transport=\"websocket\",method=\"GET\",outcome=\"ok\"} 1",
            "mpg_requests_total{transport=\"unknown\",method=\"other\",outcome=\"refused\"} 1",
            "mpg_requests_total{transport=\"admin\",method=\"PATCH\",outcome=\"client_error\"} 1",
            "mpg_requests_total{transport=\"admin\",method=\"GET\",outcome=\"server_error\"} 1",
            "mpg_refusals_total{reason=\"rate_limited\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(!text.contains(" 0\n"), "{text}");
    }
}
