//! Tools that can be called as a task (2025-11-25), and who is shown that they can.
//!
//! Only clients of that version know what to do with `execution.taskSupport`, and only an upstream that
//! offers such calls means it. To everybody else a tool is without it, and one that can be called in no
//! other way isn't there.

use bytes::Bytes;
use sql::model::{Definition, Kind};

use super::item::{Look, dress};
use super::moved_uris::MovedUris;
use crate::wire::edit::Object;

/// A tool that can be called as a task (2025-11-25, tool-level negotiation).
pub struct AsTask {
    /// The definition with its `execution`, which others don't see.
    pub rendered: Bytes,
    /// Whether it can be called in no other way.
    pub is_required: bool,
}

impl AsTask {
    pub(super) fn of(definition: &Definition, moved: &MovedUris, look: &Look) -> Option<Self> {
        if definition.kind != Kind::Tool {
            return None;
        }
        let mut object = Object::parse(&definition.body).ok()?;
        let support = Object::parse(&object.get("execution")?).ok()?.text("taskSupport")?;
        let is_required = match support.as_str() {
            "required" => true,
            "optional" => false,
            _ => return None,
        };
        moved.in_tool(&mut object);
        dress(&mut object, definition, look);
        Some(Self { rendered: object.into_bytes(), is_required })
    }
}

/// Which clients a list is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Those that know the tasks of 2025-11-25.
    Tasks,
    /// All others.
    Plain,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sql::model::{Era, UpstreamInfo};

    use crate::catalog::testing::{NOW, upstream_with};
    use crate::catalog::{Audience, Item, Upstream, UpstreamLists};

    use super::*;

    /// What an audience is shown of a tool with this body, at an upstream of a version with tasks.
    fn shown(version: &str, body: &'static str, audience: Audience) -> Option<String> {
        let known = upstream_with(&["t".into()]);
        let mut definition = Definition::clone(&known.items.get(Kind::Tool)[0].definition);
        definition.exposed_name = "renamed".into();
        definition.body = Bytes::from_static(body.as_bytes());
        let upstream: Arc<Upstream> = Arc::clone(&known.upstream);
        let info = UpstreamInfo {
            upstream_id: upstream.id,
            era: Era::Legacy,
            protocol_version: version.into(),
            server_info: Bytes::from_static(b"{}"),
            capabilities: Bytes::from_static(br#"{"tasks":{"requests":{"tools":{"call":{}}}}}"#),
            instructions: None,
            seen_at: NOW,
        };
        let lists = UpstreamLists::new(upstream, Some(info), vec![definition], Vec::new());
        let item: &Arc<Item> = &lists.items.get(Kind::Tool)[0];
        item.rendered_for(audience).map(|bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8"))
    }

    #[test]
    fn each_audience_is_shown_what_it_can_act_on() {
        let optional = r#"{"name":"t","inputSchema":{},"execution":{"taskSupport":"optional"}}"#;
        let required = r#"{"name":"t","inputSchema":{},"execution":{"taskSupport":"required"}}"#;
        let forbidden = r#"{"name":"t","inputSchema":{},"execution":{"taskSupport":"forbidden"}}"#;
        let renamed = |body: &str| Some(body.replace(r#""t""#, r#""renamed""#));
        let plain = Some(r#"{"name":"renamed","inputSchema":{}}"#.to_owned());
        for (body, to_plain) in [(optional, plain.clone()), (required, None)] {
            assert_eq!(shown("2025-11-25", body, Audience::Tasks), renamed(body));
            assert_eq!(shown("2025-11-25", body, Audience::Plain), to_plain);
            // Of an earlier version the capability is no promise.
            assert_eq!(shown("2025-06-18", body, Audience::Tasks), plain);
        }
        assert_eq!(shown("2025-11-25", forbidden, Audience::Tasks), plain);
    }
}
