//! `[mcp_servers.NAME]` of Codex's `config.toml`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sql::model::Transport;

use super::server::{Given, Reach, Server, address};
use super::{Unreadable, members};
use crate::fields::pointer_to;

/// The tables of the file.
pub(super) fn read(value: &Value) -> Result<Vec<Server>, Unreadable> {
    Ok(members(value, "/mcp_servers")?
        .iter()
        .map(|(name, value)| {
            let mut server = Server::at(name, pointer_to("/mcp_servers", name));
            match value {
                Value::Object(members) => one(&mut server, members.clone()),
                _ => server.wrong("", "must be a table"),
            }
            server
        })
        .collect())
}

fn one(server: &mut Server, mut members: Map<String, Value>) {
    let command = text(server, &mut members, "command");
    let url = text(server, &mut members, "url");
    server.reach = match (command, url) {
        (Some(_), Some(_)) => {
            server.wrong("/url", "stands together with command; give one of them");
            None
        }
        (Some(command), None) => {
            let args = list(server, &mut members, "args");
            let mut env = texts(server, &mut members, "env");
            // The names of variables that Codex passes on from its own environment.
            for name in list(server, &mut members, "env_vars") {
                env.entry(name.clone()).or_insert_with(|| Given::variable(&name));
            }
            let args = args.iter().map(|text| Given::read(text)).collect();
            let cwd = text(server, &mut members, "cwd");
            Some(Reach::Command { command, args, env, cwd })
        }
        (None, Some(url)) => Some(dialled(server, &url, &mut members)),
        (None, None) => {
            server.wrong("", "must have command or url");
            None
        }
    };
    match members.remove("enabled") {
        None => {}
        Some(Value::Bool(enabled)) => server.enabled = Some(enabled),
        Some(_) => server.wrong("/enabled", "must be true or false"),
    }
    match members.remove("tool_timeout_sec") {
        None => {}
        // Codex allows fractions; less than a second is a second here.
        Some(Value::Number(seconds)) => {
            let whole = seconds.as_u64().or_else(|| seconds.to_string().split('.').next()?.parse().ok());
            server.call_timeout_s = Some(whole.unwrap_or(0).max(1));
        }
        Some(_) => server.wrong("/tool_timeout_sec", "must be a number of seconds"),
    }
    members.remove("startup_timeout_sec");
    members.remove("startup_timeout_ms");
    for name in members.keys() {
        server.warnings.push(format!("{name} is not taken over"));
    }
}

fn dialled(server: &mut Server, url: &str, members: &mut Map<String, Value>) -> Reach {
    let mut headers = texts(server, members, "http_headers");
    for (name, variable) in texts(server, members, "env_http_headers") {
        headers.insert(name, Given::variable(&variable.text));
    }
    let mut reach = address(Transport::StreamableHttp, Given::read(url), headers);
    if let (Some(variable), Reach::Address { bearer, .. }) =
        (text(server, members, "bearer_token_env_var"), &mut reach)
    {
        *bearer = Some(Given::variable(&variable));
    }
    if members.remove("bearer_token").is_some() {
        server.wrong("/bearer_token", "Codex refuses it: name a variable as bearer_token_env_var");
    }
    reach
}

fn text(server: &mut Server, members: &mut Map<String, Value>, member: &str) -> Option<String> {
    match members.remove(member) {
        None => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => {
            server.wrong(&format!("/{member}"), "must be a text");
            None
        }
    }
}

fn list(server: &mut Server, members: &mut Map<String, Value>, member: &str) -> Vec<String> {
    let values = match members.remove(member) {
        None => return Vec::new(),
        Some(Value::Array(values)) => values,
        Some(_) => {
            server.wrong(&format!("/{member}"), "must be a list of texts");
            return Vec::new();
        }
    };
    let mut texts = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        match value {
            Value::String(text) => texts.push(text),
            _ => server.wrong(&format!("/{member}/{index}"), "must be a text"),
        }
    }
    texts
}

fn texts(server: &mut Server, members: &mut Map<String, Value>, member: &str) -> BTreeMap<String, Given> {
    let values = match members.remove(member) {
        None => return BTreeMap::new(),
        Some(Value::Object(values)) => values,
        Some(_) => {
            server.wrong(&format!("/{member}"), "must be a table of texts");
            return BTreeMap::new();
        }
    };
    let mut read = BTreeMap::new();
    for (name, value) in values {
        match value {
            Value::String(text) => drop(read.insert(name, Given::read(&text))),
            _ => server.wrong(&pointer_to(&format!("/{member}"), &name), "must be a text"),
        }
    }
    read
}
