//! The URIs that clients know otherwise than their upstream does.
//!
//! Where two upstreams have the same URI, the later one's is exposed with a mark of its own
//! ([`naming`](super::naming)), and an alias may give a resource any other. Whatever the upstream says of such a resource then has to name it as
//! clients do: the contents of a read, links and embedded resources in results, the interface of a tool
//! (MCP Apps, `_meta.ui.resourceUri`). An upstream without contested URIs costs nothing here.

use std::collections::HashMap;

use bytes::Bytes;
use sql::model::{Definition, Kind};

use serde_json::value::RawValue;

use super::naming::Mark;
use super::uri_template;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::text::Text;

/// Where MCP Apps once put a tool's interface, and clients may still look.
const FORMER_UI_KEY: &str = "ui/resourceUri";

/// About what an edited array grows by: a few marks.
const EDITED_BYTES: usize = 64;

/// Elements of a result whose URIs are looked at: more than a model reads, and few enough that a hostile result
/// costs no more than a large honest one. The others stay as they came.
const ELEMENTS_MAX: usize = 1000;

/// What is said under another name, of one upstream.
#[derive(Debug, Default)]
pub(crate) struct MovedUris {
    resources: HashMap<Box<str>, Box<str>>,
    templates: Vec<(Box<str>, Mark)>,
}

impl MovedUris {
    /// Those among an upstream's definitions.
    pub(crate) fn of<'a>(definitions: impl Iterator<Item = &'a Definition>) -> Self {
        let mut moved = Self::default();
        let contested = definitions.filter(|it| it.exposed_name != it.upstream_name);
        for Definition { kind, upstream_name, exposed_name, .. } in contested {
            match kind {
                Kind::Resource => {
                    moved.resources.insert(upstream_name.as_str().into(), exposed_name.as_str().into());
                }
                Kind::ResourceTemplate => {
                    let mark = Mark::between(upstream_name, exposed_name);
                    moved.templates.extend(mark.map(|mark| (upstream_name.as_str().into(), mark)));
                }
                Kind::Tool | Kind::Prompt => {}
            }
        }
        moved
    }

    /// Whether every URI is the upstream's own.
    pub(crate) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.templates.is_empty()
    }

    /// What clients call the upstream's `uri`, where that differs.
    pub(crate) fn exposed(&self, uri: &str) -> Option<String> {
        if let Some(exposed) = self.resources.get(uri) {
            return Some(exposed.to_string());
        }
        let mut templates = self.templates.iter();
        let (_, mark) = templates.find(|(template, _)| uri_template::matches(template, uri))?;
        Some(mark.put(uri))
    }

    /// The result of a call with the URIs that clients know: `contents` (`resources/read`), `content`
    /// (`tools/call`) and `messages` (`prompts/get`). Anything else in it stays byte for byte.
    pub(crate) fn in_result(&self, result: &Bytes) -> Bytes {
        edited(result, |result| self.edit_result(result))
    }

    /// The same for a task of 2026-07-28, which holds the result of its call once that is over.
    pub(crate) fn in_task(&self, task: &Bytes) -> Bytes {
        edited(task, |task| within(task, "result", |result| self.edit_result(result)))
    }

    fn edit_result(&self, result: &mut Object) -> bool {
        let changed = [
            each(result, "contents", |contents| self.member(contents, "uri")),
            each(result, "content", |block| self.in_block(block)),
            each(result, "messages", |message| within(message, "content", |block| self.in_block(block))),
        ];
        changed.contains(&true)
    }

    /// A tool's `_meta` with the URI that clients read its interface at.
    pub(crate) fn in_tool(&self, tool: &mut Object) -> bool {
        !self.is_empty()
            && within(tool, "_meta", |meta| {
                let former = self.member(meta, FORMER_UI_KEY);
                within(meta, "ui", |ui| self.member(ui, "resourceUri")) | former
            })
    }

    /// A link (`uri`) or an embedded resource (`resource.uri`).
    fn in_block(&self, block: &mut Object) -> bool {
        self.member(block, "uri") | within(block, "resource", |resource| self.member(resource, "uri"))
    }

    fn member(&self, object: &mut Object, key: &str) -> bool {
        let uri = object.get(key).and_then(|raw| Text::read(&raw));
        let Some(exposed) = uri.and_then(|uri| self.exposed(uri.as_str())) else { return false };
        object.set(key, compose::string(&exposed));
        true
    }
}

/// Edits a raw object; what the edit doesn't change stays byte for byte.
fn edited(raw: &Bytes, edit: impl FnOnce(&mut Object) -> bool) -> Bytes {
    let Ok(mut object) = Object::parse(raw) else { return raw.clone() };
    if edit(&mut object) { object.into_bytes() } else { raw.clone() }
}

/// Edits the object at `key`; says whether the edit changed something.
fn within(object: &mut Object, key: &str, edit: impl FnOnce(&mut Object) -> bool) -> bool {
    let Some(mut inner) = object.get(key).and_then(|raw| Object::parse(&raw).ok()) else { return false };
    let changed = edit(&mut inner);
    if changed {
        object.set(key, inner.into_bytes());
    }
    changed
}

/// Edits each object in the array at `key`; says whether that changed something.
fn each(object: &mut Object, key: &str, mut edit: impl FnMut(&mut Object) -> bool) -> bool {
    let Some(array) = object.get(key) else { return false };
    let Ok(elements) = serde_json::from_slice::<Vec<&RawValue>>(&array) else { return false };
    let mut any_changed = false;
    let mut edited = Vec::with_capacity(array.len() + EDITED_BYTES);
    for (number, element) in elements.into_iter().enumerate() {
        edited.push(if edited.is_empty() { b'[' } else { b',' });
        let raw = array.slice_ref(element.get().as_bytes());
        match Object::parse(&raw) {
            Ok(mut element) if number < ELEMENTS_MAX => {
                any_changed |= edit(&mut element);
                edited.extend_from_slice(&element.into_bytes());
            }
            _ => edited.extend_from_slice(&raw),
        }
    }
    if any_changed {
        edited.push(b']');
        object.set(key, edited);
    }
    any_changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved() -> MovedUris {
        let mark = Mark::between("t://{id}", "mpg+00:t://{id}").expect("they differ");
        let mut moved = MovedUris { templates: vec![("t://{id}".into(), mark)], ..MovedUris::default() };
        moved.resources.insert("file:///a".into(), "mpg+01:file:///a".into());
        moved.resources.insert("ui://clock".into(), "ui://mpg+02/clock".into());
        moved
    }

    fn result(text: &'static str) -> String {
        String::from_utf8(moved().in_result(&Bytes::from_static(text.as_bytes())).into()).expect("it is text")
    }

    #[test]
    fn what_is_read_has_the_uri_that_was_asked_for() {
        assert_eq!(
            result(
                r#"{"contents":[{"uri":"file:///a","text":"file:///a"}, {"uri":"t://7"},{"uri":"other:x"}]}"#
            ),
            r#"{"contents":[{"uri":"mpg+01:file:///a","text":"file:///a"},{"uri":"mpg+00:t://7"},{"uri":"other:x"}]}"#
        );
    }

    #[test]
    fn links_and_embedded_resources_lead_to_their_own_upstream() {
        assert_eq!(
            result(
                r#"{"content":[{"type":"resource_link","uri":"file:///a"},{"type":"resource","resource":{"uri":"t://7"}},1]}"#
            ),
            r#"{"content":[{"type":"resource_link","uri":"mpg+01:file:///a"},{"type":"resource","resource":{"uri":"mpg+00:t://7"}},1]}"#
        );
        assert_eq!(
            result(
                r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"file:///a"}}}]}"#
            ),
            r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"mpg+01:file:///a"}}}]}"#
        );
    }

    #[test]
    fn a_task_holds_the_result_that_its_call_would_have_had() {
        let over = r#"{"taskId":"1","result":{"content":[{"type":"resource_link","uri":"file:///a"}]}}"#;
        let in_task = |task: &'static str| moved().in_task(&Bytes::from_static(task.as_bytes()));
        assert_eq!(in_task(over), over.replace("file:///a", "mpg+01:file:///a"));
        let working = r#"{ "taskId":"1", "content":[{"uri":"file:///a"}]}"#;
        assert_eq!(in_task(working), working);
    }

    #[test]
    fn no_more_than_so_many_elements_are_looked_at() {
        let blocks = |uri: &str, count| vec![format!(r#"{{"uri":"{uri}"}}"#); count].join(",");
        let text = format!(r#"{{"content":[{}]}}"#, blocks("file:///a", ELEMENTS_MAX + 1));
        let (marked, kept) = (blocks("mpg+01:file:///a", ELEMENTS_MAX), blocks("file:///a", 1));
        assert_eq!(moved().in_result(&text.into()), format!(r#"{{"content":[{marked},{kept}]}}"#));
    }

    #[test]
    fn what_names_nothing_contested_stays_as_it_came() {
        for text in
            [r#"{"content":[ {"uri": "file:///b"} ]}"#, r#"{"contents":7}"#, r#"{"messages":[7]}"#, "7"]
        {
            assert_eq!(result(text), text);
        }
    }

    #[test]
    fn a_tool_names_its_interface_as_clients_read_it() {
        let text =
            br#"{"name":"t","_meta":{"ui":{"resourceUri":"ui://clock"},"ui/resourceUri":"ui://clock"}}"#;
        let mut tool = Object::parse(&Bytes::from_static(text)).expect("an object");
        assert!(moved().in_tool(&mut tool));
        assert_eq!(
            tool.into_bytes(),
            r#"{"name":"t","_meta":{"ui":{"resourceUri":"ui://mpg+02/clock"},"ui/resourceUri":"ui://mpg+02/clock"}}"#
        );
    }
}
