//! One open stream: what it is told of, when, and how it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use sql::model::{Kind, Mode};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Subscriptions;
use super::filter::{Filter, raw, tag};
use crate::access::{Caller, Keys};
use crate::catalog::View;
use crate::catalog::follow::Published;
use crate::downstream::connection::jittered;
use crate::downstream::in_flight::Permit;
use crate::downstream::live::{Live, LiveSessions};
use crate::downstream::log_feed::{self, LogMessage};
use crate::downstream::mode::ModeOf;
use crate::downstream::outlet::Outlet;
use crate::downstream::resource_updates::Attached;
use crate::downstream::stream::KEEP_ALIVE;
use crate::upstream::Settling;
use crate::upstream::call::SubscribeError;
use crate::upstream::topic::Topic;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::meta;

/// Between two `list_changed` of one kind on one stream: a flapping upstream costs a client one
/// reload in this time.
pub(super) const CHANGE_INTERVAL: Duration = Duration::from_secs(5);

/// When clients are to come back to a gateway that stops: it, or the one that takes its place, is there
/// again by then.
const RESTART: Duration = Duration::from_secs(5);

/// How long the acknowledgement of a subscription waits for upstreams.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long updates wait for a client to read. There may be more of them at once than a queue holds, but who
/// takes none for so long doesn't read.
const READ_PATIENCE: Duration = KEEP_ALIVE;

/// The kinds whose lists are announced, by the method that does so. A template belongs to the
/// resources.
pub(super) const ANNOUNCED: [(&str, [Kind; 2]); 3] = [
    ("notifications/tools/list_changed", [Kind::Tool, Kind::Tool]),
    ("notifications/prompts/list_changed", [Kind::Prompt, Kind::Prompt]),
    ("notifications/resources/list_changed", [Kind::Resource, Kind::ResourceTemplate]),
];

/// The era's form of a stream.
pub(super) enum Face {
    Get {
        session: Uuid,
        sessions: LiveSessions,
        /// Where the stream is attached while it is open.
        live: Arc<Live>,
    },
    Listen {
        id: Bytes,
    },
}

/// One kind of list that a stream is told about.
struct Announced {
    kinds: [Kind; 2],
    seen: [[u8; 32]; 2],
    quiet_until: Option<Instant>,
}

/// What there is of a stream when it is opened.
pub(super) struct Open {
    pub(super) face: Face,
    pub(super) inbox: Attached,
    pub(super) outlet: Outlet,
    pub(super) ended: CancellationToken,
    /// None where the connection has one for all it carries.
    #[expect(dead_code, reason = "held, not used")]
    pub(super) permit: Option<Permit>,
}

/// One open stream.
pub(super) struct Watch {
    published: Published,
    keys: Keys,
    changes: watch::Receiver<i64>,
    draining: CancellationToken,
    caller: Caller,
    mode: ModeOf,
    open: Open,
    /// What upstreams log outside of calls; the legacy era alone has that.
    logs: Option<log_feed::Follower>,
    lists: BTreeMap<&'static str, Announced>,
    /// What the key saw when that was last looked at: after each change.
    view: Arc<View>,
    /// The mode in which it saw that.
    shown_in: Mode,
}

impl Watch {
    /// A stream that is told of these methods' lists; it knows them as its key sees them now.
    pub(super) fn new(
        subscriptions: &Subscriptions,
        caller: Caller,
        mode: ModeOf,
        open: Open,
        methods: &[&'static str],
    ) -> Self {
        let Subscriptions { published, keys, logs, draining, .. } = subscriptions;
        // Before the view is taken, so that no change falls between the two.
        let changes = published.changes();
        // It was made, if it had to be, for the request that opens the stream.
        let view = published.current().view(caller.policy());
        let mode_now = mode.now(caller.key(), view.settings());
        let lists = ANNOUNCED
            .iter()
            .filter(|(method, _)| methods.contains(method))
            .map(|(method, kinds)| {
                let seen = fingerprint(&view, *kinds, mode_now);
                (*method, Announced { kinds: *kinds, seen, quiet_until: None })
            })
            .collect();
        let logs = matches!(open.face, Face::Get { .. }).then(|| logs.follow());
        Self {
            published: published.clone(),
            keys: keys.clone(),
            changes,
            draining: draining.clone(),
            caller,
            mode,
            open,
            logs,
            lists,
            view,
            shown_in: mode_now,
        }
    }

    /// A subscription: acknowledged once it is known what is honoured, so that the client hears of every
    /// change after that.
    pub(super) async fn listen(self, mut filter: Filter, settling: Vec<(Topic, Settling)>) {
        let (names, settling): (Vec<_>, Vec<_>) = settling.into_iter().unzip();
        let settled = join_all(settling.into_iter().map(|settles| timeout(SETTLE_TIMEOUT, settles)));
        let settled = tokio::select! {
            settled = settled => settled,
            () = self.open.over(&self.caller, &self.draining) => return self.farewell(),
        };
        filter.resource_subscriptions.clear();
        filter.task_ids.clear();
        for (named, outcome) in names.into_iter().zip(settled) {
            if matches!(outcome, Ok(Err(SubscribeError::Refused(_)))) {
                self.open.inbox.unsubscribe(named.name());
                continue;
            }
            // One that can't be reached now is asked as soon as it can.
            let honoured = match named {
                Topic::Resource(_) => &mut filter.resource_subscriptions,
                Topic::Task(_) => &mut filter.task_ids,
            };
            honoured.push(named.name().to_owned());
        }
        let Face::Listen { id } = &self.open.face else { return };
        let acknowledged = compose::notification(
            "notifications/subscriptions/acknowledged",
            Some(filter.acknowledged(id).as_bytes()),
        );
        if self.open.offer(&acknowledged) {
            self.run().await;
        }
    }

    pub(super) async fn run(mut self) {
        self.follow().await;
        // Whoever else holds the session must not hold the connection open.
        if let Face::Get { live, .. } = &self.open.face {
            live.detach(&self.open.outlet);
        }
        // Nobody writes it any more.
        if let Outlet::Log(log) = &self.open.outlet
            && !log.is_over()
        {
            log.close();
        }
    }

    async fn follow(&mut self) {
        let mut silence = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        loop {
            let due = self.next_due();
            let alive = tokio::select! {
                () = self.open.over(&self.caller, &self.draining) => { self.farewell(); false }
                Ok(()) = self.changes.changed() => self.announce().await,
                () = until(due) => self.announce().await,
                () = self.open.inbox.rung() => self.tell_updates().await,
                message = next_log(&mut self.logs) => self.tell_log(&message).await,
                _ = silence.tick() => self.open.outlet.keep_alive(),
            };
            if !alive {
                return;
            }
        }
    }

    /// What the key sees now. The caller has the key as it was when the stream was opened; what it may
    /// see can have changed since. One that is gone sees nothing new: its stream is ending.
    async fn sees(&self) -> (Arc<View>, Mode) {
        let (policy, key) = (self.keys.policy(self.caller.key().id), self.keys.get(self.caller.key().id));
        let policy = policy.as_ref().unwrap_or(self.caller.policy());
        let view = self.published.current().view_soon(policy).await;
        let mode = self.mode.now(key.as_ref().unwrap_or(self.caller.key()), view.settings());
        (view, mode)
    }

    /// Says which lists changed since they were last announced. `false`: the client doesn't read.
    async fn announce(&mut self) -> bool {
        let (view, mode) = self.sees().await;
        (self.view, self.shown_in) = (Arc::clone(&view), mode);
        let now = Instant::now();
        for (method, list) in &mut self.lists {
            let seen = fingerprint(&view, list.kinds, mode);
            if seen == list.seen || list.quiet_until.is_some_and(|until| until > now) {
                continue;
            }
            list.seen = seen;
            list.quiet_until = Some(now + CHANGE_INTERVAL);
            let message = compose::notification(method, self.open.face.params().as_deref());
            if !self.open.offer(&message) {
                return false;
            }
        }
        true
    }

    /// Says which subscribed resources and tasks changed, of those that the key still sees. `false`: the client
    /// doesn't read, or has another stream by now.
    async fn tell_updates(&self) -> bool {
        if self.open.ended.is_cancelled() {
            return false;
        }
        let mut updates = self.open.inbox.take().into_iter();
        while let Some(update) = updates.next() {
            // Each time anew: it may have waited for the client.
            let view = self.sees().await.0;
            let is_shown = match &update.source.topic {
                Topic::Resource(_) => view.route_uri(&update.subscribed).is_some(),
                Topic::Task(_) => view.shows(update.source.upstream),
            };
            if !is_shown {
                continue;
            }
            let params = match &update.source.topic {
                Topic::Resource(_) => update.params.clone(),
                Topic::Task(_) => view.task_with_exposed_uris(update.source.upstream, &update.params),
            };
            let params = self.open.face.tagged(params);
            let message = compose::notification(update.source.topic.method(), Some(&params));
            let taken = tokio::select! {
                biased;
                taken = timeout(READ_PATIENCE, self.open.outlet.offer_in_turn(&message)) => taken.unwrap_or(false),
                () = self.open.over(&self.caller, &self.draining) => false,
            };
            if !taken {
                self.open.inbox.give_back(std::iter::once(update).chain(updates));
                // One that is over ends in its own way.
                return self.is_ending();
            }
        }
        true
    }

    /// Whether the stream is to end for another reason than that its client doesn't read.
    fn is_ending(&self) -> bool {
        let Open { outlet, ended, .. } = &self.open;
        let is_over =
            self.draining.is_cancelled() || ended.is_cancelled() || self.caller.revoked().is_cancelled();
        if !is_over && !outlet.is_closed() {
            tracing::info!("a stream's client does not read, its stream is closed");
        }
        is_over
    }

    /// Says what an upstream logged outside of calls, if it is for this session. Log messages leave room
    /// for the rest: a flood of them closes no stream.
    async fn tell_log(&self, message: &LogMessage) -> bool {
        let Face::Get { session, sessions, .. } = &self.open.face else { return true };
        let least = sessions.level(*session).unwrap_or(log_feed::LEVEL_DEFAULT);
        if message.level < least || !self.open.outlet.has_room() {
            return true;
        }
        let view = self.sees().await.0;
        !view.shows(message.upstream) || self.open.offer(&message.message)
    }

    /// When a change that was held back may be announced.
    fn next_due(&self) -> Option<Instant> {
        self.lists
            .values()
            .filter(|list| fingerprint(&self.view, list.kinds, self.shown_in) != list.seen)
            .filter_map(|list| list.quiet_until)
            .min()
    }

    /// The graceful end of a subscription is its answer; a GET stream says when to come back.
    fn farewell(&self) {
        if !self.draining.is_cancelled() {
            return;
        }
        if let Outlet::Log(log) = &self.open.outlet {
            log.farewell(jittered(RESTART));
        }
        if let Face::Listen { id } = &self.open.face {
            let result = format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"complete",{}}}}}"#,
                raw(id),
                tag(id)
            );
            self.open.outlet.offer(result.as_bytes());
        }
    }
}

impl Face {
    /// Params that name the subscription, where the era has one.
    fn params(&self) -> Option<Vec<u8>> {
        match self {
            Self::Get { .. } => None,
            Self::Listen { id } => Some(format!("{{{}}}", tag(id)).into_bytes()),
        }
    }

    /// Other params with the same.
    fn tagged(&self, params: Bytes) -> Bytes {
        let Self::Listen { id } = self else { return params };
        let Ok(mut object) = Object::parse(&params) else { return params };
        let meta = object.get("_meta").and_then(|raw| Object::parse(&raw).ok());
        let mut meta = meta.unwrap_or_else(Object::empty);
        meta.set(meta::SUBSCRIPTION_ID, id.clone());
        object.set("_meta", meta.into_bytes());
        object.into_bytes()
    }
}

impl Open {
    /// Puts a message on the stream. `false`: the client is gone, or doesn't read.
    fn offer(&self, message: &[u8]) -> bool {
        let taken = self.outlet.offer(message);
        if !taken && !self.outlet.is_closed() {
            tracing::info!("a stream's client does not read, its stream is closed");
        }
        taken
    }

    /// Resolves when the stream is to end.
    async fn over(&self, caller: &Caller, draining: &CancellationToken) {
        tokio::select! {
            () = self.outlet.closed() => {}
            () = self.ended.cancelled() => {}
            () = caller.revoked().cancelled() => {}
            () = draining.cancelled() => {}
        }
    }
}

/// The next log message outside of calls, where the era has such.
async fn next_log(logs: &mut Option<log_feed::Follower>) -> Arc<LogMessage> {
    match logs {
        Some(logs) => logs.next().await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// What tells one list from another. The four tools of smart mode are always the same, whatever becomes of
/// those behind them: nobody has to read that list again, unless the mode itself changes.
fn fingerprint(view: &View, kinds: [Kind; 2], mode: Mode) -> [[u8; 32]; 2] {
    kinds.map(|kind| if kind == Kind::Tool && mode == Mode::Smart { [0; 32] } else { view.fingerprint(kind) })
}
