//! Keeps what upstreams are shown at what the store has, and renews it before it ends.
//!
//! The store is the truth: a grant that an admin gave, that another replica renewed, or that was forgotten
//! comes here with the changes. A renewal runs under a lease, so that two replicas don't use one refresh
//! token twice, and reads the grant anew under it: whoever comes second finds it renewed. Calls never
//! wait for it but where their token has ended.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sql::model::ids::uuid_at;
use sql::model::{Actor, AuditEvent, AuditEventId, OAuthGrant, Outcome, UpstreamId};
use sql::{Store, StoreError, Tx, UnreadableRow, audit_log, leases, oauth, upstreams};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::flow::{self, NotRenewed};
use super::{Denial, Held, Pass, RENEWALS_APART};
use crate::tasks::Tasks;
use crate::upstream::Upstreams;

/// A renewal is one request; what takes longer hangs.
const RENEW_TIMEOUT: Duration = Duration::from_secs(15);
/// Beyond the renewal and the writing of what came: nobody else may use the refresh token meanwhile.
const LEASE: Duration = Duration::from_secs(45);
/// Between a renewal that failed, or that another replica has the lease for, and the next.
const RETRY: Duration = Duration::from_secs(2);
/// The same after many failures in a row.
const RETRY_MAX: Duration = Duration::from_mins(1);
/// How long the keeper sleeps at most: the wall clock may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// How often the store is tried when it doesn't take what was renewed: the old refresh token is used up.
const SAVES_MAX: u32 = 5;

/// The keeper. Clones share it.
#[derive(Clone)]
pub(crate) struct Keeper {
    store: Store,
    upstreams: Upstreams,
    tasks: Tasks,
    /// This replica, to the leases.
    holder: Uuid,
    /// When a renewal that failed is tried again, and how often it failed in a row.
    failures: Arc<Mutex<HashMap<UpstreamId, (Instant, u32)>>>,
}

impl Keeper {
    /// A keeper of the passes of these upstreams. It has read nothing yet.
    pub(crate) fn new(store: Store, upstreams: Upstreams, tasks: Tasks) -> Self {
        let holder = uuid_at(store.clock().now());
        Self { store, upstreams, tasks, holder, failures: Arc::default() }
    }

    /// Reads all grants.
    pub(crate) async fn load(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let mut grants: HashMap<_, _> =
            oauth::grants(tx).await?.into_iter().map(|grant| (grant.upstream_id, grant)).collect();
        for (id, _) in self.upstreams.passes().all() {
            self.adopt(id, grants.remove(&id).as_ref());
        }
        for (id, grant) in &grants {
            self.adopt(*id, Some(grant));
        }
        Ok(())
    }

    /// Reads the grant for one upstream, which has changed.
    pub(crate) async fn follow(&self, tx: &mut Tx, id: UpstreamId) -> Result<(), StoreError> {
        let grant = oauth::grant(tx, id).await;
        match &grant {
            Ok(grant) => self.adopt(id, grant.as_ref()),
            // One that can't be read any more is none.
            Err(error) if UnreadableRow::of(error).is_some() => self.adopt(id, None),
            Err(_) => {}
        }
        grant.map(drop)
    }

    /// Makes this what the upstream is shown. One that was authorised is connected at once, and one whose
    /// grant is gone loses its connection.
    fn adopt(&self, id: UpstreamId, grant: Option<&OAuthGrant>) {
        let pass = self.upstreams.passes().of(id);
        let before = pass.held.load_full();
        let held = grant.and_then(|grant| Held::of(grant, self.store.clock()));
        let known = before.as_ref().map(|held| held.grant);
        let new = held.as_ref().map(|held| held.grant);
        if known == new {
            return;
        }
        let is_renewal = matches!((known, new), (Some((then, _)), Some((now, _))) if then == now);
        pass.put(held);
        self.lock().remove(&id);
        pass.bell.notify_one();
        if !is_renewal || self.upstreams.denial(id) == Some(Denial::Unauthorized) {
            self.upstreams.reconnect(id);
        }
    }

    /// Renews until the tasks stop.
    pub(crate) async fn run(self) {
        let stopping = self.tasks.stopping().clone();
        let bell = self.upstreams.passes().bell();
        loop {
            let next = self.renew_due();
            tokio::select! {
                () = stopping.cancelled() => return,
                () = bell.notified() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Starts each renewal that is due; when to look again.
    fn renew_due(&self) -> Instant {
        let now = self.store.clock().now();
        let mut next = Instant::now() + SLEEP_MAX;
        for (id, pass) in self.upstreams.passes().all() {
            let Some(held) = pass.held.load_full() else { continue };
            let wanted = pass.wanted.load(Ordering::SeqCst);
            if !held.is_renewable || (!wanted && held.renew_at.is_none()) {
                pass.settle_if(wanted);
                continue;
            }
            let retry = self.lock().get(&id).copied().filter(|(at, _)| *at > Instant::now());
            if let Some((retry, failures)) = retry {
                // It has just failed: nobody waits for what doesn't come. What another replica does, comes.
                pass.settle_if(wanted && failures > 0);
                next = next.min(retry);
                continue;
            }
            let ahead = held.renew_at.map_or(Duration::MAX, |at| at.since(now));
            if !wanted && !ahead.is_zero() {
                next = next.min(Instant::now() + ahead.min(SLEEP_MAX));
                continue;
            }
            let early = RENEWALS_APART.saturating_sub(held.age());
            if !early.is_zero() {
                next = next.min(Instant::now() + early);
                continue;
            }
            if !pass.renewing.swap(true, Ordering::SeqCst) {
                let keeper = self.clone();
                self.tasks.spawn("oauth renewal", async move { keeper.renew(id, pass).await });
            }
        }
        next
    }

    async fn renew(self, id: UpstreamId, pass: Arc<Pass>) {
        let known = pass.held.load().as_ref().map(|held| held.grant);
        let outcome = self.renew_now(id, known).await;
        let is_elsewhere = outcome == Ok(Renewal::Elsewhere);
        if let Err(reason) = outcome {
            let mut failures = self.lock();
            let (at, count) = failures.entry(id).or_insert((Instant::now(), 0));
            let wait = (RETRY * 2_u32.saturating_pow((*count).min(8))).min(RETRY_MAX);
            *at = Instant::now() + wait;
            *count += 1;
            drop(failures);
            tracing::warn!(upstream.id = %id, reason, "the token of an upstream was not renewed");
        }
        pass.renewing.store(false, Ordering::SeqCst);
        if !is_elsewhere {
            pass.settle();
        }
        pass.bell.notify_one();
    }

    /// One renewal, of the grant that is known here; an error is why there was none.
    async fn renew_now(&self, id: UpstreamId, known: Option<GrantKey>) -> Result<Renewal, String> {
        let grant = match self.lease(id, known).await.map_err(|error| error.to_string())? {
            Leased::Ours(grant) => grant,
            Leased::Overtaken => return Ok(Renewal::Done),
            Leased::Elsewhere => return Ok(Renewal::Elsewhere),
        };
        let pool = self.upstreams.pool();
        let now = self.store.clock().now();
        let renewed = timeout(RENEW_TIMEOUT, flow::renew(pool, &grant, now)).await;
        let renewed = renewed.unwrap_or_else(|_| Err(NotRenewed::Failed("no answer in time".into())));
        let saved = match &renewed {
            Ok(renewed) => self.save(&grant, Some(renewed)).await,
            Err(NotRenewed::Rejected) => self.save(&grant, None).await,
            Err(NotRenewed::Failed(reason)) => {
                self.release(id).await;
                return Err(reason.clone());
            }
        };
        saved.map(|()| Renewal::Done).map_err(|error| error.to_string())
    }

    /// The grant as it is stored, under the lease.
    async fn lease(&self, id: UpstreamId, known: Option<GrantKey>) -> Result<Leased, StoreError> {
        let mut tx = self.store.begin().await?;
        let leased = leases::acquire(&mut tx, &lease_name(id), self.holder, LEASE).await?;
        let grant = oauth::grant(&mut tx, id).await?;
        let stored = grant.as_ref().map(|grant| (grant.authorized_at, grant.version));
        let Some(grant) = grant.filter(|_| stored == known) else {
            drop(tx);
            self.follow(&mut self.store.read().await?, id).await?;
            return Ok(Leased::Overtaken);
        };
        if !leased {
            drop(tx);
            // What the other replica stores comes with the changes; this is for when it doesn't.
            self.lock().insert(id, (Instant::now() + RETRY, 0));
            return Ok(Leased::Elsewhere);
        }
        tx.commit().await?;
        Ok(Leased::Ours(Box::new(grant)))
    }

    /// Stores what a grant was renewed to, or forgets one that was rejected. The refresh token is used up, so
    /// a store that doesn't answer is asked again.
    async fn save(&self, grant: &OAuthGrant, renewed: Option<&OAuthGrant>) -> Result<(), StoreError> {
        let mut attempt = 1;
        loop {
            match self.write(grant, renewed).await {
                Ok(()) => return Ok(()),
                Err(error) if attempt == SAVES_MAX || !error.is_transient() => return Err(error),
                Err(_) => attempt += 1,
            }
            sleep(RETRY).await;
        }
    }

    async fn write(&self, grant: &OAuthGrant, renewed: Option<&OAuthGrant>) -> Result<(), StoreError> {
        let id = grant.upstream_id;
        let mut tx = self.store.begin().await?;
        match renewed {
            Some(renewed) => drop(oauth::renew_grant(&mut tx, renewed).await?),
            None => {
                if oauth::drop_grant(&mut tx, grant).await? {
                    self.audit_rejection(&mut tx, grant).await?;
                }
            }
        }
        leases::release(&mut tx, &lease_name(id), self.holder).await?;
        let stored = oauth::grant(&mut tx, id).await?;
        tx.commit().await?;
        self.adopt(id, stored.as_ref());
        Ok(())
    }

    async fn audit_rejection(&self, tx: &mut Tx, grant: &OAuthGrant) -> Result<(), StoreError> {
        let now = self.store.clock().now();
        let name = upstreams::get(tx, grant.upstream_id).await?.map(|upstream| upstream.name);
        let event = AuditEvent {
            id: AuditEventId::at(now),
            at: now,
            actor: Actor::System,
            address: None,
            user_agent: None,
            action: "upstream.oauth_lost".into(),
            target_kind: "upstream".into(),
            target_id: Some(grant.upstream_id.to_string()),
            target_name: name,
            diff: serde_json::json!({ "/oauth/issuer": { "before": grant.issuer } }),
            request_id: None,
            outcome: Outcome::Failure,
        };
        audit_log::append(tx, &event).await
    }

    /// Nothing hangs on it: a lease ends by itself.
    async fn release(&self, id: UpstreamId) {
        let released = async {
            let mut tx = self.store.begin().await?;
            leases::release(&mut tx, &lease_name(id), self.holder).await?;
            tx.commit().await
        };
        if let Err(error) = released.await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a lease was left to end by itself");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<UpstreamId, (Instant, u32)>> {
        // The map is whole between two statements, so a panic elsewhere can't have broken it.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a renewal that didn't fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    /// The pass shows what there is to show.
    Done,
    /// Another replica does it.
    Elsewhere,
}

/// Who is to renew.
enum Leased {
    /// We are, this grant.
    Ours(Box<OAuthGrant>),
    /// Nobody: it was renewed, or forgotten, meanwhile.
    Overtaken,
    /// Another replica does.
    Elsewhere,
}

/// When a grant was authorised, and its version.
type GrantKey = (sql::model::Timestamp, i64);

fn lease_name(id: UpstreamId) -> String {
    format!("oauth/{id}")
}
