//! What one upstream is to tell of (resources, tasks), and how far each has come.
//!
//! What is wanted outlives a connection, so that the next one asks for it again; who wants it is
//! counted above. The task that keeps a link subscribed follows what is wanted here and says how the
//! upstream took it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::upstream::call::{CallError, SubscribeError};
use crate::upstream::topic::Topic;

/// Topics watched at one upstream: a `subscriptions/listen` names all of them in one message.
const WATCHED_MAX: usize = 4096;

/// How long an upstream may take to say that it will tell.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How far a wanted topic has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// The upstream is yet to be asked.
    Wanted,
    /// It tells, or told over the link before.
    Told,
    /// It refused, with this error.
    Refused(Bytes),
}

/// What is wanted of one upstream.
#[derive(Default)]
pub(crate) struct Watched {
    standings: watch::Sender<BTreeMap<Topic, Standing>>,
}

impl Watched {
    /// Wants to hear of a topic; one that was refused is asked for again.
    pub(crate) fn want(&self, topic: &Topic) -> Result<(), CallError> {
        let mut full = false;
        self.standings.send_if_modified(|standings| {
            let known = standings.len();
            match standings.get_mut(topic) {
                Some(standing @ Standing::Refused(_)) => *standing = Standing::Wanted,
                Some(_) => return false,
                None if known >= WATCHED_MAX => {
                    full = true;
                    return false;
                }
                None => {
                    standings.insert(topic.clone(), Standing::Wanted);
                }
            }
            true
        });
        if full {
            return Err(CallError::Unavailable {
                reason: format!("{WATCHED_MAX} of its resources and tasks are watched, which is the limit"),
            });
        }
        Ok(())
    }

    /// Wants to hear of a topic no longer.
    pub(crate) fn unwant(&self, topic: &Topic) {
        self.standings.send_if_modified(|standings| standings.remove(topic).is_some());
    }

    /// Resolves when the upstream tells of a wanted topic, or doesn't.
    pub(crate) fn settled(
        &self,
        topic: &Topic,
    ) -> impl Future<Output = Result<(), SubscribeError>> + Send + 'static + use<> {
        let (mut standings, topic) = (self.standings.subscribe(), topic.clone());
        async move {
            let settled = standings.wait_for(|standings| standings.get(&topic) != Some(&Standing::Wanted));
            match timeout(SETTLE_TIMEOUT, settled).await {
                Ok(Ok(standings)) => match standings.get(&topic) {
                    Some(Standing::Refused(error)) => Err(SubscribeError::Refused(error.clone())),
                    _ => Ok(()),
                },
                Ok(Err(_)) => Err(CallError::Unavailable { reason: "it no longer exists".into() }.into()),
                Err(_) => Err(CallError::TimedOut { after: SETTLE_TIMEOUT }.into()),
            }
        }
    }

    /// Tells of each change of what is wanted, or of how far it has come.
    pub(super) fn changes(&self) -> watch::Receiver<BTreeMap<Topic, Standing>> {
        self.standings.subscribe()
    }

    /// What the upstream is to tell of: all that is wanted and wasn't refused.
    pub(super) fn wanted(&self) -> BTreeSet<Topic> {
        let standings = self.standings.borrow();
        let wanted = standings.iter().filter(|(_, standing)| !matches!(standing, Standing::Refused(_)));
        wanted.map(|(topic, _)| topic.clone()).collect()
    }

    /// Says how far a topic has come; the answer is how far it was, if it is still wanted.
    pub(super) fn mark(&self, topic: &Topic, standing: Standing) -> Option<Standing> {
        let mut before = None;
        self.standings.send_if_modified(|standings| {
            let Some(known) = standings.get_mut(topic) else { return false };
            let changed = *known != standing;
            before = Some(std::mem::replace(known, standing));
            changed
        });
        before
    }

    /// Has everything that a former link refused asked for again.
    pub(super) fn forget_refusals(&self) {
        self.standings.send_if_modified(|standings| {
            let mut changed = false;
            for standing in standings.values_mut().filter(|standing| matches!(standing, Standing::Refused(_)))
            {
                (*standing, changed) = (Standing::Wanted, true);
            }
            changed
        });
    }

    /// Whether word of this topic is wanted, or of one that it is a part of.
    pub(super) fn covers(&self, topic: &Topic) -> bool {
        let standings = self.standings.borrow();
        topic.itself_and_wholes().any(|topic| standings.contains_key(&topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_covered_by_its_whole_and_by_nothing_that_only_begins_alike() {
        let watched = Watched::default();
        for uri in ["file:///a", "db://t/"] {
            watched.want(&Topic::resource(uri)).expect("there is room");
        }
        for covered in ["file:///a", "file:///a/b/c", "file:///a#x", "file:///a?q", "db://t/", "db://t/1"] {
            assert!(watched.covers(&Topic::resource(covered)), "{covered}");
        }
        for other in ["file:///ab", "file:///", "file:///b", "db://t", "db://u/1", ""] {
            assert!(!watched.covers(&Topic::resource(other)), "{other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_hears_how_the_upstream_took_it() {
        let (watched, topic) = (Watched::default(), Topic::resource("a:1"));
        watched.want(&topic).expect("there is room");
        let (first, late) = (watched.settled(&topic), watched.settled(&topic));
        assert_eq!(watched.mark(&topic, Standing::Told), Some(Standing::Wanted));
        first.await.expect("it tells");
        watched.mark(&topic, Standing::Refused(Bytes::from_static(b"{}")));
        assert!(matches!(late.await, Err(SubscribeError::Refused(_))));
        assert!(watched.wanted().is_empty());
        watched.want(&topic).expect("it is known");
        let outcome = watched.settled(&topic).await;
        assert!(matches!(outcome, Err(SubscribeError::Failed(CallError::TimedOut { .. }))));
        watched.unwant(&topic);
        assert_eq!(watched.mark(&topic, Standing::Told), None);
    }

    #[test]
    fn no_more_is_watched_than_one_message_may_name() {
        let watched = Watched::default();
        for count in 0..WATCHED_MAX {
            watched.want(&Topic::resource(&count.to_string())).expect("there is room");
        }
        assert!(watched.want(&Topic::task("one more")).is_err());
        watched.want(&Topic::resource("0")).expect("it is known");
    }
}
