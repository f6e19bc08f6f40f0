//! Who was turned away at the MCP endpoints, folded per reason, network, key and minute.
//!
//! A request never waits for it: what it has to tell goes into a bounded queue, which is full rather than waited for,
//! and what doesn't fit is counted and told as such. A task folds what comes, and when a minute is over writes an event
//! for each line of it, some at a time, so that admins' acts get in between. A process that dies loses the minute.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::json;
use sql::clock::Clock;
use sql::model::{Actor, ApiKey, ApiKeyId, AuditEvent, Outcome, Timestamp};
use sql::{Store, StoreError, audit_log};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Target, by_system};
use crate::tasks::Tasks;

/// Denials between two looks at the queue: some twenty thousand a second.
const QUEUE_MAX: usize = 8_192;
/// How often the queue is emptied.
const LOOK_INTERVAL: Duration = Duration::from_millis(400);
/// Lines of one minute; who comes from more networks than that is told in one line for each reason. Strangers cause
/// them: an attack of a whole day is 144,000 events, some tens of MB.
const LINES_MAX: usize = 100;
/// Events of one transaction, which holds up other writers of the log.
const WRITTEN_AT_ONCE: usize = 50;
/// How long the end of the process waits for a store that doesn't take the last lines.
const FLUSH_WAIT: Duration = Duration::from_secs(2);
const MINUTE_MS: i64 = 60_000;
/// How much of an address tells networks apart: what one provider or site has.
const PREFIX_V4: u8 = 24;
const PREFIX_V6: u8 = 64;

/// One request that was turned away.
struct Denied {
    at: Timestamp,
    reason: &'static str,
    address: Option<IpAddr>,
    key: Option<Arc<ApiKey>>,
}

/// Takes note of who was turned away. Clones share it.
#[derive(Clone)]
pub struct Denials(Arc<Shared>);

struct Shared {
    queue: mpsc::Sender<Denied>,
    /// What didn't fit into the queue.
    lost: AtomicU64,
    folder: Mutex<Folder>,
    clock: Clock,
}

impl Denials {
    /// Nothing is written until [`Denials::run`] does.
    pub fn new(clock: Clock) -> Self {
        let (queue, denied) = mpsc::channel(QUEUE_MAX);
        let folder = Mutex::new(Folder { denied, lines: BTreeMap::new() });
        Self(Arc::new(Shared { queue, lost: AtomicU64::new(0), folder, clock }))
    }

    /// Takes note. Never waits.
    pub(crate) fn note(&self, reason: &'static str, address: Option<IpAddr>, key: Option<Arc<ApiKey>>) {
        let at = self.0.clock.now();
        if self.0.queue.try_send(Denied { at, reason, address, key }).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has what is noted written until the tasks stop.
    pub(crate) fn run(&self, store: Store, tasks: &Tasks) {
        let (shared, stopping) = (Arc::clone(&self.0), tasks.stopping().clone());
        tasks.spawn("denied access", async move {
            let mut due = interval(LOOK_INTERVAL);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let round = async {
                    due.tick().await;
                    shared.fold_and_write(&store, shared.clock.now()).await;
                };
                tokio::select! {
                    () = round => {}
                    () = stopping.cancelled() => return,
                }
            }
        });
    }

    /// Writes what there is, for as long as the end of the process may wait.
    pub(crate) async fn flush(&self, store: &Store) {
        let flush = self.0.fold_and_write(store, Timestamp::from_millis(i64::MAX));
        if timeout(FLUSH_WAIT, flush).await.is_err() {
            tracing::warn!("the last denials could not be written");
        }
    }
}

impl Shared {
    async fn fold_and_write(&self, store: &Store, now: Timestamp) {
        let mut folder = self.folder.lock().await;
        folder.fold();
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let at = self.clock.now();
            folder.add(
                Line {
                    minute: at.millis().div_euclid(MINUTE_MS),
                    reason: "too_many_at_once",
                    ..Line::default()
                },
                None,
                lost,
            );
        }
        if let Err(error) = folder.write(store, now).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "denials could not be written, trying again"
            );
        }
    }
}

/// What is folded into one event.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    minute: i64,
    reason: &'static str,
    network: Option<IpNet>,
    key: Option<ApiKeyId>,
}

/// How often, and the key's name.
struct Sum {
    count: u64,
    name: Option<String>,
}

struct Folder {
    denied: mpsc::Receiver<Denied>,
    lines: BTreeMap<Line, Sum>,
}

impl Folder {
    fn fold(&mut self) {
        while let Ok(denied) = self.denied.try_recv() {
            let line = Line {
                minute: denied.at.millis().div_euclid(MINUTE_MS),
                reason: denied.reason,
                network: denied.address.map(network_of),
                key: denied.key.as_ref().map(|key| key.id),
            };
            self.add(line, denied.key.map(|key| key.name.clone()), 1);
        }
    }

    fn add(&mut self, line: Line, name: Option<String>, count: u64) {
        let fits = self.lines.len() < LINES_MAX || self.lines.contains_key(&line);
        let (line, name) =
            if fits { (line, name) } else { (Line { network: None, key: None, ..line }, None) };
        self.lines.entry(line).or_insert(Sum { count: 0, name }).count += count;
    }

    /// Writes the minutes that are over. What can't be written stays, and is written later.
    async fn write(&mut self, store: &Store, now: Timestamp) -> Result<(), StoreError> {
        let present = now.millis().div_euclid(MINUTE_MS);
        loop {
            let over = self.lines.iter().take_while(|(line, _)| line.minute < present);
            let some: Vec<(Line, AuditEvent)> = over
                .take(WRITTEN_AT_ONCE)
                .map(|(line, sum)| (line.clone(), event(store.clock().now(), line, sum)))
                .collect();
            if some.is_empty() {
                return Ok(());
            }
            let mut tx = store.begin().await?;
            for (_, event) in &some {
                audit_log::append(&mut tx, event).await?;
            }
            tx.commit().await?;
            for (line, _) in &some {
                self.lines.remove(line);
            }
        }
    }
}

fn event(now: Timestamp, line: &Line, sum: &Sum) -> AuditEvent {
    let minute = Timestamp::from_millis(line.minute.saturating_mul(MINUTE_MS));
    let diff = json!({
        "reason": line.reason,
        "count": sum.count,
        "network": line.network.map(|network| network.to_string()),
        "minute": minute,
    });
    let actor = match (line.key, &sum.name) {
        (Some(id), Some(name)) => Actor::Key { id, name: name.clone() },
        _ => Actor::System,
    };
    let target = Target { id: line.key.map(|id| id.to_string()), name: Some(line.reason) };
    AuditEvent {
        actor,
        address: line.network.map(|network| network.network()),
        outcome: Outcome::Failure,
        ..by_system(now, "access.denied", target, diff)
    }
}

fn network_of(address: IpAddr) -> IpNet {
    let length = if address.is_ipv4() { PREFIX_V4 } else { PREFIX_V6 };
    IpNet::new_assert(address, length).trunc()
}

#[cfg(test)]
mod tests {
    use sql::audit_log::AuditFilter;
    use sql::model::PageRequest;

    use super::*;
    use crate::access::keys::tests::key;

    async fn written(store: &Store) -> Vec<AuditEvent> {
        let mut tx = store.read().await.unwrap();
        let request = PageRequest { limit: 200, ..PageRequest::default() };
        audit_log::page(&mut tx, &request, &AuditFilter::default()).await.unwrap().items
    }

    #[tokio::test]
    async fn a_minute_of_denials_is_one_event_for_each_reason_network_and_key() {
        let store = crate::testing::store().await;
        let denials = Denials::new(store.clock().clone());
        let (key, _) = key();
        let key = Arc::new(key);
        for last in 0..200 {
            denials.note("unknown_key", Some(format!("198.51.100.{last}").parse().unwrap()), None);
        }
        denials.note("unknown_key", "2001:db8::1".parse().ok(), None);
        denials.note("unknown_key", "2001:db8::2".parse().ok(), None);
        denials.note("key_disabled", "198.51.100.7".parse().ok(), Some(Arc::clone(&key)));
        denials.0.fold_and_write(&store, store.clock().now()).await;
        assert!(written(&store).await.is_empty(), "the minute isn't over");
        store.clock().advance(Duration::from_mins(1));
        denials.note("unknown_key", "198.51.100.7".parse().ok(), None);
        denials.0.fold_and_write(&store, store.clock().now()).await;
        let told = async || {
            let mut told: Vec<_> = written(&store)
                .await
                .iter()
                .map(|event| {
                    assert_eq!((event.action.as_str(), event.outcome), ("access.denied", Outcome::Failure));
                    let text = |member: &str| event.diff[member].as_str().unwrap().to_owned();
                    (text("reason"), text("network"), event.diff["count"].as_u64().unwrap())
                })
                .collect();
            told.sort();
            told
        };
        let line = |reason: &str, network: &str, count| (reason.to_owned(), network.to_owned(), count);
        let expected = [
            line("key_disabled", "198.51.100.0/24", 1),
            line("unknown_key", "198.51.100.0/24", 200),
            line("unknown_key", "2001:db8::/64", 2),
        ];
        assert_eq!(told().await, expected);
        let disabled = written(&store).await.into_iter().find(|event| event.diff["reason"] == "key_disabled");
        assert!(matches!(disabled.unwrap().actor, Actor::Key { id, .. } if id == key.id));
        denials.flush(&store).await;
        assert_eq!(told().await.len(), 4, "the last minute at the end of the process");
    }

    #[tokio::test]
    async fn what_is_too_much_is_counted_and_memory_is_bounded() {
        let store = crate::testing::store().await;
        let denials = Denials::new(store.clock().clone());
        for index in 0..u32::try_from(QUEUE_MAX).unwrap() + 5 {
            denials.note("missing_key", Some(IpAddr::V4((index << 8).into())), None);
        }
        let mut folder = denials.0.folder.lock().await;
        folder.fold();
        assert_eq!(folder.lines.len(), LINES_MAX + 1);
        assert_eq!(folder.lines.values().map(|sum| sum.count).sum::<u64>(), QUEUE_MAX as u64);
        drop(folder);
        store.clock().advance(Duration::from_mins(2));
        denials.flush(&store).await;
        let lost = written(&store).await.into_iter().find(|event| event.diff["reason"] == "too_many_at_once");
        assert_eq!(lost.unwrap().diff["count"], 5);
    }
}
