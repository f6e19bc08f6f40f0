//! A file that says which upstreams, keys, rules, XiaoZhi endpoints and settings there shall be, applied at every start.
//!
//! Items are matched by name, rules by owner and pattern. What the file says is made so, what it doesn't say stays as it is
//! stored: an upstream that an admin disabled stays disabled unless the file says `enabled: true`,
//! and nothing is ever deleted. An item that is so already isn't written, so a restart changes no
//! version, no revision and no audit log. All of it happens in one transaction or not at all.
//!
//! A body is what the REST API takes, read by the same parser; `${...}` is not expanded. Paths, those of
//! commands as well as `keyFile`, are seen from the folder that the gateway is started in.

mod apply;
mod bodies;
pub(crate) mod document;
mod rules;
#[cfg(test)]
mod tests;
mod xiaozhi;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};
use sql::model::{ApiKey, ApiKeyId, FieldError, NewUpstream, PlaintextKey, Settings, Timestamp};

pub(crate) use apply::BootstrapError;
pub(crate) use document::FileProblem;

use crate::config::read_secret_file;
use document::Document;

/// Written by people: ten thousand upstreams fit.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A key whose random part has fewer different characters than this came from an example.
const KEY_CHARACTERS_MIN: usize = 12;

/// A file that was read and found to be in order.
pub(crate) struct Bootstrap {
    document: Document,
    upstreams: Vec<UpstreamItem>,
    keys: Vec<KeyItem>,
    rules: rules::Rules,
    xiaozhi: Vec<xiaozhi::Item>,
    settings: Option<Value>,
}

/// One upstream of the file.
struct UpstreamItem {
    pointer: String,
    /// The fields that the file gives; the others keep what is stored.
    said: Map<String, Value>,
    new: NewUpstream,
}

/// One key of the file.
struct KeyItem {
    pointer: String,
    said: Map<String, Value>,
    /// What the file says, laid over a key of no installation.
    new: ApiKey,
    secret: PlaintextKey,
    /// The upstreams it may use, by name, since a file can't know ids.
    upstream_names: Option<Vec<String>>,
}

impl Bootstrap {
    /// Reads and checks the file, or tells everything that is wrong with it.
    pub(crate) fn load(path: &Path) -> Result<Self, Vec<FileProblem>> {
        let bytes = read(path).map_err(|message| vec![FileProblem::of_file(path, message)])?;
        Self::parse(path, bytes)
    }

    fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, Vec<FileProblem>> {
        let document = Document::parse(path, bytes).map_err(|problem| vec![problem])?;
        let mut problems = Vec::new();
        let mut groups = groups(document.value(), &mut problems);
        let upstreams =
            upstreams(items(groups.remove("upstreams"), "/upstreams", &mut problems), &mut problems);
        let keys = keys(items(groups.remove("keys"), "/keys", &mut problems), &mut problems);
        let rules = rules::read(groups.remove("rules"), &mut problems);
        let xiaozhi =
            xiaozhi::read(items(groups.remove("xiaozhi"), "/xiaozhi", &mut problems), &mut problems);
        let settings = groups.remove("settings").filter(|patch| !patch.is_null());
        if let Some(patch) = &settings
            && let Err(errors) = Settings::default().merge_patch(patch)
        {
            problems.extend(errors.into_iter().map(|error| below("/settings", error)));
        }
        for name in groups.keys() {
            let message = "is not a known group";
            problems.push(FieldError::new(format!("/{}", document::escape(name)), message));
        }
        if problems.is_empty() {
            return Ok(Self { document, upstreams, keys, rules, xiaozhi, settings });
        }
        Err(told(&document, problems))
    }
}

/// Problems with their lines, in the order of the file.
fn told(document: &Document, problems: Vec<FieldError>) -> Vec<FileProblem> {
    let mut told: Vec<FileProblem> =
        problems.into_iter().map(|error| document.problem(&error.pointer, error.message)).collect();
    told.sort_by_key(FileProblem::line);
    told
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot_read = |error: std::io::Error| format!("cannot read the file: {}", error.kind());
    let file = File::open(path).map_err(cannot_read)?;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that too long shows.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("the file is longer than {} MiB", FILE_BYTES_MAX / (1024 * 1024)));
    }
    Ok(bytes)
}

/// An empty file says nothing, and so wants nothing.
fn groups(value: &Value, problems: &mut Vec<FieldError>) -> Map<String, Value> {
    match value {
        Value::Object(groups) => groups.clone(),
        Value::Null => Map::new(),
        _ => {
            problems.push(FieldError::new("", "must be a mapping of groups such as `upstreams:`"));
            Map::new()
        }
    }
}

/// The items of a group, each with its pointer.
fn items(
    group: Option<Value>,
    pointer: &str,
    problems: &mut Vec<FieldError>,
) -> Vec<(String, Map<String, Value>)> {
    let items = match group {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => {
            problems.push(FieldError::new(pointer, "must be a list"));
            return Vec::new();
        }
    };
    let mut members = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let pointer = format!("{pointer}/{index}");
        match item {
            Value::Object(item) => members.push((pointer, item)),
            _ => problems.push(FieldError::new(pointer, "must be a mapping")),
        }
    }
    members
}

fn upstreams(items: Vec<(String, Map<String, Value>)>, problems: &mut Vec<FieldError>) -> Vec<UpstreamItem> {
    let mut named = BTreeMap::new();
    let mut upstreams = Vec::new();
    for (pointer, said) in items {
        match bodies::upstream(Value::Object(said.clone())) {
            Ok(new) => {
                refuse_second("name", &new.name, &pointer, &mut named, problems);
                upstreams.push(UpstreamItem { pointer, said, new });
            }
            Err(errors) => problems.extend(errors.into_iter().map(|error| below(&pointer, error))),
        }
    }
    upstreams
}

fn keys(items: Vec<(String, Map<String, Value>)>, problems: &mut Vec<FieldError>) -> Vec<KeyItem> {
    let mut named = BTreeMap::new();
    let mut known = BTreeMap::new();
    let mut keys = Vec::new();
    for (pointer, mut said) in items {
        let secret = secret(&mut said);
        let upstream_names = upstream_names(&mut said);
        let new = bodies::key(Value::Object(said.clone()), blank_key(secret.as_ref().ok()));
        if let Ok(new) = &new {
            refuse_second("name", &new.name, &pointer, &mut named, problems);
        }
        if let Ok(secret) = &secret {
            refuse_second("key", secret.expose(), &pointer, &mut known, problems);
        }
        match (secret, upstream_names, new) {
            (Ok(secret), Ok(upstream_names), Ok(new)) => {
                keys.push(KeyItem { pointer, said, new, secret, upstream_names });
            }
            (secret, names, new) => {
                let errors =
                    secret.err().into_iter().chain(names.err()).chain(new.err().into_iter().flatten());
                problems.extend(errors.map(|error| below(&pointer, error)));
            }
        }
    }
    keys
}

/// A key that nothing was said of. Without a secret it only serves to find what else is wrong.
fn blank_key(secret: Option<&PlaintextKey>) -> ApiKey {
    let secret = secret.cloned().unwrap_or_else(PlaintextKey::generate);
    ApiKey::create(ApiKeyId::at(Timestamp::from_millis(0)), "", &secret, Timestamp::from_millis(0))
}

/// Takes the secret out of a key's body: the file sets what the REST API makes up.
fn secret(said: &mut Map<String, Value>) -> Result<PlaintextKey, FieldError> {
    let (pointer, text) = match (said.remove("key"), said.remove("keyFile")) {
        (Some(Value::String(text)), None) => ("/key", text),
        (None, Some(Value::String(path))) => {
            let text = read_secret_file(Path::new(&path));
            ("/keyFile", text.map_err(|message| FieldError::new("/keyFile", message))?)
        }
        (Some(_), Some(_)) => {
            return Err(FieldError::new("/keyFile", "stands together with key; give one of them"));
        }
        (Some(_), None) => return Err(FieldError::new("/key", "must be a text")),
        (None, Some(_)) => return Err(FieldError::new("/keyFile", "must be a text")),
        (None, None) => return Err(FieldError::new("/key", "is required, or keyFile")),
    };
    let secret = PlaintextKey::parse(&text).filter(|secret| !is_placeholder(secret));
    secret.ok_or_else(|| FieldError::new(pointer, "must be mpg_ and 43 random characters of base64url"))
}

/// Whether somebody filled the shape by hand.
fn is_placeholder(secret: &PlaintextKey) -> bool {
    let different: std::collections::BTreeSet<u8> = secret.expose().bytes().skip("mpg_".len()).collect();
    different.len() < KEY_CHARACTERS_MIN
}

/// Takes the names of a key's upstreams out of its body.
fn upstream_names(said: &mut Map<String, Value>) -> Result<Option<Vec<String>>, FieldError> {
    let refused = |message: &str| Err(FieldError::new("/upstreams", message));
    let names = match said.remove("upstreams") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(names)) => names,
        Some(_) => return refused("must be a list of names"),
    };
    if said.contains_key("upstreamIds") {
        return refused("stands together with upstreamIds; give one of them");
    }
    let texts: Option<Vec<String>> = names.into_iter().map(|name| name.as_str().map(str::to_owned)).collect();
    texts.map_or_else(|| refused("must be a list of names"), |texts| Ok(Some(texts)))
}

/// Notes that two items claim one name, or two keys one secret.
fn refuse_second(
    field: &str,
    claimed: &str,
    pointer: &str,
    claims: &mut BTreeMap<String, String>,
    problems: &mut Vec<FieldError>,
) {
    if claims.insert(claimed.to_owned(), pointer.to_owned()).is_some() {
        problems.push(FieldError::new(format!("{pointer}/{field}"), "stands twice in this file"));
    }
}

/// An error of an item, seen from the file.
fn below(pointer: &str, error: FieldError) -> FieldError {
    FieldError::new(format!("{pointer}{}", error.pointer), error.message)
}
