//! Alias and filter rules: who sees what, and under which name.
//!
//! An operation is written once for both kinds of rule; [`noun`] says how they differ, and [`input`] reads
//! them. Names are settled anew in the transaction that changes what they depend on.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod preview;
pub(crate) mod reorder;
pub(crate) mod update;

mod input;
mod noun;
mod owner;
mod wire;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header;
use sql::model::{AliasRule, FilterRule, RuleId, RuleOwner, Timestamp};
use sql::{Tx, rules};

use self::input::Stamp;
use self::noun::Noun;
pub(crate) use self::owner::OwnerView;
use crate::error::ApiError;
use crate::{App, audit, extract};

/// The rule, if there is one with this id.
async fn find<R: Noun>(tx: &mut Tx, id: RuleId) -> Result<R, ApiError> {
    rules::get(tx, id).await?.ok_or(ApiError::NotFound(R::NAME))
}

/// Gives every item the name that it has by the rules that are stored now, if such a rule has a say in it.
async fn settle_names<R: Noun>(tx: &mut Tx, app: &App, owner: RuleOwner) -> Result<(), ApiError> {
    if R::NAMES {
        match owner {
            RuleOwner::All => app.resettle_all(tx).await?,
            RuleOwner::Upstream(id) => app.resettle(tx, id).await?,
            // Its names are those of its own view, and nobody else's.
            RuleOwner::Key(_) => {}
        }
    }
    Ok(())
}

/// The rule as it is answered, with its ETag.
fn answer<R: Noun>(rule: &R) -> Response {
    ([(header::ETAG, extract::etag(rule.version()))], Json(rule.view())).into_response()
}

/// A rule that a file declares, of an owner that may not be stored yet.
fn declared<R: Noun>(
    mut body: serde_json::Value,
    owner: RuleOwner,
    id: RuleId,
    now: Timestamp,
) -> Result<(R, bool), ApiError> {
    if let Some(members) = body.as_object_mut() {
        members.insert("owner".into(), owner::settable(owner));
    }
    input::parse(body, Stamp::new(id, now))
}

/// Reads an alias rule that a file declares, and says whether the file gives it a place.
pub(crate) fn declared_alias(
    body: serde_json::Value,
    owner: RuleOwner,
    id: RuleId,
    now: Timestamp,
) -> Result<(AliasRule, bool), ApiError> {
    declared(body, owner, id, now)
}

/// The same for a filter rule.
pub(crate) fn declared_filter(
    body: serde_json::Value,
    owner: RuleOwner,
    id: RuleId,
    now: Timestamp,
) -> Result<(FilterRule, bool), ApiError> {
    declared(body, owner, id, now)
}

/// A rule that a backup can hold.
pub(crate) trait Restorable: Noun {
    /// The same as that version, written then.
    fn versioned(&self, version: i64, now: Timestamp) -> Self {
        self.clone().stamped(Stamp { version, updated_at: now, ..self.stamp() })
    }
}

impl<R: Noun> Restorable for R {}

/// What a client may set of a rule, as it would write it.
pub(crate) fn settable<R: Noun>(rule: &R) -> serde_json::Value {
    rule.settable()
}

/// An alias rule of a backup.
pub(crate) fn restored_alias(
    body: serde_json::Value,
    id: RuleId,
    now: Timestamp,
) -> Result<AliasRule, ApiError> {
    input::parse(body, Stamp::new(id, now)).map(|(rule, _)| rule)
}

/// A filter rule of a backup.
pub(crate) fn restored_filter(
    body: serde_json::Value,
    id: RuleId,
    now: Timestamp,
) -> Result<FilterRule, ApiError> {
    input::parse(body, Stamp::new(id, now)).map(|(rule, _)| rule)
}

/// How an alias rule differs, for the audit log.
pub(crate) fn alias_diff(before: Option<&AliasRule>, after: &AliasRule) -> serde_json::Value {
    audit::diff(before.map(Noun::settable).as_ref(), Some(&after.settable()))
}

/// The same for a filter rule.
pub(crate) fn filter_diff(before: Option<&FilterRule>, after: &FilterRule) -> serde_json::Value {
    audit::diff(before.map(Noun::settable).as_ref(), Some(&after.settable()))
}
