//! Which family of routes a path belongs to.
//!
//! A closed enum and a pure function, so that what follows is a `match` that can't forget a case.
//! A path is compared as it came: nothing is decoded or normalised, because two readings of one path
//! are two answers to "may they".

/// A family of routes; each has its own checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facet {
    /// `/healthz`: is the process alive? Open to all, and exempt from the Host check.
    Health,
    /// `/readyz`: should traffic be sent here? Likewise.
    Ready,
    /// A client's endpoint of the protocol.
    Mcp(McpPath),
    /// Below `/mcp`, but nothing that is served.
    McpUnknown,
    /// Everything else: the REST API and the console.
    Admin,
}

/// A client's endpoint, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct McpPath {
    /// How messages travel.
    pub transport: McpTransport,
    /// The mode that the path asks for; it overrides that of the key and of the settings.
    pub mode: Option<PathMode>,
    /// The one spelling of the path: `/mcp` and `/mcp/http` are both `/mcp/http`. A session is bound to it.
    pub full_path: &'static str,
}

/// A transport towards clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum McpTransport {
    /// One endpoint, answers as JSON or as an event stream.
    StreamableHttp,
    /// The transport of 2024-11-05: an event stream for what the client hears.
    Sse,
    /// Its other half, for what the client says.
    SseMessages,
    /// One message a text frame.
    Websocket,
}

/// What the path says of the mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathMode {
    /// Four tools that find and call the others.
    Smart,
    /// Every tool of the view.
    Full,
}

impl McpTransport {
    /// The methods that are served, as in an `Allow` header.
    pub fn methods(self) -> &'static str {
        match self {
            Self::StreamableHttp => "GET, POST, DELETE",
            Self::Sse | Self::Websocket => "GET",
            Self::SseMessages => "POST",
        }
    }
}

impl Facet {
    /// The facet of a request's path (without its query).
    pub fn of(path: &str) -> Self {
        match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            "/mcp" | "/mcp/" => Self::Mcp(STREAMABLE_HTTP),
            _ => match path.strip_prefix("/mcp/") {
                Some(below) => mcp(below).map_or(Self::McpUnknown, Self::Mcp),
                None => Self::Admin,
            },
        }
    }
}

const STREAMABLE_HTTP: McpPath =
    McpPath { transport: McpTransport::StreamableHttp, mode: None, full_path: "/mcp/http" };

/// The endpoints that are served, each with its two modes.
fn mcp(below: &str) -> Option<McpPath> {
    use McpTransport::{Sse, SseMessages, StreamableHttp, Websocket};
    use PathMode::{Full, Smart};
    // Both halves of the transport of 2024-11-05 are one endpoint, and have one spelling.
    let (transport, mode, full_path) = match below.strip_suffix('/').unwrap_or(below) {
        "http" => (StreamableHttp, None, "/mcp/http"),
        "smart/http" => (StreamableHttp, Some(Smart), "/mcp/smart/http"),
        "full/http" => (StreamableHttp, Some(Full), "/mcp/full/http"),
        "sse" => (Sse, None, "/mcp/sse"),
        "smart/sse" => (Sse, Some(Smart), "/mcp/smart/sse"),
        "full/sse" => (Sse, Some(Full), "/mcp/full/sse"),
        "sse/messages" => (SseMessages, None, "/mcp/sse"),
        "smart/sse/messages" => (SseMessages, Some(Smart), "/mcp/smart/sse"),
        "full/sse/messages" => (SseMessages, Some(Full), "/mcp/full/sse"),
        "ws" => (Websocket, None, "/mcp/ws"),
        "smart/ws" => (Websocket, Some(Smart), "/mcp/smart/ws"),
        "full/ws" => (Websocket, Some(Full), "/mcp/full/ws"),
        _ => return None,
    };
    Some(McpPath { transport, mode, full_path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full_path(path: &str) -> Option<&'static str> {
        match Facet::of(path) {
            Facet::Mcp(mcp) => Some(mcp.full_path),
            _ => None,
        }
    }

    #[test]
    fn the_endpoint_has_one_spelling() {
        for path in ["/mcp", "/mcp/", "/mcp/http", "/mcp/http/"] {
            assert_eq!(full_path(path), Some("/mcp/http"), "{path}");
        }
    }

    #[test]
    fn a_path_may_say_the_mode() {
        let mode = |path| match Facet::of(path) {
            Facet::Mcp(mcp) => mcp.mode,
            other => panic!("{path} is {other:?}"),
        };
        assert_eq!(mode("/mcp/http"), None);
        assert_eq!(mode("/mcp/smart/http"), Some(PathMode::Smart));
        assert_eq!(mode("/mcp/full/http"), Some(PathMode::Full));
    }

    #[test]
    fn every_transport_is_served_in_every_mode() {
        for (name, transport) in [
            ("http", McpTransport::StreamableHttp),
            ("sse", McpTransport::Sse),
            ("sse/messages", McpTransport::SseMessages),
            ("ws", McpTransport::Websocket),
        ] {
            for (prefix, mode) in
                [("", None), ("smart/", Some(PathMode::Smart)), ("full/", Some(PathMode::Full))]
            {
                let Facet::Mcp(path) = Facet::of(&format!("/mcp/{prefix}{name}")) else { panic!("{name}") };
                assert_eq!((path.transport, path.mode), (transport, mode));
                let endpoint = name.trim_end_matches("/messages");
                assert_eq!(path.full_path, format!("/mcp/{prefix}{endpoint}"));
            }
        }
    }

    #[test]
    fn what_is_not_served_below_mcp_is_no_admin_route() {
        for path in ["/mcp/messages", "/mcp/ws/x", "/mcp/smart", "/mcp/http/x", "/mcp//http", "/mcp/HTTP"] {
            assert_eq!(Facet::of(path), Facet::McpUnknown, "{path}");
        }
    }

    #[test]
    fn everything_else_is_the_control_plane() {
        for path in ["/", "", "/mcpx", "/%6dcp/http", "/healthz/", "/api/admin/upstreams", "*"] {
            assert_eq!(Facet::of(path), Facet::Admin, "{path}");
        }
    }

    #[test]
    fn health_and_readiness_are_exact() {
        assert_eq!(Facet::of("/healthz"), Facet::Health);
        assert_eq!(Facet::of("/readyz"), Facet::Ready);
    }
}
