//! The methods that are carried out by the upstream which has their subject, and how each names it.

use std::sync::Arc;

use bytes::Bytes;
use sql::model::{CallMethod, Kind};

use crate::bridge;
use crate::catalog::{Item, View};
use crate::upstream::Peer;
use crate::upstream::call::Answer;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::envelope::{Field, Params};
use crate::wire::meta::Version;

const INVALID_PARAMS: i64 = -32602;
/// Only towards legacy clients (2025-11-25, resources); 2026-07-28 forbids it.
const RESOURCE_NOT_FOUND: i64 = -32002;

/// A method with a subject.
pub(super) struct Verb {
    /// The method, of clients and upstreams alike.
    pub(super) method: &'static str,
    /// What its record calls it.
    pub(super) recorded: CallMethod,
    /// What params must have, in words for who left it out.
    pub(super) needs: &'static str,
    /// Whether a modern client may be asked for input before it is answered (2026-07-28, multi
    /// round-trip requests, supported requests).
    pub(super) may_ask: bool,
    /// The subject that params name.
    pub(super) subject: fn(&Params) -> Option<Subject>,
}

pub(super) const CALL_TOOL: Verb = Verb {
    method: "tools/call",
    recorded: CallMethod::CallTool,
    needs: "params.name must be a string",
    may_ask: true,
    subject: |params| Some(Subject { name: params.name()?.to_string(), place: Place::Tool }),
};

pub(super) const GET_PROMPT: Verb = Verb {
    method: "prompts/get",
    recorded: CallMethod::GetPrompt,
    needs: "params.name must be a string",
    may_ask: true,
    subject: |params| Some(Subject { name: params.name()?.to_string(), place: Place::Prompt }),
};

pub(super) const READ_RESOURCE: Verb = Verb {
    method: "resources/read",
    recorded: CallMethod::ReadResource,
    needs: "params.uri must be a string",
    may_ask: true,
    subject: Subject::resource,
};

pub(super) const COMPLETE: Verb = Verb {
    method: "completion/complete",
    recorded: CallMethod::Complete,
    needs: "params.ref must name a prompt or the URI of a resource",
    may_ask: false,
    subject: |params| {
        let reference = Object::parse(&params.get(Field::Ref)?).ok()?;
        let (field, place) = match reference.text("type")?.as_str() {
            "ref/prompt" => ("name", Place::PromptRef),
            "ref/resource" => ("uri", Place::ResourceRef),
            _ => return None,
        };
        Some(Subject { name: reference.text(field)?.to_string(), place })
    },
};

/// What a request is about, by the name that the client uses.
pub(super) struct Subject {
    pub(super) name: String,
    place: Place,
}

/// Where in the params the name stands, and of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Tool,
    Prompt,
    Resource,
    PromptRef,
    ResourceRef,
}

impl Subject {
    /// The resource that `params.uri` names.
    pub(super) fn resource(params: &Params) -> Option<Self> {
        Some(Self { name: params.uri()?.to_string(), place: Place::Resource })
    }

    /// The item that this is the name of, if the view shows it.
    pub(super) fn route(&self, view: &View) -> Option<Arc<Item>> {
        let item = match self.place {
            Place::Tool => view.route(Kind::Tool, &self.name),
            Place::Prompt | Place::PromptRef => view.route(Kind::Prompt, &self.name),
            Place::Resource => view.route_uri(&self.name),
            // A completion is mostly about a template itself.
            Place::ResourceRef => {
                let template = view.route(Kind::ResourceTemplate, &self.name);
                template.or_else(|| view.route_uri(&self.name))
            }
        };
        item.cloned()
    }

    /// `params` with the name that the upstream knows; untouched where it is the same.
    pub(super) fn rename(&self, params: &Params, item: &Item) -> Bytes {
        let theirs = &*item.subject_upstream(&self.name);
        if theirs == self.name {
            return params.raw().clone();
        }
        let name = compose::string(theirs);
        match self.place {
            Place::Tool | Place::Prompt => params.with(&[(Field::Name, &name)]),
            Place::Resource => params.with(&[(Field::Uri, &name)]),
            Place::PromptRef => refer(params, "name", name),
            Place::ResourceRef => refer(params, "uri", name),
        }
    }

    /// Whether 2026-07-28 mirrors the name into a header (Streamable HTTP, request metadata).
    pub(super) fn is_mirrored(&self) -> bool {
        !matches!(self.place, Place::PromptRef | Place::ResourceRef)
    }

    /// The error for a subject that isn't there, or that this key doesn't see: the same for both. Code,
    /// message and data.
    pub(super) fn unknown(&self, is_modern: bool) -> (i64, String, Option<String>) {
        let name = &self.name;
        let uri = || Some(serde_json::json!({ "uri": name }).to_string());
        match self.place {
            Place::Tool => (INVALID_PARAMS, format!("Unknown tool: {name}"), None),
            Place::Prompt | Place::PromptRef => (INVALID_PARAMS, format!("Unknown prompt: {name}"), None),
            Place::Resource if !is_modern => (RESOURCE_NOT_FOUND, "Resource not found".to_owned(), uri()),
            Place::Resource | Place::ResourceRef => (INVALID_PARAMS, "Resource not found".to_owned(), uri()),
        }
    }
}

/// The answer in the place of an upstream that completes nothing: it can't be asked, and the client was
/// told that completion is there, since another upstream has it. Before 2025-03-26 there was no
/// capability to go by.
pub(super) fn nothing_to_complete(verb: &Verb, peer: &Peer, is_modern: bool) -> Option<Answer> {
    let is_asked = verb.method != COMPLETE.method
        || peer.protocol_version == Version::V2024_11_05.as_str()
        || peer.offers.completions;
    if is_asked {
        return None;
    }
    let empty = Bytes::from_static(br#"{"completion":{"values":[],"total":0,"hasMore":false}}"#);
    if !is_modern {
        return Some(Answer::Result(empty));
    }
    Some(bridge::modern_to_legacy::answer(Answer::Result(empty), verb.method))
}

/// `params` whose reference names something else. The envelope was read strictly, so it can be read again.
fn refer(params: &Params, field: &str, name: Bytes) -> Bytes {
    let reference = params.get(Field::Ref).and_then(|reference| Object::parse(&reference).ok());
    let Some(mut reference) = reference else { return params.raw().clone() };
    reference.set(field, name);
    params.with(&[(Field::Ref, &reference.into_bytes())])
}

#[cfg(test)]
mod tests {
    use sql::clock::Clock;
    use sql::model::{
        ConnParams, Definition, DefinitionId, Era, NewUpstream, Timestamp, Transport, Upstream, UpstreamId,
    };

    use super::*;
    use crate::upstream::offers::Offers;
    use crate::wire::envelope::{self, Message};

    fn params(text: &str) -> Params {
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{text}}}"#);
        match envelope::parse(message.into()) {
            Ok(Message::Request(request)) => request.params.expect("it has some"),
            other => panic!("a request, not {other:?}"),
        }
    }

    fn item(kind: Kind, upstream_name: &str, exposed_name: &str) -> Item {
        let (clock, now) = (Clock::system(), Timestamp::from_millis(0));
        let http =
            ConnParams::Http { url: "http://localhost/".into(), headers: std::collections::BTreeMap::new() };
        let new = NewUpstream::named("one", Transport::StreamableHttp, http);
        let upstream = Upstream::create(new, UpstreamId::new(&clock), now);
        let definition = Definition {
            id: DefinitionId::new(&clock),
            upstream_id: upstream.id,
            kind,
            upstream_name: upstream_name.into(),
            exposed_name: exposed_name.into(),
            body: Bytes::from_static(b"{}"),
            hash: [0; 32],
            position: 0,
            enabled: true,
            sort_order: None,
            first_seen_at: now,
            changed_at: now,
        };
        Item::for_test(upstream, definition)
    }

    #[test]
    fn a_completion_is_renamed_inside_its_ref_and_nowhere_else() {
        let raw = r#"{"ref":{"type":"ref/prompt", "name":"a__1","title":"a__1"},"argument":{"name":"a__1","value":"v"},"context":{"arguments":{"x":1.0}}}"#;
        let params = params(raw);
        let subject = (COMPLETE.subject)(&params).expect("a prompt");
        let renamed = subject.rename(&params, &item(Kind::Prompt, "a", "a__1"));
        assert_eq!(renamed, raw.replacen(r#""name":"a__1""#, r#""name":"a""#, 1));
        let same = subject.rename(&params, &item(Kind::Prompt, "a__1", "a__1"));
        assert_eq!(same, raw);
    }

    #[test]
    fn a_completion_of_a_contested_template_names_the_one_that_the_upstream_knows() {
        let params = params(r#"{"ref":{"type":"ref/resource","uri":"mpg+0123abcd:t://{id}"},"argument":{}}"#);
        let subject = (COMPLETE.subject)(&params).expect("a template");
        let template = item(Kind::ResourceTemplate, "t://{id}", "mpg+0123abcd:t://{id}");
        let renamed = subject.rename(&params, &template);
        assert_eq!(renamed, r#"{"ref":{"type":"ref/resource","uri":"t://{id}"},"argument":{}}"#);
    }

    #[test]
    fn what_names_nothing_has_no_subject() {
        for bad in [
            "{}",
            r#"{"ref":null}"#,
            r#"{"ref":{"type":"ref/tool","name":"a"}}"#,
            r#"{"ref":{"type":"ref/prompt","uri":"a"}}"#,
            r#"{"ref":{"type":"ref/resource","uri":1}}"#,
        ] {
            assert!((COMPLETE.subject)(&params(bad)).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_upstream_that_completes_nothing_is_not_asked() {
        let peer = |version, capabilities: &'static str| Peer {
            era: Era::Legacy,
            protocol_version: version,
            capabilities: Bytes::from_static(capabilities.as_bytes()),
            offers: Offers::of(&Bytes::from_static(capabilities.as_bytes())),
        };
        let empty = nothing_to_complete(&COMPLETE, &peer("2025-11-25", "{}"), false);
        let Some(Answer::Result(raw)) = empty else { panic!("an empty list") };
        assert_eq!(raw, r#"{"completion":{"values":[],"total":0,"hasMore":false}}"#);
        assert!(nothing_to_complete(&COMPLETE, &peer("2024-11-05", "{}"), false).is_none());
        assert!(
            nothing_to_complete(&COMPLETE, &peer("2025-11-25", r#"{"completions":{}}"#), false).is_none()
        );
        assert!(nothing_to_complete(&GET_PROMPT, &peer("2025-11-25", "{}"), false).is_none());
    }
}
