//! A call that an admin makes as a key, from the console: the way of every other call, but for the key's secret.
//!
//! It is a session of its own on the endpoint that clients use, so what the key may not see can't be called, its limits
//! and quotas hold, and the call is recorded. The key's networks are about its clients and are not asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::access::rate_limit;
use crate::context::{self, ClientContext};
use crate::control::{PlayError, PlayedCall, ToolCall};
use crate::facet::Facet;
use crate::http_bridge::{McpRequest, Reply, ReplyBody, Via};
use crate::refusal::Refusal;
use crate::wire::headers::{MCP_PROTOCOL_VERSION, MCP_SESSION_ID};
use crate::wire::sse;

/// Where every tool of the view is called by its name.
const PATH: &str = "/mcp/full/http";
/// The newest version that has sessions: it needs no headers that mirror what the body says.
const VERSION: &str = "2025-11-25";
/// The id of the call.
const CALL_ID: i64 = 1;
/// The longest that an admin waits.
const DEADLINE: Duration = Duration::from_secs(110);
/// Bytes of an answer that is shown.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Parts {
    pub(super) async fn play(&self, call: ToolCall) -> Result<PlayedCall, PlayError> {
        let gone = CancellationToken::new();
        // Whoever no longer waits wants no answer.
        let _gone = gone.clone().drop_guard();
        let hello = json!({
            "protocolVersion": VERSION, "capabilities": {},
            "clientInfo": {"name": "mcp-proxy-gateway playground", "version": env!("CARGO_PKG_VERSION")},
        });
        let opened = self.post(&call, None, message("initialize", &hello), &gone).await?;
        let session = opened.headers().get(MCP_SESSION_ID).cloned();
        let session = session.ok_or(PlayError::Refused("no session could be opened".into()))?;
        let params = json!({"name": call.name, "arguments": call.arguments});
        let started = Instant::now();
        let answer = async {
            let reply = self.post(&call, Some(session), message("tools/call", &params), &gone).await?;
            answer_of(reply).await
        };
        let answer = tokio::time::timeout(DEADLINE, answer).await.map_err(|_| PlayError::TimedOut)??;
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(PlayedCall { result: answer.get("result").cloned(), error: answer.get("error").cloned(), ms })
    }

    async fn post(
        &self,
        call: &ToolCall,
        session: Option<HeaderValue>,
        body: Bytes,
        gone: &CancellationToken,
    ) -> Result<Reply, PlayError> {
        let clock = self.store.clock();
        let Facet::Mcp(path) = Facet::of(PATH) else { return Err(PlayError::TimedOut) };
        let caller = self.keys.acting(call.key, clock.now()).map_err(|refusal| refused(&refusal))?;
        let admitted = match session {
            // What opens the session is ours and not the key's.
            None => rate_limit::admit_without_message(caller),
            Some(_) => {
                rate_limit::admit_message(caller, clock.now()).await.map_err(|refusal| refused(&refusal))?
            }
        };
        let mut head = http::Request::new(()).into_parts().0;
        (head.method, head.uri) = (Method::POST, http::Uri::from_static(PATH));
        if let Some(session) = session {
            head.headers.insert(MCP_SESSION_ID, session);
            head.headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static(VERSION));
        }
        let context = ClientContext { address: call.address, request_id: context::new_request_id(clock) };
        let mcp = self.mcp.get().map(Arc::clone).ok_or(PlayError::TimedOut)?;
        let (gone, via) = (gone.clone(), Via::Console);
        Ok(mcp.serve(McpRequest { head, body, admitted, path, context, gone, via }).await)
    }
}

fn message(method: &str, params: &Value) -> Bytes {
    json!({"jsonrpc": "2.0", "id": CALL_ID, "method": method, "params": params}).to_string().into()
}

fn refused(refusal: &Refusal) -> PlayError {
    match refusal.passes_after() {
        Some(retry_after) => PlayError::Limited { retry_after },
        None => PlayError::Refused(refusal.to_string()),
    }
}

fn too_long() -> PlayError {
    PlayError::Refused(format!("the answer has more than {} MiB and isn't shown", ANSWER_BYTES_MAX >> 20))
}

/// The answer to the call, whatever form it has; what comes beside it isn't shown.
async fn answer_of(reply: Reply) -> Result<Value, PlayError> {
    let unreadable = || PlayError::Refused("the answer can't be shown".into());
    match reply.into_body() {
        ReplyBody::Whole(bytes) if bytes.len() > ANSWER_BYTES_MAX => Err(too_long()),
        ReplyBody::Chain(pieces) if pieces.iter().map(Bytes::len).sum::<usize>() > ANSWER_BYTES_MAX => {
            Err(too_long())
        }
        ReplyBody::Whole(bytes) => serde_json::from_slice(&bytes).map_err(|_| unreadable()),
        ReplyBody::Chain(pieces) => serde_json::from_slice(&pieces.concat()).map_err(|_| unreadable()),
        ReplyBody::Stream(mut pieces) => {
            let mut events = sse::Reader::new(ANSWER_BYTES_MAX);
            while let Some(bytes) = pieces.recv().await {
                events.push(bytes);
                while let Some(event) = events.next_event().map_err(|_| unreadable())? {
                    let message: Value = serde_json::from_slice(&event.data).unwrap_or_default();
                    if message["id"] == CALL_ID && message.get("method").is_none() {
                        return Ok(message);
                    }
                }
            }
            Err(unreadable())
        }
        ReplyBody::Empty | ReplyBody::Frames(_) | ReplyBody::Upgrade(_) => Err(unreadable()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text_bytes: usize) -> Bytes {
        json!({"jsonrpc": "2.0", "id": CALL_ID, "result": {"text": "x".repeat(text_bytes)}})
            .to_string()
            .into()
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_not_shown_whatever_its_form() {
        let shown = async |body| answer_of(Reply::new(body)).await;
        let whole = |bytes| ReplyBody::Whole(answer(bytes));
        let chain = |bytes| {
            let mut first = answer(bytes);
            let second = first.split_off(first.len() / 2);
            ReplyBody::Chain(vec![first, second])
        };
        assert!(shown(whole(100)).await.is_ok() && shown(chain(100)).await.is_ok());
        for body in [whole(ANSWER_BYTES_MAX), chain(ANSWER_BYTES_MAX)] {
            assert!(matches!(shown(body).await, Err(PlayError::Refused(said)) if said.contains("8 MiB")));
        }
    }
}
