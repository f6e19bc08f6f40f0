//! Who hears that a resource changed, or that a task went on.
//!
//! Subscriptions are counted by topic: the upstream is asked for the first and left with the last.
//! An update goes into the inbox of each subscriber, under the name (URI, task id) that it uses; there it
//! waits for the stream, and is folded with the next of the same topic. A legacy session keeps its
//! subscriptions until it ends or until it has had no stream for a while; a `subscriptions/listen` keeps
//! them as long as it stands. All of it is in the memory of one replica: a restart forgets it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sql::model::{ApiKeyId, UpstreamId};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::catalog::naming::Mark;
use crate::upstream::call::CallError;
use crate::upstream::topic::Topic;
use crate::upstream::{Settling, Upstreams};
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::meta;

/// Subscriptions of one session or stream: more than a client has open, few enough to be told at once.
pub const PER_SUBSCRIBER_MAX: usize = 512;

/// Subscriptions of one key, over all its sessions and streams: what it costs us in memory.
pub const PER_KEY_MAX: usize = 16_384;

/// A session without a stream for so long is taken for gone: it could be told nothing anyway.
const STREAMLESS_MAX: Duration = Duration::from_mins(10);

/// How often such sessions are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Has upstreams tell of topics; the real ones, or a test's.
pub trait Watching: Send + Sync {
    /// Wants to hear of a topic.
    fn watch(&self, upstream: UpstreamId, topic: &Topic) -> Result<Settling, CallError>;

    /// Wants to hear of it no longer.
    fn unwatch(&self, upstream: UpstreamId, topic: &Topic);
}

impl Watching for Upstreams {
    fn watch(&self, upstream: UpstreamId, topic: &Topic) -> Result<Settling, CallError> {
        self.subscribe(upstream, topic)
    }

    fn unwatch(&self, upstream: UpstreamId, topic: &Topic) {
        self.unsubscribe(upstream, topic);
    }
}

/// A topic where it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// The upstream that has it.
    pub upstream: UpstreamId,
    /// What the upstream calls it.
    pub topic: Topic,
}

/// Why a subscription isn't entered.
#[derive(Debug, thiserror::Error)]
pub enum NotEntered {
    /// The subscriber or its key has enough of them.
    #[error("the limit of {limit} subscriptions is reached")]
    TooMany {
        /// How many are allowed.
        limit: usize,
    },
    /// The upstream can't be asked.
    #[error(transparent)]
    Upstream(#[from] CallError),
}

/// An update on its way to one subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// What was subscribed to, by the name that the subscriber uses.
    pub subscribed: Arc<str>,
    /// What that is.
    pub source: Source,
    /// The raw params of the notification, with the name that the subscriber uses.
    pub params: Bytes,
}

/// All subscriptions. Clones share them.
#[derive(Clone)]
pub struct ResourceUpdates(Arc<Shared>);

struct Shared {
    watching: Arc<dyn Watching>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    subscribers: HashMap<Uuid, Subscriber>,
    sources: HashMap<Source, BTreeSet<(Uuid, Arc<str>)>>,
    by_key: HashMap<ApiKeyId, usize>,
}

struct Subscriber {
    key: ApiKeyId,
    inbox: Arc<Inbox>,
    /// By the name that the subscriber uses.
    subscriptions: HashMap<Arc<str>, Source>,
    streams: usize,
    streamless_since: Instant,
}

/// The updates that wait for one subscriber.
#[derive(Default)]
struct Inbox {
    waiting: Mutex<BTreeMap<String, Update>>,
    bell: Notify,
}

impl ResourceUpdates {
    /// Nobody has subscribed yet.
    pub fn new(watching: Arc<dyn Watching>) -> Self {
        Self(Arc::new(Shared { watching, state: Mutex::default() }))
    }

    /// A stream of `who` is open: its updates can be taken.
    pub fn attach(&self, who: Uuid, key: ApiKeyId) -> Attached {
        let mut state = self.state();
        let subscriber = state.subscriber(who, key);
        subscriber.streams += 1;
        let inbox = Arc::clone(&subscriber.inbox);
        Attached { updates: self.clone(), who, inbox, is_all: false }
    }

    /// Enters a subscription. The future says whether the upstream tells; the subscription stands until
    /// it is taken out, whatever the future says.
    pub fn subscribe(
        &self,
        who: Uuid,
        key: ApiKeyId,
        exposed: &str,
        source: Source,
    ) -> Result<Settling, NotEntered> {
        // One lock over the count and the wish, so that who leaves can't undo the wish of who comes.
        let mut state = self.state();
        let of_key = state.by_key.get(&key).copied().unwrap_or_default();
        let subscriber = state.subscriber(who, key);
        if !subscriber.subscriptions.contains_key(exposed) {
            for (held, limit) in [(subscriber.subscriptions.len(), PER_SUBSCRIBER_MAX), (of_key, PER_KEY_MAX)]
            {
                if held >= limit {
                    state.drop_if_idle(who);
                    return Err(NotEntered::TooMany { limit });
                }
            }
        }
        let settling = match self.0.watching.watch(source.upstream, &source.topic) {
            Ok(settling) => settling,
            Err(error) => {
                state.drop_if_idle(who);
                return Err(error.into());
            }
        };
        let exposed: Arc<str> = exposed.into();
        let former = state.subscriber(who, key).subscriptions.insert(Arc::clone(&exposed), source.clone());
        match former {
            Some(former) if former != source => self.leave(&mut state, &former, who, &exposed),
            Some(_) => {}
            None => *state.by_key.entry(key).or_default() += 1,
        }
        state.sources.entry(source).or_default().insert((who, exposed));
        Ok(settling)
    }

    /// Takes a subscription out; `false` if there is none.
    pub fn unsubscribe(&self, who: Uuid, exposed: &str) -> bool {
        let mut state = self.state();
        let Some(subscriber) = state.subscribers.get_mut(&who) else { return false };
        let Some((exposed, source)) = subscriber.subscriptions.remove_entry(exposed) else { return false };
        subscriber.inbox.forget(&exposed);
        let key = subscriber.key;
        state.release(key, 1);
        self.leave(&mut state, &source, who, &exposed);
        state.drop_if_idle(who);
        true
    }

    /// Takes out all that `who` subscribed to.
    pub fn end(&self, who: Uuid) {
        self.end_if(who, |_| true);
    }

    fn end_if(&self, who: Uuid, condition: impl FnOnce(&Subscriber) -> bool) {
        let mut state = self.state();
        if !state.subscribers.get(&who).is_some_and(condition) {
            return;
        }
        if let Some(subscriber) = state.subscribers.remove(&who) {
            state.release(subscriber.key, subscriber.subscriptions.len());
            for (exposed, source) in &subscriber.subscriptions {
                self.leave(&mut state, source, who, exposed);
            }
        }
    }

    /// An upstream says that a topic changed: all who subscribed to it, or to what it is a part of, hear
    /// of it.
    pub fn updated(&self, upstream: UpstreamId, topic: &Topic, params: &Bytes) {
        let state = self.state();
        for whole in topic.itself_and_wholes() {
            let source = Source { upstream, topic: whole };
            for (who, exposed) in state.sources.get(&source).into_iter().flatten() {
                let Some(subscriber) = state.subscribers.get(who) else { continue };
                let told = if source.topic == *topic {
                    exposed.to_string()
                } else {
                    // The mark of a contested URI is the mark of its parts, too.
                    let mark = Mark::between(source.topic.name(), exposed);
                    mark.map_or_else(|| topic.name().to_owned(), |mark| mark.put(topic.name()))
                };
                subscriber.inbox.put(told, exposed, &source, params);
            }
        }
    }

    /// Ends sessions whose clients seem gone, until `stopping`.
    pub async fn sweep(self, stopping: CancellationToken) {
        let mut due = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                _ = due.tick() => self.end_streamless(),
                () = stopping.cancelled() => return,
            }
        }
    }

    fn end_streamless(&self) {
        let is_gone = |subscriber: &Subscriber| {
            subscriber.streams == 0 && subscriber.streamless_since.elapsed() >= STREAMLESS_MAX
        };
        let gone: Vec<_> =
            self.state().subscribers.iter().filter(|(_, one)| is_gone(one)).map(|(who, _)| *who).collect();
        for who in gone {
            self.end(who);
        }
    }

    fn leave(&self, state: &mut State, source: &Source, who: Uuid, exposed: &Arc<str>) {
        if let Some(subscribers) = state.sources.get_mut(source) {
            subscribers.remove(&(who, Arc::clone(exposed)));
            if subscribers.is_empty() {
                state.sources.remove(source);
                self.0.watching.unwatch(source.upstream, &source.topic);
            }
        }
    }

    fn detach(&self, who: Uuid) {
        let mut state = self.state();
        if let Some(subscriber) = state.subscribers.get_mut(&who) {
            subscriber.streams = subscriber.streams.saturating_sub(1);
            subscriber.streamless_since = Instant::now();
        }
        state.drop_if_idle(who);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic between two changes that belong together.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn subscriber(&mut self, who: Uuid, key: ApiKeyId) -> &mut Subscriber {
        self.subscribers.entry(who).or_insert_with(|| Subscriber {
            key,
            inbox: Arc::default(),
            subscriptions: HashMap::new(),
            streams: 0,
            streamless_since: Instant::now(),
        })
    }

    fn drop_if_idle(&mut self, who: Uuid) {
        if let Entry::Occupied(entry) = self.subscribers.entry(who)
            && entry.get().streams == 0
            && entry.get().subscriptions.is_empty()
        {
            entry.remove();
        }
    }

    fn release(&mut self, key: ApiKeyId, count: usize) {
        if let Entry::Occupied(mut held) = self.by_key.entry(key) {
            *held.get_mut() = held.get().saturating_sub(count);
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

impl Inbox {
    fn put(&self, told: String, subscribed: &Arc<str>, source: &Source, params: &Bytes) {
        let mut waiting = self.waiting();
        // An upstream that makes up parts of a resource: that the whole changed says it all.
        let full = waiting.len() >= 2 * PER_SUBSCRIBER_MAX && !waiting.contains_key(&told);
        let told = if full { subscribed.to_string() } else { told };
        let params = params_for(params, source.topic.field(), &told);
        let update = Update { subscribed: Arc::clone(subscribed), source: source.clone(), params };
        waiting.insert(told, update);
        drop(waiting);
        self.bell.notify_one();
    }

    fn forget(&self, subscribed: &str) {
        self.waiting().retain(|_, update| &*update.subscribed != subscribed);
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, Update>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The params as this subscriber gets them; the upstream's own subscription is nothing to it.
fn params_for(params: &Bytes, field: &str, told: &str) -> Bytes {
    let mut object = Object::parse(params).unwrap_or_else(|_| Object::empty());
    if object.text(field).is_none_or(|named| named.as_str() != told) {
        object.set(field, compose::string(told));
    }
    if let Some(mut meta) = object.get("_meta").and_then(|raw| Object::parse(&raw).ok())
        && meta.remove(meta::SUBSCRIPTION_ID).is_some()
    {
        if meta.is_empty() {
            object.remove("_meta");
        } else {
            object.set("_meta", meta.into_bytes());
        }
    }
    object.into_bytes()
}

/// An open stream of a subscriber.
pub struct Attached {
    updates: ResourceUpdates,
    who: Uuid,
    inbox: Arc<Inbox>,
    /// The stream is all there is of the subscriber.
    is_all: bool,
}

impl Attached {
    /// The same where subscriptions end with the stream.
    #[must_use]
    pub fn to_the_end(mut self) -> Self {
        self.is_all = true;
        self
    }

    /// Resolves when updates may wait.
    pub async fn rung(&self) {
        self.inbox.bell.notified().await;
    }

    /// Takes the updates that wait.
    pub fn take(&self) -> Vec<Update> {
        std::mem::take(&mut *self.inbox.waiting()).into_values().collect()
    }

    /// Gives back what could not be sent, for the next stream.
    pub fn give_back(&self, updates: impl IntoIterator<Item = Update>) {
        let mut waiting = self.inbox.waiting();
        for update in updates {
            let field = update.source.topic.field();
            let told = Object::parse(&update.params).ok().and_then(|params| params.text(field));
            let told = told.map_or_else(|| update.subscribed.to_string(), |told| told.to_string());
            // A newer one may have come.
            waiting.entry(told).or_insert(update);
        }
        drop(waiting);
        self.inbox.bell.notify_one();
    }

    /// Takes a subscription out.
    pub fn unsubscribe(&self, exposed: &str) {
        self.updates.unsubscribe(self.who, exposed);
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.is_all {
            // The same subscriber may have begun anew.
            self.updates.end_if(self.who, |now| Arc::ptr_eq(&now.inbox, &self.inbox));
        } else {
            self.updates.detach(self.who);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
