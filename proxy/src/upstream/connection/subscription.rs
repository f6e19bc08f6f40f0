//! The stream on which a modern upstream says that its lists and the watched resources changed.
//!
//! It is held open, and opened anew when it ends. Which resources it tells of is fixed when it is
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
use crate::wire::edit::Object;

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
        tells_updates: Offers::of(&live.peer.capabilities).subscribe,
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
    uris: BTreeSet<Arc<str>>,
    opened: Instant,
    call: Pin<Box<dyn Future<Output = Result<Answer, CallError>> + Send>>,
}

struct Keeper {
    shared: Arc<Shared>,
    live: Arc<Live>,
    lists: Vec<(&'static str, Kind)>,
    tells_updates: bool,
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
                () = until(patience) => Turn::Acknowledged,
                Ok(()) = changes.changed(), if !opening => Turn::Changed,
                () = until(self.retry_at), if !opening => Turn::Retry,
            };
            match turn {
                Turn::Acknowledged => {
                    let honoured = acknowledgements.borrow_and_update().clone();
                    self.acknowledged(honoured.as_ref());
                }
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
        if !self.tells_updates {
            self.shared.refuse_all(&not_offered());
        } else if let Some(error) = &self.refused {
            self.shared.refuse_all(error);
        }
        if self.next.is_some() || self.retry_at.is_some() || self.refused.is_some() {
            return;
        }
        let uris = if self.tells_updates { self.shared.watched.wanted() } else { BTreeSet::new() };
        if self.lists.is_empty() && uris.is_empty() {
            self.current = None;
        } else if self.current.as_ref().is_none_or(|current| current.uris != uris) {
            self.next = Some(self.open(uris));
        }
    }

    fn open(&self, uris: BTreeSet<Arc<str>>) -> Stream {
        let mut wanted: serde_json::Map<String, serde_json::Value> =
            self.lists.iter().map(|(field, _)| ((*field).to_owned(), true.into())).collect();
        if !uris.is_empty() {
            let uris: Vec<&str> = uris.iter().map(|uri| &**uri).collect();
            wanted.insert("resourceSubscriptions".to_owned(), uris.into());
        }
        let wanted = serde_json::Value::Object(wanted);
        let params = format!(r#"{{"notifications":{wanted},"_meta":{}}}"#, own_meta());
        let live = Arc::clone(&self.live);
        let call = Box::pin(async move {
            let call = Call::own("subscriptions/listen", params.into(), RENEW_AFTER, EVENT_BYTES_MAX);
            live.link.request(call).await
        });
        Stream { uris, opened: Instant::now(), call }
    }

    /// The next stream tells from now on, of what it `honoured` (without a word: of all).
    fn acknowledged(&mut self, honoured: Option<&BTreeSet<String>>) {
        let Some(mut stream) = self.next.take() else { return };
        let gap = self.current.is_none();
        stream.uris.retain(|uri| {
            if honoured.is_some_and(|honoured| !honoured.contains(&**uri)) {
                self.shared.watched.mark(uri, Standing::Refused(not_offered()));
                return false;
            }
            if self.shared.watched.mark(uri, Standing::Told) == Some(Standing::Told) && gap {
                self.shared.perhaps_updated(uri);
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
        let known = self.current.as_ref().map(|current| &current.uris);
        let new: Vec<_> =
            stream.uris.iter().filter(|uri| known.is_none_or(|known| !known.contains(*uri))).collect();
        if new.is_empty() && self.current.is_none() {
            self.refused = Some(error);
        } else if new.is_empty() {
            // It refuses to tell of less: what it tells beyond is dropped here.
            if let Some(current) = &mut self.current {
                current.uris = stream.uris;
            }
        } else {
            for uri in new {
                self.shared.watched.mark(uri, Standing::Refused(error.clone()));
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

fn offered(capabilities: &Bytes) -> Vec<(&'static str, Kind)> {
    let Ok(capabilities) = Object::parse(capabilities) else { return Vec::new() };
    let changes = |name: &str| {
        let list = capabilities.get(name).and_then(|raw| Object::parse(&raw).ok());
        list.and_then(|list| list.get("listChanged")).is_some_and(|value| value == "true")
    };
    LISTS.iter().filter(|(name, ..)| changes(name)).map(|(_, field, kind)| (*field, *kind)).collect()
}

/// The resources that an acknowledgement names; `None` if it has no filter.
pub(super) fn honoured(params: &Bytes) -> Option<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Acknowledgement {
        notifications: Filter,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Filter {
        #[serde(default)]
        resource_subscriptions: BTreeSet<String>,
    }
    let acknowledgement: Acknowledgement = serde_json::from_slice(params).ok()?;
    Some(acknowledgement.notifications.resource_subscriptions)
}
