//! One definition as clients meet it: under its exposed name, rendered once.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use sql::model::{Definition, Kind, Upstream, UpstreamId};

use super::as_task::{AsTask, Audience};
use super::moved_uris::MovedUris;
use super::naming::Mark;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::headers::ParamHeaders;

/// How clients meet a definition, as far as it isn't as it came.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Look {
    /// The name, or URI, that clients use.
    pub(crate) name: Arc<str>,
    /// The description that an alias gives it.
    pub(crate) description: Option<Arc<str>>,
    /// Whether its upstream has the tasks of 2025-11-25, so that the tool may be called as one.
    pub(crate) has_tasks: bool,
}

/// One definition as clients meet it.
pub struct Item {
    /// The stored definition: upstream name, body as it came, hash.
    pub definition: Arc<Definition>,
    /// The upstream that has it.
    pub upstream: Arc<Upstream>,
    /// The name, or URI, that clients use.
    pub exposed_name: Arc<str>,
    /// The definition as it goes out: as it came but for the name, and the description where an alias says so.
    pub rendered: Bytes,
    /// The parameters of a tool that are mirrored into HTTP headers (2026-07-28, `x-mcp-header`).
    pub param_headers: ParamHeaders,
    /// How clients of 2025-11-25 meet a tool that they can call as a task.
    pub as_task: Option<AsTask>,
    /// SHA-256 of all that clients are shown of it.
    pub(crate) digest: [u8; 32],
    pub(crate) look: Look,
    moved_uris: Arc<MovedUris>,
}

impl Item {
    /// `None`: the definition can't be read.
    pub(crate) fn new(
        upstream: &Arc<Upstream>,
        definition: &Arc<Definition>,
        moved_uris: &Arc<MovedUris>,
        look: Look,
    ) -> Option<Self> {
        let rendered = render(definition, moved_uris, &look)?;
        let param_headers = match definition.kind {
            Kind::Tool => param_headers(definition)?,
            _ => ParamHeaders::default(),
        };
        let as_task = if look.has_tasks { AsTask::of(definition, moved_uris, &look) } else { None };
        let mut hash = Context::new(&SHA256);
        hash.update(&rendered);
        if let Some(as_task) = &as_task {
            hash.update(&[u8::from(as_task.is_required)]);
            hash.update(&as_task.rendered);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        Some(Self {
            definition: Arc::clone(definition),
            upstream: Arc::clone(upstream),
            exposed_name: Arc::clone(&look.name),
            rendered,
            param_headers,
            as_task,
            digest,
            look,
            moved_uris: Arc::clone(moved_uris),
        })
    }

    /// An item by itself, without anything around it.
    #[cfg(test)]
    pub(crate) fn for_test(upstream: Upstream, definition: Definition) -> Self {
        let look =
            Look { name: definition.exposed_name.as_str().into(), description: None, has_tasks: false };
        let item = Self::new(&Arc::new(upstream), &Arc::new(definition), &Arc::default(), look);
        item.expect("it renders")
    }

    /// Whether it is this definition in this look.
    pub(crate) fn has_look(&self, definition: &Arc<Definition>, look: &Look) -> bool {
        Arc::ptr_eq(&self.definition, definition) && self.look == *look
    }

    /// About how much memory it takes, beyond what it shares.
    pub(crate) fn bytes(&self) -> usize {
        let as_task = self.as_task.as_ref().map_or(0, |as_task| as_task.rendered.len());
        size_of::<Self>() + self.rendered.len() + as_task + self.exposed_name.len()
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
            item: order(&self.definition),
            name: &self.exposed_name,
        }
    }
}

/// Where a definition stands in its own list: as the admin says, else as its upstream does.
pub(crate) fn order(definition: &Definition) -> (i64, i64) {
    (definition.sort_order.unwrap_or(i64::MAX), definition.position)
}

/// The order of a list: by upstream, then the admin's order, then the upstream's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place<'a> {
    pub(crate) upstream: (i64, UpstreamId),
    pub(crate) item: (i64, i64),
    pub(crate) name: &'a str,
}

/// The definition in a look of ours, and with the exposed URIs in place of the upstream's. A tool loses
/// `execution` (2025-11-25, tasks), which has a meaning between few clients and upstreams ([`AsTask`]).
pub(super) fn render(definition: &Definition, moved: &MovedUris, look: &Look) -> Option<Bytes> {
    let is_as_it_came = *look.name == *definition.upstream_name && look.description.is_none();
    if is_as_it_came && definition.kind != Kind::Tool {
        return Some(definition.body.clone());
    }
    let mut object = Object::parse(&definition.body).ok()?;
    if definition.kind == Kind::Tool {
        object.remove("execution");
        moved.in_tool(&mut object);
    }
    dress(&mut object, definition, look);
    Some(object.into_bytes())
}

/// Puts the name and description of a look in place of the definition's own.
pub(super) fn dress(object: &mut Object, definition: &Definition, look: &Look) {
    if *look.name != *definition.upstream_name {
        object.set(name_field(definition.kind), compose::string(&look.name));
    }
    if let Some(description) = &look.description {
        object.set("description", compose::string(description));
    }
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
