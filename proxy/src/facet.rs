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
    /// The transport of 2024-11-05: an event stream, and an endpoint for posts.
    Sse,
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

/// The endpoints that are served. `sse` and `ws` join here, each with its two modes, when they exist.
fn mcp(below: &str) -> Option<McpPath> {
    let (mode, full_path) = match below.strip_suffix('/').unwrap_or(below) {
        "http" => (None, "/mcp/http"),
        "smart/http" => (Some(PathMode::Smart), "/mcp/smart/http"),
        "full/http" => (Some(PathMode::Full), "/mcp/full/http"),
        _ => return None,
    };
    Some(McpPath { mode, full_path, ..STREAMABLE_HTTP })
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
    fn what_is_not_served_below_mcp_is_no_admin_route() {
        for path in ["/mcp/sse", "/mcp/ws", "/mcp/smart", "/mcp/http/x", "/mcp//http", "/mcp/HTTP"] {
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
