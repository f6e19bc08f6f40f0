//! Servers as `server.json` of the registry: pinned packages of npm and PyPI, and addresses. A variable that stands for
//! a secret is an input that its user is asked for, and of a name of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sql::model::Transport;

use super::super::server::{Given, Reach, Server};

/// The revision of the form that is written.
const SCHEMA: &str = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json";

/// Whose servers these are, as far as a file tells: names there are of the form `owner/server`.
const OWNER: &str = "local.gateway";

/// The version of a server that has none: an address doesn't say.
const VERSION_NONE: &str = "0.0.0";

/// A package as it is started.
struct Package<'a> {
    kind: &'static str,
    identifier: &'a str,
    version: &'a str,
    /// What follows it on the command line.
    args: &'a [Given],
}

/// Whether the form has words for a server of this name.
pub(super) fn can_say(name: &str, reach: &Reach) -> bool {
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    let is_reach = match reach {
        Reach::Command { command, args, cwd, .. } => cwd.is_none() && package(command, args).is_some(),
        Reach::Address { transport, .. } => *transport != Transport::Websocket,
    };
    is_name && is_reach && super::all(reach).into_iter().all(is_sayable)
}

/// Whether a value is there at all, and has no braces but those of its variables: any other pair would name one.
fn is_sayable(given: &Given) -> bool {
    let text = given
        .variables
        .iter()
        .fold(given.text.clone(), |text, name| text.replace(&format!("${{{name}}}"), ""));
    !given.text.is_empty() && !text.contains(['{', '}'])
}

/// All of them.
pub(super) fn page(written: &[(&Server, &Reach)]) -> Value {
    let servers: Vec<Value> = written.iter().map(|(server, reach)| one(server, reach)).collect();
    json!({ "servers": servers })
}

fn one(server: &Server, reach: &Reach) -> Value {
    let mut file = json!({
        "$schema": SCHEMA,
        "name": format!("{OWNER}/{}", server.name),
        "description": format!("{} as a gateway has it", server.name),
        "version": VERSION_NONE,
    });
    match reach {
        Reach::Command { command, args, env, .. } => {
            let Some(package) = package(command, args) else { return file };
            file["version"] = json!(package.version);
            let mut said = json!({
                "registryType": package.kind,
                "identifier": package.identifier,
                "version": package.version,
                "transport": {"type": "stdio"},
            });
            let arguments: Vec<Value> = package.args.iter().map(|arg| input("positional", arg)).collect();
            if !arguments.is_empty() {
                said["packageArguments"] = arguments.into();
            }
            said["environmentVariables"] = named(env);
            file["packages"] = json!([said]);
        }
        Reach::Address { transport, url, headers, bearer } => {
            let mut headers = headers.clone();
            if let Some(token) = bearer {
                let text = format!("Bearer {}", token.text);
                headers.insert("Authorization".into(), Given { text, ..token.clone() });
            }
            let kind = if *transport == Transport::Sse { "sse" } else { "streamable-http" };
            let mut said = json!({"type": kind, "url": placed(url), "headers": named(&headers)});
            if !url.variables.is_empty() {
                said["variables"] = variables(url);
            }
            file["remotes"] = json!([said]);
        }
    }
    file
}

/// The package that a command line starts, if it is one of a registry and pinned.
fn package<'a>(command: &str, args: &'a [Given]) -> Option<Package<'a>> {
    let (kind, args) = match (command, args) {
        ("npx", [flag, args @ ..]) if flag.text == "-y" => ("npm", args),
        ("uvx", args) => ("pypi", args),
        _ => return None,
    };
    let (first, args) = args.split_first()?;
    let (identifier, version) = first.text.rsplit_once('@')?;
    let is_plain = first.variables.is_empty() && !identifier.is_empty() && !identifier.starts_with('-');
    let is_pinned = version.starts_with(|c: char| c.is_ascii_digit());
    (is_plain && is_pinned).then_some(Package { kind, identifier, version, args })
}

fn named(values: &BTreeMap<String, Given>) -> Value {
    let one = |(name, value): (&String, &Given)| {
        let mut said = input("", value);
        said["name"] = json!(name);
        said
    };
    values.iter().map(one).collect()
}

/// A value: fixed, but for its variables.
fn input(kind: &str, given: &Given) -> Value {
    let mut said = json!({"value": placed(given)});
    if !kind.is_empty() {
        said["type"] = json!(kind);
    }
    if !given.variables.is_empty() {
        said["variables"] = variables(given);
    }
    said
}

/// The text with its variables as the form writes them.
fn placed(given: &Given) -> String {
    let names: BTreeSet<&String> = given.variables.iter().collect();
    names
        .into_iter()
        .fold(given.text.clone(), |text, name| text.replace(&format!("${{{name}}}"), &format!("{{{name}}}")))
}

fn variables(given: &Given) -> Value {
    let asked = json!({"isRequired": true, "isSecret": true});
    let all: Map<String, Value> = given.variables.iter().map(|name| (name.clone(), asked.clone())).collect();
    all.into()
}
