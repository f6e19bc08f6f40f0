//! The servers of the matrix: one for each revision on each transport that the revision has.
//!
//! All are upstreams of one gateway, and offer the same names. A session of the legacy era that is shared
//! can't be asked for roots, so each legacy server has a second upstream whose sessions aren't.

use serde_json::json;

use crate::harness::{LEGACY, MODERN, Reference, References, TestGateway, script};

/// What the servers change, and others subscribe to.
pub(super) const WATCHED: &str = "test://watched-resource";

/// The upstream transports, in the order of the document.
pub(super) const TRANSPORTS: [&str; 4] = ["stdio", "http", "sse", "ws"];

const TOOLS: &str = "echo,counters,test_cancellations,test_wait_for_cancellation,test_tool_with_progress,\
    test_elicitation,test_sampling,test_input_required_result_list_roots,test_logging_levels,\
    test_trigger_tool_change,test_changing_tool,test_update_watched_resource";
const ROOTS_TOOL: &str = "test_input_required_result_list_roots";

/// One server: a revision on a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) revision: &'static str,
    pub(super) transport: &'static str,
}

/// All of them, and the processes of those that have an address.
pub(super) struct Servers {
    shared: References,
    own: References,
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

    /// The tool that lists roots, at the upstream that may ask for them.
    pub(super) fn roots_tool(&self) -> String {
        if self.revision == MODERN {
            self.tool(ROOTS_TOOL)
        } else {
            format!("own.{}{ROOTS_TOOL}", self.prefix())
        }
    }

    /// The names of its upstreams.
    pub(super) fn upstreams(&self) -> Vec<String> {
        let name = format!("{} {}", self.transport, self.revision);
        let own = (self.revision != MODERN).then(|| format!("own {name}"));
        std::iter::once(name.clone()).chain(own).collect()
    }

    fn prefix(&self) -> String {
        format!("{}.{}.", self.transport, self.revision)
    }
}

impl Servers {
    /// Starts those that listen.
    pub(super) fn start() -> Self {
        let revisions: Vec<_> = revisions().collect();
        Self {
            shared: References::start(&TRANSPORTS[1..], &revisions, &["--tools", TOOLS]),
            own: References::start(&TRANSPORTS[1..], &LEGACY, &["--tools", ROOTS_TOOL]),
        }
    }

    /// A gateway before all of them, ready with all they have.
    pub(super) async fn gateway(&self) -> TestGateway {
        let script = script();
        let mut scene = TestGateway::start().with_key();
        for server in all() {
            let (prefix, revision) = (server.prefix(), server.revision);
            for (name, prefix, isolation, tools, references) in [
                (0, prefix.clone(), "shared", TOOLS, &self.shared),
                (1, format!("own.{prefix}"), "per-session", ROOTS_TOOL, &self.own),
            ] {
                let Some(name) = server.upstreams().into_iter().nth(name) else { continue };
                let transport = match server.transport {
                    "http" => "streamable-http",
                    "ws" => "websocket",
                    other => other,
                };
                let arguments = ["--revision", revision, "--tools", tools];
                let parameters = if transport == "stdio" {
                    json!({"command": "node", "args": Reference::over_stdio(&script, &arguments)})
                } else {
                    json!({"url": references.url(server.transport, revision)})
                };
                scene = scene.with_upstream(json!({
                    "name": name, "transport": transport, "namePrefix": prefix, "isolation": isolation,
                    "connParams": parameters,
                }));
            }
        }
        let gateway = scene.await;
        let mcp = gateway.mcp();
        for server in all() {
            mcp.lists(&[&server.tool("echo"), &server.roots_tool()]).await;
        }
        mcp.resources_become(|uris| uris.len() == all().count()).await;
        gateway
    }
}
