//! Which events are asked for, by the list and by an export alike.

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sql::audit_log::AuditFilter;
use sql::model::{Outcome, Timestamp};
use utoipa::IntoParams;

use crate::error::ApiError;
use crate::fields::Problems;

/// Who can act.
const ACTORS: [&str; 3] = ["admin", "key", "system"];

/// Which events.
#[derive(Debug, Deserialize, Serialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditQuery {
    /// Only this action, such as `upstream.create`.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    /// Only what was done to this kind of thing, such as `upstream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_kind: Option<String>,
    /// Only what was done to this.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_id: Option<String>,
    /// Only acts of an `admin`, a `key`, or the `system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_type: Option<String>,
    /// Only acts of the admin or key with this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_id: Option<String>,
    /// Only acts from this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Only with this outcome: `success` or `failure`.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    /// Not before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

impl AuditQuery {
    /// What is asked for.
    pub(crate) fn parse(self) -> Result<AuditFilter, ApiError> {
        let mut problems = Problems::default();
        if self.actor_type.as_ref().is_some_and(|word| !ACTORS.contains(&word.as_str())) {
            problems.add("/actorType", format!("must be one of {}", ACTORS.join(", ")));
        }
        let filter = AuditFilter {
            action: self.action,
            target_kind: self.target_kind,
            target_id: self.target_id,
            actor_kind: self.actor_type,
            actor_id: self.actor_id,
            address: parsed::<IpAddr>("/address", self.address, &mut problems)
                .map(|address| address.to_canonical().to_string()),
            outcome: parsed::<Outcome>("/outcome", self.outcome, &mut problems),
            from: parsed::<Timestamp>("/from", self.from, &mut problems),
            to: parsed::<Timestamp>("/to", self.to, &mut problems),
        };
        problems.unless_any(Some(filter))
    }
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(
    pointer: &str,
    text: Option<String>,
    problems: &mut Problems,
) -> Option<T> {
    match text?.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            problems.add(pointer, error.to_string());
            None
        }
    }
}
