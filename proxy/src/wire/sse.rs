//! Server-sent events: reading a stream that comes in any chunks, and writing one.
//!
//! Reading follows the WHATWG text (lines end in CR, LF or CRLF; one leading byte order mark; comments; an `id`
//! with NUL and a `retry` with anything but digits are ignored), and its result doesn't depend on where chunks
//! end. Data that is one line within one chunk, which a JSON-RPC message nearly always is, isn't copied.
//!
//! What a peer can make a reader hold is bounded: an event past its limit ends the stream with an error.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// One event of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type; absent means `message`.
    pub event: Option<String>,
    /// The id it sets, which may be empty.
    pub id: Option<String>,
    /// The reconnection time it sets, in milliseconds.
    pub retry: Option<u64>,
    /// The lines of its data, with a line feed between them.
    pub data: Bytes,
}

/// Why a stream can't be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// An event, or a line of one, is too large.
    #[error("an event of more than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
}

/// Takes a stream apart. Chunks go in with [`Reader::push`]; then events come out of [`Reader::next_event`] until
/// it gives `None`. An event that isn't complete when the stream ends is dropped.
#[derive(Debug)]
pub struct Reader {
    event_bytes_max: usize,
    /// What came and hasn't been looked at.
    chunk: Bytes,
    /// The start of a line that no chunk has ended yet.
    partial: BytesMut,
    /// The last byte was a CR that ended a line: a LF right after it belongs to it.
    after_cr: bool,
    /// No line has ended yet: a byte order mark may still stand at its start.
    at_start: bool,
    pending: Pending,
    last_event_id: Option<String>,
    retry: Option<u64>,
    failed: bool,
}

/// The event whose lines are coming in.
#[derive(Debug, Default)]
struct Pending {
    event: Option<String>,
    id: Option<String>,
    retry: Option<u64>,
    data: Data,
}

#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Reader {
    /// Reads events of at most so many bytes.
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
            after_cr: false,
            at_start: true,
            pending: Pending::default(),
            last_event_id: None,
            retry: None,
            failed: false,
        }
    }

    /// Takes the next bytes of the stream. Events that wait should have been taken out before: what wasn't looked
    /// at yet is copied.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut joined = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            joined.put_slice(&self.chunk);
            joined.put_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// The next complete event; `None` when more bytes are needed. After an error there is nothing but the error.
    pub fn next_event(&mut self) -> Result<Option<Event>, SseError> {
        if self.failed {
            return Err(self.too_large());
        }
        while let Some(line) = self.next_line()? {
            if let Some(event) = self.line(&line)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// The id that a reconnection names, which events without data can set, too.
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_event_id.as_deref()
    }

    /// How long to wait before a reconnection, in milliseconds, if the stream has said so.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, SseError> {
        if self.after_cr && !self.chunk.is_empty() {
            self.after_cr = false;
            if self.chunk[0] == b'\n' {
                self.chunk.advance(1);
            }
        }
        let end = memchr::memchr2(b'\r', b'\n', &self.chunk);
        let len = end.unwrap_or(self.chunk.len());
        if self.partial.len() + len + self.pending.len() > self.event_bytes_max {
            return Err(self.fail());
        }
        let Some(end) = end else {
            self.partial.put_slice(&self.chunk);
            self.chunk.clear();
            return Ok(None);
        };
        let rest = self.chunk.split_to(end);
        self.after_cr = self.chunk[0] == b'\r';
        self.chunk.advance(1);
        let mut line = if self.partial.is_empty() {
            rest
        } else {
            self.partial.put_slice(&rest);
            self.partial.split().freeze()
        };
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xef\xbb\xbf") {
            line.advance(3);
        }
        Ok(Some(line))
    }

    fn line(&mut self, line: &Bytes) -> Result<Option<Event>, SseError> {
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        let (name, value) = match memchr::memchr(b':', line) {
            Some(0) => return Ok(None),
            Some(colon) => {
                let space = usize::from(line.get(colon + 1) == Some(&b' '));
                (&line[..colon], line.slice(colon + 1 + space..))
            }
            None => (&line[..], Bytes::new()),
        };
        match name {
            b"data" => self.pending.data.push(value),
            b"event" => self.pending.event = Some(String::from_utf8_lossy(&value).into_owned()),
            b"id" if !value.contains(&0) => {
                self.pending.id = Some(String::from_utf8_lossy(&value).into_owned());
            }
            b"retry" => self.pending.retry = digits(&value).or(self.pending.retry),
            _ => {}
        }
        // Replaced characters can make a text longer than its line.
        if self.pending.len() > self.event_bytes_max { Err(self.fail()) } else { Ok(None) }
    }

    fn dispatch(&mut self) -> Option<Event> {
        let pending = std::mem::take(&mut self.pending);
        if pending.id.is_some() {
            self.last_event_id.clone_from(&pending.id);
        }
        self.retry = pending.retry.or(self.retry);
        let data = match pending.data {
            Data::None => return None,
            Data::One(line) => line,
            Data::Many(lines) => lines.freeze(),
        };
        let event = pending.event.filter(|event| !event.is_empty());
        Some(Event { event, id: pending.id, retry: pending.retry, data })
    }

    fn fail(&mut self) -> SseError {
        self.failed = true;
        self.chunk = Bytes::new();
        self.partial = BytesMut::new();
        self.pending = Pending::default();
        self.too_large()
    }

    fn too_large(&self) -> SseError {
        SseError::TooLarge { limit: self.event_bytes_max }
    }
}

impl Pending {
    /// Bytes held for it.
    fn len(&self) -> usize {
        let data = match &self.data {
            Data::None => 0,
            Data::One(line) => line.len(),
            Data::Many(lines) => lines.len(),
        };
        data + self.event.as_ref().map_or(0, String::len) + self.id.as_ref().map_or(0, String::len)
    }
}

impl Data {
    fn push(&mut self, line: Bytes) {
        match self {
            Self::None => *self = Self::One(line),
            Self::One(first) => {
                let mut lines = BytesMut::with_capacity(first.len() + line.len() + 1);
                lines.put_slice(first);
                lines.put_u8(b'\n');
                lines.put_slice(&line);
                *self = Self::Many(lines);
            }
            Self::Many(lines) => {
                lines.put_u8(b'\n');
                lines.put_slice(&line);
            }
        }
    }
}

fn digits(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Writes one event. Line ends in the data start a new `data:` line, which leaves JSON the same; in the other
/// fields they are left out, for they would start a field of their own.
pub fn write_event(
    out: &mut BytesMut,
    event: Option<&str>,
    id: Option<&str>,
    retry: Option<u64>,
    data: &[u8],
) {
    out.reserve(data.len() + FRAME_BYTES);
    write_head(out, event, id, retry);
    let mut rest = data;
    while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
        out.put_slice(&rest[..end]);
        out.put_slice(b"\ndata: ");
        let line_end = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + line_end..];
    }
    out.put_slice(rest);
    out.put_slice(b"\n\n");
}

/// One event in parts, so that large data isn't copied: `parts` together are the data.
pub fn event_chain(
    event: Option<&str>,
    id: Option<&str>,
    retry: Option<u64>,
    parts: impl IntoIterator<Item = Bytes>,
) -> Vec<Bytes> {
    let mut head = BytesMut::with_capacity(FRAME_BYTES);
    write_head(&mut head, event, id, retry);
    let mut chain = vec![head.freeze()];
    chain.extend(parts);
    if chain[1..].iter().all(|part| memchr::memchr2(b'\r', b'\n', part).is_none()) {
        chain.push(Bytes::from_static(b"\n\n"));
        return chain;
    }
    // Data with line ends is copied: a part for each of its lines would cost more.
    let mut out = BytesMut::new();
    write_event(&mut out, event, id, retry, &chain[1..].concat());
    vec![out.freeze()]
}

/// Writes a comment, which readers ignore: a sign of life.
pub fn write_comment(out: &mut BytesMut, text: &str) {
    out.put_slice(b": ");
    write_line(out, text);
    out.put_u8(b'\n');
}

/// Bytes of an event apart from its data, as a first guess.
const FRAME_BYTES: usize = 96;

fn write_head(out: &mut BytesMut, event: Option<&str>, id: Option<&str>, retry: Option<u64>) {
    if let Some(event) = event {
        out.put_slice(b"event: ");
        write_line(out, event);
    }
    if let Some(id) = id {
        out.put_slice(b"id: ");
        write_line(out, id);
    }
    if let Some(retry) = retry {
        out.put_slice(b"retry: ");
        write_line(out, &retry.to_string());
    }
    out.put_slice(b"data: ");
}

fn write_line(out: &mut BytesMut, text: &str) {
    for byte in text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')) {
        out.put_u8(byte);
    }
    out.put_u8(b'\n');
}

#[cfg(test)]
mod tests;
