//! What upstreams offer: the items of their lists, as they came, and what is known of each list.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::closed_set::closed_set;
use super::ids::{DefinitionId, UpstreamId};
use super::time::Timestamp;

closed_set! {
    /// Which list an item is of.
    pub enum Kind {
        /// `tools/list`
        Tool = "tool",
        /// `prompts/list`
        Prompt = "prompt",
        /// `resources/list`
        Resource = "resource",
        /// `resources/templates/list`
        ResourceTemplate = "resource_template",
    }
}

closed_set! {
    /// A family of protocol versions.
    pub enum Era {
        /// Up to 2025-11-25, with `initialize`.
        Legacy = "legacy",
        /// From 2026-07-28 on, stateless.
        Modern = "modern",
    }
}

/// The longest upstream or exposed name that is stored: both databases must be able to index it.
pub const NAME_BYTES_MAX: usize = 2_048;

/// Whether a name can be stored in both databases: not too long for an index, and without NUL.
/// What fails it belongs among the findings of its list.
pub fn is_storable_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && !name.contains('\0')
}

/// A tool, prompt, resource or template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Which.
    pub id: DefinitionId,
    /// Whose.
    pub upstream_id: UpstreamId,
    /// Of which list.
    pub kind: Kind,
    /// Its name, `uri` or `uriTemplate` at the upstream; unique within the list.
    pub upstream_name: String,
    /// The name that clients know it by: its claim.
    pub exposed_name: String,
    /// The definition exactly as the upstream sent it.
    pub body: Bytes,
    /// SHA-256 of `body`.
    pub hash: [u8; 32],
    /// Its place in the upstream's list.
    pub position: i64,
    /// Whether the admin lets it be shown.
    pub enabled: bool,
    /// Its place if the admin gave it one.
    pub sort_order: Option<i64>,
    /// When it was first seen.
    pub first_seen_at: Timestamp,
    /// When its body last changed.
    pub changed_at: Timestamp,
}

/// Why an item of a list was left out or altered; for the admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Of which list.
    pub kind: Kind,
    /// Which item, as the upstream names it.
    pub upstream_name: String,
    /// A stable word for what is wrong.
    pub code: String,
    /// The same for a person.
    pub message: String,
}

/// What is known of one list as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListState {
    /// Whose.
    pub upstream_id: UpstreamId,
    /// Which list.
    pub kind: Kind,
    /// When it was last fetched whole.
    pub synced_at: Timestamp,
    /// How long the upstream says it stays fresh.
    pub ttl_ms: Option<i64>,
    /// Whether the upstream says that all callers see the same.
    pub cache_scope_public: bool,
    /// What is wrong with its items.
    pub findings: Vec<Finding>,
}

/// How a list differs from the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListDiff {
    /// Whose.
    pub upstream_id: UpstreamId,
    /// Which list.
    pub kind: Kind,
    /// Items that are new.
    pub added: Vec<Definition>,
    /// Items whose body, name or place changed, whole, with their old ids.
    pub changed: Vec<Definition>,
    /// Items that are gone.
    pub removed: Vec<DefinitionId>,
    /// Items that only changed place.
    pub moved: Vec<(DefinitionId, i64)>,
}

impl ListDiff {
    /// No difference.
    pub fn none(upstream_id: UpstreamId, kind: Kind) -> Self {
        Self {
            upstream_id,
            kind,
            added: Vec::new(),
            changed: Vec::new(),
            removed: Vec::new(),
            moved: Vec::new(),
        }
    }

    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty() && self.moved.is_empty()
    }
}

/// An exposed name that one item holds for as long as its upstream exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Of which list.
    pub kind: Kind,
    /// The name that is held; at most one item of a kind holds it.
    pub exposed_name: String,
    /// Whose item.
    pub upstream_id: UpstreamId,
    /// Which item.
    pub upstream_name: String,
    /// The name it would have had, had nobody else held it.
    pub wanted: String,
}

/// What an upstream said of itself when it was last connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamInfo {
    /// Which upstream.
    pub upstream_id: UpstreamId,
    /// The era that was agreed.
    pub era: Era,
    /// The version that was agreed.
    pub protocol_version: String,
    /// Its `serverInfo`, raw JSON.
    pub server_info: Bytes,
    /// Its `capabilities`, raw JSON.
    pub capabilities: Bytes,
    /// Its `instructions`.
    pub instructions: Option<String>,
    /// When that was.
    pub seen_at: Timestamp,
}
