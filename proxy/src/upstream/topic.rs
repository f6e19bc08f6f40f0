//! What an upstream can be asked to tell of: a resource that changes, or a task that goes on.

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::edit::Object;

/// One thing to hear of, by the name that its upstream knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// A resource, by its URI.
    Resource(Arc<str>),
    /// A task of the extension (2026-07-28), by its id.
    Task(Arc<str>),
}

impl Topic {
    /// A resource.
    pub fn resource(uri: &str) -> Self {
        Self::Resource(uri.into())
    }

    /// A task.
    pub fn task(id: &str) -> Self {
        Self::Task(id.into())
    }

    /// What the params of a notification are about, if it is one that tells of something.
    pub fn of(method: &str, params: &Bytes) -> Option<Self> {
        let make = match method {
            "notifications/resources/updated" => Self::resource,
            "notifications/tasks" => Self::task,
            _ => return None,
        };
        let field = make("").field();
        Object::parse(params).ok()?.text(field).map(|name| make(name.as_str()))
    }

    /// The name that the upstream knows.
    pub fn name(&self) -> &str {
        match self {
            Self::Resource(name) | Self::Task(name) => name,
        }
    }

    /// The notification that tells of it.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Resource(_) => "notifications/resources/updated",
            Self::Task(_) => "notifications/tasks",
        }
    }

    /// The member of that notification's params which names it.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Resource(_) => "uri",
            Self::Task(_) => "taskId",
        }
    }

    /// Itself, and for a resource those that it may be a part of: an update may name a sub-resource of
    /// what was subscribed to (`notifications/resources/updated`).
    pub(crate) fn itself_and_wholes(&self) -> impl Iterator<Item = Self> {
        let uri = match self {
            Self::Resource(uri) => &**uri,
            Self::Task(_) => "",
        };
        let ends = uri.match_indices(['/', '?', '#']).flat_map(|(at, _)| [at, at + 1]);
        let wholes = ends.filter(|end| *end < uri.len()).map(|end| Self::resource(&uri[..end]));
        std::iter::once(self.clone()).chain(wholes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_about_what_its_method_says() {
        let both = Bytes::from_static(br#"{"uri":"a:1","taskId":"t"}"#);
        assert_eq!(Topic::of("notifications/resources/updated", &both), Some(Topic::resource("a:1")));
        assert_eq!(Topic::of("notifications/tasks", &both), Some(Topic::task("t")));
        assert_eq!(Topic::of("notifications/message", &both), None);
        assert_eq!(Topic::of("notifications/tasks", &Bytes::from_static(br#"{"taskId":1}"#)), None);
    }

    #[test]
    fn a_task_is_a_part_of_nothing() {
        let wholes = |topic: Topic| topic.itself_and_wholes().count();
        assert_eq!(wholes(Topic::task("a/b#c")), 1);
        assert_eq!(wholes(Topic::resource("a/b#c")), 5);
    }
}
