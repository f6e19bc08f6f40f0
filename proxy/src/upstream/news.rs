//! What an upstream's connection tells the rest of the data plane, folded while nobody listens.
//!
//! The one who takes the news may be busy for a while. Facts are then folded (a list that changed
//! twice has changed), messages are bounded and their overflow counted, and the connection never waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use sql::model::{Kind, UpstreamId, UpstreamInfo};

use super::connection::Scope;
use super::topic::Topic;

/// Messages that wait: beyond it the oldest are dropped.
const WAITING_MAX: usize = 256;

/// Topics that changed and wait to be told of; as many as can be watched, so that only an upstream
/// that makes up parts of them can come to it.
const UPDATES_MAX: usize = 4096;

/// News of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamEvent {
    /// It is connected; its lists should be fetched.
    Connected {
        /// Which.
        id: UpstreamId,
        /// What it says of itself.
        info: UpstreamInfo,
    },
    /// It says that a list changed, or may have. Resources stand for their templates too.
    ListChanged {
        /// Which.
        id: UpstreamId,
        /// Which of its lists.
        kind: Kind,
    },
    /// Something that was subscribed to changed.
    Updated {
        /// Which.
        id: UpstreamId,
        /// What changed, or the part of it that did.
        topic: Topic,
        /// The raw params of the notification.
        params: Bytes,
    },
    /// A task of 2025-11-25 has another status.
    TaskStatus {
        /// Which.
        id: UpstreamId,
        /// The raw params of the notification.
        params: Bytes,
    },
    /// A log message outside any call.
    Log {
        /// Which.
        id: UpstreamId,
        /// The raw params of the notification.
        params: Bytes,
    },
    /// Its state is another one.
    StateChanged {
        /// Which.
        id: UpstreamId,
    },
}

/// The news that wait.
#[derive(Debug)]
pub(crate) struct News {
    id: UpstreamId,
    connected: Option<UpstreamInfo>,
    lists: BTreeSet<Kind>,
    updates: BTreeMap<Topic, Bytes>,
    messages: VecDeque<UpstreamEvent>,
    state_changed: bool,
    /// Whom the connection serves, which decides what of it is kept.
    scope: Scope,
}

impl News {
    /// Nothing new.
    pub(crate) fn of(id: UpstreamId) -> Self {
        Self {
            id,
            connected: None,
            lists: BTreeSet::new(),
            updates: BTreeMap::new(),
            messages: VecDeque::new(),
            state_changed: false,
            scope: Scope::Everyone,
        }
    }

    /// The same of a connection that serves these: of one client's own only word of its tasks is kept,
    /// of one for some clients also that a list changed; the rest another connection tells.
    pub(crate) fn within(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// It connected.
    pub(crate) fn connected(&mut self, info: UpstreamInfo) {
        self.connected = Some(info).filter(|_| self.scope == Scope::Everyone);
    }

    /// Its state changed.
    pub(crate) fn state_changed(&mut self) {
        self.state_changed = self.scope == Scope::Everyone;
    }

    /// A list changed.
    pub(crate) fn list_changed(&mut self, kind: Kind) {
        if self.scope != Scope::OneClient {
            self.lists.insert(kind);
        }
    }

    /// A topic changed; `false` if too many wait. Of two changes the later is told.
    pub(crate) fn updated(&mut self, topic: &Topic, params: Bytes) -> bool {
        let room = self.updates.len() < UPDATES_MAX || self.updates.contains_key(topic);
        if room {
            self.updates.insert(topic.clone(), params);
        }
        room
    }

    /// Takes any other notification outside any call; `false` if something had to be dropped.
    pub(crate) fn notification(&mut self, method: &str, params: Option<Bytes>) -> bool {
        let id = self.id;
        match (method, params) {
            ("notifications/tools/list_changed", _) => self.list_changed(Kind::Tool),
            ("notifications/prompts/list_changed", _) => self.list_changed(Kind::Prompt),
            ("notifications/resources/list_changed", _) => self.list_changed(Kind::Resource),
            ("notifications/tasks/status", Some(params)) => {
                return self.message(UpstreamEvent::TaskStatus { id, params });
            }
            ("notifications/message", Some(params)) if self.scope == Scope::Everyone => {
                return self.message(UpstreamEvent::Log { id, params });
            }
            // Methods we don't know have no one to go to.
            _ => {}
        }
        true
    }

    fn message(&mut self, event: UpstreamEvent) -> bool {
        let full = self.messages.len() == WAITING_MAX;
        if full {
            self.messages.pop_front();
        }
        self.messages.push_back(event);
        !full
    }

    /// Whether anything waits.
    pub(crate) fn is_empty(&self) -> bool {
        let facts = self.connected.is_some() || !self.lists.is_empty() || self.state_changed;
        !facts && self.updates.is_empty() && self.messages.is_empty()
    }

    /// The next event: what a listener must know first comes first.
    pub(crate) fn next(&mut self) -> Option<UpstreamEvent> {
        let id = self.id;
        if std::mem::take(&mut self.state_changed) {
            return Some(UpstreamEvent::StateChanged { id });
        }
        if let Some(info) = self.connected.take() {
            return Some(UpstreamEvent::Connected { id, info });
        }
        if let Some(kind) = self.lists.pop_first() {
            return Some(UpstreamEvent::ListChanged { id, kind });
        }
        if let Some((topic, params)) = self.updates.pop_first() {
            return Some(UpstreamEvent::Updated { id, topic, params });
        }
        self.messages.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use sql::model::Timestamp;

    use super::*;

    #[test]
    fn facts_are_folded_and_messages_bounded() {
        let id = UpstreamId::at(Timestamp::from_millis(0));
        let mut news = News::of(id);
        for _ in 0..3 {
            assert!(news.notification("notifications/tools/list_changed", None));
        }
        let updated = Bytes::from_static(br#"{"uri":"a"}"#);
        for _ in 0..2 {
            assert!(news.updated(&Topic::resource("a"), updated.clone()));
        }
        assert_eq!(news.next(), Some(UpstreamEvent::ListChanged { id, kind: Kind::Tool }));
        assert_eq!(
            news.next(),
            Some(UpstreamEvent::Updated { id, topic: Topic::resource("a"), params: updated })
        );
        assert!(news.is_empty() && news.next().is_none());
        let dropped = (0..WAITING_MAX + 5)
            .filter(|count| !news.notification("notifications/message", Some(count.to_string().into())))
            .count();
        assert_eq!(dropped, 5);
        assert_eq!(news.next(), Some(UpstreamEvent::Log { id, params: "5".into() }));
    }

    #[test]
    fn of_a_client_s_own_connection_only_its_tasks_are_news() {
        let id = UpstreamId::at(Timestamp::from_millis(0));
        let mut news = News::of(id).within(Scope::OneClient);
        for method in ["notifications/tools/list_changed", "notifications/message"] {
            assert!(news.notification(method, Some(Bytes::from_static(b"{}"))));
        }
        news.state_changed();
        assert!(news.is_empty());
        let mut of_some = News::of(id).within(Scope::SameAbilities);
        for method in ["notifications/tools/list_changed", "notifications/message"] {
            assert!(of_some.notification(method, Some(Bytes::from_static(b"{}"))));
        }
        of_some.state_changed();
        assert_eq!(of_some.next(), Some(UpstreamEvent::ListChanged { id, kind: Kind::Tool }));
        assert!(of_some.is_empty(), "the rest comes over the session of all");
        let status = Bytes::from_static(br#"{"taskId":"1"}"#);
        assert!(news.notification("notifications/tasks/status", Some(status.clone())));
        assert_eq!(news.next(), Some(UpstreamEvent::TaskStatus { id, params: status }));
    }
}
