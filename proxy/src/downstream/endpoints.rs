//! Every endpoint of the protocol: which transport serves a request.

use async_trait::async_trait;

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

#[async_trait]
impl McpService for Endpoints {
    async fn serve(&self, request: McpRequest) -> Reply {
        match request.path.transport {
            McpTransport::StreamableHttp => self.streamable_http.serve(request).await,
            McpTransport::Sse => self.sse.stream(&request),
            McpTransport::SseMessages => self.sse.message(request).await,
            McpTransport::Websocket => self.websocket.upgrade(&request),
        }
    }
}
