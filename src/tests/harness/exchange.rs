//! One HTTP answer of the MCP endpoint, as JSON or as an event stream, message by message.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode};
use serde_json::Value;

/// How long a test waits for the next message. What a message may take where that is the point of a
/// test, the test says itself; this only turns a hang into a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An answer, of which nothing but the head has been read yet.
pub(crate) struct Exchange {
    response: Response,
    is_stream: bool,
    buffer: Vec<u8>,
    events: VecDeque<Event>,
    has_ended: bool,
    last_event_id: Option<String>,
    comments: usize,
}

/// One event of a stream, comments left out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) retry: Option<u64>,
    pub(crate) data: String,
}

impl Exchange {
    pub(super) fn new(response: Response) -> Self {
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_stream = content_type.is_some_and(|kind| kind.starts_with("text/event-stream"));
        Self {
            response,
            is_stream,
            buffer: Vec::new(),
            events: VecDeque::new(),
            has_ended: false,
            last_event_id: None,
            comments: 0,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The value of a header that is there.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers().get(name).unwrap_or_else(|| panic!("{name} in {:?}", self.headers()));
        value.to_str().expect("ASCII")
    }

    /// Whether it is an event stream.
    pub(crate) fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// The next message; none when the answer is over.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let text = if self.is_stream { self.next_event().await?.data } else { self.whole().await? };
        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}")))
    }

    /// What the stream is to be resumed with.
    #[track_caller]
    pub(crate) fn last_event_id(&self) -> &str {
        self.last_event_id.as_deref().expect("an event had an id")
    }

    /// Waits for so many signs of life, while nothing else is said.
    pub(crate) async fn comments_reach(&mut self, comments: usize) {
        while self.comments < comments {
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("a sign of life").expect("a whole chunk").expect("it goes on");
            self.buffer.extend_from_slice(&chunk);
            self.cut_events();
        }
    }

    /// The next event with data; none when the stream is over.
    pub(crate) async fn next_event(&mut self) -> Option<Event> {
        loop {
            let event = self.next_raw_event().await?;
            if !event.data.is_empty() {
                return Some(event);
            }
        }
    }

    /// The next event, which may be there for its id alone; none when the stream is over.
    pub(crate) async fn next_raw_event(&mut self) -> Option<Event> {
        assert!(self.is_stream, "not a stream, but {} {:?}", self.status(), self.headers());
        loop {
            if let Some(event) = self.events.pop_front() {
                if event.id.is_some() {
                    self.last_event_id.clone_from(&event.id);
                }
                return Some(event);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            // A stream that was cut has ended as well: which of the two, no test of ours needs to know.
            match chunk.expect("the stream has said nothing for too long") {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) | Err(_) => return None,
            }
            self.cut_events();
        }
    }

    /// The next message, which must come.
    pub(crate) async fn expect(&mut self) -> Value {
        self.next().await.expect("one more message before the end")
    }

    /// All messages up to the answer, and the answer, which must be the end.
    pub(crate) async fn all(mut self) -> (Vec<Value>, Value) {
        let status = self.status();
        let mut before = Vec::new();
        while let Some(message) = self.next().await {
            let is_answer = message.is_array() || message.get("method").is_none();
            if is_answer {
                assert_eq!(self.next().await, None, "nothing follows the answer");
                return (before, message);
            }
            before.push(message);
        }
        panic!("no answer after {before:?}, status {status}")
    }

    /// The answer, whatever came before it.
    pub(crate) async fn answer(self) -> Value {
        self.all().await.1
    }

    /// The result of the answer, which must be one.
    pub(crate) async fn result(self) -> Value {
        let answer = self.answer().await;
        answer.get("result").unwrap_or_else(|| panic!("no result in {answer}")).clone()
    }

    /// Status and error code of an answer that must be an error.
    pub(crate) async fn refusal(self) -> (u16, i64) {
        let status = self.status().as_u16();
        let answer = self.answer().await;
        let code = answer["error"]["code"].as_i64();
        (status, code.unwrap_or_else(|| panic!("no error in {status} {answer}")))
    }

    /// The body as it came.
    pub(crate) async fn bytes(self) -> Vec<u8> {
        let body = tokio::time::timeout(PATIENCE, self.response.bytes()).await;
        body.expect("the body comes in time").expect("a whole body").to_vec()
    }

    async fn whole(&mut self) -> Option<String> {
        if std::mem::replace(&mut self.has_ended, true) {
            return None;
        }
        let read = async {
            while let Some(chunk) = self.response.chunk().await.expect("a whole body") {
                self.buffer.extend_from_slice(&chunk);
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the body comes in time");
        let text = String::from_utf8(std::mem::take(&mut self.buffer)).expect("UTF-8");
        (!text.is_empty()).then_some(text)
    }

    fn cut_events(&mut self) {
        while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let block = String::from_utf8(block).expect("UTF-8");
            self.comments += usize::from(block.starts_with(':'));
            self.events.extend(event_of(&block));
        }
    }
}

/// The event of a block of lines, unless it is but a comment.
fn event_of(block: &str) -> Option<Event> {
    let mut event = Event::default();
    let mut lines = Vec::new();
    let mut is_event = false;
    for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        is_event = true;
        match field {
            "data" => lines.push(value),
            "id" => event.id = Some(value.to_owned()),
            "event" => assert_eq!(value, "message", "the only kind of event"),
            "retry" => event.retry = Some(value.parse().expect("digits")),
            other => panic!("a line of an event begins with {other}"),
        }
    }
    event.data = lines.join("\n");
    is_event.then_some(event)
}
