//! Backup and restore.

pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod preview;

use serde::Serialize;
use serde_json::{Value, json};
use sql::Tx;
use sql::model::{FieldError, Secret, Upstream};
use utoipa::ToSchema;

use crate::App;
use crate::backup::{self, Backup, Change, Mode, NotChecked, NotRestored, Policy, Restored};
use crate::error::ApiError;
use crate::fields::{Fields, Problems, text};

/// A SHA-256 in hex.
const DIGEST_CHARS: usize = 64;

/// A backup that came back.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct RestoreBody {
    /// The document that `export` answered, unchanged.
    #[schema(value_type = Object)]
    backup: Value,
    /// What its secrets were sealed with; needed if it has any.
    passphrase: Option<String>,
    /// `merge` (what isn't in the backup stays) or `replace` (it goes).
    mode: String,
    /// The `digest` of a preview: nothing is restored if by now it would show something else. Without it, whatever
    /// there is to do is done.
    previewed: Option<String>,
}

/// A body that was read.
struct Asked {
    backup: Backup,
    mode: Mode,
    previewed: Option<String>,
}

/// What was, or would be, done.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RestoreReport {
    /// When the backup was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: sql::model::Timestamp,
    /// The release that made it.
    gateway: String,
    /// Whether it has the secrets of upstreams.
    has_secrets: bool,
    /// The upstreams and XiaoZhi endpoints whose secrets are neither in it nor stored: upstreams are restored
    /// without, endpoints not at all.
    without_secrets: Vec<String>,
    /// Each change, in the order in which it is made; what is so already is none.
    changes: Vec<RestoredView>,
    /// SHA-256 of the changes, in hex: what a restore can be held to.
    digest: String,
}

/// One change.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RestoreChange)]
struct RestoredView {
    /// `upstream`, `key`, `aliasRule`, `filterRule`, `settings` or `xiaozhi`.
    kind: &'static str,
    /// Which.
    id: String,
    /// Its name, or its pattern.
    name: String,
    /// `create`, `update` or `delete`.
    #[schema(value_type = String)]
    change: Change,
    /// What differs, by JSON pointer; secrets as fingerprints.
    #[schema(value_type = Object)]
    diff: Value,
}

impl RestoreReport {
    fn of(backup: &Backup, changes: &[Restored]) -> Self {
        let view = |change: &Restored| RestoredView {
            kind: change.kind,
            id: change.id.clone(),
            name: change.name.clone(),
            change: change.change,
            diff: change.diff.clone(),
        };
        let changes: Vec<RestoredView> = changes.iter().map(view).collect();
        Self {
            created_at: backup.created_at,
            gateway: backup.gateway.clone(),
            has_secrets: backup.has_secrets,
            without_secrets: backup.without_secrets.clone(),
            digest: backup::digest(&json!(changes)),
            changes,
        }
    }
}

/// A passphrase as it stands in a body.
fn passphrase(fields: &mut Fields, problems: &mut Problems, chars_min: usize) -> Option<Secret<String>> {
    fields.optional("passphrase", problems, text(chars_min..=backup::PASSPHRASE_CHARS_MAX)).map(Secret::new)
}

/// Reads a body, with the whole of the backup in it, and asks the data plane's policy of each upstream.
async fn read(app: &App, body: Value) -> Result<Asked, ApiError> {
    let mut problems = Problems::default();
    let read = Fields::open(body, "", &mut problems).and_then(|mut fields| {
        let document = fields.take("backup");
        if document.is_none() {
            problems.add("/backup", "is required");
        }
        let passphrase = passphrase(&mut fields, &mut problems, 1);
        let mode = fields.required("mode", &mut problems, |value| match value.as_str() {
            Some("merge") => Ok(Mode::Merge),
            Some("replace") => Ok(Mode::Replace),
            _ => Err("must be merge or replace".into()),
        });
        let previewed = fields.optional("previewed", &mut problems, text(DIGEST_CHARS..=DIGEST_CHARS));
        fields.close(&mut problems);
        Some((document?, passphrase, mode?, previewed))
    });
    let (document, passphrase, mode, previewed) = problems.unless_any(read)?;
    let upstream = |upstream: &Upstream| app.control.check_spec(upstream);
    let address = |url: &str| app.control.check_xiaozhi_url(url);
    let policy = Policy { upstream: &upstream, address: &address };
    let backup = backup::checked(&app.store, &app.hasher, document, passphrase, &policy).await;
    let backup = backup.map_err(|error| match error {
        NotChecked::Refused(errors) => refused(errors),
        NotChecked::Store(error) => error.into(),
        NotChecked::Work(error) => error,
    })?;
    Ok(Asked { backup, mode, previewed })
}

/// What is wrong with a backup, by pointer into the body.
fn refused(errors: backup::Refused) -> ApiError {
    let below = |error: FieldError| {
        let pointer = if error.pointer == "/secrets" {
            "/passphrase".into()
        } else {
            format!("/backup{}", error.pointer)
        };
        FieldError::new(pointer, error.message)
    };
    ApiError::BackupInvalid(errors.into_iter().map(below).collect())
}

/// Restores within `tx`.
async fn restore(app: &App, tx: &mut Tx, backup: &Backup, mode: Mode) -> Result<Vec<Restored>, ApiError> {
    let fixed = app.locked.iter().any(|key| key == "naming.length_max").then(|| app.name_length_max());
    let changes = backup::restore(tx, backup, mode, &app.fingerprint, fixed).await;
    changes.map_err(|error| match error {
        NotRestored::Clash(clashes) => refused(clashes),
        NotRestored::Overtaken => ApiError::conflict("something was changed meanwhile; try again"),
        NotRestored::Store(error) => error.into(),
    })
}
