//! `mcpServers` as Claude Desktop, Claude Code and Cursor have it, and `servers` of VS Code with its inputs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sql::model::Transport;

use super::server::{self, Given, Reach, Server};
use super::{Unreadable, members};
use crate::fields::pointer_to;

/// Members that some client has and that say nothing to a gateway.
const PASSED_OVER: [&str; 12] = [
    "alwaysAllow",
    "autoApprove",
    "dev",
    "description",
    "disabledTools",
    "gallery",
    "icon",
    "name",
    "timeoutMs",
    "tools",
    "trust",
    "version",
];

/// What VS Code asks its user for.
#[derive(Default)]
pub(super) struct Inputs(BTreeMap<String, Input>);

struct Input {
    password: bool,
    default: Option<String>,
}

impl Inputs {
    /// The inputs of a file; what isn't one is passed over, since it only serves those that use it.
    pub(super) fn of(value: Option<&Value>) -> Self {
        let list = value.and_then(Value::as_array).into_iter().flatten();
        Self(
            list.filter_map(|input| {
                let id = input.get("id")?.as_str()?.to_owned();
                let password = input.get("password").and_then(Value::as_bool).unwrap_or(false);
                let default = input.get("default").and_then(Value::as_str).filter(|text| !text.is_empty());
                Some((id, Input { password, default: default.map(str::to_owned) }))
            })
            .collect(),
        )
    }

    fn read(&self, text: &str) -> Given {
        let input = |name: &str| name.strip_prefix("input:").and_then(|id| self.0.get(id));
        let mut given = Given::read_with(text, &|name| input(name)?.default.clone());
        given.said_secret = self.0.iter().any(|(id, input)| {
            input.password && (given.variables.contains(id) || text.contains(&format!("${{input:{id}}}")))
        });
        given
    }
}

/// The servers of such an object.
pub(super) fn read(value: &Value, pointer: &str, inputs: &Inputs) -> Result<Vec<Server>, Unreadable> {
    Ok(members(value, pointer)?
        .iter()
        .map(|(name, value)| {
            let mut server = Server::at(name, pointer_to(pointer, name));
            match value {
                Value::Object(members) => one(&mut server, members.clone(), inputs),
                _ => server.wrong("", "must be an object"),
            }
            server
        })
        .collect())
}

fn one(server: &mut Server, mut members: Map<String, Value>, inputs: &Inputs) {
    let kind =
        take_text(server, &mut members, "type").or_else(|| take_text(server, &mut members, "transport"));
    let command = take_text(server, &mut members, "command");
    let url = take_text(server, &mut members, "url")
        .or_else(|| take_text(server, &mut members, "serverUrl"))
        .or_else(|| take_text(server, &mut members, "httpUrl"));
    server.reach = match (command, url) {
        (Some(_), Some(_)) => {
            server.wrong("/url", "stands together with command; give one of them");
            None
        }
        (Some(command), None) => command_of(server, command, kind.as_deref(), &mut members, inputs),
        (None, Some(url)) => address_of(server, &url, kind.as_deref(), &mut members, inputs),
        (None, None) => {
            server.wrong("", "must have command or url");
            None
        }
    };
    flags(server, &mut members);
    for name in PASSED_OVER {
        members.remove(name);
    }
    for name in members.keys() {
        server.warnings.push(format!("{name} is not taken over"));
    }
}

fn command_of(
    server: &mut Server,
    command: String,
    kind: Option<&str>,
    members: &mut Map<String, Value>,
    inputs: &Inputs,
) -> Option<Reach> {
    if !matches!(kind, None | Some("stdio" | "local")) {
        server.wrong("/type", "must be stdio where there is a command");
    }
    let args = match members.remove("args") {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(values)) => texts(server, &values, inputs),
        Some(_) => {
            server.wrong("/args", "must be a list of texts");
            None
        }
    };
    let env = named(server, members, "env", inputs);
    let cwd = take_text(server, members, "cwd");
    if members.remove("envFile").is_some() {
        server.warnings.push("envFile is not read: give its values under env".into());
    }
    Some(Reach::Command { command, args: args?, env: env?, cwd })
}

fn address_of(
    server: &mut Server,
    url: &str,
    kind: Option<&str>,
    members: &mut Map<String, Value>,
    inputs: &Inputs,
) -> Option<Reach> {
    let headers = named(server, members, "headers", inputs);
    let transport = match kind {
        None if url.starts_with("ws://") || url.starts_with("wss://") => Transport::Websocket,
        // What the path says is a convention of that transport's servers, and all there is to go by.
        None if url.split('?').next().is_some_and(|path| path.trim_end_matches('/').ends_with("/sse")) => {
            Transport::Sse
        }
        None | Some("http" | "streamable-http" | "streamableHttp" | "streamable_http" | "remote") => {
            Transport::StreamableHttp
        }
        Some("sse") => Transport::Sse,
        Some("ws" | "websocket") => Transport::Websocket,
        Some(_) => {
            server.wrong("/type", "must be http, sse or ws where there is a url");
            return None;
        }
    };
    Some(server::address(transport, inputs.read(url), headers?))
}

fn flags(server: &mut Server, members: &mut Map<String, Value>) {
    for (name, means_on) in [("disabled", false), ("enabled", true)] {
        match members.remove(name) {
            None | Some(Value::Null) => {}
            Some(Value::Bool(value)) => server.enabled = Some(value == means_on),
            Some(_) => server.wrong(&format!("/{name}"), "must be true or false"),
        }
    }
    // Seconds for some clients, milliseconds for others: nobody can tell.
    if members.remove("timeout").is_some() {
        server.warnings.push("timeout is not taken over: set callTimeoutS".into());
    }
}

fn texts(server: &mut Server, values: &[Value], inputs: &Inputs) -> Option<Vec<Given>> {
    let read: Vec<Option<Given>> = values
        .iter()
        .enumerate()
        .map(|(index, value)| match value {
            Value::String(text) => Some(inputs.read(text)),
            Value::Number(number) => Some(Given { text: number.to_string(), ..Given::default() }),
            _ => {
                server.wrong(&format!("/args/{index}"), "must be a text");
                None
            }
        })
        .collect();
    read.into_iter().collect()
}

/// An object of texts.
fn named(
    server: &mut Server,
    members: &mut Map<String, Value>,
    member: &str,
    inputs: &Inputs,
) -> Option<BTreeMap<String, Given>> {
    let pointer = format!("/{member}");
    let values = match members.remove(member) {
        None | Some(Value::Null) => return Some(BTreeMap::new()),
        Some(Value::Object(values)) => values,
        Some(_) => {
            server.wrong(&pointer, "must be an object of texts");
            return None;
        }
    };
    let mut read = BTreeMap::new();
    let mut whole = true;
    for (name, value) in values {
        let given = match value {
            Value::String(text) => inputs.read(&text),
            // Written without quotes by many a person, and never anything but this.
            Value::Number(number) => Given { text: number.to_string(), ..Given::default() },
            Value::Bool(flag) => Given { text: flag.to_string(), ..Given::default() },
            _ => {
                server.wrong(&pointer_to(&pointer, &name), "must be a text");
                whole = false;
                continue;
            }
        };
        read.insert(name, given);
    }
    whole.then_some(read)
}

fn take_text(server: &mut Server, members: &mut Map<String, Value>, member: &str) -> Option<String> {
    match members.remove(member) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => {
            server.wrong(&format!("/{member}"), "must be a text");
            None
        }
    }
}
