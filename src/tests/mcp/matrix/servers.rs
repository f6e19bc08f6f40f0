//! The servers of the matrix: one for each revision on each transport that the revision has.
//!
//! All are upstreams of one gateway, and offer the same names.

use serde_json::{Value, json};

use crate::harness::{LEGACY, MODERN, Reference, References, Scene, TestGateway, script};

/// What the servers change, and others subscribe to.
pub(super) const WATCHED: &str = "test://watched-resource";

/// The upstream transports, in the order of the document.
pub(super) const TRANSPORTS: [&str; 4] = ["stdio", "http", "sse", "ws"];

const TOOLS: &str = "echo,counters,test_cancellations,test_wait_for_cancellation,test_tool_with_progress,\
    test_elicitation,test_sampling,test_input_required_result_list_roots,test_logging_levels,\
    test_trigger_tool_change,test_changing_tool,test_update_watched_resource";

/// One server: a revision on a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) revision: &'static str,
    pub(super) transport: &'static str,
}

/// The pairs that exist: HTTP+SSE ended with the legacy era, and Streamable HTTP came with 2025-03-26.
pub(super) fn all() -> impl Iterator<Item = Server> {
    let exists = |server: &Server| match server.transport {
        "http" => server.revision != "2024-11-05",
        "sse" => server.revision != MODERN,
        _ => true,
    };
    let of = |transport| revisions().map(move |revision| Server { revision, transport });
    TRANSPORTS.into_iter().flat_map(of).filter(exists)
}

/// All revisions, oldest first.
pub(super) fn revisions() -> impl Iterator<Item = &'static str> {
    LEGACY.into_iter().chain([MODERN])
}

impl Server {
    /// The exposed name of one of its tools.
    pub(super) fn tool(&self, name: &str) -> String {
        format!("{}{name}", self.prefix())
    }

    /// The name of its upstream.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.transport, self.revision)
    }

    fn prefix(&self) -> String {
        format!("{}.{}.", self.transport, self.revision)
    }

    /// Its upstream, as the REST API takes it.
    fn upstream(&self, listening: &References, script: &str) -> Value {
        let (transport, parameters) = match self.transport {
            "stdio" => {
                let arguments = ["--revision", self.revision, "--tools", TOOLS];
                ("stdio", json!({"command": "node", "args": Reference::over_stdio(script, &arguments)}))
            }
            peer => {
                let transport = match peer {
                    "http" => "streamable-http",
                    "ws" => "websocket",
                    other => other,
                };
                (transport, json!({"url": listening.url(peer, self.revision)}))
            }
        };
        json!({
            "name": self.name(), "transport": transport, "namePrefix": self.prefix(), "connParams": parameters,
        })
    }
}

/// Starts those that listen. Dropped, they end; those over stdio end with their gateway.
pub(super) fn start() -> References {
    let revisions: Vec<_> = revisions().collect();
    References::start(&TRANSPORTS[1..], &revisions, &["--tools", TOOLS])
}

/// A gateway before all of them, ready with all they have.
pub(super) async fn gateway(listening: &References) -> TestGateway {
    let script = script();
    let upstreams = all().map(|server| server.upstream(listening, &script));
    let scene = TestGateway::start().alone("each replica would have children of its own, dozens of them");
    let gateway = upstreams.fold(scene.with_key(), Scene::with_upstream).await;
    let mcp = gateway.mcp();
    for server in all() {
        mcp.lists(&[&server.tool("echo")]).await;
    }
    mcp.resources_become(|uris| uris.len() == all().count()).await;
    gateway
}
