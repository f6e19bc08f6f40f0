//! `server.json` of the registry: packages to start and addresses to dial. Of several ways the first is taken
//! that the gateway can go: packages before addresses.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use sql::model::Transport;

use super::server::{self, Given, Reach, Server};

/// Says of an item of the registry that no newer version of its server is there.
const IS_LATEST: &str = "/_meta/io.modelcontextprotocol.registry~1official/isLatest";

/// A page of the registry: each item is a `server.json`, bare or under `server`. Of several versions of a server
/// the latest is read; servers of different owners that are called the same have their owner in front.
pub(super) fn read_list(list: &[Value]) -> Vec<Server> {
    let full = |item: &Value| text(item.get("server").unwrap_or(item), "name").unwrap_or_default().to_owned();
    let is_latest = |item: &Value| item.pointer(IS_LATEST) == Some(&Value::Bool(true));
    let latest: BTreeSet<String> = list.iter().filter(|item| is_latest(item)).map(full).collect();
    let kept: Vec<(usize, &Value)> = list
        .iter()
        .enumerate()
        .filter(|(_, item)| is_latest(item) || !latest.contains(&full(item)))
        .collect();
    let names: BTreeSet<String> = kept.iter().map(|(_, item)| full(item)).collect();
    let called = |short: &str| names.iter().filter(|name| short_of(name) == short).count();
    kept.into_iter()
        .map(|(index, item)| {
            let mut server = read_item(item, format!("/servers/{index}"));
            if !server.name.is_empty()
                && called(&server.name) > 1
                && let Some((owner, short)) = full(item).rsplit_once('/')
            {
                server.name = format!("{}-{short}", owner.rsplit('.').next().unwrap_or(owner));
            }
            server
        })
        .collect()
}

fn read_item(item: &Value, pointer: String) -> Server {
    match item.get("server").unwrap_or(item) {
        Value::Object(file) if item.get("server").is_some() => read_one(file, &format!("{pointer}/server")),
        Value::Object(file) => read_one(file, &pointer),
        _ => {
            let mut server = Server::at("", pointer);
            server.wrong("", "must be an object");
            server
        }
    }
}

/// What people call a server, of a name like io.github.owner/server.
fn short_of(full: &str) -> &str {
    full.rsplit('/').next().unwrap_or_default()
}

/// One file.
pub(super) fn read_one(file: &Map<String, Value>, pointer: &str) -> Server {
    let full = file.get("name").and_then(Value::as_str).unwrap_or_default();
    let short = short_of(full);
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
            if args.first().is_none_or(|first| first.text != "run") {
                args.splice(0..0, ["run", "-i", "--rm"].map(Given::read));
            }
            let tagged = identifier.contains('@')
                || identifier.rsplit('/').next().is_some_and(|end| end.contains(':'));
            let image = Given::read(&if tagged { identifier.to_owned() } else { pinned(":") });
            let is_image = |given: &Given| {
                let rest = given.text.strip_prefix(identifier);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@']))
            };
            // What runs it may have named the image already.
            let place = args.iter().position(is_image).unwrap_or(args.len());
            if args.get(place).is_none_or(|named| named.text == identifier) {
                args.splice(place..(place + 1).min(args.len()), [image]);
            }
            // By name: the value comes from the environment, and is on no command line.
            let passed = env.keys().flat_map(|name| ["-e", name.as_str()]).map(Given::read);
            args.splice(place..place, passed.collect::<Vec<_>>());
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
            let is_switch = text(argument, "format") == Some("boolean");
            match value {
                // A flag that is there or isn't.
                Some(value) if is_switch && value.text == "true" => words.push(Given::read(name)),
                Some(value) if is_switch && value.text == "false" => {}
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client_files::line;

    fn run(package: &Value) -> String {
        let file = json!({"name": "a/b", "version": "1.2.0", "packages": [package]});
        let server = read_one(file.as_object().unwrap(), "");
        line::of(&server.reach.unwrap_or_else(|| panic!("{:?}", server.problems)), &|_| false)
    }

    #[test]
    fn a_switch_is_there_or_not_and_an_image_is_named_once() {
        let flag = |name: &str, value: &str| json!({"type": "named", "name": name, "format": "boolean", "value": value});
        let oci = |arguments: Value| {
            json!({"registryType": "oci", "identifier": "ghcr.io/a/b", "runtimeArguments": arguments,
                "environmentVariables": [{"name": "TOKEN", "isRequired": true}]})
        };
        let mount = json!({"type": "named", "name": "--mount", "value": "type=bind,src=/a,dst=/b"});
        let word = |text: &str| json!({"type": "positional", "value": text});
        for (arguments, expected) in [
            (json!([]), "docker run -i --rm -e TOKEN ghcr.io/a/b:1.2.0"),
            (
                json!([
                    word("run"),
                    flag("-i", "true"),
                    flag("--rm", "true"),
                    flag("--init", "false"),
                    word("ghcr.io/a/b")
                ]),
                "docker run -i --rm -e TOKEN ghcr.io/a/b:1.2.0",
            ),
            (
                json!([word("run"), flag("-i", "true"), word("ghcr.io/a/b:2")]),
                "docker run -i -e TOKEN ghcr.io/a/b:2",
            ),
            (json!([mount]), "docker run -i --rm --mount type=bind,src=/a,dst=/b -e TOKEN ghcr.io/a/b:1.2.0"),
        ] {
            assert_eq!(run(&oci(arguments.clone())), format!("TOKEN='${{TOKEN}}' {expected}"), "{arguments}");
        }
        let npm = json!({"registryType": "npm", "identifier": "b",
            "packageArguments": [flag("--fast", "true"), flag("--slow", "false")]});
        assert_eq!(run(&npm), "npx -y b@1.2.0 --fast");
    }

    #[test]
    fn a_page_has_the_latest_of_each_and_names_that_differ() {
        let item = |name: &str, version: &str, latest: bool| {
            json!({"server": {"name": name, "version": version, "remotes": [{"type": "sse", "url": "https://h/"}]},
                "_meta": {"io.modelcontextprotocol.registry/official": {"isLatest": latest}}})
        };
        let page = [
            item("io.github.one/weather", "1", false),
            item("io.github.one/weather", "2", true),
            item("com.two/weather", "1", true),
            item("com.two/maps", "1", false),
        ];
        let servers = read_list(&page);
        let read: Vec<(&str, &str)> =
            servers.iter().map(|server| (server.name.as_str(), server.pointer.as_str())).collect();
        assert_eq!(
            read,
            [
                ("one-weather", "/servers/1/server"),
                ("two-weather", "/servers/2/server"),
                ("maps", "/servers/3/server")
            ]
        );
    }
}
