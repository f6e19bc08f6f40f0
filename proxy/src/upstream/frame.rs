//! The bytes of a message to an upstream, and what those from it are: shared by all transports.
//!
//! A client's progress token means something to that client only, so the upstream sees our request id
//! in its place; [`restore_progress`] puts the client's own back. All else passes as it came.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::call::{Answer, CallError, GATEWAY};
use crate::bridge::ErrorObject;
use crate::downstream::conversation::{AskRefused, Owner};
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::envelope::{self, Field, Message, Params, ResponseBody};
use crate::wire::ids::Id;
use crate::wire::meta::PROGRESS_TOKEN;
use crate::wire::text::Text;

/// A request ready to be sent.
pub(crate) struct Outgoing {
    /// The whole JSON-RPC message, without a newline at its end.
    pub(crate) body: Bytes,
    /// The client's own progress token, to be restored in what comes back; raw JSON.
    pub(crate) progress_token: Option<Bytes>,
}

/// A message from the upstream.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// An answer.
    Answer {
        /// The id, if it is one that we could have used.
        id: Option<u64>,
        /// Result or error.
        answer: Answer,
    },
    /// A request of the upstream's own.
    Request {
        /// To be echoed in the answer.
        id: Id,
        /// The method.
        method: Text,
        /// Its params.
        params: Option<Params>,
    },
    /// A notification.
    Notification {
        /// The method.
        method: Text,
        /// Its params.
        params: Option<Params>,
    },
    /// Several messages (2025-03-26), each to be read by itself.
    Batch(Vec<Bytes>),
}

/// What came isn't a JSON-RPC message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON-RPC message")]
pub(crate) struct NotAMessage;

/// The params of a call can't be sent: a `_meta` that isn't an object with each key once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the _meta of the request is not usable")]
pub(crate) struct UnusableMeta;

/// The answer to a request of the upstream's own.
pub(crate) type Reply = Result<Answer, AskRefused>;

/// To whom a notification of some method may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addressee {
    /// The call whose id is its progress token.
    Progress,
    /// The request of the upstream's own that it takes back.
    Taken,
    /// Everyone who asked: lists, resources and tasks that changed, acknowledged subscriptions. A status
    /// may come on the stream of any call, so it says nothing of whose the task is.
    Everyone,
    /// The call it arrives with: log messages, and methods we don't know.
    Call,
}

/// To whom notifications of `method` go.
pub(crate) fn addressee(method: &str) -> Addressee {
    match method {
        "notifications/progress" => Addressee::Progress,
        "notifications/cancelled" => Addressee::Taken,
        "notifications/tools/list_changed"
        | "notifications/prompts/list_changed"
        | "notifications/resources/list_changed"
        | "notifications/resources/updated"
        | "notifications/tasks"
        | "notifications/tasks/status"
        | "notifications/subscriptions/acknowledged" => Addressee::Everyone,
        _ => Addressee::Call,
    }
}

/// A request under `id`, with `id` in the place of the client's progress token.
pub(crate) fn request(id: u64, method: &str, params: &Bytes) -> Result<Outgoing, UnusableMeta> {
    let (params, progress_token) = replace_progress(id, params)?;
    Ok(Outgoing { body: compose::request(id, method, Some(&params)), progress_token })
}

fn replace_progress(id: u64, params: &Bytes) -> Result<(Bytes, Option<Bytes>), UnusableMeta> {
    // Most calls have no token; a key may be spelled with escapes, so those are looked into as well.
    static TOKEN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PROGRESS_TOKEN));
    static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\\u"));
    if TOKEN.find(params).is_none() && ESCAPE.find(params).is_none() {
        return Ok((params.clone(), None));
    }
    let mut object = Object::parse(params).map_err(|_| UnusableMeta)?;
    let Some(raw_meta) = object.get("_meta") else { return Ok((params.clone(), None)) };
    let mut meta = Object::parse(&raw_meta).map_err(|_| UnusableMeta)?;
    let Some(token) = meta.get(PROGRESS_TOKEN) else { return Ok((params.clone(), None)) };
    meta.set(PROGRESS_TOKEN, id.to_string());
    object.set("_meta", meta.into_bytes());
    Ok((object.into_bytes(), Some(token)))
}

/// The id of the call that a progress notification is about.
pub(crate) fn progress_of(params: Option<&Params>) -> Option<u64> {
    params?.id(Field::ProgressToken)?.as_u64()
}

/// The params of a progress notification with the client's own token.
pub(crate) fn restore_progress(params: &Params, token: &Bytes) -> Bytes {
    params.with(&[(Field::ProgressToken, token)])
}

/// The id of the request that `notifications/cancelled` takes back.
pub(crate) fn taken_back(params: Option<&Params>) -> Option<Id> {
    params?.id(Field::RequestId)
}

/// Reads one message.
pub(crate) fn read(message: Bytes) -> Result<Incoming, NotAMessage> {
    Ok(match envelope::parse(message).map_err(|_| NotAMessage)? {
        Message::Request(request) => {
            Incoming::Request { id: request.id, method: request.method, params: request.params }
        }
        Message::Notification(notification) => {
            Incoming::Notification { method: notification.method, params: notification.params }
        }
        Message::Response(response) => Incoming::Answer {
            id: response.id.as_ref().and_then(Id::as_u64),
            answer: match response.body {
                ResponseBody::Result(result) => Answer::Result(result),
                ResponseBody::Error(error) => Answer::Error(error),
            },
        },
        Message::Batch(messages) => Incoming::Batch(messages),
    })
}

/// The answer, if it is one that a client can read: a result is an object, and an error has a code and a message.
/// The gateway itself reads no more of an answer than it needs: to a ping, any will do.
pub(crate) fn usable(answer: Answer, asker: Owner) -> Result<Answer, CallError> {
    match &answer {
        _ if asker == GATEWAY => Ok(answer),
        Answer::Result(result) if result.first() != Some(&b'{') => {
            Err(CallError::Invalid { reason: "the result is not an object" })
        }
        Answer::Error(error) if ErrorObject::read(error).is_none() => {
            Err(CallError::Invalid { reason: "the error has no code or no message" })
        }
        _ => Ok(answer),
    }
}

/// The answer to a request of the upstream's own.
pub(crate) fn reply(id: &Id, reply: &Reply) -> Bytes {
    match reply {
        Ok(Answer::Result(result)) => compose::result(id, result),
        Ok(Answer::Error(error)) => compose::error_raw(Some(id), error),
        Err(refused) => compose::error(Some(id), refused.code, &refused.message, None),
    }
}

/// The answer to `ping`.
pub(crate) fn pong(id: &Id) -> Bytes {
    compose::result(id, b"{}")
}

/// Tells the upstream that the answer to `id` is no longer wanted.
pub(crate) fn cancelled(id: u64, reason: &str) -> Bytes {
    let params = format!(r#"{{"requestId":{id},"reason":{}}}"#, compose::Quoted(reason));
    compose::notification("notifications/cancelled", Some(params.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f04_an_answer_that_no_client_can_read_is_none() {
        let client = Owner(uuid::Uuid::from_u128(1));
        let result = |raw: &'static str| usable(Answer::Result(Bytes::from_static(raw.as_bytes())), client);
        let error = |raw: &'static str| usable(Answer::Error(Bytes::from_static(raw.as_bytes())), client);
        assert!(usable(Answer::Result(Bytes::from_static(b"null")), GATEWAY).is_ok());
        assert!(result("{}").is_ok() && error(r#"{"code":-1,"message":"no","data":[]}"#).is_ok());
        for bad in ["null", "5", "\"text\"", "[]", "true"] {
            assert!(result(bad).is_err(), "{bad}");
        }
        for bad in ["{}", r#"{"code":1}"#, r#"{"message":"no"}"#, r#"{"code":"1","message":"no"}"#] {
            assert!(error(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_upstream_sees_our_token_and_the_client_its_own() {
        let params = Bytes::from_static(br#"{"name":"t", "_meta": {"progressToken": "mine","a":1.0}}"#);
        let outgoing = request(7, "tools/call", &params).expect("a good _meta");
        assert_eq!(
            outgoing.body,
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t", "_meta": {"progressToken": 7,"a":1.0}}}"#
        );
        let token = outgoing.progress_token.expect("it had one");
        let came = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":0.50}}"#;
        let Ok(Incoming::Notification { params: Some(params), .. }) = read(came.into()) else {
            panic!("it is one")
        };
        assert_eq!(progress_of(Some(&params)), Some(7));
        assert_eq!(restore_progress(&params, &token), r#"{"progressToken":"mine","progress":0.50}"#);
    }

    #[test]
    fn a_token_spelled_with_escapes_is_replaced_too() {
        let params = Bytes::from_static(br#"{"_meta":{"progress\u0054oken":1}}"#);
        let outgoing = request(7, "tools/call", &params).expect("a good _meta");
        assert_eq!(outgoing.progress_token, Some(Bytes::from_static(b"1")));
        assert!(!String::from_utf8_lossy(&outgoing.body).contains(":1}"));
    }

    #[test]
    fn a_doubled_token_is_refused() {
        let params = Bytes::from_static(br#"{"_meta":{"progressToken":1,"progressToken":2}}"#);
        assert!(request(7, "tools/call", &params).is_err());
    }

    #[test]
    fn without_a_token_nothing_changes() {
        let params = Bytes::from_static(br#"{ "name" : "t" }"#);
        let outgoing = request(1, "m", &params).expect("no _meta");
        assert_eq!(outgoing.body, r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{ "name" : "t" }}"#);
        assert_eq!(outgoing.progress_token, None);
    }
}
