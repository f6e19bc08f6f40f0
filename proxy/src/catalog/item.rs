//! One definition as clients meet it: under its exposed name, rendered once.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use sql::model::{Definition, Kind, Upstream, UpstreamId};

use super::as_task::{AsTask, Audience};
use super::moved_uris::MovedUris;
use super::naming::Mark;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::headers::ParamHeaders;

/// One definition as clients meet it.
pub struct Item {
    /// The stored definition: upstream name, body as it came, hash.
    pub definition: Arc<Definition>,
    /// The upstream that has it.
    pub upstream: Arc<Upstream>,
    /// The name, or URI, that clients use.
    pub exposed_name: Arc<str>,
    /// The definition as it goes out: as it came but for the name.
    pub rendered: Bytes,
    /// The parameters of a tool that are mirrored into HTTP headers (2026-07-28, `x-mcp-header`).
    pub param_headers: ParamHeaders,
    /// How clients of 2025-11-25 meet a tool that they can call as a task.
    pub as_task: Option<AsTask>,
    moved_uris: Arc<MovedUris>,
}

impl Item {
    pub(crate) fn new(
        upstream: &Arc<Upstream>,
        definition: Arc<Definition>,
        moved_uris: &Arc<MovedUris>,
    ) -> Option<Self> {
        let exposed_name: Arc<str> = definition.exposed_name.as_str().into();
        let rendered = render(&definition, moved_uris)?;
        let param_headers = match definition.kind {
            Kind::Tool => param_headers(&definition)?,
            _ => ParamHeaders::default(),
        };
        let (upstream, moved_uris) = (Arc::clone(upstream), Arc::clone(moved_uris));
        let as_task = None;
        Some(Self { definition, upstream, exposed_name, rendered, param_headers, as_task, moved_uris })
    }

    /// What the upstream calls what a client asks for under `subject`: the item's own name, or for a
    /// template the URI itself, without the mark of ours that a contested template puts there.
    pub fn subject_upstream<'a>(&'a self, subject: &'a str) -> Cow<'a, str> {
        if self.definition.kind != Kind::ResourceTemplate {
            return self.definition.upstream_name.as_str().into();
        }
        let mark = Mark::between(&self.definition.upstream_name, &self.exposed_name);
        mark.and_then(|mark| mark.take(subject)).unwrap_or(subject.into())
    }

    /// The result of a call, with the URIs that clients know in place of the upstream's own.
    pub fn with_exposed_uris(&self, result: Bytes) -> Bytes {
        if self.moved_uris.is_empty() { result } else { self.moved_uris.in_result(&result) }
    }

    /// The definition as an audience gets it; `None` if it doesn't.
    pub fn rendered_for(&self, audience: Audience) -> Option<&Bytes> {
        match (&self.as_task, audience) {
            (Some(as_task), Audience::Tasks) => Some(&as_task.rendered),
            (Some(AsTask { is_required: true, .. }), Audience::Plain) => None,
            (Some(_) | None, _) => Some(&self.rendered),
        }
    }

    /// Where the item stands among all: stable, and the same on every replica.
    pub(crate) fn place(&self) -> Place<'_> {
        Place {
            upstream: (self.upstream.sort_order, self.upstream.id),
            item: (self.definition.sort_order.unwrap_or(i64::MAX), self.definition.position),
            name: &self.exposed_name,
        }
    }
}

/// The order of a list: by upstream, then the admin's order, then the upstream's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place<'a> {
    pub(crate) upstream: (i64, UpstreamId),
    pub(crate) item: (i64, i64),
    pub(crate) name: &'a str,
}

/// The definition with the exposed names in place of the upstream's, where they differ. A tool loses
/// `execution` (2025-11-25, tasks), which has a meaning between few clients and upstreams ([`AsTask`]).
pub(super) fn render(definition: &Definition, moved: &MovedUris) -> Option<Bytes> {
    let is_renamed = definition.exposed_name != definition.upstream_name;
    if !is_renamed && definition.kind != Kind::Tool {
        return Some(definition.body.clone());
    }
    let mut object = Object::parse(&definition.body).ok()?;
    if definition.kind == Kind::Tool {
        object.remove("execution");
        moved.in_tool(&mut object);
    }
    if is_renamed {
        object.set(name_field(definition.kind), compose::string(&definition.exposed_name));
    }
    Some(object.into_bytes())
}

/// Where a definition of a kind has its name.
pub(crate) fn name_field(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool | Kind::Prompt => "name",
        Kind::Resource => "uri",
        Kind::ResourceTemplate => "uriTemplate",
    }
}

/// Where the result of a list has its items.
pub(crate) fn list_field(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool => "tools",
        Kind::Prompt => "prompts",
        Kind::Resource => "resources",
        Kind::ResourceTemplate => "resourceTemplates",
    }
}

fn param_headers(definition: &Definition) -> Option<ParamHeaders> {
    let schema = Object::parse(&definition.body).ok()?.get("inputSchema")?;
    ParamHeaders::of_schema(&schema).ok()
}
