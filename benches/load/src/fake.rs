//! The upstream: answers at once, in both eras.
//!
//! Its tools are `echo` (says `text` back), `sleep` (answers after `millis`), `blob` (answers with
//! `bytes` bytes) and as many more as are wanted, each with a definition of ordinary size.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::message::{LEGACY_VERSION, MODERN_VERSION};

/// Tools that do something.
const REAL_TOOLS: usize = 3;
/// Larger than any answer that is measured.
const BLOB_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An upstream; it remembers nothing.
pub struct Fake {
    tools: String,
}

/// What a message gets.
pub enum Reply {
    /// This message.
    Message(Bytes),
    /// This one, when the time is over.
    After(Duration, Bytes),
    /// Nothing: it was a notification or an answer.
    Nothing,
    /// It can't be read.
    Malformed,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    name: Option<&'a str>,
    #[serde(borrow)]
    arguments: Option<Arguments<'a>>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    millis: Option<u64>,
    bytes: Option<usize>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<&'a str>,
}

impl Fake {
    /// One with this many tools, the three real ones among them.
    pub fn new(tools: usize) -> Self {
        let mut definitions = vec![
            definition("echo", "Says a text back.", r#""text":{"type":"string"}"#),
            definition("sleep", "Answers after a while.", r#""millis":{"type":"integer"}"#),
            definition("blob", "Answers with much.", r#""bytes":{"type":"integer"}"#),
        ];
        definitions.extend((REAL_TOOLS..tools).map(|number| {
            let text = format!(
                "Number {number} of the tools that are there to be listed. Takes a path and a query, and answers with nothing."
            );
            let properties = r#""path":{"type":"string","description":"Where to look"},"query":{"type":"string","description":"What to look for"}"#;
            definition(&format!("tool_{number}"), &text, properties)
        }));
        Self { tools: definitions.join(",") }
    }

    /// What one message gets.
    pub fn reply(&self, message: &[u8]) -> Reply {
        let Ok(message) = serde_json::from_slice::<Message<'_>>(message) else { return Reply::Malformed };
        let (Some(id), Some(method)) = (message.id, message.method) else { return Reply::Nothing };
        let params = message.params.as_ref();
        let is_modern = params
            .and_then(|params| params.meta.as_ref())
            .is_some_and(|meta| meta.version == Some(MODERN_VERSION));
        let kind = if is_modern { r#""resultType":"complete","# } else { "" };
        let id = id.get();
        let result = |result: &str| -> Bytes {
            [r#"{"jsonrpc":"2.0","id":"#, id, r#","result":{"#, kind, result, "}}"].concat().into()
        };
        let fresh = if is_modern { r#""ttlMs":60000,"cacheScope":"public","# } else { "" };
        match method {
            "tools/call" => call(params, &result).unwrap_or_else(|| {
                Reply::Message(error(id, -32602, "no such tool, or not with these arguments"))
            }),
            "tools/list" => Reply::Message(result(&[fresh, r#""tools":["#, &self.tools, "]"].concat())),
            "ping" => Reply::Message(result(r#""_meta":{}"#)),
            "initialize" => Reply::Message(result(&format!(
                r#""protocolVersion":"{LEGACY_VERSION}","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"mcp-upstream","version":"1"}}"#
            ))),
            "server/discover" if is_modern => Reply::Message(result(&format!(
                r#"{fresh}"supportedVersions":["{MODERN_VERSION}"],"capabilities":{{"tools":{{}}}},"_meta":{{"io.modelcontextprotocol/serverInfo":{{"name":"mcp-upstream","version":"1"}}}}"#
            ))),
            _ => Reply::Message(error(id, -32601, "method not found")),
        }
    }
}

fn call(params: Option<&Params<'_>>, result: &impl Fn(&str) -> Bytes) -> Option<Reply> {
    let params = params?;
    let arguments = params.arguments.as_ref()?;
    let text = |raw: &str| result(&[r#""content":[{"type":"text","text":"#, raw, "}]"].concat());
    match params.name? {
        "echo" => Some(Reply::Message(text(arguments.text?.get()))),
        "sleep" => {
            let millis = arguments.millis?;
            Some(Reply::After(Duration::from_millis(millis), text(&format!(r#""{millis}""#))))
        }
        "blob" => {
            let bytes = arguments.bytes.filter(|&bytes| bytes <= BLOB_BYTES_MAX)?;
            Some(Reply::Message(text(&format!(r#""{}""#, "x".repeat(bytes)))))
        }
        _ => None,
    }
}

fn error(id: &str, code: i64, message: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#).into()
}

fn definition(name: &str, description: &str, properties: &str) -> String {
    format!(
        r#"{{"name":"{name}","description":"{description}","inputSchema":{{"type":"object","properties":{{{properties}}}}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Ask, Era, Template};

    fn is_right(ask: Ask, era: Era) -> usize {
        let mut template = Template::new(ask, era);
        let asked = template.next(5).to_vec();
        let answer = match Fake::new(10).reply(&asked) {
            Reply::Message(answer) | Reply::After(_, answer) => answer,
            Reply::Nothing | Reply::Malformed => panic!("there is an answer"),
        };
        template.check(&answer).unwrap().tools
    }

    #[test]
    fn every_tool_answers_in_both_eras() {
        for era in [Era::Legacy, Era::Modern] {
            is_right(Ask::Echo { tool: "echo".into(), bytes: 300 }, era);
            is_right(Ask::Sleep { tool: "sleep".into(), millis: 1 }, era);
            is_right(Ask::Blob { tool: "blob".into(), bytes: 1_000 }, era);
            assert_eq!(is_right(Ask::List { tools: 10 }, era), 10);
        }
    }

    #[test]
    fn what_wants_no_answer_gets_none() {
        let fake = Fake::new(3);
        assert!(matches!(fake.reply(crate::message::INITIALIZED.as_bytes()), Reply::Nothing));
        assert!(matches!(fake.reply(b"{"), Reply::Malformed));
    }
}
