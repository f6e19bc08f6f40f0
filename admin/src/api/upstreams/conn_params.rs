//! Reading `connParams`: how an upstream is reached, and which stored secrets are kept.

use std::collections::{BTreeMap, HashSet};

use http::{HeaderName, HeaderValue};
use serde_json::Value as Json;
use sql::model::{ConnParams, Secret, Transport, Upstream, Value};
use url::Url;

use super::wire;
use crate::fields::{self, Fields, Problems, pointer_to};

/// The longest address; browsers and proxies begin to cut at about this.
const URL_CHARS_MAX: usize = 2_048;

/// Arguments, headers and environment values of one upstream.
const VALUES_MAX: usize = 128;

/// The longest of them, in characters.
const VALUE_CHARS_MAX: usize = 16_384;

/// The longest path or command.
const PATH_CHARS_MAX: usize = 4_096;

/// Headers that the transport writes itself; another value would break it.
const OWN_HEADERS: [&str; 18] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Parameters that reach nothing, for defaults of the other fields.
pub(super) fn nowhere() -> ConnParams {
    ConnParams::Http { url: String::new(), headers: BTreeMap::new() }
}

/// Reads the member `connParams` as `transport` needs it.
pub(super) fn read(
    fields: &mut Fields,
    transport: Transport,
    stored: Option<&Upstream>,
    problems: &mut Problems,
) -> Option<ConnParams> {
    let pointer = fields.at("connParams");
    let Some(value) = fields.take("connParams") else {
        problems.add(pointer, "is required");
        return None;
    };
    let mut params = Fields::open(value, &pointer, problems)?;
    let stored = stored.map(|upstream| &upstream.conn_params);
    let read = match transport {
        Transport::Stdio => stdio(&mut params, stored, problems),
        Transport::Sse | Transport::StreamableHttp | Transport::Websocket => {
            http(&mut params, transport, stored, problems)
        }
    };
    params.close(problems);
    read
}

fn stdio(params: &mut Fields, stored: Option<&ConnParams>, problems: &mut Problems) -> Option<ConnParams> {
    let empty = (Vec::new(), BTreeMap::new());
    let (old_args, old_env) = match stored {
        Some(ConnParams::Stdio { args, env, .. }) => (args, env),
        _ => (&empty.0, &empty.1),
    };
    let command = params.required("command", problems, fields::name(1..=PATH_CHARS_MAX));
    let args = args(params, old_args, problems);
    let env = named(params, "env", old_env, problems, |name, _| {
        let mut chars = name.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if first && chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            Ok(())
        } else {
            Err("must have letters, digits and _ only, and begin with no digit".into())
        }
    });
    let cwd = params.optional("cwd", problems, |value| {
        let path = fields::text(1..=PATH_CHARS_MAX)(value)?;
        if path.starts_with('/') { Ok(path) } else { Err("must be an absolute path".into()) }
    });
    Some(ConnParams::Stdio { command: command?, args: args?, env: env?, cwd })
}

fn http(
    params: &mut Fields,
    transport: Transport,
    stored: Option<&ConnParams>,
    problems: &mut Problems,
) -> Option<ConnParams> {
    let empty = BTreeMap::new();
    let old_headers = match stored {
        Some(ConnParams::Http { headers, .. }) => headers,
        _ => &empty,
    };
    let url = params.required("url", problems, |value| url(value, transport));
    let headers = named(params, "headers", old_headers, problems, header);
    if let Some(headers) = &headers {
        let mut seen = HashSet::new();
        for name in headers.keys().filter(|name| !seen.insert(name.to_ascii_lowercase())) {
            problems.add(pointer_to(&params.at("headers"), name), "is there already, in other letter case");
        }
    }
    Some(ConnParams::Http { url: url?, headers: headers? })
}

fn url(value: Json, transport: Transport) -> Result<String, String> {
    let text = fields::name(1..=URL_CHARS_MAX)(value)?;
    let url = Url::parse(&text).map_err(|_| "must be a whole address like https://host/mcp".to_owned())?;
    match (url.scheme(), transport) {
        ("http" | "https", _) | ("ws" | "wss", Transport::Websocket) => {}
        (_, Transport::Websocket) => return Err("must begin with ws://, wss://, http:// or https://".into()),
        _ => return Err("must begin with http:// or https://".into()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        // It would be shown wherever the address is; the credential has a place of its own.
        return Err("must not hold a user or password".into());
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment".into());
    }
    Ok(text)
}

fn header(name: &str, value: &str) -> Result<(), String> {
    let parsed = HeaderName::try_from(name).map_err(|_| "must be a name of a header".to_owned())?;
    if OWN_HEADERS.contains(&parsed.as_str()) || parsed.as_str().starts_with("sec-websocket-") {
        return Err("is written by the transport itself".into());
    }
    HeaderValue::from_str(value).map(drop).map_err(|_| "must have visible ASCII characters only".into())
}

/// Arguments: the placeholders among them stand for the stored secrets in their order.
fn args(params: &mut Fields, stored: &[Value], problems: &mut Problems) -> Option<Vec<Value>> {
    let pointer = params.at("args");
    let Some(value) = params.take("args") else { return Some(Vec::new()) };
    let kept: Vec<&Value> = stored.iter().filter(|value| value.is_secret()).collect();
    let placeholders = value
        .as_array()
        .map_or(0, |values| values.iter().filter(|value| **value == wire::placeholder()).count());
    // With fewer placeholders than secrets nobody could tell which ones were meant.
    let mut kept = if placeholders == kept.len() { kept.into_iter() } else { Vec::new().into_iter() };
    fields::list(value, &pointer, VALUES_MAX, problems, |value, pointer, problems| {
        let stored = if value == wire::placeholder() { kept.next() } else { None };
        one(value, pointer, stored, problems)
    })
}

/// An object of values; each placeholder stands for the stored secret of the same name.
fn named(
    params: &mut Fields,
    member: &str,
    stored: &BTreeMap<String, Value>,
    problems: &mut Problems,
    check: impl Fn(&str, &str) -> Result<(), String>,
) -> Option<BTreeMap<String, Value>> {
    let pointer = params.at(member);
    let Some(value) = params.take(member) else { return Some(BTreeMap::new()) };
    let Json::Object(members) = value else {
        problems.add(pointer, "must be an object");
        return None;
    };
    if members.len() > VALUES_MAX {
        problems.add(pointer, format!("must have at most {VALUES_MAX} members"));
        return None;
    }
    let mut read = BTreeMap::new();
    let mut whole = true;
    for (name, value) in members {
        let at = pointer_to(&pointer, &name);
        let Some(value) = one(value, &at, stored.get(&name), problems) else {
            whole = false;
            continue;
        };
        if let Err(message) = check(&name, value.expose()) {
            problems.add(at, message);
            whole = false;
        }
        read.insert(name, value);
    }
    whole.then_some(read)
}

/// A text, a new secret, or the placeholder of a stored one.
fn one(value: Json, pointer: &str, stored: Option<&Value>, problems: &mut Problems) -> Option<Value> {
    let read = match value {
        Json::String(text) => within_limits(text).map(Value::Plain),
        value if value == wire::placeholder() => stored
            .filter(|value| value.is_secret())
            .cloned()
            .ok_or_else(|| "no secret is stored here that could be kept: give it again".to_owned()),
        Json::Object(mut members) if members.len() == 1 => match members.remove("secret") {
            Some(Json::String(text)) => within_limits(text).map(|text| Value::Secret(Secret::new(text))),
            _ => Err(EXPECTED.to_owned()),
        },
        _ => Err(EXPECTED.to_owned()),
    };
    read.map_err(|message| problems.add(pointer, message)).ok()
}

const EXPECTED: &str = r#"must be a text or {"secret": "..."}"#;

fn within_limits(text: String) -> Result<String, String> {
    if text.chars().count() > VALUE_CHARS_MAX {
        return Err(format!("must have at most {VALUE_CHARS_MAX} characters"));
    }
    // No argument, environment value or header can hold one.
    if text.contains('\0') {
        return Err("must not contain NUL".into());
    }
    Ok(text)
}
