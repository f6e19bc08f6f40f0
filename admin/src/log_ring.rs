//! The last lines of the gateway's own log, for the console: a bounded ring, and word of new ones.
//!
//! A line comes from the log as it is written, and by the rules of the log it holds no secrets. What is called one
//! by its name, or looks like a key of ours, is left out all the same: what an operator's terminal may show is not
//! yet for every admin.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::{Map, Value};
use sql::model::Timestamp;
use tokio::sync::broadcast;
use utoipa::ToSchema;

/// Lines that are kept: some hundred KiB.
const LINES_MAX: usize = 1_000;
/// Lines that a console may be behind.
const BEHIND_MAX: usize = 512;
/// Bytes of one text of a line.
const TEXT_BYTES_MAX: usize = 2_048;
/// Fields of one line.
const FIELDS_MAX: usize = 32;
/// What a field's name has if its value is no text for a console.
const SECRET_NAMES: [&str; 5] = ["token", "secret", "password", "credential", "api_key"];
/// What a key of ours begins with, and how long the rest of it is.
const KEY_PREFIX: &str = "mpg_";
const KEY_REST_CHARS: usize = 43;
const REDACTED: &str = "[redacted]";

/// A line of the gateway's log.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// Its number: grows by one with each line of this process.
    pub seq: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'static str,
    /// The part of the gateway that says it.
    pub target: String,
    /// What it says.
    pub message: String,
    /// What it says it of.
    #[schema(value_type = Object)]
    pub fields: Map<String, Value>,
}

/// The lines. Clones are one.
#[derive(Clone)]
pub struct LogRing(Arc<Shared>);

struct Shared {
    lines: Mutex<Lines>,
    news: broadcast::Sender<Arc<LogLine>>,
}

#[derive(Default)]
struct Lines {
    last: u64,
    kept: VecDeque<Arc<LogLine>>,
}

impl Default for LogRing {
    fn default() -> Self {
        let (news, _) = broadcast::channel(BEHIND_MAX);
        Self(Arc::new(Shared { lines: Mutex::default(), news }))
    }
}

impl LogRing {
    /// Takes in a line. Never waits longer than it takes to copy one.
    pub fn push(
        &self,
        at: Timestamp,
        level: &'static str,
        target: &str,
        message: &str,
        fields: Map<String, Value>,
    ) {
        let fields = fields.into_iter().take(FIELDS_MAX).map(|(name, value)| {
            let value = if is_secret(&name) { REDACTED.into() } else { tidy_value(value) };
            (name, value)
        });
        let (target, message, fields) = (tidy(target), tidy(message), fields.collect());
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.last += 1;
        let line = Arc::new(LogLine { seq: lines.last, at, level, target, message, fields });
        if lines.kept.len() >= LINES_MAX {
            lines.kept.pop_front();
        }
        lines.kept.push_back(Arc::clone(&line));
        // Under the lock, so that all hear them in order. Nobody may be listening.
        let _ = self.0.news.send(line);
    }

    /// The lines that are kept, the newest first.
    pub(crate) fn newest_first(&self) -> Vec<Arc<LogLine>> {
        let lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.kept.iter().rev().cloned().collect()
    }

    /// Lines from now on.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Arc<LogLine>> {
        self.0.news.subscribe()
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|word| name.contains(word))
}

fn tidy_value(value: Value) -> Value {
    match value {
        Value::String(text) => tidy(&text).into(),
        other => other,
    }
}

/// A text without what looks like a key, and not longer than a console shows.
fn tidy(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len().min(TEXT_BYTES_MAX));
    let mut rest = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    while let Some(at) = rest.find(KEY_PREFIX) {
        let (before, from) = rest.split_at(at);
        let key = from[KEY_PREFIX.len()..]
            .find(|character: char| !(character.is_ascii_alphanumeric() || matches!(character, '-' | '_')))
            .map_or(from.len(), |end| end + KEY_PREFIX.len());
        tidied.push_str(before);
        let is_key = key >= KEY_PREFIX.len() + KEY_REST_CHARS;
        tidied.push_str(if is_key { REDACTED } else { &from[..key] });
        rest = &from[key..];
    }
    tidied.push_str(rest);
    tidied
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn push(ring: &LogRing, message: &str, fields: Value) {
        let Value::Object(fields) = fields else { panic!("fields are an object") };
        ring.push(NOW, "info", "proxy", message, fields);
    }

    #[tokio::test]
    async fn the_last_lines_are_kept_and_told() {
        let ring = LogRing::default();
        let mut news = ring.watch();
        for number in 0..LINES_MAX + 5 {
            push(&ring, &number.to_string(), json!({"n": number}));
        }
        let lines = ring.newest_first();
        assert_eq!((lines.len(), lines[0].seq, lines[999].seq), (LINES_MAX, 1_005, 6));
        assert!(news.recv().await.is_err(), "who is too far behind is told");
        assert_eq!(news.recv().await.unwrap().seq, 1_005 - BEHIND_MAX as u64 + 1);
    }

    #[test]
    fn what_may_be_a_secret_is_left_out() {
        let ring = LogRing::default();
        let key = format!("mpg_{}", "A-_z".repeat(11));
        push(
            &ring,
            &format!("with {key}, with mpg_short"),
            json!({
                "setup.token": "CANARY", "db.password": 7, "url": format!("/mcp?api_key={key}&a=b"), "n": 7,
            }),
        );
        let line = &ring.newest_first()[0];
        assert_eq!(line.message, "with [redacted], with mpg_short");
        assert_eq!(
            Value::Object(line.fields.clone()),
            json!({"setup.token": "[redacted]", "db.password": "[redacted]",
                "url": "/mcp?api_key=[redacted]&a=b", "n": 7})
        );
        push(&ring, &"ü".repeat(5_000), json!({}));
        assert_eq!(ring.newest_first()[0].message.len(), TEXT_BYTES_MAX);
    }
}
