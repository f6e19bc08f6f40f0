//! Who administers the installation: registering, logging in, and the sessions that follow.

pub(crate) mod change_password;
pub(crate) mod list_sessions;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod me;
pub(crate) mod refresh;
pub(crate) mod register;
pub(crate) mod revoke_other_sessions;
pub(crate) mod revoke_session;
pub(crate) mod status;

use serde::Serialize;
use serde_json::Value;
use sql::model::{Secret, Timestamp};
use utoipa::ToSchema;

use crate::fields::{self, Fields, Problems};
use crate::password::Password;

/// The longest password that is looked at; what is longer was never set.
const PASSWORD_CHARS_MAX: usize = 1_024;

/// A token that holds from now on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Session {
    /// Goes into the `Authorization` header, after `Bearer `.
    pub(crate) token: String,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) expires_at: Timestamp,
    /// Whose it is.
    pub(crate) username: String,
}

/// A password that is to be set, at the member `name`.
fn new_password(fields: &mut Fields, name: &str, problems: &mut Problems) -> Option<Password> {
    fields.required(name, problems, |value| match value {
        Value::String(text) => Password::parse(text).map_err(str::to_owned),
        _ => Err("must be a text".into()),
    })
}

/// A password that is to be compared, at the member `name`.
fn tried_password(fields: &mut Fields, name: &str, problems: &mut Problems) -> Option<Secret<String>> {
    fields.required(name, problems, |value| match value {
        Value::String(text) if text.chars().count() <= PASSWORD_CHARS_MAX => Ok(Secret::new(text)),
        Value::String(_) => Err(format!("must have at most {PASSWORD_CHARS_MAX} characters")),
        _ => Err("must be a text".into()),
    })
}

/// A username, at the member `username`.
fn username(fields: &mut Fields, problems: &mut Problems) -> Option<String> {
    fields.required("username", problems, fields::name(3..=32))
}
