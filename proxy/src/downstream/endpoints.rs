//! Every endpoint of the protocol: which transport serves a request.

use std::pin::Pin;

use super::sse::Sse;
use super::streamable_http::StreamableHttp;
use super::websocket::Websocket;
use crate::facet::McpTransport;
use crate::http_bridge::{McpRequest, McpService, Reply};

/// All transports.
pub struct Endpoints {
    /// `/mcp/http`.
    pub streamable_http: StreamableHttp,
    /// `/mcp/sse`, with both of its halves.
    pub sse: Sse,
    /// `/mcp/ws`.
    pub websocket: Websocket,
}

impl McpService for Endpoints {
    // Without `async`: a future around that of Streamable HTTP would only be copied to and fro.
    fn serve<'a, 'b>(&'a self, request: McpRequest) -> Pin<Box<dyn Future<Output = Reply> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        match request.path.transport {
            McpTransport::StreamableHttp => self.streamable_http.serve(request),
            McpTransport::Sse => Box::pin(async move { self.sse.stream(&request) }),
            McpTransport::SseMessages => Box::pin(self.sse.message(request)),
            McpTransport::Websocket => Box::pin(async move { self.websocket.upgrade(&request) }),
        }
    }
}
