//! One list of an upstream, page by page, within bounds.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use sql::model::definition::is_storable_name;
use sql::model::{Finding, Kind, Settings, UpstreamId};

use super::{SyncError, is_modern};
use crate::bridge::{self, ErrorObject};
use crate::catalog::{list_field, name_field};
use crate::poison;
use crate::upstream::call::{Answer, Call};
use crate::upstream::handshake::own_capabilities;
use crate::upstream::{Peer, Upstreams};
use crate::wire::compose::{self, Quoted};
use crate::wire::edit::Object;
use crate::wire::headers::ParamHeaders;
use crate::wire::meta;
use crate::wire::text::Text;

/// Pages of one list: more is an upstream that never ends.
const PAGES_MAX: usize = 1000;

/// Items of one list, usable or not: no client can use more, and each costs memory in every view.
const ITEMS_MAX: usize = 10_000;

/// Findings that are kept of one list: an admin reads no more, and the store keeps them in one row.
const FINDINGS_MAX: usize = 200;

/// Bytes of one list.
const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;

const METHOD_NOT_FOUND: i64 = -32601;

/// A list as it came, without what can't be used.
#[derive(Default)]
pub(super) struct Fetched {
    pub(super) items: Vec<FetchedItem>,
    pub(super) findings: Vec<Finding>,
    pub(super) ttl_ms: Option<i64>,
    pub(super) public: bool,
}

/// One usable definition.
#[derive(Clone)]
pub(super) struct FetchedItem {
    pub(super) name: String,
    pub(super) body: Bytes,
}

/// Whether the upstream says that it has such a list.
pub(super) fn offers(peer: &Peer, kind: Kind) -> bool {
    let capability = match kind {
        Kind::Tool => "tools",
        Kind::Prompt => "prompts",
        Kind::Resource | Kind::ResourceTemplate => "resources",
    };
    Object::parse(&peer.capabilities).is_ok_and(|capabilities| capabilities.get(capability).is_some())
}

/// Fetches the whole list of `kind`.
pub(super) async fn list(
    upstreams: &Upstreams,
    id: UpstreamId,
    peer: &Peer,
    kind: Kind,
    settings: &Settings,
) -> Result<Fetched, SyncError> {
    let timeout = Duration::from_secs(u64::from(settings.sync.timeout_s));
    let mut list = Fetched {
        ttl_ms: is_modern(peer).then_some(i64::MAX),
        public: is_modern(peer),
        ..Fetched::default()
    };
    let mut reader =
        Reader { kind, has_tasks: peer.offers.task_calls, bytes: 0, items: 0, names: HashSet::new() };
    let mut cursors: HashSet<String> = HashSet::new();
    let mut cursor: Option<String> = None;
    loop {
        let call = Call::own(method(kind), params(peer, cursor.as_deref()), timeout, LIST_BYTES_MAX);
        let page = match upstreams.call(id, call).await? {
            Answer::Result(page) => page,
            // Many servers with resources have no templates and say so in this way.
            Answer::Error(error) if is_not_found(&error) && kind == Kind::ResourceTemplate => break,
            Answer::Error(error) => return Err(reader.refused(said(&error))),
        };
        cursor = reader.page(&page, &mut list)?;
        match &cursor {
            None => break,
            Some(next) if !cursors.insert(next.clone()) => return Err(reader.refused("a cursor came twice")),
            Some(_) if cursors.len() >= PAGES_MAX => {
                return Err(reader.refused(format!("more than {PAGES_MAX} pages")));
            }
            Some(_) => {}
        }
    }
    list.ttl_ms = list.ttl_ms.filter(|ttl_ms| *ttl_ms != i64::MAX);
    Ok(list)
}

fn method(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool => "tools/list",
        Kind::Prompt => "prompts/list",
        Kind::Resource => "resources/list",
        Kind::ResourceTemplate => "resources/templates/list",
    }
}

/// Params of a request of our own, in the upstream's era.
fn params(peer: &Peer, cursor: Option<&str>) -> Bytes {
    let mut params = Object::empty();
    if let Some(cursor) = cursor {
        params.set("cursor", compose::string(cursor));
    }
    if is_modern(peer) {
        let mut meta = Object::empty();
        meta.set(meta::PROTOCOL_VERSION, compose::string(peer.protocol_version));
        meta.set(meta::CLIENT_INFO, bridge::implementation());
        meta.set(meta::CLIENT_CAPABILITIES, own_capabilities());
        params.set("_meta", meta.into_bytes());
    }
    params.into_bytes()
}

fn is_not_found(error: &[u8]) -> bool {
    ErrorObject::read(error).is_some_and(|error| error.code == METHOD_NOT_FOUND)
}

fn said(error: &[u8]) -> String {
    let Some(error) = ErrorObject::read(error) else { return "the upstream answered with an error".into() };
    format!("the upstream answered {}: {}", error.code, Quoted(&error.message))
}

/// The elements of an array, at most one more than are taken of a list: an upstream can't have memory
/// used for millions of tiny ones.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;

        impl<'de> Visitor<'de> for Elements {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() <= ITEMS_MAX {
                    let Some(item) = array.next_element()? else { return Ok(Items(items)) };
                    items.push(item);
                }
                while array.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Items(items))
            }
        }

        deserializer.deserialize_seq(Elements)
    }
}

/// Reads pages of one list.
struct Reader {
    kind: Kind,
    /// Its tools can be called as tasks (2025-11-25).
    has_tasks: bool,
    bytes: usize,
    items: usize,
    names: HashSet<String>,
}

impl Reader {
    fn refused(&self, reason: impl Into<String>) -> SyncError {
        SyncError::Refused { kind: self.kind, reason: reason.into() }
    }

    /// Takes a page's items into the list; the answer is the next cursor.
    fn page(&mut self, page: &Bytes, list: &mut Fetched) -> Result<Option<String>, SyncError> {
        self.bytes += page.len();
        if self.bytes > LIST_BYTES_MAX {
            return Err(self.refused(format!("more than {LIST_BYTES_MAX} bytes")));
        }
        let object = Object::parse(page).map_err(|_| self.refused("the result is not an object"))?;
        let field = list_field(self.kind);
        let array = object.get(field).ok_or_else(|| self.refused(format!("the result has no {field}")))?;
        let Items(items) =
            serde_json::from_slice(&array).map_err(|_| self.refused(format!("{field} is not an array")))?;
        self.items += items.len();
        if self.items > ITEMS_MAX {
            return Err(self.refused(format!("more than {ITEMS_MAX} items")));
        }
        for item in items {
            self.item(&array.slice_ref(item.get().as_bytes()), list);
        }
        let ttl = object.get("ttlMs").and_then(|raw| serde_json::from_slice::<i64>(&raw).ok());
        list.ttl_ms = list.ttl_ms.map(|least| least.min(ttl.unwrap_or(0).max(0)));
        list.public &= object.get("cacheScope").as_deref() == Some(br#""public""#);
        Ok(object.get("nextCursor").and_then(|raw| Text::read(&raw)).map(|text| text.to_string()))
    }

    fn item(&mut self, body: &Bytes, list: &mut Fetched) {
        match self.usable(body) {
            Ok(name) => {
                for sign in poison::scan(body) {
                    if list.findings.len() < FINDINGS_MAX {
                        list.findings.push(self.finding(&name, sign.code(), sign.message()));
                    }
                }
                self.names.insert(name.clone());
                list.items.push(FetchedItem { name, body: one_line(body) });
            }
            Err(finding) if list.findings.len() < FINDINGS_MAX => list.findings.push(finding),
            Err(_) => {}
        }
    }

    fn usable(&self, body: &Bytes) -> Result<String, Finding> {
        let object = Object::parse(body)
            .map_err(|_| self.finding("", "NOT_AN_OBJECT", "the definition is not an object"))?;
        let field = name_field(self.kind);
        let name = object
            .get(field)
            .and_then(|raw| Text::read(&raw))
            .map(|text| text.to_string())
            .unwrap_or_default();
        if name.is_empty() || !is_storable_name(&name) {
            let text = format!("{field} is missing, empty, or longer than can be kept");
            return Err(self.finding("", "NO_NAME", &text));
        }
        if self.names.contains(&name) {
            return Err(self.finding(&name, "DUPLICATE", "the list has this name twice; the first is kept"));
        }
        if self.kind == Kind::Tool {
            self.usable_schema(&name, object.get("inputSchema"))?;
            self.callable_at_once(&name, object.get("execution"))?;
        }
        Ok(name)
    }

    fn usable_schema(&self, name: &str, schema: Option<Bytes>) -> Result<(), Finding> {
        let schema = schema.filter(|raw| matches!(serde_json::from_slice(raw), Ok(Value::Object(_))));
        let Some(schema) = schema else {
            return Err(self.finding(name, "NO_SCHEMA", "inputSchema is missing or not an object"));
        };
        // Streamable HTTP, 2026-07-28: a client leaves out a tool whose x-mcp-header is invalid.
        match ParamHeaders::of_schema(&schema) {
            Ok(_) => Ok(()),
            Err(invalid) => Err(self.finding(name, "INVALID_X_MCP_HEADER", &invalid.to_string())),
        }
    }

    /// A tool that can only be called as a task (2025-11-25) can't be called at all where the upstream
    /// says, by its version or its capabilities, that it has no such calls.
    fn callable_at_once(&self, name: &str, execution: Option<Bytes>) -> Result<(), Finding> {
        let execution = execution.and_then(|raw| Object::parse(&raw).ok());
        match execution.and_then(|execution| execution.text("taskSupport")) {
            Some(support) if support.as_str() == "required" && !self.has_tasks => {
                let text = "the tool can be called as a task only, and the upstream doesn't offer tasks of 2025-11-25";
                Err(self.finding(name, "TASK_REQUIRED", text))
            }
            _ => Ok(()),
        }
    }

    fn finding(&self, name: &str, code: &str, message: &str) -> Finding {
        Finding { kind: self.kind, upstream_name: name.into(), code: code.into(), message: message.into() }
    }
}

/// A definition without line breaks between its tokens, so that it fits a frame of any transport; a
/// line break can't stand inside a JSON string.
fn one_line(body: &Bytes) -> Bytes {
    if !body.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        // A copy of its own, so that one kept definition doesn't keep the whole page alive.
        return Bytes::copy_from_slice(body);
    }
    let mut line = BytesMut::from(&body[..]);
    for byte in line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    line.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, pages: &[&str]) -> Result<(Fetched, Option<String>), SyncError> {
        let mut reader = Reader { kind, has_tasks: false, bytes: 0, items: 0, names: HashSet::new() };
        let mut list = Fetched { ttl_ms: Some(i64::MAX), public: true, ..Fetched::default() };
        let mut cursor = None;
        for page in pages {
            cursor = reader.page(&Bytes::copy_from_slice(page.as_bytes()), &mut list)?;
        }
        Ok((list, cursor))
    }

    fn codes(list: &Fetched) -> Vec<&str> {
        list.findings.iter().map(|finding| finding.code.as_str()).collect()
    }

    #[test]
    fn definitions_are_kept_as_they_came() {
        let body = r#"{ "x":1.0,"name":"a","inputSchema":{"$defs":{}}}"#;
        let (list, cursor) =
            read(Kind::Tool, &[&format!(r#"{{"tools":[{body}],"nextCursor":"n"}}"#)]).unwrap();
        assert_eq!((list.items[0].name.as_str(), &list.items[0].body[..]), ("a", body.as_bytes()));
        assert_eq!(cursor.as_deref(), Some("n"));
        let (list, _) = read(Kind::Prompt, &["{\"prompts\":[{\"name\":\n\"a\"}]}"]).unwrap();
        assert_eq!(&list.items[0].body[..], b"{\"name\": \"a\"}", "on one line");
    }

    #[test]
    fn a_bad_definition_is_a_finding_and_spoils_no_other() {
        let page = r#"{"tools":[1,{"name":""},{"name":"a"},{"name":"b","inputSchema":{}},
            {"name":"b","inputSchema":{}},{"name":"c","inputSchema":[]}]}"#;
        let (list, _) = read(Kind::Tool, &[page]).unwrap();
        assert_eq!(list.items.iter().map(|item| item.name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(codes(&list), ["NOT_AN_OBJECT", "NO_NAME", "NO_SCHEMA", "DUPLICATE", "NO_SCHEMA"]);
    }

    #[test]
    fn a_list_without_end_is_refused_whatever_is_in_it() {
        let bad = format!(r#"{{"prompts":[{}1]}}"#, "1,".repeat(ITEMS_MAX));
        assert!(matches!(read(Kind::Prompt, &[&bad]), Err(SyncError::Refused { .. })));
        let half = format!(r#"{{"prompts":[{}1]}}"#, "1,".repeat(ITEMS_MAX / 2));
        assert!(matches!(read(Kind::Prompt, &[&half, &half]), Err(SyncError::Refused { .. })));
        let (list, _) = read(Kind::Prompt, &[&half]).unwrap();
        assert_eq!(list.findings.len(), FINDINGS_MAX);
    }

    #[test]
    fn what_is_not_a_list_is_refused() {
        for page in ["[]", "{}", r#"{"tools":{}}"#, r#"{"tools":null}"#, r#"{"prompts":[]}"#] {
            assert!(matches!(read(Kind::Tool, &[page]), Err(SyncError::Refused { .. })), "{page}");
        }
    }

    #[test]
    fn a_list_is_as_fresh_and_as_public_as_its_least_page() {
        let pages = [
            r#"{"prompts":[],"ttlMs":5,"cacheScope":"public"}"#,
            r#"{"prompts":[],"ttlMs":9,"cacheScope":"public"}"#,
        ];
        let (list, _) = read(Kind::Prompt, &pages).unwrap();
        assert_eq!((list.ttl_ms, list.public), (Some(5), true));
        let (list, _) = read(Kind::Prompt, &[pages[0], r#"{"prompts":[]}"#]).unwrap();
        assert_eq!((list.ttl_ms, list.public), (Some(0), false));
    }

    #[test]
    fn a_tool_that_can_be_called_as_a_task_only_is_left_out_and_said_why() {
        let tool = |name: &str, support: &str| {
            format!(r#"{{"name":"{name}","inputSchema":{{}},"execution":{{"taskSupport":"{support}"}}}}"#)
        };
        let tools = [tool("a", "forbidden"), tool("b", "optional"), tool("c", "required")].join(",");
        let (list, _) = read(Kind::Tool, &[&format!(r#"{{"tools":[{tools}]}}"#)]).unwrap();
        assert_eq!(list.items.iter().map(|item| item.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((codes(&list), &*list.findings[0].upstream_name), (vec!["TASK_REQUIRED"], "c"));
        let page = Bytes::from(format!(r#"{{"tools":[{tools}]}}"#));
        let mut reader =
            Reader { kind: Kind::Tool, has_tasks: true, bytes: 0, items: 0, names: HashSet::new() };
        let mut list = Fetched::default();
        reader.page(&page, &mut list).unwrap();
        assert_eq!((list.items.len(), list.findings.len()), (3, 0), "the upstream has tasks");
    }
}
