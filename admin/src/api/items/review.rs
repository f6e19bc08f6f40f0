//! What an admin is to look at: how a definition differs from what was agreed to.

use std::fmt::Write as _;

use proxy::pinning;
use serde::Serialize;
use serde_json::Value;
use sql::model::{Definition, Pin, Review, Timestamp};
use utoipa::ToSchema;

use crate::audit;
use crate::doc;

/// Why an admin is to look at an item, and at what.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReviewView {
    /// Why.
    #[schema(schema_with = doc::review)]
    reason: Review,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    found_at: Option<Timestamp>,
    /// The members that a model acts on and that differ.
    fields: Vec<&'static str>,
    /// What differs, by JSON pointer: `{"/description": {"before": .., "after": ..}}`.
    #[schema(value_type = Object)]
    diff: Value,
    /// The definition that was agreed to.
    #[schema(value_type = Option<Object>)]
    approved: Option<Value>,
    /// SHA-256 of the definition as it is now, to be named when it is approved.
    hash: String,
}

impl ReviewView {
    /// Of an item and its pin, if there is something to look at.
    pub(crate) fn of(item: &Definition, pin: Option<&Pin>) -> Option<Self> {
        let pin = pin?;
        let approved = pin.approved.as_ref();
        let before = approved.unwrap_or(&item.body);
        Some(Self {
            reason: pin.review?,
            found_at: pin.found_at,
            fields: pinning::changed_fields(item.kind, before, &item.body),
            diff: audit::diff(Some(&as_json(before)), Some(&as_json(&item.body))),
            approved: approved.map(|body| as_json(body)),
            hash: hex(&item.hash),
        })
    }
}

/// A stored definition; one that isn't JSON shows as nothing.
pub(crate) fn as_json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
