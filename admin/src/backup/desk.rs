//! What the REST API and the commands do alike with a backup: check one that came back, restore it, and write down
//! what was done. Neither has a way of its own to the store.

use serde_json::json;
use sql::model::{FieldError, Secret, Upstream, XiaozhiEndpoint};
use sql::{Store, StoreError, Tx};

use super::read::{Backup, Refused};
use super::restore::{self, Mode, NotRestored, Restored, Seen};
use super::{Contents, read};
use crate::api::{upstreams, xiaozhi};
use crate::audit::{Act, Fingerprint};
use crate::error::ApiError;
use crate::password::Hasher;

/// What this gateway doesn't take, whoever asks.
pub(crate) struct Policy<'a> {
    /// What forbids an upstream.
    pub(crate) upstream: &'a (dyn Fn(&Upstream) -> Vec<FieldError> + Sync),
    /// What forbids the address of a XiaoZhi endpoint.
    pub(crate) address: &'a (dyn Fn(&str) -> Result<(), String> + Sync),
}

/// Why a backup isn't one that could be restored.
#[derive(Debug)]
pub(crate) enum NotChecked {
    /// What is wrong with it, by pointer into it.
    Refused(Refused),
    /// The store failed.
    Store(StoreError),
    /// No thread was found to read it.
    Work(ApiError),
}

impl From<StoreError> for NotChecked {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Reads a backup, all of it, and asks the policy of each upstream and endpoint.
pub(crate) async fn checked(
    store: &Store,
    hasher: &Hasher,
    document: serde_json::Value,
    passphrase: Option<Secret<String>>,
    policy: &Policy<'_>,
) -> Result<Backup, NotChecked> {
    let mut tx = store.read().await?;
    let stored = Contents::load(&mut tx).await?;
    drop(tx);
    // Opening it takes a core for a while, and a large one is read for a while.
    let work = move || read::read(document, passphrase.as_ref(), &stored);
    let backup = hasher.away(work).await.map_err(NotChecked::Work)?.map_err(NotChecked::Refused)?;
    let forbidden = policy.forbids(&backup.contents);
    if forbidden.is_empty() { Ok(backup) } else { Err(NotChecked::Refused(forbidden)) }
}

impl Policy<'_> {
    fn forbids(&self, contents: &Contents) -> Refused {
        let upstreams = contents.upstreams.iter().enumerate().flat_map(|(index, upstream)| {
            let below = move |error: FieldError| {
                FieldError::new(format!("/upstreams/{index}{}", error.pointer), error.message)
            };
            (self.upstream)(upstream).into_iter().map(below)
        });
        let endpoints = contents.xiaozhi.iter().enumerate().filter_map(|(index, endpoint)| {
            let message = (self.address)(endpoint.url.expose()).err()?;
            Some(FieldError::new(format!("/xiaozhi/{index}/url"), message))
        });
        upstreams.chain(endpoints).collect()
    }
}

/// Restores within `tx`. `length_max` is the greatest length of a name if the environment says one: its word stands
/// above the backup's.
pub(crate) async fn restore(
    tx: &mut Tx,
    backup: &Backup,
    mode: Mode,
    fingerprint: &Fingerprint,
    length_max: Option<u32>,
) -> Result<Vec<Restored>, NotRestored> {
    let upstream = |upstream: &Upstream| upstreams::audited(upstream, fingerprint);
    let endpoint = |endpoint: &XiaozhiEndpoint| xiaozhi::audited(endpoint, fingerprint);
    restore::restore(tx, backup, mode, &Seen { upstream: &upstream, endpoint: &endpoint }, length_max).await
}

/// What the audit log keeps of an export.
pub(crate) fn exported(contents: &Contents, has_secrets: bool) -> Act {
    let (upstreams, keys) = (contents.upstreams.len(), contents.keys.len());
    let diff = json!({"upstreams": upstreams, "keys": keys, "secrets": has_secrets});
    Act::on("backup.export", "", "", diff)
}

/// What the audit log keeps of a restore: each change, then all of it.
pub(crate) fn restored(backup: &Backup, changes: &[Restored]) -> Vec<Act> {
    let act = |change: &Restored| {
        let action = match change.kind {
            "upstream" => "upstream.restore",
            "key" => "key.restore",
            "settings" => "settings.restore",
            "xiaozhi" => "xiaozhi.restore",
            _ => "rule.restore",
        };
        Act::on(action, &change.id, change.name.as_str(), change.diff.clone())
    };
    let whole = json!({"changes": changes.len(), "secrets": backup.has_secrets});
    changes.iter().map(act).chain([Act::on("backup.import", "", "", whole)]).collect()
}
