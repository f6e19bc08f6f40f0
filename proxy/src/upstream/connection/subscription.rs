//! The stream on which a modern upstream says that its lists changed: held open, opened anew when it ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sql::model::Kind;
use tokio::time::sleep;

use super::shared::{Live, Shared};
use crate::upstream::backoff::{self, Backoff};
use crate::upstream::call::{Answer, Call};
use crate::upstream::handshake::own_meta;
use crate::upstream::link::Listener;
use crate::wire::edit::Object;

/// A stream is renewed after so long even if it stands: nothing should last for ever unseen.
const RENEW_AFTER: Duration = Duration::from_hours(24);
/// A notification on it is small.
const EVENT_BYTES_MAX: usize = 1024 * 1024;
/// Between two openings.
const REOPEN: Backoff =
    Backoff { initial: Duration::from_secs(1), multiplier: 2.0, max: Duration::from_mins(1) };
/// A stream that stood this long was no failure.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// The filter of what can be subscribed to: lists whose capability says `listChanged`.
const LISTS: [(&str, &str, Kind); 3] = [
    ("tools", "toolsListChanged", Kind::Tool),
    ("prompts", "promptsListChanged", Kind::Prompt),
    ("resources", "resourcesListChanged", Kind::Resource),
];

/// Keeps the stream open; returns when the upstream offers nothing of the kind.
pub(super) async fn keep(shared: Arc<Shared>, live: Arc<Live>) {
    let offered = offered(&live.peer.capabilities);
    if offered.is_empty() {
        return;
    }
    let wanted: Vec<String> = offered.iter().map(|(field, _)| format!(r#""{field}":true"#)).collect();
    let params =
        Bytes::from(format!(r#"{{"notifications":{{{}}},"_meta":{}}}"#, wanted.join(","), own_meta()));
    let mut failures = 0;
    loop {
        let opened = tokio::time::Instant::now();
        let call = Call::own("subscriptions/listen", params.clone(), RENEW_AFTER, EVENT_BYTES_MAX);
        match live.link.request(call).await {
            // It has the capability but not the method: asking again won't change that.
            Ok(Answer::Error(_)) => return,
            Ok(Answer::Result(_)) => {}
            Err(error) => {
                tracing::debug!(upstream.id = %shared.id, error = &error as &dyn std::error::Error, "subscription broke");
                shared.suspect();
            }
        }
        failures = if opened.elapsed() >= STABLE_AFTER { 1 } else { failures + 1 };
        sleep(REOPEN.after(failures, backoff::jitter())).await;
        // What changed in between was told to nobody.
        for (_, kind) in &offered {
            shared.news().list_changed(*kind);
        }
        shared.ring();
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
