//! What the load generator says, and what it takes for an answer.
//!
//! A request is written once and only its numbers change from call to call, so that making load costs
//! little. Every call says something else, and its answer must say it back: an answer that went to the
//! wrong client shows.

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The version that legacy sessions agree on.
pub const LEGACY_VERSION: &str = "2025-11-25";
/// The version of requests without a session.
pub const MODERN_VERSION: &str = "2026-07-28";
/// Digits of every id: the first one is a number that needs them all.
const FIRST_ID: u64 = 1_000_000_000;
/// Stands where a call's own number comes.
const PLACE: &str = "1000000000";

/// Which era a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Era {
    /// `initialize`, and a session from then on.
    Legacy,
    /// 2026-07-28: every request stands alone.
    Modern,
}

/// What a call asks for.
#[derive(Debug, Clone)]
pub enum Ask {
    /// `tools/call` of the tool that says its text back; the request's body has `bytes` bytes where that is possible.
    Echo {
        /// Its exposed name.
        tool: String,
        /// Of the whole body.
        bytes: usize,
    },
    /// `tools/call` of the tool that answers after a while.
    Sleep {
        /// Its exposed name.
        tool: String,
        /// How long, in milliseconds.
        millis: u64,
    },
    /// `tools/call` of the tool that answers with a text of `bytes` bytes.
    Blob {
        /// Its exposed name.
        tool: String,
        /// Of the text.
        bytes: usize,
    },
    /// `tools/list`, page by page to its end, which must be after `tools` tools.
    List {
        /// How many there are.
        tools: usize,
    },
}

/// The bytes of one kind of request, with places for its numbers.
#[derive(Debug, Clone)]
pub struct Template {
    ask: Ask,
    era: Era,
    body: Vec<u8>,
    places: Vec<usize>,
    number: u64,
    /// Whether the body is that of a page after the first.
    is_further: bool,
}

/// Why an answer isn't one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub String);

#[derive(Deserialize)]
struct Answer<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Called<'a> {
    #[serde(borrow)]
    content: Vec<Content<'a>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    text: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(borrow)]
    tools: Vec<&'a RawValue>,
    #[serde(rename = "nextCursor")]
    next_cursor: Option<String>,
}

impl Template {
    /// For requests of a client of this era.
    pub fn new(ask: Ask, era: Era) -> Self {
        let mut template =
            Self { ask, era, body: Vec::new(), places: Vec::new(), number: FIRST_ID, is_further: false };
        template.write(None);
        template
    }

    /// The method, as 2026-07-28 has it in a header.
    pub fn method(&self) -> &'static str {
        if matches!(self.ask, Ask::List { .. }) { "tools/list" } else { "tools/call" }
    }

    /// The name, as 2026-07-28 has it in a header.
    pub fn name(&self) -> Option<&str> {
        match &self.ask {
            Ask::Echo { tool, .. } | Ask::Sleep { tool, .. } | Ask::Blob { tool, .. } => Some(tool),
            Ask::List { .. } => None,
        }
    }

    /// The body of one more call.
    pub fn next(&mut self, number: u64) -> &[u8] {
        if self.is_further {
            self.write(None);
        }
        self.numbered(number)
    }

    fn numbered(&mut self, number: u64) -> &[u8] {
        self.number = FIRST_ID + number % FIRST_ID;
        let digits = self.number.to_string();
        for &place in &self.places {
            self.body[place..place + PLACE.len()].copy_from_slice(digits.as_bytes());
        }
        &self.body
    }

    /// The body of the request for the page after the one that named this cursor.
    pub fn next_page(&mut self, cursor: &str) -> &[u8] {
        let number = self.number;
        self.write(Some(cursor));
        self.numbered(number - FIRST_ID)
    }

    /// Whether a body answers the last request: the cursor of the next page, if there is one, and how
    /// many tools this page had.
    pub fn check(&self, body: &[u8]) -> Result<Page, Wrong> {
        let body = message_of(body)?;
        let answer: Answer<'_> =
            serde_json::from_slice(body).map_err(|error| Wrong(format!("not an answer: {error}")))?;
        if answer.id != Some(self.number) {
            return Err(Wrong(format!("id {:?} instead of {}", answer.id, self.number)));
        }
        if let Some(error) = answer.error {
            return Err(Wrong(format!("error {}", shortened(error.get()))));
        }
        let result = answer.result.ok_or_else(|| Wrong("neither result nor error".into()))?;
        match &self.ask {
            Ask::List { .. } => listed(result),
            ask => self.called(ask, result).map(|()| Page::default()),
        }
    }

    /// Whether a list is as long as it has to be.
    pub fn check_count(&self, tools: usize) -> Result<(), Wrong> {
        match self.ask {
            Ask::List { tools: wanted } if wanted != tools => {
                Err(Wrong(format!("{tools} tools instead of {wanted}")))
            }
            _ => Ok(()),
        }
    }

    fn called(&self, ask: &Ask, result: &RawValue) -> Result<(), Wrong> {
        let called: Called<'_> = serde_json::from_str(result.get())
            .map_err(|_| Wrong(format!("not a tool's result: {}", shortened(result.get()))))?;
        let [Content { text }] = &called.content[..] else {
            return Err(Wrong(format!("{} pieces of content", called.content.len())));
        };
        let is_right = match ask {
            Ask::Echo { .. } => text.as_bytes() == self.text(),
            Ask::Sleep { millis, .. } => **text == millis.to_string(),
            Ask::Blob { bytes, .. } => text.len() == *bytes && text.bytes().all(|byte| byte == b'x'),
            Ask::List { .. } => false,
        };
        if is_right { Ok(()) } else { Err(Wrong(format!("another text: {}", shortened(text)))) }
    }

    /// What an echo was asked to say.
    fn text(&self) -> &[u8] {
        let start = *self.places.last().expect("an echo has two places");
        let rest = &self.body[start..];
        &rest[..memchr::memchr(b'"', rest).unwrap_or(rest.len())]
    }

    fn write(&mut self, cursor: Option<&str>) {
        self.is_further = cursor.is_some();
        let with = |text: &str| self.text_of(text, cursor);
        let text = match self.ask {
            Ask::Echo { bytes, .. } => {
                let filler = bytes.saturating_sub(with("").len());
                with(&"x".repeat(filler))
            }
            _ => with(""),
        };
        self.body = text.into_bytes();
        self.places = memmem::find_iter(&self.body, PLACE.as_bytes()).collect();
    }

    fn text_of(&self, filler: &str, cursor: Option<&str>) -> String {
        let meta = match self.era {
            Era::Legacy => String::new(),
            Era::Modern => format!(
                r#","_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN_VERSION}","io.modelcontextprotocol/clientInfo":{{"name":"mcp-load","version":"1"}},"io.modelcontextprotocol/clientCapabilities":{{}}}}"#
            ),
        };
        let call = |tool: &str, arguments: String| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{PLACE},"method":"tools/call","params":{{"name":"{tool}","arguments":{{{arguments}}}{meta}}}}}"#
            )
        };
        match &self.ask {
            Ask::Echo { tool, .. } => call(tool, format!(r#""text":"{PLACE}{filler}""#)),
            Ask::Sleep { tool, millis } => call(tool, format!(r#""millis":{millis}"#)),
            Ask::Blob { tool, bytes } => call(tool, format!(r#""bytes":{bytes}"#)),
            Ask::List { .. } => {
                let cursor = cursor.map_or_else(String::new, |cursor| {
                    format!(r#""cursor":{}"#, serde_json::Value::from(cursor))
                });
                let meta = if cursor.is_empty() { meta.trim_start_matches(',') } else { &meta };
                format!(
                    r#"{{"jsonrpc":"2.0","id":{PLACE},"method":"tools/list","params":{{{cursor}{meta}}}}}"#
                )
            }
        }
    }
}

/// One page of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// How many tools it has.
    pub tools: usize,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
}

fn listed(result: &RawValue) -> Result<Page, Wrong> {
    let listed: Listed<'_> =
        serde_json::from_str(result.get()).map_err(|error| Wrong(format!("not a list: {error}")))?;
    Ok(Page { tools: listed.tools.len(), next_cursor: listed.next_cursor })
}

/// The message of a body: the body, or the last event of a stream.
fn message_of(body: &[u8]) -> Result<&[u8], Wrong> {
    if body.first() == Some(&b'{') {
        return Ok(body);
    }
    let lines = body.split(|&byte| byte == b'\n').rev();
    let mut data = lines.filter_map(|line| line.strip_prefix(b"data:"));
    data.next().map(<[u8]>::trim_ascii).ok_or_else(|| Wrong("neither JSON nor an event".into()))
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

/// What a legacy client begins with.
pub fn initialize() -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{LEGACY_VERSION}","capabilities":{{}},"clientInfo":{{"name":"mcp-load","version":"1"}}}}}}"#
    )
}

/// What it says when it was answered.
pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(bytes: usize, era: Era) -> Template {
        Template::new(Ask::Echo { tool: "echo".into(), bytes }, era)
    }

    fn answer(id: u64, text: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#)
    }

    #[test]
    fn a_call_has_the_size_that_was_asked_for() {
        assert_eq!(echo(300, Era::Legacy).next(7).len(), 300);
        assert_eq!(echo(10_000, Era::Modern).next(7).len(), 10_000);
    }

    #[test]
    fn an_answer_must_be_of_this_call() {
        let mut template = echo(120, Era::Legacy);
        let body = template.next(41).to_vec();
        let sent: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let text = sent["params"]["arguments"]["text"].as_str().unwrap();
        assert!(text.starts_with("1000000041"));
        template.check(answer(1_000_000_041, text).as_bytes()).unwrap();
        assert!(template.check(answer(1_000_000_042, text).as_bytes()).is_err());
        assert!(template.check(answer(1_000_000_041, "other").as_bytes()).is_err());
        let error = r#"{"jsonrpc":"2.0","id":1000000041,"error":{"code":1,"message":"no"}}"#;
        assert!(template.check(error.as_bytes()).is_err());
    }

    #[test]
    fn the_last_event_of_a_stream_is_the_answer() {
        let mut template = Template::new(Ask::Sleep { tool: "sleep".into(), millis: 5 }, Era::Modern);
        template.next(0);
        let stream =
            format!("event: message\ndata: {{\"method\":\"x\"}}\n\ndata: {}\n\n", answer(1_000_000_000, "5"));
        template.check(stream.as_bytes()).unwrap();
    }

    #[test]
    fn a_list_is_followed_to_its_end() {
        let mut template = Template::new(Ask::List { tools: 2 }, Era::Modern);
        let first: serde_json::Value = serde_json::from_slice(template.next(3)).unwrap();
        assert!(first["params"]["_meta"].is_object());
        let page = r#"{"id":1000000003,"result":{"tools":[{"name":"a"}],"nextCursor":"\"1"}}"#;
        let page = template.check(page.as_bytes()).unwrap();
        assert_eq!(page, Page { tools: 1, next_cursor: Some("\"1".into()) });
        let second: serde_json::Value = serde_json::from_slice(template.next_page("\"1")).unwrap();
        assert_eq!(second["params"]["cursor"], "\"1");
        assert_eq!(second["id"], 1_000_000_003);
        let again: serde_json::Value = serde_json::from_slice(template.next(4)).unwrap();
        assert_eq!(again["params"].get("cursor"), None);
        assert!(template.check_count(2).is_ok());
        assert!(template.check_count(1).is_err());
    }
}
