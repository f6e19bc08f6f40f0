//! Whose rule it is, on the wire: `{"type": "upstream", "id": ".."}`, `{"type": "all"}`, `{"type": "key", ..}`.

use serde::Serialize;
use serde_json::{Value, json};
use sql::model::{ApiKeyId, OwnerKind, RuleOwner, UpstreamId};
use sql::{Tx, api_keys, upstreams};
use utoipa::ToSchema;

use crate::doc;
use crate::error::ApiError;
use crate::fields::{Fields, Problems, parsed};

/// Whose rule it is.
#[derive(Serialize, ToSchema)]
#[schema(as = RuleOwner)]
pub(crate) struct OwnerView {
    /// What kind of owner.
    #[serde(rename = "type")]
    #[schema(schema_with = doc::owner_kind)]
    kind: OwnerKind,
    /// Which upstream or key; absent for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<uuid::Uuid>,
}

impl From<RuleOwner> for OwnerView {
    fn from(owner: RuleOwner) -> Self {
        let id = match owner {
            RuleOwner::All => None,
            RuleOwner::Upstream(id) => Some(id.uuid()),
            RuleOwner::Key(id) => Some(id.uuid()),
        };
        Self { kind: owner.kind(), id }
    }
}

/// The owner as a client writes it.
pub(super) fn settable(owner: RuleOwner) -> Value {
    json!(OwnerView::from(owner))
}

/// Reads the member `owner`, which must be there.
pub(super) fn read(fields: &mut Fields, problems: &mut Problems) -> Option<RuleOwner> {
    let pointer = fields.at("owner");
    let Some(value) = fields.take("owner") else {
        problems.add(pointer, "is required");
        return None;
    };
    let mut owner = Fields::open(value, &pointer, problems)?;
    let read = match owner.required("type", problems, parsed::<OwnerKind>) {
        Some(OwnerKind::All) => Some(RuleOwner::All),
        Some(OwnerKind::Upstream) => owner
            .required("id", problems, |id| parsed(id).map_err(|_| "is not the id of an upstream".into()))
            .map(RuleOwner::Upstream),
        Some(OwnerKind::Key) => owner
            .required("id", problems, |id| parsed(id).map_err(|_| "is not the id of a key".into()))
            .map(RuleOwner::Key),
        None => {
            // Of what kind it is can't be said, so its id can't be wrong.
            owner.take("id");
            None
        }
    };
    owner.close(problems);
    read
}

/// Refuses an owner that doesn't exist.
pub(super) async fn check(tx: &mut Tx, owner: RuleOwner) -> Result<(), ApiError> {
    match owner {
        RuleOwner::Upstream(id) if upstreams::get(tx, id).await?.is_none() => {
            Err(ApiError::field("/owner/id", "is not the id of an upstream"))
        }
        RuleOwner::Key(id) if api_keys::get(tx, id).await?.is_none() => {
            Err(ApiError::field("/owner/id", "is not the id of a key"))
        }
        _ => Ok(()),
    }
}

/// The owner that `?upstreamId=`, `?keyId=` or `?owner=all` names.
pub(super) fn asked(
    upstream_id: Option<&str>,
    key_id: Option<&str>,
    owner: Option<&str>,
) -> Result<Option<RuleOwner>, ApiError> {
    match (upstream_id, key_id, owner) {
        (None, None, None) => Ok(None),
        (Some(id), None, None) => match id.parse::<UpstreamId>() {
            Ok(id) => Ok(Some(RuleOwner::Upstream(id))),
            Err(_) => Err(ApiError::field("/upstreamId", "must be the id of an upstream")),
        },
        (None, Some(id), None) => match id.parse::<ApiKeyId>() {
            Ok(id) => Ok(Some(RuleOwner::Key(id))),
            Err(_) => Err(ApiError::field("/keyId", "must be the id of a key")),
        },
        (None, None, Some("all")) => Ok(Some(RuleOwner::All)),
        (None, None, Some(_)) => {
            Err(ApiError::field("/owner", "must be all; an upstream or a key has an id"))
        }
        _ => Err(ApiError::field("/owner", "give one of upstreamId, keyId and owner")),
    }
}
