//! Lines from and to a child: cut, capped, and paced.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

/// The longest line that a child may write to stdout: one message, such as a page of tools or an image.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What one read asks for: a pipe holds as much.
const READ_BYTES: usize = 64 * 1024;

/// What is kept of stderr: a few screens, for each of some hundred children.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A longer line of stderr is cut: it is for people to read.
const KEPT_LINE_BYTES_MAX: usize = 4 * 1024;

/// What a child may write in [`PACE_WINDOW`] that is no message, before it has to wait: far above any log,
/// and little enough that a flood takes no core of its own.
const PACE_BYTES: usize = 1024 * 1024;

/// What a line costs besides its bytes: short ones are as much work.
const PACE_LINE_BYTES: usize = 100;

/// See [`PACE_BYTES`].
const PACE_WINDOW: Duration = Duration::from_millis(250);

/// Why no further line comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// The line is longer than allowed; where it ends isn't known, so nothing after it can be read.
    #[error("a line is longer than {limit} bytes")]
    TooLong {
        /// In bytes.
        limit: usize,
    },
    /// The pipe broke.
    #[error("reading failed: {0}")]
    Read(#[from] io::Error),
}

/// Cuts what is read into lines, without a copy.
pub(crate) struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// How much of `buffer` holds no newline.
    searched: usize,
    line_bytes_max: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(reader: R, line_bytes_max: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), searched: 0, line_bytes_max }
    }

    /// The next line without its newline, the last one even if it has none; `None` at the end. Dropping
    /// the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            let fresh = &self.buffer[self.searched..];
            if let Some(at) = memchr::memchr(b'\n', fresh) {
                let mut line = self.buffer.split_to(self.searched + at + 1);
                line.truncate(line.len() - 1);
                self.searched = 0;
                return self.capped(line.freeze()).map(Some);
            }
            self.searched = self.buffer.len();
            if self.searched > self.line_bytes_max {
                return Err(LineError::TooLong { limit: self.line_bytes_max });
            }
            self.buffer.reserve(READ_BYTES);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                let rest = std::mem::take(&mut self.buffer);
                self.searched = 0;
                return if rest.is_empty() { Ok(None) } else { self.capped(rest.freeze()).map(Some) };
            }
        }
    }

    fn capped(&self, line: Bytes) -> Result<Bytes, LineError> {
        if line.len() > self.line_bytes_max {
            return Err(LineError::TooLong { limit: self.line_bytes_max });
        }
        Ok(line)
    }
}

/// A message as one line. A newline in valid JSON stands between tokens, never inside a string, so a
/// space in its place changes no value.
pub(crate) fn one_line(message: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &message).is_none() {
        return message;
    }
    message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

/// Slows a flood of what is no message down, by not reading it for a while.
pub(super) struct Pace {
    window_ends: Instant,
    bytes: usize,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { window_ends: Instant::now() + PACE_WINDOW, bytes: 0 }
    }

    /// Counts what was read, and waits for the end of the window if it had too much.
    pub(super) async fn spend(&mut self, bytes: usize, lines: usize) {
        if let Some(until) = self.spend_at(Instant::now(), bytes + lines * PACE_LINE_BYTES) {
            tokio::time::sleep_until(until).await;
        }
    }

    fn spend_at(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        if now >= self.window_ends {
            *self = Self { window_ends: now + PACE_WINDOW, bytes: 0 };
        }
        self.bytes += bytes;
        (self.bytes > PACE_BYTES).then_some(self.window_ends)
    }
}

/// The last lines that a child wrote besides messages.
#[derive(Default)]
pub(super) struct Ring {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Ring {
    /// Keeps a line, and lets go of the oldest for it.
    pub(super) fn push(&self, line: &[u8]) {
        let cut = &line[..line.len().min(KEPT_LINE_BYTES_MAX)];
        let line = String::from_utf8_lossy(cut).trim_end_matches('\r').to_owned();
        let mut kept = self.lock();
        kept.bytes += line.len();
        kept.lines.push_back(line);
        // An empty line costs its place in the queue too.
        while kept.bytes + kept.lines.len() > KEPT_BYTES_MAX {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.len();
        }
    }

    /// What is kept, oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Two counters and a queue, whole between any two statements that can panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies what a child writes to stderr into the ring, until its end. A line of any length passes.
pub(super) async fn keep(mut stderr: impl AsyncRead + Unpin, ring: &Ring) {
    let mut pace = Pace::new();
    let mut line: Vec<u8> = Vec::new();
    let mut chunk = BytesMut::with_capacity(READ_BYTES);
    loop {
        chunk.clear();
        match stderr.read_buf(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let mut lines = 0;
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = KEPT_LINE_BYTES_MAX - line.len().min(KEPT_LINE_BYTES_MAX);
            line.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                ring.push(&line);
                line.clear();
                lines += 1;
            }
        }
        pace.spend(chunk.len(), lines).await;
    }
    if !line.is_empty() {
        ring.push(&line);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn all(input: &[u8], line_bytes_max: usize) -> (Vec<Bytes>, bool) {
        let mut lines = Lines::new(input, line_bytes_max);
        let mut found = Vec::new();
        loop {
            match lines.next().await {
                Ok(Some(line)) => found.push(line),
                Ok(None) => return (found, true),
                Err(_) => return (found, false),
            }
        }
    }

    #[tokio::test]
    async fn t30_a_line_may_be_as_long_as_the_limit_and_no_longer() {
        assert_eq!(all(b"1234\n5678\n", 4).await, (vec!["1234".into(), "5678".into()], true));
        assert_eq!(all(b"1234", 4).await, (vec!["1234".into()], true));
        assert_eq!(all(b"12\n34567\n8\n", 4).await, (vec!["12".into()], false));
        assert_eq!(all(b"12\n34567", 4).await, (vec!["12".into()], false));
    }

    #[tokio::test]
    async fn an_endless_line_is_given_up_in_bounded_memory() {
        let mut lines = Lines::new(tokio::io::repeat(b'x'), 1024 * 1024);
        assert!(matches!(lines.next().await, Err(LineError::TooLong { limit: 1_048_576 })));
        assert!(lines.buffer.capacity() < 4 * 1024 * 1024);
    }

    proptest! {
        #[test]
        fn lines_are_what_stands_between_newlines(input in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let (found, whole) = runtime.block_on(all(&input, 1000));
            let mut expected: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
            if expected.last().is_some_and(|last| last.is_empty()) {
                expected.pop();
            }
            prop_assert!(whole);
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_pretty_message_becomes_one_line_of_equal_value() {
        let pretty = Bytes::from_static(b"{\r\n  \"a\": \"x\\ny\",\n\t\"b\": [1,\n 2]\n}");
        let line = one_line(pretty.clone());
        assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
        let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON");
        assert_eq!(value(&line), value(&pretty));
        let plain = Bytes::from_static(b"{\"a\": 1}");
        assert_eq!(one_line(plain.clone()).as_ptr(), plain.as_ptr(), "what needs no change isn't copied");
    }

    #[tokio::test]
    async fn the_ring_keeps_the_newest_of_a_flood() {
        let ring = Ring::default();
        let flood = (0..20_000).map(|number| format!("line {number}")).collect::<Vec<_>>().join("\n");
        keep(flood.as_bytes(), &ring).await;
        let lines = ring.lines();
        assert_eq!(lines.last().map(String::as_str), Some("line 19999"));
        assert!(lines.iter().map(String::len).sum::<usize>() <= KEPT_BYTES_MAX);
        keep(&b"\r\nno newline\xff"[..], &ring).await;
        assert_eq!(ring.lines().last().map(String::as_str), Some("no newline\u{fffd}"));
        keep(&vec![b'x'; 10 * KEPT_LINE_BYTES_MAX][..], &ring).await;
        assert_eq!(ring.lines().last().map(String::len), Some(KEPT_LINE_BYTES_MAX));
        keep("\n".repeat(2 * KEPT_BYTES_MAX).as_bytes(), &ring).await;
        assert!(ring.lines().len() <= KEPT_BYTES_MAX);
    }

    #[test]
    fn a_flood_has_to_wait() {
        let now = Instant::now();
        let mut pace = Pace { window_ends: now + PACE_WINDOW, bytes: 0 };
        assert_eq!(pace.spend_at(now, PACE_BYTES), None);
        assert_eq!(pace.spend_at(now, 1), Some(now + PACE_WINDOW));
        assert_eq!(pace.spend_at(now + PACE_WINDOW, PACE_BYTES), None);
    }
}
