//! Servers as the files that clients read.

mod registry;

use serde_json::{Map, Value, json};
use sql::model::Transport;

use super::server::{Given, Reach, Server};

/// Which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `mcpServers`, of Claude and Cursor.
    McpJson,
    /// `servers`, of VS Code.
    VsCode,
    /// `[mcp_servers]`, of Codex.
    Codex,
    /// `server.json` of the registry, one for each server, under `servers` as a page of the registry has them.
    Registry,
}

impl Format {
    /// Every format by its word.
    pub(crate) const WORDS: [(&str, Self); 4] = [
        ("mcp", Self::McpJson),
        ("vscode", Self::VsCode),
        ("codex", Self::Codex),
        ("registry", Self::Registry),
    ];

    /// The name of such a file.
    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::McpJson | Self::VsCode => "mcp.json",
            Self::Codex => "config.toml",
            Self::Registry => "server.json",
        }
    }

    /// What it is served as.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::McpJson | Self::VsCode | Self::Registry => "application/json",
            Self::Codex => "application/toml",
        }
    }

    /// Whether a file can say this server; VS Code's and the registry's can't say that one is switched off.
    fn takes(self, server: &Server, reach: &Reach) -> bool {
        match (self, reach) {
            (Self::VsCode | Self::Registry, _) if server.enabled == Some(false) => false,
            (Self::Registry, reach) => registry::can_say(&server.name, reach),
            (Self::McpJson, _) | (_, Reach::Command { .. }) => true,
            (Self::VsCode, Reach::Address { transport, .. }) => *transport != Transport::Websocket,
            (Self::Codex, Reach::Address { transport, .. }) => *transport == Transport::StreamableHttp,
        }
    }
}

/// A file, and the names of the servers that it can't say.
pub(crate) fn file(format: Format, servers: &[Server]) -> (String, Vec<String>) {
    let mut left_out = Vec::new();
    let mut written = Vec::new();
    for server in servers {
        match &server.reach {
            Some(reach) if format.takes(server, reach) => written.push((server, reach)),
            _ => left_out.push(server.name.clone()),
        }
    }
    let text = match format {
        Format::McpJson => {
            let servers: Map<String, Value> = written
                .iter()
                .map(|(server, reach)| (server.name.clone(), mcp_json(server, reach)))
                .collect();
            pretty(&json!({ "mcpServers": servers }))
        }
        Format::VsCode => vs_code(&written),
        Format::Codex => codex(&written),
        Format::Registry => pretty(&registry::page(&written)),
    };
    (text, left_out)
}

fn pretty(value: &Value) -> String {
    // A value of texts and lists: it can be said.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Stdio => "stdio",
        Transport::Sse => "sse",
        Transport::StreamableHttp => "http",
        Transport::Websocket => "ws",
    }
}

fn mcp_json(server: &Server, reach: &Reach) -> Value {
    let mut one = json_of(reach, &|given| given.text.clone());
    if server.enabled == Some(false) {
        one["disabled"] = json!(true);
    }
    one
}

fn json_of(reach: &Reach, text: &dyn Fn(&Given) -> String) -> Value {
    match reach {
        Reach::Command { command, args, env, cwd } => {
            let mut one = json!({"type": "stdio", "command": command});
            if !args.is_empty() {
                one["args"] = args.iter().map(text).collect();
            }
            if !env.is_empty() {
                one["env"] = env
                    .iter()
                    .map(|(name, value)| (name.clone(), text(value).into()))
                    .collect::<Map<_, _>>()
                    .into();
            }
            if let Some(cwd) = cwd {
                one["cwd"] = json!(cwd);
            }
            one
        }
        Reach::Address { transport, url, headers, bearer } => {
            let mut one = json!({"type": word(*transport), "url": text(url)});
            let mut all: Map<String, Value> =
                headers.iter().map(|(name, value)| (name.clone(), text(value).into())).collect();
            if let Some(token) = bearer {
                all.insert("Authorization".into(), format!("Bearer {}", text(token)).into());
            }
            if !all.is_empty() {
                one["headers"] = all.into();
            }
            one
        }
    }
}

fn vs_code(written: &[(&Server, &Reach)]) -> String {
    let input = |given: &Given| {
        let named = |text: String, name: &String| {
            text.replace(&format!("${{{name}}}"), &format!("${{input:{name}}}"))
        };
        let names: std::collections::BTreeSet<&String> = given.variables.iter().collect();
        names.into_iter().fold(given.text.clone(), named)
    };
    let mut inputs: Vec<&String> = Vec::new();
    for (_, reach) in written {
        for given in all(reach) {
            inputs.extend(given.variables.iter());
        }
    }
    inputs.sort();
    inputs.dedup();
    let inputs: Vec<Value> = inputs
        .into_iter()
        .map(|id| json!({"type": "promptString", "id": id, "description": id, "password": true}))
        .collect();
    let servers: Map<String, Value> =
        written.iter().map(|(server, reach)| (server.name.clone(), json_of(reach, &input))).collect();
    pretty(&json!({"inputs": inputs, "servers": servers}))
}

fn all(reach: &Reach) -> Vec<&Given> {
    match reach {
        Reach::Command { args, env, .. } => args.iter().chain(env.values()).collect(),
        Reach::Address { url, headers, bearer, .. } => {
            std::iter::once(url).chain(headers.values()).chain(bearer).collect()
        }
    }
}

fn codex(written: &[(&Server, &Reach)]) -> String {
    let mut text = String::new();
    for (server, reach) in written {
        if !text.is_empty() {
            text.push('\n');
        }
        let table = format!("mcp_servers.{}", toml_key(&server.name));
        text.extend(["[", &table, "]\n"]);
        let mut line = |key: &str, value: String| text.extend([key, " = ", &value, "\n"]);
        match reach {
            Reach::Command { command, args, env, cwd } => {
                line("command", toml_text(command));
                line("args", toml_list(args.iter().map(|arg| arg.text.as_str())));
                if let Some(cwd) = cwd {
                    line("cwd", toml_text(cwd));
                }
                let (passed, own): (Vec<_>, Vec<_>) =
                    env.iter().partition(|(name, value)| value.whole_variable() == Some(name.as_str()));
                if !passed.is_empty() {
                    line("env_vars", toml_list(passed.iter().map(|(name, _)| name.as_str())));
                }
                if !own.is_empty() {
                    line(
                        "env",
                        toml_table(own.iter().map(|(name, value)| (name.as_str(), value.text.as_str()))),
                    );
                }
            }
            Reach::Address { url, headers, bearer, .. } => {
                line("url", toml_text(&url.text));
                let mut own: Vec<(&str, String)> = Vec::new();
                let mut passed: Vec<(&str, String)> = Vec::new();
                for (name, value) in headers {
                    match value.whole_variable() {
                        Some(variable) => passed.push((name, variable.to_owned())),
                        None => own.push((name, value.text.clone())),
                    }
                }
                match bearer.as_ref().map(|token| (token, token.whole_variable())) {
                    None => {}
                    Some((_, Some(variable))) => line("bearer_token_env_var", toml_text(variable)),
                    Some((token, None)) => own.push(("Authorization", format!("Bearer {}", token.text))),
                }
                for (key, values) in [("env_http_headers", passed), ("http_headers", own)] {
                    if !values.is_empty() {
                        line(key, toml_table(values.iter().map(|(name, value)| (*name, value.as_str()))));
                    }
                }
            }
        }
        if server.enabled == Some(false) {
            line("enabled", "false".into());
        }
        if let Some(seconds) = server.call_timeout_s {
            line("tool_timeout_sec", seconds.to_string());
        }
    }
    text
}

fn toml_text(text: &str) -> String {
    basic(text)
}

fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if bare { key.to_owned() } else { basic(key) }
}

/// A quoted key: unlike a value it may not be of several lines.
fn basic(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&escaped(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn toml_list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", items.map(basic).collect::<Vec<_>>().join(", "))
}

fn toml_table<'a>(items: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let members: Vec<String> =
        items.map(|(name, value)| format!("{} = {}", toml_key(name), basic(value))).collect();
    format!("{{ {} }}", members.join(", "))
}

/// A control character as TOML has it.
fn escaped(c: char) -> String {
    format!("\\u{:04X}", u32::from(c))
}
