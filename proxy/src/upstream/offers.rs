//! What an upstream says that it can do beyond its lists, as far as the gateway acts on it.

use bytes::Bytes;

use crate::wire::edit::Object;
use crate::wire::meta::{MODERN_VERSION, TASKS_EXTENSION, Version};

/// The capabilities that decide what is asked of an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a capability that an upstream has or lacks")]
pub struct Offers {
    /// `completion/complete`.
    pub completions: bool,
    /// Word of resources that change: `resources/subscribe`, or `resourceSubscriptions` of 2026-07-28.
    pub subscribe: bool,
    /// `tools/call` as a task (2025-11-25).
    pub task_calls: bool,
    /// `tasks/cancel` (2025-11-25).
    pub task_cancel: bool,
    /// The tasks extension (2026-07-28).
    pub tasks_extension: bool,
}

impl Offers {
    /// Reads the raw `capabilities`. What isn't an object offers nothing.
    pub fn of(capabilities: &Bytes) -> Self {
        let Ok(capabilities) = Object::parse(capabilities) else { return Self::default() };
        let inside = |object: &Object, key: &str| object.get(key).and_then(|raw| Object::parse(&raw).ok());
        let resources = inside(&capabilities, "resources");
        let tasks = inside(&capabilities, "tasks");
        let requests = tasks.as_ref().and_then(|tasks| inside(tasks, "requests"));
        let tool_requests = requests.and_then(|requests| inside(&requests, "tools"));
        let extensions = inside(&capabilities, "extensions");
        Self {
            task_calls: tool_requests.is_some_and(|tools| inside(&tools, "call").is_some()),
            task_cancel: tasks.is_some_and(|tasks| inside(&tasks, "cancel").is_some()),
            tasks_extension: extensions.is_some_and(|known| inside(&known, TASKS_EXTENSION).is_some()),
            completions: capabilities.get("completions").is_some_and(|raw| raw.starts_with(b"{")),
            subscribe: resources.and_then(|resources| resources.get("subscribe")).as_deref() == Some(b"true"),
        }
    }

    /// What of it there is in a version of the protocol: each form of tasks belongs to one alone.
    #[must_use]
    pub fn spoken_in(self, version: &str) -> Self {
        let of_call = version == Version::V2025_11_25.as_str();
        Self {
            task_calls: self.task_calls && of_call,
            task_cancel: self.task_cancel && of_call,
            tasks_extension: self.tasks_extension && version == MODERN_VERSION.as_str(),
            ..self
        }
    }

    /// What either of the two has.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            completions: self.completions || other.completions,
            subscribe: self.subscribe || other.subscribe,
            task_calls: self.task_calls || other.task_calls,
            task_cancel: self.task_cancel || other.task_cancel,
            tasks_extension: self.tasks_extension || other.tasks_extension,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_tasks_is_offered_in_its_own_version_alone() {
        let both = r#"{"tasks":{"cancel":{},"requests":{"tools":{"call":{}}}},
            "extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
        let both = Offers::of(&Bytes::from_static(both.as_bytes()));
        let tasks = |version| {
            let offers = both.spoken_in(version);
            (offers.task_calls, offers.task_cancel, offers.tasks_extension)
        };
        assert_eq!(tasks("2026-07-28"), (false, false, true));
        assert_eq!(tasks("2025-11-25"), (true, true, false));
        assert_eq!(tasks("2025-06-18"), (false, false, false));
        for nothing in [
            r#"{"tasks":{"list":{},"requests":{"tools":{}}}}"#,
            r#"{"extensions":{"io.modelcontextprotocol/ui":{}}}"#,
            r#"{"tasks":true,"extensions":["io.modelcontextprotocol/tasks"]}"#,
        ] {
            let offers = Offers::of(&Bytes::from_static(nothing.as_bytes()));
            assert!(!offers.task_calls && !offers.task_cancel && !offers.tasks_extension, "{nothing}");
        }
    }

    #[test]
    fn only_what_is_declared_is_offered() {
        let offers = |text: &'static str| {
            let offers = Offers::of(&Bytes::from_static(text.as_bytes()));
            (offers.completions, offers.subscribe)
        };
        assert_eq!(offers(r#"{"completions":{},"resources":{"subscribe":true}}"#), (true, true));
        assert_eq!(offers(r#"{"completions":{},"resources":{"subscribe":false}}"#), (true, false));
        assert_eq!(offers(r#"{"resources":{}}"#), (false, false));
        for nothing in ["{}", "null", "[]", r#"{"completions":true,"resources":{"subscribe":"true"}}"#] {
            assert_eq!(offers(nothing), (false, false), "{nothing}");
        }
    }
}
