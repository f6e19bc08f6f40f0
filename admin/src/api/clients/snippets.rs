//! What each client is told, in its own words. Each client is right in its own way and wrong in every other's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use url::form_urlencoded::byte_serialize;

use super::Snippet;

/// What the snippets are made of.
pub(super) struct Places<'a> {
    /// The server's name; letters, digits, _ and -.
    pub(super) name: &'a str,
    /// The Streamable HTTP endpoint.
    pub(super) http: &'a str,
    /// The HTTP+SSE endpoint.
    pub(super) sse: &'a str,
    /// The WebSocket endpoint.
    pub(super) websocket: &'a str,
}

const JSON: &str = "json";
const SHELL: &str = "shell";

/// Every snippet.
pub(super) fn all(places: &Places<'_>) -> Vec<Snippet> {
    let mut all = claude_code(places);
    all.push(claude_desktop(places));
    all.extend(cursor(places));
    all.extend(vs_code(places));
    all.push(codex(places));
    all.extend(by_hand(places));
    all
}

fn both() -> Vec<&'static str> {
    vec!["legacy", "modern"]
}

fn pretty(value: &Value) -> String {
    // Texts and lists of texts: it can be said.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// `{outer: {name: inner}}`.
fn under(outer: &str, name: &str, inner: Value) -> Value {
    let servers = Map::from_iter([(name.to_owned(), inner)]);
    Value::Object(Map::from_iter([(outer.to_owned(), Value::Object(servers))]))
}

/// `type` must be there: without it an address is taken for a command.
fn claude_code(places: &Places<'_>) -> Vec<Snippet> {
    let file = |transport: &'static str, kind: &str, url: &str, eras, note| {
        let headers = json!({"Authorization": "Bearer ${MPG_KEY}"});
        Snippet {
            client: "claude-code",
            name: "Claude Code",
            transport,
            eras,
            file: Some(".mcp.json"),
            language: JSON,
            text: pretty(&under(
                "mcpServers",
                places.name,
                json!({"type": kind, "url": url, "headers": headers}),
            )),
            deep_link: None,
            note,
        }
    };
    let name = places.name;
    let url = places.http;
    vec![
        file(
            "streamable-http",
            "http",
            url,
            both(),
            "In the project, or in ~/.claude.json for all projects. The key is read from the variable MPG_KEY.",
        ),
        file("sse", "sse", places.sse, vec!["legacy"], "Only for versions that can't speak Streamable HTTP."),
        Snippet {
            client: "claude-code-cli",
            name: "Claude Code (command)",
            transport: "streamable-http",
            eras: both(),
            file: None,
            language: SHELL,
            text: format!(
                "claude mcp add --transport http {name} '{url}' --header \"Authorization: Bearer $MPG_KEY\""
            ),
            deep_link: None,
            note: "The key itself is written into the client's file.",
        },
    ]
}

/// Takes neither addresses nor headers in its file.
fn claude_desktop(places: &Places<'_>) -> Snippet {
    let inner = json!({
        "command": "mcp-proxy-gateway",
        "args": ["connect", "--url", places.http],
        "env": {"MPG_KEY": "mpg_..."},
    });
    Snippet {
        client: "claude-desktop",
        name: "Claude Desktop",
        transport: "stdio",
        eras: both(),
        file: Some("claude_desktop_config.json"),
        language: JSON,
        text: pretty(&under("mcpServers", places.name, inner)),
        deep_link: None,
        note: "Needs the gateway's program on that machine, and the key in the place of mpg_...; serves any client that only starts commands.",
    }
}

fn cursor(places: &Places<'_>) -> Vec<Snippet> {
    let file = |transport, url: &str, eras, note| {
        let inner = json!({"url": url, "headers": {"Authorization": "Bearer ${env:MPG_KEY}"}});
        let config: String = byte_serialize(STANDARD.encode(inner.to_string()).as_bytes()).collect();
        let link =
            format!("cursor://anysphere.cursor-deeplink/mcp/install?name={}&config={config}", places.name);
        Snippet {
            client: "cursor",
            name: "Cursor",
            transport,
            eras,
            file: Some("~/.cursor/mcp.json"),
            language: JSON,
            text: pretty(&under("mcpServers", places.name, inner)),
            deep_link: Some(link),
            note,
        }
    };
    vec![
        file(
            "streamable-http",
            places.http,
            both(),
            "The key is read from the variable MPG_KEY, which Cursor must have been started with.",
        ),
        file("sse", places.sse, vec!["legacy"], "Only for versions that can't speak Streamable HTTP."),
    ]
}

/// Its root is `servers`, and it asks for the key once.
fn vs_code(places: &Places<'_>) -> Vec<Snippet> {
    let file = |transport, kind: &str, url: &str, eras, note| {
        let inner =
            json!({"type": kind, "url": url, "headers": {"Authorization": "Bearer ${input:mpg-key}"}});
        let input = json!({"type": "promptString", "id": "mpg-key", "description": "API key of the gateway", "password": true});
        let mut whole = under("servers", places.name, inner.clone());
        whole["inputs"] = json!([input]);
        let mut linked = inner;
        linked["name"] = json!(places.name);
        linked["inputs"] = json!([input]);
        let linked: String = byte_serialize(linked.to_string().as_bytes()).collect();
        Snippet {
            client: "vscode",
            name: "VS Code",
            transport,
            eras,
            file: Some(".vscode/mcp.json"),
            language: JSON,
            text: pretty(&whole),
            // A plus is a plus there, and no space.
            deep_link: Some(format!("vscode:mcp/install?{}", linked.replace('+', "%20"))),
            note,
        }
    };
    vec![
        file("streamable-http", "http", places.http, both(), "VS Code asks for the key and keeps it."),
        file("sse", "sse", places.sse, vec!["legacy"], "Only for versions that can't speak Streamable HTTP."),
    ]
}

fn codex(places: &Places<'_>) -> Snippet {
    Snippet {
        client: "codex",
        name: "Codex",
        transport: "streamable-http",
        eras: both(),
        file: Some("~/.codex/config.toml"),
        language: "toml",
        text: format!(
            "[mcp_servers.{}]\nurl = \"{}\"\nbearer_token_env_var = \"MPG_KEY\"\n",
            places.name, places.http
        ),
        deep_link: None,
        note: "The key is read from the variable MPG_KEY; Codex refuses one written in the file.",
    }
}

/// For trying it out, and for clients that this list doesn't know.
fn by_hand(places: &Places<'_>) -> Vec<Snippet> {
    let curl = |version: &str, headers: &str, body: &Value| {
        format!(
            "curl -sS '{}' -H \"Authorization: Bearer $MPG_KEY\" -H 'Content-Type: application/json' \
             -H 'Accept: application/json, text/event-stream'{headers} -d '{}'",
            places.http,
            body.to_string().replace("VERSION", version)
        )
    };
    let info = json!({"name": "curl", "version": "1"});
    let legacy = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "VERSION", "capabilities": {}, "clientInfo": info}});
    let modern = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": {
        "io.modelcontextprotocol/protocolVersion": "VERSION",
        "io.modelcontextprotocol/clientInfo": info,
        "io.modelcontextprotocol/clientCapabilities": {}}}});
    let modern_headers = " -H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: tools/list'";
    let shell = |client, name, transport, eras, text, note| Snippet {
        client,
        name,
        transport,
        eras,
        file: None,
        language: SHELL,
        text,
        deep_link: None,
        note,
    };
    vec![
        shell(
            "curl",
            "curl (2026-07-28)",
            "streamable-http",
            vec!["modern"],
            curl("2026-07-28", modern_headers, &modern),
            "One request, no session.",
        ),
        shell(
            "curl-legacy",
            "curl (until 2025-11-25)",
            "streamable-http",
            vec!["legacy"],
            curl("2025-11-25", "", &legacy),
            "The answer's Mcp-Session-Id goes with every request that follows.",
        ),
        shell(
            "websocket",
            "WebSocket",
            "websocket",
            both(),
            format!("websocat --protocol mcp -H \"Authorization: Bearer $MPG_KEY\" '{}'", places.websocket),
            "A client that can't send headers takes ?api_key= in the address.",
        ),
    ]
}
