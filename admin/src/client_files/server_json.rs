//! `server.json` of the registry: packages to start and addresses to dial. Of several ways the first is taken
//! that the gateway can go: packages before addresses.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sql::model::Transport;

use super::server::{self, Given, Reach, Server};

/// A page of the registry: each item is a `server.json`, bare or under `server`.
pub(super) fn read_list(list: &[Value]) -> Vec<Server> {
    list.iter()
        .enumerate()
        .map(|(index, item)| {
            let pointer = format!("/servers/{index}");
            match item.get("server").unwrap_or(item) {
                Value::Object(file) if item.get("server").is_some() => {
                    read_one(file, &format!("{pointer}/server"))
                }
                Value::Object(file) => read_one(file, &pointer),
                _ => {
                    let mut server = Server::at("", pointer);
                    server.wrong("", "must be an object");
                    server
                }
            }
        })
        .collect()
}

/// One file.
pub(super) fn read_one(file: &Map<String, Value>, pointer: &str) -> Server {
    let full = file.get("name").and_then(Value::as_str).unwrap_or_default();
    // Reverse DNS, a slash, and what people call it.
    let short = full.rsplit('/').next().unwrap_or_default();
    let mut server = Server::at(short, pointer.to_owned());
    if short.is_empty() {
        server.wrong("/name", "must be a text like io.github.owner/server");
    }
    let version = file.get("version").and_then(Value::as_str);
    let mut refusals = Vec::new();
    for (index, package) in items(file, "packages").iter().enumerate() {
        match package_of(package, version) {
            Ok(reach) => {
                server.reach = Some(reach);
                return server;
            }
            Err(reason) => refusals.push((format!("/packages/{index}"), reason)),
        }
    }
    for (index, remote) in items(file, "remotes").iter().enumerate() {
        match remote_of(remote) {
            Ok(reach) => {
                server.reach = Some(reach);
                return server;
            }
            Err(reason) => refusals.push((format!("/remotes/{index}"), reason)),
        }
    }
    if refusals.is_empty() {
        refusals.push((String::new(), "has neither packages nor remotes"));
    }
    for (member, reason) in refusals {
        server.wrong(&member, reason);
    }
    server
}

fn items<'a>(file: &'a Map<String, Value>, member: &str) -> &'a [Value] {
    file.get(member).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, member: &str) -> Option<&'a str> {
    value.get(member).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn package_of(package: &Value, version: Option<&str>) -> Result<Reach, &'static str> {
    let identifier = text(package, "identifier").ok_or("must have an identifier")?;
    let kind = text(package, "registryType").ok_or("must have a registryType")?;
    if text(package.get("transport").unwrap_or(&Value::Null), "type").is_some_and(|kind| kind != "stdio") {
        return Err("only packages that speak stdio can be started");
    }
    let version = text(package, "version").or(version);
    let pinned =
        |mark: &str| version.map_or_else(|| identifier.to_owned(), |v| format!("{identifier}{mark}{v}"));
    let env: BTreeMap<String, Given> = inputs(package, "environmentVariables")
        .filter_map(|input| Some((text(input, "name")?.to_owned(), value_of(input)?)))
        .collect();
    let runtime = arguments(package, "runtimeArguments");
    let has_runtime = !runtime.is_empty();
    let mut args = runtime;
    let hint = text(package, "runtimeHint");
    let command = match kind {
        "npm" => {
            if !has_runtime {
                args.push(Given::read("-y"));
            }
            args.push(Given::read(&pinned("@")));
            hint.unwrap_or("npx")
        }
        "pypi" => {
            args.push(Given::read(&pinned("@")));
            hint.unwrap_or("uvx")
        }
        "oci" => {
            if !has_runtime {
                args.extend(["run", "-i", "--rm"].map(Given::read));
            }
            for name in env.keys() {
                // By name: the value comes from the environment, and is on no command line.
                args.extend([Given::read("-e"), Given::read(name)]);
            }
            let tagged = identifier.contains('@')
                || identifier.rsplit('/').next().is_some_and(|end| end.contains(':'));
            args.push(Given::read(&if tagged { identifier.to_owned() } else { pinned(":") }));
            hint.unwrap_or("docker")
        }
        "nuget" => {
            args.extend([Given::read(&pinned("@")), Given::read("--yes"), Given::read("--")]);
            hint.unwrap_or("dnx")
        }
        _ => return Err("only npm, pypi, oci and nuget packages can be started"),
    };
    args.extend(arguments(package, "packageArguments"));
    Ok(Reach::Command { command: command.to_owned(), args, env, cwd: None })
}

fn remote_of(remote: &Value) -> Result<Reach, &'static str> {
    let transport = match text(remote, "type") {
        Some("streamable-http") => Transport::StreamableHttp,
        Some("sse") => Transport::Sse,
        _ => return Err("must be of type streamable-http or sse"),
    };
    let url = text(remote, "url").ok_or("must have a url")?;
    let url = filled(url, remote.get("variables"));
    let headers = inputs(remote, "headers")
        .filter_map(|input| Some((text(input, "name")?.to_owned(), value_of(input)?)))
        .collect();
    Ok(server::address(transport, url, headers))
}

fn inputs<'a>(value: &'a Value, member: &str) -> impl Iterator<Item = &'a Value> {
    value.get(member).and_then(Value::as_array).into_iter().flatten()
}

/// The words of a list of arguments.
fn arguments(package: &Value, member: &str) -> Vec<Given> {
    let mut words = Vec::new();
    for argument in inputs(package, member) {
        let value = value_of(argument);
        if text(argument, "type") == Some("named") {
            let Some(name) = text(argument, "name") else { continue };
            match value {
                Some(value) => words.extend([Given::read(name), value]),
                // A flag that stands alone says so by having nothing to fill.
                None if argument.get("isRequired").is_none() && argument.get("format").is_none() => {
                    words.push(Given::read(name));
                }
                None => {}
            }
        } else {
            words.extend(value);
        }
    }
    words
}

/// What an input comes to: its fixed value, else its default, else what somebody must give. An input that need
/// not be given is nothing.
fn value_of(input: &Value) -> Option<Given> {
    let flag = |name: &str| input.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut given = if let Some(value) = text(input, "value") {
        filled(value, input.get("variables"))
    } else if let Some(default) = text(input, "default") {
        Given { text: default.to_owned(), ..Given::default() }
    } else if flag("isRequired") {
        let name = text(input, "valueHint").or_else(|| text(input, "name")).unwrap_or("VALUE");
        Given::variable(name.trim_start_matches('-'))
    } else {
        return None;
    };
    given.said_secret |= flag("isSecret");
    Some(given)
}

/// A text in which `{name}` stands for a variable.
fn filled(value: &str, variables: Option<&Value>) -> Given {
    let mut out = String::new();
    let mut secret = false;
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        let variable = variables.and_then(|variables| variables.get(name));
        secret |= variable.and_then(|v| v.get("isSecret")).and_then(Value::as_bool).unwrap_or(false);
        let known = variable.and_then(|v| text(v, "value").or_else(|| text(v, "default")));
        out.push_str(before);
        out.push_str(&known.map_or_else(|| format!("${{{name}}}"), str::to_owned));
        rest = after;
    }
    out.push_str(rest);
    Given { said_secret: secret, ..Given::read(&out) }
}
