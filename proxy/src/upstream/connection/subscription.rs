//! The stream on which a modern upstream says that its lists, the watched resources and tasks changed.
//!
//! It is held open, and opened anew when it ends. Which of them it tells of is fixed when it is
//! opened; when others are wanted, a new one is opened beside the old, which goes only when the new
//! one is acknowledged: nothing falls in between.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sql::model::Kind;
use tokio::time::{Instant, sleep_until};

use super::shared::{Live, Shared};
use super::subscribe::not_offered;
use super::watched::Standing;
use crate::upstream::backoff::{self, Backoff};
use crate::upstream::call::{Answer, Call, CallError};
use crate::upstream::handshake::own_meta;
use crate::upstream::link::Listener;
use crate::upstream::offers::Offers;
use crate::upstream::topic::Topic;
use crate::wire::edit::Object;
use crate::wire::meta;

/// A stream is renewed after so long even if it stands: nothing should last for ever unseen.
const RENEW_AFTER: Duration = Duration::from_hours(24);
/// A notification on it is small; its acknowledgement may name all that is watched.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Between two openings.
const REOPEN: Backoff =
    Backoff { initial: Duration::from_secs(1), multiplier: 2.0, max: Duration::from_mins(1) };
/// A stream that stood this long was no failure.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// A stream that isn't acknowledged by then is taken as it is.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(5);

/// The filter of what can be subscribed to: lists whose capability says `listChanged`.
const LISTS: [(&str, &str, Kind); 3] = [
    ("tools", "toolsListChanged", Kind::Tool),
    ("prompts", "promptsListChanged", Kind::Prompt),
    ("resources", "resourcesListChanged", Kind::Resource),
];

/// Keeps the stream open for as long as the link stands, whenever there is something to hear on it.
pub(super) async fn keep(shared: Arc<Shared>, live: Arc<Live>) {
    shared.watched.forget_refusals();
    let keeper = Keeper {
        lists: offered(&live.peer.capabilities),
        offers: live.peer.offers,
        shared,
        live,
        current: None,
        next: None,
        failures: 0,
        retry_at: None,
        stood: false,
        refused: None,
    };
    keeper.run().await;
}

/// One `subscriptions/listen` and what it tells of.
struct Stream {
    topics: BTreeSet<Topic>,
    opened: Instant,
    call: Pin<Box<dyn Future<Output = Result<Answer, CallError>> + Send>>,
}

struct Keeper {
    shared: Arc<Shared>,
    live: Arc<Live>,
    lists: Vec<(&'static str, Kind)>,
    offers: Offers,
    /// The stream that tells; without one there is a gap.
    current: Option<Stream>,
    /// The one that is to take its place, not yet acknowledged.
    next: Option<Stream>,
    failures: u32,
    retry_at: Option<Instant>,
    /// A stream of this link has stood before.
    stood: bool,
    /// It has the capability but not the method: asking again won't change that.
    refused: Option<Bytes>,
}

enum Turn {
    Acknowledged,
    Unacknowledged,
    CurrentOver(Result<Answer, CallError>),
    NextOver(Result<Answer, CallError>),
    Changed,
    Retry,
}

impl Keeper {
    async fn run(mut self) {
        let mut acknowledgements = self.shared.acknowledged.subscribe();
        let mut changes = self.shared.watched.changes();
        self.reconsider();
        loop {
            let opening = self.next.is_some();
            let patience = self.next.as_ref().map(|next| next.opened + ACKNOWLEDGE_TIMEOUT);
            let turn = tokio::select! {
                biased;
                Ok(()) = acknowledgements.changed() => Turn::Acknowledged,
                outcome = over(&mut self.next) => Turn::NextOver(outcome),
                outcome = over(&mut self.current) => Turn::CurrentOver(outcome),
                () = until(patience) => Turn::Unacknowledged,
                Ok(()) = changes.changed(), if !opening => Turn::Changed,
                () = until(self.retry_at), if !opening => Turn::Retry,
            };
            match turn {
                Turn::Acknowledged => {
                    let honoured = acknowledgements.borrow_and_update().clone();
                    self.acknowledged(honoured.as_ref());
                }
                // What was last honoured was said of another stream.
                Turn::Unacknowledged => self.acknowledged(None),
                Turn::CurrentOver(outcome) => self.current_over(&outcome),
                Turn::NextOver(outcome) => self.next_over(outcome),
                Turn::Changed => {}
                Turn::Retry => self.retry_at = None,
            }
            self.reconsider();
        }
    }

    /// Opens another stream if what is to be heard isn't what the current one tells.
    fn reconsider(&mut self) {
        let offers = self.offers;
        self.shared.refuse(&not_offered(), |topic| !tells_of(offers, topic));
        if let Some(error) = &self.refused {
            self.shared.refuse(error, |_| true);
        }
        if self.next.is_some() || self.retry_at.is_some() || self.refused.is_some() {
            return;
        }
        let mut topics = self.shared.watched.wanted();
        topics.retain(|topic| tells_of(offers, topic));
        if self.lists.is_empty() && topics.is_empty() {
            self.current = None;
        } else if self.current.as_ref().is_none_or(|current| current.topics != topics) {
            self.next = Some(self.open(topics));
        }
    }

    fn open(&self, topics: BTreeSet<Topic>) -> Stream {
        let mut wanted: serde_json::Map<String, serde_json::Value> =
            self.lists.iter().map(|(field, _)| ((*field).to_owned(), true.into())).collect();
        for topic in &topics {
            let named = wanted.entry(filter_of(topic)).or_insert_with(|| serde_json::json!([]));
            if let Some(named) = named.as_array_mut() {
                named.push(topic.name().into());
            }
        }
        let has_tasks = topics.iter().any(|topic| matches!(topic, Topic::Task(_)));
        let wanted = serde_json::Value::Object(wanted);
        let meta = if has_tasks { with_tasks(own_meta().into()) } else { own_meta().into() };
        let mut params = Object::empty();
        params.set("notifications", wanted.to_string());
        params.set("_meta", meta);
        let params = params.into_bytes();
        let live = Arc::clone(&self.live);
        let call = Box::pin(async move {
            let call = Call::own("subscriptions/listen", params, RENEW_AFTER, EVENT_BYTES_MAX);
            live.link.request(call).await
        });
        Stream { topics, opened: Instant::now(), call }
    }

    /// The next stream tells from now on, of what it `honoured` (without a word: of all).
    fn acknowledged(&mut self, honoured: Option<&BTreeSet<Topic>>) {
        let Some(mut stream) = self.next.take() else { return };
        let gap = self.current.is_none();
        stream.topics.retain(|topic| {
            if honoured.is_some_and(|honoured| !honoured.contains(topic)) {
                self.shared.watched.mark(topic, Standing::Refused(not_offered()));
                return false;
            }
            if self.shared.watched.mark(topic, Standing::Told) == Some(Standing::Told) && gap {
                self.shared.perhaps_updated(topic);
            }
            true
        });
        if gap && self.stood {
            // What changed in between was told to nobody. At first, the lists are fetched anyway.
            for (_, kind) in &self.lists {
                self.shared.news().list_changed(*kind);
            }
            self.shared.ring();
        }
        (self.current, self.stood) = (Some(stream), true);
    }

    fn current_over(&mut self, outcome: &Result<Answer, CallError>) {
        if let Some(stream) = self.current.take() {
            self.broke(&stream, outcome.as_ref().err());
        }
    }

    /// The next stream ended before it was acknowledged.
    fn next_over(&mut self, outcome: Result<Answer, CallError>) {
        let Some(stream) = self.next.take() else { return };
        let Ok(Answer::Error(error)) = outcome else { return self.broke(&stream, outcome.as_ref().err()) };
        let known = self.current.as_ref().map(|current| &current.topics);
        let new: Vec<_> =
            stream.topics.iter().filter(|topic| known.is_none_or(|known| !known.contains(*topic))).collect();
        if new.is_empty() && self.current.is_none() {
            self.refused = Some(error);
        } else if new.is_empty() {
            // It refuses to tell of less: what it tells beyond is dropped here.
            if let Some(current) = &mut self.current {
                current.topics = stream.topics;
            }
        } else {
            for topic in new {
                self.shared.watched.mark(topic, Standing::Refused(error.clone()));
            }
        }
    }

    fn broke(&mut self, stream: &Stream, error: Option<&CallError>) {
        if let Some(error) = error {
            tracing::debug!(upstream.id = %self.shared.id, error = error as &dyn std::error::Error, "subscription broke");
            self.shared.suspect();
        }
        self.stood = true;
        self.failures = if stream.opened.elapsed() >= STABLE_AFTER { 1 } else { self.failures + 1 };
        self.retry_at = Some(Instant::now() + REOPEN.after(self.failures, backoff::jitter()));
    }
}

/// The outcome of a stream, which is over then; for ever if there is none. Whoever hears it takes it out.
async fn over(stream: &mut Option<Stream>) -> Result<Answer, CallError> {
    match stream {
        Some(stream) => stream.call.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn tells_of(offers: Offers, topic: &Topic) -> bool {
    match topic {
        Topic::Resource(_) => offers.subscribe,
        Topic::Task(_) => offers.tasks_extension,
    }
}

/// Where a filter names a topic.
fn filter_of(topic: &Topic) -> &'static str {
    match topic {
        Topic::Resource(_) => "resourceSubscriptions",
        Topic::Task(_) => "taskIds",
    }
}

/// The gateway's own `_meta`, declaring the extension without which nobody may ask for tasks.
fn with_tasks(own_meta: Bytes) -> Bytes {
    let Ok(mut own) = Object::parse(&own_meta) else { return own_meta };
    own.set(meta::CLIENT_CAPABILITIES, format!(r#"{{"extensions":{{"{}":{{}}}}}}"#, meta::TASKS_EXTENSION));
    own.into_bytes()
}

fn offered(capabilities: &Bytes) -> Vec<(&'static str, Kind)> {
    let Ok(capabilities) = Object::parse(capabilities) else { return Vec::new() };
    let changes = |name: &str| {
        let list = capabilities.get(name).and_then(|raw| Object::parse(&raw).ok());
        list.and_then(|list| list.get("listChanged")).is_some_and(|value| value == "true")
    };
    LISTS.iter().filter(|(name, ..)| changes(name)).map(|(_, field, kind)| (*field, *kind)).collect()
}

/// What an acknowledgement names; `None` if it has no filter.
pub(super) fn honoured(params: &Bytes) -> Option<BTreeSet<Topic>> {
    #[derive(serde::Deserialize)]
    struct Acknowledgement {
        notifications: Filter,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Filter {
        #[serde(default)]
        resource_subscriptions: Vec<String>,
        #[serde(default)]
        task_ids: Vec<String>,
    }
    let Acknowledgement { notifications } = serde_json::from_slice(params).ok()?;
    let resources = notifications.resource_subscriptions.iter().map(|uri| Topic::resource(uri));
    Some(resources.chain(notifications.task_ids.iter().map(|id| Topic::task(id))).collect())
}
