//! Making the store say what the file says, in one transaction, with an audit event for each change.

mod rules;
mod xiaozhi;

use proxy::catalog::naming::settle as naming;
use proxy::upstream::egress::Egress;
use proxy::upstream::oauth::origin_of;
use serde_json::{Map, Value};
use sql::model::{
    Actor, ApiKey, ApiKeyId, AuditEvent, AuditEventId, FieldError, Outcome, Settings, Timestamp, Upstream,
    UpstreamId,
};
use sql::{Store, StoreError, Tx, UnreadableRow, api_keys, audit_log, oauth, settings, upstreams};

use super::{Bootstrap, FileProblem, KeyItem, UpstreamItem, below, bodies, told};

/// Replicas that start together apply the same file. Whoever comes second finds a name taken or a
/// version passed, begins anew, and then finds everything done; a third time is another's write between.
const ATTEMPTS_MAX: u32 = 3;

/// How much of the file was new.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Items that weren't there.
    pub(crate) created: usize,
    /// Items that were different.
    pub(crate) changed: usize,
    /// Items that were so already.
    pub(crate) unchanged: usize,
}

/// Why nothing was applied.
#[derive(Debug)]
pub(crate) enum BootstrapError {
    /// The file asks for what this gateway doesn't allow, or refers to what isn't there.
    Refused(Vec<FileProblem>),
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for BootstrapError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Bootstrap {
    /// Applies the file. `check` is what the data plane says of an upstream: whether its command and
    /// its address are allowed here. `in_force` makes of stored settings those in force.
    pub(crate) async fn apply(
        &self,
        store: &Store,
        check: impl Fn(&Upstream) -> Vec<FieldError>,
        in_force: impl Fn(Settings) -> Settings,
    ) -> Result<Applied, BootstrapError> {
        for _ in 1..ATTEMPTS_MAX {
            match self.attempt(store, &check, &in_force).await {
                Err(BootstrapError::Store(StoreError::Conflict { .. })) => {}
                outcome => return outcome,
            }
        }
        self.attempt(store, &check, &in_force).await
    }

    async fn attempt(
        &self,
        store: &Store,
        check: &impl Fn(&Upstream) -> Vec<FieldError>,
        in_force: &impl Fn(Settings) -> Settings,
    ) -> Result<Applied, BootstrapError> {
        let mut attempt = Attempt {
            tx: store.begin().await?,
            store,
            now: store.clock().now(),
            applied: Applied::default(),
            renamed: false,
            problems: Vec::new(),
        };
        for item in &self.upstreams {
            unless_unreadable(attempt.upstream(item, check).await)?;
        }
        for item in &self.keys {
            unless_unreadable(attempt.key(item).await)?;
        }
        for item in &self.rules.aliases {
            attempt.rule(item).await?;
        }
        for item in &self.rules.filters {
            attempt.rule(item).await?;
        }
        for item in &self.xiaozhi {
            unless_unreadable(attempt.xiaozhi(item, check).await)?;
        }
        if let Some(patch) = &self.settings {
            unless_unreadable(attempt.settings(patch).await)?;
        }
        if attempt.renamed && attempt.problems.is_empty() {
            let stored = settings::load(&mut attempt.tx).await?.map(|(settings, _)| settings);
            let length_max = in_force(stored.unwrap_or_default()).naming.length_max;
            naming::resettle(&mut attempt.tx, naming::Scope::All, length_max).await?;
        }
        let Attempt { tx, applied, problems, .. } = attempt;
        if !problems.is_empty() {
            return Err(BootstrapError::Refused(told(&self.document, problems)));
        }
        // Nothing written, nothing to commit: the revision stays.
        if applied.created + applied.changed > 0 {
            tx.commit().await?;
        }
        Ok(applied)
    }
}

/// One transaction, and what became of it so far.
struct Attempt<'a> {
    tx: Tx,
    store: &'a Store,
    now: Timestamp,
    applied: Applied,
    /// Whether something changed that names depend on.
    renamed: bool,
    problems: Vec<FieldError>,
}

/// A stored row that can't be read stays as it is, for an admin to look at. It must keep neither the rest of
/// the file from coming about nor the gateway from starting.
fn unless_unreadable(applied: Result<(), BootstrapError>) -> Result<(), BootstrapError> {
    let Err(BootstrapError::Store(error)) = &applied else { return applied };
    let Some(bad) = UnreadableRow::of(error) else { return applied };
    tracing::error!(
        table = bad.table,
        row = bad.row,
        column = bad.column,
        "what the bootstrap file says of a stored row that can't be read is passed over"
    );
    Ok(())
}

/// Somebody else wrote the row between our read and our write.
fn overtaken(row: &str) -> StoreError {
    StoreError::Conflict { constraint: format!("the version of {row}") }
}

impl Attempt<'_> {
    async fn upstream(
        &mut self,
        item: &UpstreamItem,
        check: &impl Fn(&Upstream) -> Vec<FieldError>,
    ) -> Result<(), BootstrapError> {
        let stored = upstreams::by_name(&mut self.tx, &item.new.name).await?;
        let wanted = match &stored {
            Some(stored) => upstream_over(stored, item),
            None => self.new_upstream(item).await?,
        };
        self.problems.extend(check(&wanted).into_iter().map(|error| below(&item.pointer, error)));
        if stored.as_ref() == Some(&wanted) {
            self.applied.unchanged += 1;
            return Ok(());
        }
        let diff = bodies::upstream_diff(stored.as_ref(), &wanted, self.store.sealer());
        let action = if let Some(stored) = &stored {
            let next = Upstream { version: stored.version + 1, updated_at: self.now, ..wanted.clone() };
            if !upstreams::update(&mut self.tx, &next, stored.version).await? {
                return Err(overtaken("upstreams").into());
            }
            self.renamed |= stored.name_prefix != next.name_prefix;
            // A token is for one place; what may be dialled plays no part here.
            if origin_of(stored, Egress::Any) != origin_of(&next, Egress::Any) {
                oauth::forget(&mut self.tx, next.id).await?;
            }
            self.applied.changed += 1;
            "upstream.update"
        } else {
            upstreams::insert(&mut self.tx, &wanted).await?;
            self.applied.created += 1;
            "upstream.create"
        };
        self.record(action, Some(wanted.id.to_string()), &wanted.name, diff).await
    }

    /// An upstream that isn't there yet; without a place of its own it is the last.
    async fn new_upstream(&mut self, item: &UpstreamItem) -> Result<Upstream, BootstrapError> {
        let mut upstream = Upstream::create(item.new.clone(), UpstreamId::new(self.store.clock()), self.now);
        if !says(&item.said, "sortOrder") {
            let places = upstreams::list(&mut self.tx).await?.into_iter().map(|other| other.sort_order);
            upstream.sort_order = places.max().map_or(0, |last| last.saturating_add(1));
        }
        Ok(upstream)
    }

    async fn key(&mut self, item: &KeyItem) -> Result<(), BootstrapError> {
        let upstream_ids = self.upstream_ids(item).await?;
        let stored = api_keys::by_name(&mut self.tx, &item.new.name).await?;
        let blank = || {
            let id = ApiKeyId::new(self.store.clock());
            ApiKey::create(id, item.new.name.clone(), &item.secret, self.now)
        };
        let wanted = key_over(stored.clone().unwrap_or_else(blank), item, upstream_ids);
        if stored.as_ref() == Some(&wanted) {
            self.applied.unchanged += 1;
            return Ok(());
        }
        let diff = bodies::key_diff(stored.as_ref(), &wanted);
        let action = if let Some(stored) = &stored {
            let next = ApiKey { version: stored.version + 1, updated_at: self.now, ..wanted.clone() };
            if !api_keys::update(&mut self.tx, &next, stored.version).await? {
                return Err(overtaken("api_keys").into());
            }
            self.applied.changed += 1;
            "key.update"
        } else {
            api_keys::insert(&mut self.tx, &wanted).await?;
            self.applied.created += 1;
            "key.create"
        };
        self.record(action, Some(wanted.id.to_string()), &wanted.name, diff).await
    }

    /// The ids behind a key's upstream names; those of this file are stored by now.
    async fn upstream_ids(&mut self, item: &KeyItem) -> Result<Option<Vec<UpstreamId>>, BootstrapError> {
        let Some(names) = &item.upstream_names else { return Ok(None) };
        let mut ids = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            if let Some(upstream) = upstreams::by_name(&mut self.tx, name).await? {
                ids.push(upstream.id);
            } else {
                let pointer = format!("{}/upstreams/{index}", item.pointer);
                self.problems.push(FieldError::new(pointer, "no upstream has this name"));
            }
        }
        Ok(Some(ids))
    }

    async fn settings(&mut self, patch: &Value) -> Result<(), BootstrapError> {
        let stored = settings::load(&mut self.tx).await?;
        let (before, version) = stored.unwrap_or_else(|| (Settings::default(), settings::VERSION_NONE));
        let after = match before.merge_patch(patch) {
            Ok(after) => after,
            Err(errors) => {
                self.problems.extend(errors.into_iter().map(|error| below("/settings", error)));
                return Ok(());
            }
        };
        if after == before {
            self.applied.unchanged += 1;
            return Ok(());
        }
        if !settings::save(&mut self.tx, &after, version).await? {
            return Err(overtaken("settings").into());
        }
        self.applied.changed += 1;
        self.renamed |= after.naming.length_max != before.naming.length_max;
        let diff = bodies::settings_diff(&before, &after);
        self.record("settings.update", Some("settings".to_owned()), "settings", diff).await
    }

    async fn record(
        &mut self,
        action: &str,
        target_id: Option<String>,
        target_name: &str,
        diff: Value,
    ) -> Result<(), BootstrapError> {
        let event = AuditEvent {
            id: AuditEventId::new(self.store.clock()),
            at: self.now,
            actor: Actor::System,
            address: None,
            user_agent: Some("bootstrap".to_owned()),
            action: action.to_owned(),
            target_kind: action.split('.').next().unwrap_or_default().to_owned(),
            target_id,
            target_name: Some(target_name.to_owned()),
            diff,
            request_id: None,
            outcome: Outcome::Success,
        };
        Ok(audit_log::append(&mut self.tx, &event).await?)
    }
}

fn says(said: &Map<String, Value>, field: &str) -> bool {
    said.contains_key(field)
}

/// What is stored, with what the file says laid over. How an upstream is reached is always said whole.
fn upstream_over(stored: &Upstream, item: &UpstreamItem) -> Upstream {
    let new = item.new.clone();
    let said = |field| says(&item.said, field);
    let stored = stored.clone();
    Upstream {
        transport: new.transport,
        conn_params: new.conn_params,
        credential: if said("credential") { new.credential } else { stored.credential },
        enabled: if said("enabled") { new.enabled } else { stored.enabled },
        sort_order: if said("sortOrder") { new.sort_order } else { stored.sort_order },
        auto_sync: if said("autoSync") { new.auto_sync } else { stored.auto_sync },
        name_prefix: if said("namePrefix") { new.name_prefix } else { stored.name_prefix },
        isolation: if said("isolation") { new.isolation } else { stored.isolation },
        protocol: if said("protocol") { new.protocol } else { stored.protocol },
        call_timeout_s: if said("callTimeoutS") { new.call_timeout_s } else { stored.call_timeout_s },
        tags: if said("tags") { new.tags } else { stored.tags },
        on_tool_change: if said("onToolChange") { new.on_tool_change } else { stored.on_tool_change },
        sanitize: if said("sanitize") { new.sanitize } else { stored.sanitize },
        sync: if said("sync") { new.sync } else { stored.sync },
        ..stored
    }
}

/// Likewise for a key. Its secret is always said; a secret that was rotated away ends with the change.
fn key_over(stored: ApiKey, item: &KeyItem, upstream_ids: Option<Vec<UpstreamId>>) -> ApiKey {
    let new = item.new.clone();
    let said = |field| says(&item.said, field);
    let hash = item.secret.hash();
    let same_secret = stored.hash == hash;
    let upstream_ids = match upstream_ids {
        Some(ids) => Some(ids),
        None if said("upstreamIds") => new.upstream_ids,
        None => stored.upstream_ids,
    };
    ApiKey {
        prefix: item.secret.prefix().to_owned(),
        hash,
        previous: if same_secret { stored.previous } else { None },
        enabled: if said("enabled") { new.enabled } else { stored.enabled },
        expires_at: if said("expiresAt") { new.expires_at } else { stored.expires_at },
        mode: if said("mode") { new.mode } else { stored.mode },
        upstream_ids,
        allowed_cidrs: if said("allowedCidrs") { new.allowed_cidrs } else { stored.allowed_cidrs },
        rate_limit: if said("rateLimit") { new.rate_limit } else { stored.rate_limit },
        quota_per_day: if said("quotaPerDay") { new.quota_per_day } else { stored.quota_per_day },
        quota_per_month: if said("quotaPerMonth") { new.quota_per_month } else { stored.quota_per_month },
        ..stored
    }
}
