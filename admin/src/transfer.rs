//! Backups made and restored by whoever runs the gateway's machine: the same document as over REST, by the same
//! parts, and in the same audit log.

use serde_json::Value;
use sql::model::{FieldError, Secret, Timestamp, Upstream};
use sql::{Store, StoreError, Tx};

use crate::audit::{self, Fingerprint};
use crate::backup::{self, Backup, Contents, NotChecked};
pub use crate::backup::{
    BACKUP_BYTES_MAX, Change, Mode, PASSPHRASE_CHARS_MAX, PASSPHRASE_CHARS_MIN, Restored,
};
use crate::error::ApiError;
use crate::password::{self, Hasher};

/// What the audit log calls the way by which these come.
const TOOL: &str = "cli";

/// A backup that was made.
#[derive(Debug)]
pub struct Exported {
    /// The document, which is to be kept unchanged.
    pub document: Value,
    /// How many upstreams are in it.
    pub upstreams: usize,
    /// How many keys.
    pub keys: usize,
}

/// What to make of a backup, and what this gateway doesn't take.
pub struct Wish<'a> {
    /// What becomes of what isn't in the backup.
    pub mode: Mode,
    /// What forbids an upstream here.
    pub check_upstream: &'a (dyn Fn(&Upstream) -> Vec<FieldError> + Sync),
    /// What forbids the address of a XiaoZhi endpoint here.
    pub check_address: &'a (dyn Fn(&str) -> Result<(), String> + Sync),
    /// The greatest length of a name if the environment says one, in characters.
    pub name_length_max: Option<u32>,
}

/// What was, or would be, done.
#[derive(Debug)]
pub struct Report {
    /// When the backup was made.
    pub created_at: Timestamp,
    /// The release that made it.
    pub gateway: String,
    /// Whether it has the secrets of upstreams.
    pub has_secrets: bool,
    /// The upstreams and endpoints, by name, whose secrets are neither in it nor stored.
    pub without_secrets: Vec<String>,
    /// Each change, in the order in which it is made; what is so already is none.
    pub changes: Vec<Restored>,
}

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum NotTransferred {
    /// What is wrong with the backup, by pointer into it.
    #[error("the backup is refused")]
    Refused(Vec<FieldError>),
    /// Somebody changed one of the things meanwhile.
    #[error("something was changed meanwhile; try again")]
    Overtaken,
    /// Sealing or reading failed.
    #[error("the backup could not be worked on: {0}")]
    Work(&'static str),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// Everything that admins configured, its secrets sealed if there is a passphrase, which must have
/// [`PASSPHRASE_CHARS_MIN`] characters at least. `version` is that of the gateway.
pub async fn export(
    store: &Store,
    version: &'static str,
    passphrase: Option<Secret<String>>,
) -> Result<Exported, NotTransferred> {
    let now = store.clock().now();
    let mut tx = store.begin().await?;
    let contents = Contents::load(&mut tx).await?;
    let (upstreams, keys) = (contents.upstreams.len(), contents.keys.len());
    audit::record_of(&mut tx, now, TOOL, backup::exported(&contents, passphrase.is_some())).await?;
    // Before the secrets are sealed, which takes a while: a gateway that serves writes to the same store.
    tx.commit().await?;
    let work = move || backup::document(&contents, version, now, passphrase.as_ref());
    let sealed = hasher().away(work).await.map_err(|_: ApiError| NotTransferred::Work("no thread"))?;
    let document = sealed.map_err(|_| NotTransferred::Work("sealing failed"))?;
    Ok(Exported { document, upstreams, keys })
}

/// Makes the store say what a backup says, in one transaction, or changes nothing. Admins are left alone.
pub async fn restore(
    store: &Store,
    document: Value,
    passphrase: Option<Secret<String>>,
    wish: &Wish<'_>,
) -> Result<Report, NotTransferred> {
    let backup = checked(store, document, passphrase, wish).await?;
    let now = store.clock().now();
    let mut tx = store.begin().await?;
    let changes = restored(store, &mut tx, &backup, wish).await?;
    for act in backup::restored(&backup, &changes) {
        audit::record_of(&mut tx, now, TOOL, act).await?;
    }
    tx.commit().await?;
    Ok(report(backup, changes))
}

/// What [`restore`] would do. Does all of it, and takes it back.
pub async fn preview(
    store: &Store,
    document: Value,
    passphrase: Option<Secret<String>>,
    wish: &Wish<'_>,
) -> Result<Report, NotTransferred> {
    let backup = checked(store, document, passphrase, wish).await?;
    let mut tx = store.begin().await?;
    let changes = restored(store, &mut tx, &backup, wish).await?;
    // Dropped, a transaction takes everything back.
    drop(tx);
    Ok(report(backup, changes))
}

/// Whether a document has sealed secrets, and so needs its passphrase.
pub fn is_sealed(document: &Value) -> bool {
    document.get("secrets").is_some_and(|sealed| !sealed.is_null())
}

/// Whether a passphrase is long enough for a new backup, and no file by mistake; says what it must be.
pub fn check_passphrase(passphrase: &Secret<String>) -> Result<(), String> {
    let range = PASSPHRASE_CHARS_MIN..=PASSPHRASE_CHARS_MAX;
    if range.contains(&passphrase.expose().chars().count()) {
        return Ok(());
    }
    Err(format!("must have {PASSPHRASE_CHARS_MIN} to {PASSPHRASE_CHARS_MAX} characters"))
}

async fn checked(
    store: &Store,
    document: Value,
    passphrase: Option<Secret<String>>,
    wish: &Wish<'_>,
) -> Result<Backup, NotTransferred> {
    let policy = backup::Policy { upstream: wish.check_upstream, address: wish.check_address };
    let backup = backup::checked(store, &hasher(), document, passphrase, &policy).await;
    backup.map_err(|error| match error {
        NotChecked::Refused(errors) => NotTransferred::Refused(errors),
        NotChecked::Store(error) => NotTransferred::Store(error),
        NotChecked::Work(_) => NotTransferred::Work("no thread"),
    })
}

async fn restored(
    store: &Store,
    tx: &mut Tx,
    backup: &Backup,
    wish: &Wish<'_>,
) -> Result<Vec<Restored>, NotTransferred> {
    let fingerprint = Fingerprint::new(store.sealer());
    let changes = backup::restore(tx, backup, wish.mode, &fingerprint, wish.name_length_max).await;
    changes.map_err(|error| match error {
        backup::NotRestored::Clash(clashes) => NotTransferred::Refused(clashes),
        backup::NotRestored::Overtaken => NotTransferred::Overtaken,
        backup::NotRestored::Store(error) => NotTransferred::Store(error),
    })
}

fn report(backup: Backup, changes: Vec<Restored>) -> Report {
    let Backup { created_at, gateway, has_secrets, without_secrets, .. } = backup;
    Report { created_at, gateway, has_secrets, without_secrets, changes }
}

fn hasher() -> Hasher {
    Hasher::new(password::COST)
}
