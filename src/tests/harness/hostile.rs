//! The hostile server of `src/tests/peers`, over every transport.

use serde_json::{Value, json};

use super::reference::{Reference, tests_folder};

/// The transports; `json` is Streamable HTTP whose answers are no streams.
pub(crate) const HOSTILE_TRANSPORTS: [&str; 5] = ["stdio", "http", "json", "sse", "ws"];

/// A server that misbehaves on demand. Dropped, it ends.
pub(crate) struct Hostile {
    sockets: Reference,
}

impl Hostile {
    pub(crate) fn start() -> Self {
        Self { sockets: Reference::of(&script(), &["--transport", "sockets"]) }
    }

    /// It as an upstream over one of the transports, whose tools begin with its name. It has the least
    /// patience that can be configured. `list` says how it lists them: `good` is as it should be.
    pub(crate) fn upstream(&self, name: &str, transport: &str, list: &str) -> Value {
        let at = |scheme: &str| {
            let address = self.sockets.address();
            json!({"url": format!("{scheme}://{address}/{transport}?list={list}")})
        };
        let (kind, conn_params) = match transport {
            "stdio" => {
                let args = [&*script(), "--transport", "stdio", "--list", list];
                ("stdio", json!({"command": "node", "args": args}))
            }
            "sse" => ("sse", at("http")),
            "ws" => ("websocket", at("ws")),
            _ => ("streamable-http", at("http")),
        };
        json!({
            "name": name, "namePrefix": format!("{name}_"), "transport": kind, "protocol": "legacy",
            "callTimeoutS": 1, "connParams": conn_params,
        })
    }
}

fn script() -> String {
    tests_folder().join("peers/hostile-server.mjs").to_str().expect("UTF-8").to_owned()
}
