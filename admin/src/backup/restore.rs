//! Making the store say what a backup says, in one transaction: ids stay, admins are left alone, and what is so
//! already isn't written.

use std::collections::BTreeSet;

use proxy::catalog::naming::settle as naming;
use proxy::pinning;
use serde_json::Value;
use sql::model::rule::RULES_PER_OWNER_MAX;
use sql::model::{
    AliasRule, ApiKey, Claim, FieldError, FilterRule, OnToolChange, Pin, Settings, Timestamp, Upstream,
    XiaozhiEndpoint,
};
use sql::{StoreError, Tx, api_keys, names, oauth, pins, rules, settings, upstreams, xiaozhi_endpoints};

use super::{Backup, Contents};

/// What becomes of what isn't in the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It stays.
    Merge,
    /// It goes; settings that the backup doesn't have are the defaults again.
    Replace,
}

/// What is done with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It wasn't there.
    Create,
    /// It was different.
    Update,
    /// It goes.
    Delete,
}

/// One thing that was, or would be, changed.
#[derive(Debug)]
pub struct Restored {
    /// What it is: `upstream`, `key`, `aliasRule`, `filterRule`, `settings` or `xiaozhi`.
    pub kind: &'static str,
    /// Which; nothing for the settings.
    pub id: String,
    /// What people call it: its name, or its pattern.
    pub name: String,
    /// What is done with it.
    pub change: Change,
    /// What it was, and what it is.
    pub diff: Value,
}

/// Why nothing was restored.
#[derive(Debug)]
pub(crate) enum NotRestored {
    /// It clashes with what is stored and stays.
    Clash(Vec<FieldError>),
    /// Somebody changed one of the things meanwhile.
    Overtaken,
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for NotRestored {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What tells apart how the audit log sees things.
pub(crate) struct Seen<'a> {
    /// Of an upstream.
    pub(crate) upstream: &'a (dyn Fn(&Upstream) -> Value + Sync),
    /// Of a XiaoZhi endpoint.
    pub(crate) endpoint: &'a (dyn Fn(&XiaozhiEndpoint) -> Value + Sync),
}

/// Restores `backup` within `tx`; whoever only wants to know what would be done drops it then. `length_max` is the
/// greatest length of a name if the environment says one.
pub(crate) async fn restore(
    tx: &mut Tx,
    backup: &Backup,
    mode: Mode,
    seen: &Seen<'_>,
    length_max: Option<u32>,
) -> Result<Vec<Restored>, NotRestored> {
    let now = tx.clock().now();
    let wanted = &backup.contents;
    let mut stored = Contents::load(tx).await?;
    refuse_clashes(wanted, &stored, mode)?;
    let mut done = Vec::new();
    if mode == Mode::Replace {
        delete_others(tx, wanted, &mut stored, seen, &mut done).await?;
    }
    part_with_names(tx, wanted, &mut stored).await?;
    restore_upstreams(tx, wanted, &stored, now, seen, &mut done).await?;
    restore_keys(tx, wanted, &stored, now, &mut done).await?;
    restore_rules(tx, &wanted.aliases, now, "aliasRule", &mut done).await?;
    restore_rules(tx, &wanted.filters, now, "filterRule", &mut done).await?;
    let in_force = restore_settings(tx, wanted.settings.as_ref(), mode, &mut done).await?;
    restore_endpoints(tx, wanted, &stored, now, seen, &mut done).await?;
    restore_pins(tx, wanted, &stored).await?;
    restore_names(tx, &wanted.names).await?;
    // What is stored of lists takes the names that were restored, or that the rules now give it.
    naming::resettle(tx, naming::Scope::All, length_max.unwrap_or(in_force.naming.length_max)).await?;
    Ok(done)
}

fn refuse_clashes(wanted: &Contents, stored: &Contents, mode: Mode) -> Result<(), NotRestored> {
    if mode == Mode::Replace {
        return Ok(());
    }
    let mut clashes = Vec::new();
    let message = "another one that stays has this name";
    for (index, upstream) in wanted.upstreams.iter().enumerate() {
        let restored = |id| wanted.upstreams.iter().any(|other| other.id == id);
        if stored.upstreams.iter().any(|other| other.name == upstream.name && !restored(other.id)) {
            clashes.push(FieldError::new(format!("/upstreams/{index}/name"), message));
        }
    }
    for (index, key) in wanted.keys.iter().enumerate() {
        let restored = |id| wanted.keys.iter().any(|other| other.id == id);
        if stored.keys.iter().any(|other| other.name == key.name && !restored(other.id)) {
            clashes.push(FieldError::new(format!("/keys/{index}/name"), message));
        }
        if stored.keys.iter().any(|other| other.hash == key.hash && other.id != key.id) {
            clashes.push(FieldError::new(format!("/keys/{index}/hash"), "another key has this secret"));
        }
    }
    for (index, endpoint) in wanted.xiaozhi.iter().enumerate() {
        let restored = |id| wanted.xiaozhi.iter().any(|other| other.id == id);
        if stored.xiaozhi.iter().any(|other| other.name == endpoint.name && !restored(other.id)) {
            clashes.push(FieldError::new(format!("/xiaozhi/{index}/name"), message));
        }
    }
    if clashes.is_empty() { Ok(()) } else { Err(NotRestored::Clash(clashes)) }
}

/// Has what changes its name give it up first if another one gets it: two may have changed names with one another.
/// Until it gets its own, its id is its name.
async fn part_with_names(tx: &mut Tx, wanted: &Contents, stored: &mut Contents) -> Result<(), NotRestored> {
    for before in &mut stored.upstreams {
        if wanted.upstreams.iter().any(|other| other.id != before.id && other.name == before.name) {
            let parted =
                Upstream { name: before.id.to_string(), version: before.version + 1, ..before.clone() };
            fresh(upstreams::update(tx, &parted, before.version).await?)?;
            before.version += 1;
        }
    }
    for before in &mut stored.keys {
        if wanted.keys.iter().any(|other| other.id != before.id && other.name == before.name) {
            let parted =
                ApiKey { name: before.id.to_string(), version: before.version + 1, ..before.clone() };
            fresh(api_keys::update(tx, &parted, before.version).await?)?;
            before.version += 1;
        }
    }
    for before in &mut stored.xiaozhi {
        if wanted.xiaozhi.iter().any(|other| other.id != before.id && other.name == before.name) {
            let name = before.id.to_string();
            let parted = XiaozhiEndpoint { name, version: before.version + 1, ..before.clone() };
            fresh(xiaozhi_endpoints::update(tx, &parted, before.version).await?)?;
            before.version += 1;
        }
    }
    Ok(())
}

async fn delete_others(
    tx: &mut Tx,
    wanted: &Contents,
    stored: &mut Contents,
    seen: &Seen<'_>,
    done: &mut Vec<Restored>,
) -> Result<(), StoreError> {
    let aliases: BTreeSet<_> = wanted.aliases.iter().map(|rule| rule.id).collect();
    for rule in stored.aliases.iter().filter(|rule| !aliases.contains(&rule.id)) {
        rules::delete::<AliasRule>(tx, rule.id).await?;
        done.push(gone("aliasRule", rule.id, &rule.pattern, &crate::api::rules::settable(rule)));
    }
    let filters: BTreeSet<_> = wanted.filters.iter().map(|rule| rule.id).collect();
    for rule in stored.filters.iter().filter(|rule| !filters.contains(&rule.id)) {
        rules::delete::<FilterRule>(tx, rule.id).await?;
        done.push(gone("filterRule", rule.id, &rule.pattern, &crate::api::rules::settable(rule)));
    }
    let endpoints: BTreeSet<_> = wanted.xiaozhi.iter().map(|endpoint| endpoint.id).collect();
    for endpoint in stored.xiaozhi.iter().filter(|endpoint| !endpoints.contains(&endpoint.id)) {
        xiaozhi_endpoints::delete(tx, endpoint.id).await?;
        done.push(gone("xiaozhi", endpoint.id, &endpoint.name, &(seen.endpoint)(endpoint)));
    }
    let keys: BTreeSet<_> = wanted.keys.iter().map(|key| key.id).collect();
    for key in stored.keys.iter().filter(|key| !keys.contains(&key.id)) {
        api_keys::delete(tx, key.id).await?;
        done.push(gone("key", key.id, &key.name, &crate::api::keys::audited(key)));
    }
    let upstreams: BTreeSet<_> = wanted.upstreams.iter().map(|upstream| upstream.id).collect();
    for upstream in stored.upstreams.iter().filter(|upstream| !upstreams.contains(&upstream.id)) {
        upstreams::delete(tx, upstream.id).await?;
        done.push(gone("upstream", upstream.id, &upstream.name, &(seen.upstream)(upstream)));
    }
    stored.keys.retain(|key| keys.contains(&key.id));
    stored.upstreams.retain(|upstream| upstreams.contains(&upstream.id));
    stored.xiaozhi.retain(|endpoint| endpoints.contains(&endpoint.id));
    Ok(())
}

fn gone(kind: &'static str, id: impl std::fmt::Display, name: &str, before: &Value) -> Restored {
    let diff = crate::audit::diff(Some(before), None);
    Restored { kind, id: id.to_string(), name: name.to_owned(), change: Change::Delete, diff }
}

fn written(kind: &'static str, id: String, name: &str, before: Option<&Value>, after: &Value) -> Restored {
    let change = if before.is_some() { Change::Update } else { Change::Create };
    Restored { kind, id, name: name.to_owned(), change, diff: crate::audit::diff(before, Some(after)) }
}

async fn restore_upstreams(
    tx: &mut Tx,
    wanted: &Contents,
    stored: &Contents,
    now: Timestamp,
    seen: &Seen<'_>,
    done: &mut Vec<Restored>,
) -> Result<(), NotRestored> {
    for upstream in &wanted.upstreams {
        let before = stored.upstreams.iter().find(|before| before.id == upstream.id);
        let after = match before {
            None => Upstream { updated_at: now, ..upstream.clone() },
            Some(before) => {
                Upstream { version: before.version, updated_at: before.updated_at, ..upstream.clone() }
            }
        };
        match before {
            Some(before) if *before == after => continue,
            Some(before) => {
                let next = Upstream { version: before.version + 1, updated_at: now, ..after.clone() };
                fresh(upstreams::update(tx, &next, before.version).await?)?;
                // A token is for one place; elsewhere it would be somebody else's.
                if before.conn_params != after.conn_params {
                    oauth::forget(tx, after.id).await?;
                }
                // What was agreed to was agreed to of what stood there.
                if after.on_tool_change != OnToolChange::Allow {
                    pins::reconfirm(tx, after.id, &pinning::identity(&after)).await?;
                }
            }
            None => upstreams::insert(tx, &after).await?,
        }
        let old = before.map(|before| (seen.upstream)(before));
        let new = (seen.upstream)(&after);
        done.push(written("upstream", after.id.to_string(), &after.name, old.as_ref(), &new));
    }
    Ok(())
}

async fn restore_keys(
    tx: &mut Tx,
    wanted: &Contents,
    stored: &Contents,
    now: Timestamp,
    done: &mut Vec<Restored>,
) -> Result<(), NotRestored> {
    for key in &wanted.keys {
        let before = stored.keys.iter().find(|before| before.id == key.id);
        let after = match before {
            None => ApiKey { updated_at: now, ..key.clone() },
            Some(before) => ApiKey {
                version: before.version,
                updated_at: before.updated_at,
                last_used_at: before.last_used_at,
                last_ip: before.last_ip,
                ..key.clone()
            },
        };
        match before {
            Some(before) if *before == after => continue,
            Some(before) => {
                let next = ApiKey { version: before.version + 1, updated_at: now, ..after.clone() };
                fresh(api_keys::update(tx, &next, before.version).await?)?;
            }
            None => api_keys::insert(tx, &after).await?,
        }
        let old = before.map(crate::api::keys::audited);
        let new = crate::api::keys::audited(&after);
        done.push(written("key", after.id.to_string(), &after.name, old.as_ref(), &new));
    }
    Ok(())
}

async fn restore_rules<R: crate::api::rules::Restorable>(
    tx: &mut Tx,
    wanted: &[R],
    now: Timestamp,
    kind: &'static str,
    done: &mut Vec<Restored>,
) -> Result<(), NotRestored> {
    for rule in wanted {
        let mut before: Option<R> = rules::get(tx, rule.id()).await?;
        if before.as_ref().is_some_and(|before| before.owner() != rule.owner()) {
            // A rule can't change hands: it goes, and comes anew.
            rules::delete::<R>(tx, rule.id()).await?;
            before = None;
        }
        let old = before.as_ref().map(crate::api::rules::settable);
        let new = crate::api::rules::settable(rule);
        match &before {
            Some(_) if old.as_ref() == Some(&new) => continue,
            Some(before) => {
                let next = rule.versioned(before.version() + 1, now);
                fresh(rules::update(tx, &next, before.version()).await?)?;
            }
            None => rules::insert(tx, &rule.versioned(1, now)).await?,
        }
        done.push(written(kind, rule.id().to_string(), rule.pattern(), old.as_ref(), &new));
    }
    let mut counted = None;
    for rule in wanted {
        // Those of one owner stand together in a backup.
        let owner = rule.owner();
        if counted.replace(owner) == Some(owner) {
            continue;
        }
        if rules::count::<R>(tx, owner).await? > RULES_PER_OWNER_MAX {
            let message = format!("an owner would have more than {RULES_PER_OWNER_MAX}");
            return Err(NotRestored::Clash(vec![FieldError::new(format!("/{kind}s"), message)]));
        }
    }
    Ok(())
}

/// A change that came too late undoes all of it: what the preview said isn't what would be done.
fn fresh(written: bool) -> Result<(), NotRestored> {
    if written { Ok(()) } else { Err(NotRestored::Overtaken) }
}

async fn restore_endpoints(
    tx: &mut Tx,
    wanted: &Contents,
    stored: &Contents,
    now: Timestamp,
    seen: &Seen<'_>,
    done: &mut Vec<Restored>,
) -> Result<(), NotRestored> {
    for endpoint in &wanted.xiaozhi {
        let before = stored.xiaozhi.iter().find(|before| before.id == endpoint.id);
        let after = match before {
            None => XiaozhiEndpoint { updated_at: now, ..endpoint.clone() },
            Some(before) => XiaozhiEndpoint {
                version: before.version,
                updated_at: before.updated_at,
                reconnects: before.reconnects,
                ..endpoint.clone()
            },
        };
        match before {
            Some(before) if *before == after => continue,
            Some(before) => {
                let next = XiaozhiEndpoint { version: before.version + 1, updated_at: now, ..after.clone() };
                fresh(xiaozhi_endpoints::update(tx, &next, before.version).await?)?;
            }
            None => xiaozhi_endpoints::insert(tx, &after).await?,
        }
        let old = before.map(|before| (seen.endpoint)(before));
        let new = (seen.endpoint)(&after);
        done.push(written("xiaozhi", after.id.to_string(), &after.name, old.as_ref(), &new));
    }
    Ok(())
}

/// What was agreed to is again what it was; what was agreed to since, of other definitions, stays.
async fn restore_pins(tx: &mut Tx, wanted: &Contents, stored: &Contents) -> Result<(), StoreError> {
    let changed: Vec<Pin> = wanted.pins.iter().filter(|pin| !stored.pins.contains(pin)).cloned().collect();
    pins::save(tx, &changed).await
}

async fn restore_settings(
    tx: &mut Tx,
    wanted: Option<&Settings>,
    mode: Mode,
    done: &mut Vec<Restored>,
) -> Result<Settings, StoreError> {
    let (before, version) = match settings::load(tx).await {
        Err(StoreError::Corrupt { .. }) => (Settings::default(), settings::version(tx).await?),
        loaded => loaded?.unwrap_or_default(),
    };
    let after = match (wanted, mode) {
        (Some(settings), _) => settings.clone(),
        (None, Mode::Replace) => Settings::default(),
        (None, Mode::Merge) => before.clone(),
    };
    if after != before {
        settings::save(tx, &after, version).await?;
        done.push(written(
            "settings",
            String::new(),
            "settings",
            Some(&before.document()),
            &after.document(),
        ));
    }
    Ok(after)
}

async fn restore_names(tx: &mut Tx, wanted: &[Claim]) -> Result<(), StoreError> {
    names::lock(tx).await?;
    let mut held = Vec::new();
    for kind in sql::model::Kind::ALL {
        held.extend(names::claims(tx, *kind).await?);
    }
    let changed: Vec<&Claim> = wanted.iter().filter(|claim| !held.contains(claim)).collect();
    // All of them first: two items may have changed names with one another.
    for claim in &changed {
        names::release(tx, claim.kind, claim.upstream_id, &claim.upstream_name).await?;
    }
    for claim in changed {
        // Another item that stays may hold it: names that clients know move to nobody else.
        names::claim(tx, claim).await?;
    }
    Ok(())
}
