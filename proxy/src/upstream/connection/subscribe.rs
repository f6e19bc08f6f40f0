//! Keeping a legacy upstream subscribed to what is wanted of it: `resources/subscribe` for each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::time::sleep;

use super::shared::{Live, Shared};
use super::watched::Standing;
use crate::upstream::backoff::{self, Backoff};
use crate::upstream::call::{Answer, Call, CallError};
use crate::upstream::topic::Topic;
use crate::wire::compose;

/// How long an upstream may take over one of them; the answer is an empty object.
const TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Requests at a time: a reconnection may have thousands to make.
const AT_ONCE: usize = 16;
/// Between two tries of what failed for no reason of its own.
const RETRY: Backoff =
    Backoff { initial: Duration::from_secs(1), multiplier: 2.0, max: Duration::from_mins(1) };

const METHOD_NOT_FOUND: i64 = -32601;

/// The error for what an upstream doesn't tell of.
pub(super) fn not_offered() -> Bytes {
    compose::error_object(METHOD_NOT_FOUND, "the upstream does not tell of this", None)
}

/// Follows what is wanted for as long as the link stands.
pub(super) async fn keep(shared: Arc<Shared>, live: Arc<Live>) {
    let mut changes = shared.watched.changes();
    shared.watched.forget_refusals();
    let offers = live.peer.offers.subscribe;
    let (mut told, mut failures) = (BTreeSet::new(), 0);
    loop {
        changes.mark_unchanged();
        let settled = if offers {
            follow(&shared, &live, &mut told).await
        } else {
            shared.refuse(&not_offered(), |_| true);
            true
        };
        failures = if settled { 0 } else { failures + 1 };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(RETRY.after(failures, backoff::jitter())), if !settled => {}
        }
    }
}

/// Makes the link's subscriptions those that are wanted; `false` if some are to be tried again.
async fn follow(shared: &Shared, live: &Live, told: &mut BTreeSet<Topic>) -> bool {
    // Tasks of this form are of the modern era.
    shared.refuse(&not_offered(), |topic| matches!(topic, Topic::Task(_)));
    let wanted = shared.watched.wanted();
    let gone: Vec<_> = told.difference(&wanted).cloned().collect();
    for topic in &gone {
        told.remove(topic);
    }
    let ended = gone.into_iter().map(|topic| request(live, "resources/unsubscribe", topic));
    // One that fails leaves updates that nobody gets.
    let () = stream::iter(ended).buffer_unordered(AT_ONCE).map(drop).collect().await;
    let new: Vec<_> = wanted.difference(told).cloned().collect();
    let begun = new.into_iter().map(|topic| request(live, "resources/subscribe", topic));
    let mut begun = stream::iter(begun).buffer_unordered(AT_ONCE);
    let mut settled = true;
    while let Some((topic, outcome)) = begun.next().await {
        match outcome {
            Ok(Answer::Result(_)) => {
                if shared.watched.mark(&topic, Standing::Told) == Some(Standing::Told) {
                    // The link before told of it: what changed in between, nobody has heard.
                    shared.perhaps_updated(&topic);
                }
                told.insert(topic);
            }
            Ok(Answer::Error(error)) => {
                shared.watched.mark(&topic, Standing::Refused(error));
            }
            Err(error) => {
                tracing::debug!(upstream.id = %shared.id, error = &error as &dyn std::error::Error, "subscription failed");
                if matches!(error, CallError::SessionUnknown) {
                    shared.expired(live.generation);
                }
                settled = false;
            }
        }
    }
    settled
}

async fn request(live: &Live, method: &'static str, topic: Topic) -> (Topic, Result<Answer, CallError>) {
    let params = format!(r#"{{"uri":{}}}"#, compose::Quoted(topic.name()));
    let outcome = live.link.request(Call::own(method, params.into(), TIMEOUT, ANSWER_BYTES_MAX)).await;
    (topic, outcome)
}
