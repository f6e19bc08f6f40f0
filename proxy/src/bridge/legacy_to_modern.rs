//! A legacy client's call at a modern upstream.
//!
//! What the client said once, in `initialize` and `logging/setLevel`, is said again in each request's
//! `_meta`. Where the upstream answers that it needs input (multi round-trip requests, 2026-07-28), the
//! client is asked by real requests and the call is made again with its answers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{ErrorObject, implementation};
use crate::downstream::conversation::{AskRefused, Conversation};
use crate::upstream::call::Answer;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::meta::{self, LogLevel};

/// Rounds of input that one call may take: a person fills few forms, a broken upstream asks for ever.
pub const ROUNDS_MAX: usize = 10;

const RESOURCE_NOT_FOUND: i64 = -32002;
const MODERN_CODES: std::ops::RangeInclusive<i64> = -32022..=-32020;
const MISSING_CAPABILITY: i64 = -32021;
const INVALID_PARAMS: i64 = -32602;
const INTERNAL_ERROR: i64 = -32603;

/// What a legacy client said before the call.
pub struct Said<'a> {
    /// Its capabilities: the raw JSON object.
    pub capabilities: &'a RawValue,
    /// Its name, if the session carries it.
    pub client_info: Option<&'a RawValue>,
    /// The least severe log message that it wants.
    pub log_level: LogLevel,
}

/// Params as the modern upstream takes them: with the per-request protocol fields.
pub fn params(params: &Bytes, said: &Said<'_>) -> Bytes {
    let mut object = Object::parse(params).unwrap_or_else(|_| Object::empty());
    let mut meta = object.get("_meta").and_then(|raw| Object::parse(&raw).ok()).unwrap_or_else(Object::empty);
    meta.set(meta::PROTOCOL_VERSION, compose::string(meta::MODERN_VERSION.as_str()));
    meta.set(meta::CLIENT_CAPABILITIES, without_tasks(said.capabilities));
    let client_info = said.client_info.map(|info| Bytes::copy_from_slice(info.get().as_bytes()));
    meta.set(meta::CLIENT_INFO, client_info.unwrap_or_else(implementation));
    meta.set(meta::LOG_LEVEL, compose::string(said.log_level.as_str()));
    object.set("_meta", meta.into_bytes());
    object.into_bytes()
}

/// The capabilities without the extension for tasks: what the upstream would answer then, no legacy
/// client can take.
fn without_tasks(declared: &RawValue) -> Bytes {
    let raw = Bytes::copy_from_slice(declared.get().as_bytes());
    let Ok(mut capabilities) = Object::parse(&raw) else { return raw };
    let extensions = capabilities.get("extensions").and_then(|raw| Object::parse(&raw).ok());
    let Some(mut extensions) = extensions else { return raw };
    if extensions.remove(meta::TASKS_EXTENSION).is_some() {
        capabilities.set("extensions", extensions.into_bytes());
    }
    capabilities.into_bytes()
}

/// What the upstream needs before it can go on.
pub struct InputRequired {
    requests: BTreeMap<String, InputRequest>,
    state: Option<Bytes>,
}

#[derive(Deserialize)]
struct InputRequest {
    method: String,
    params: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawResult<'a> {
    #[serde(borrow)]
    result_type: Option<Cow<'a, str>>,
    #[serde(default)]
    input_requests: BTreeMap<String, InputRequest>,
    #[serde(borrow)]
    request_state: Option<&'a RawValue>,
}

/// How a modern result goes on.
pub enum Next {
    /// It is final, in the form the legacy client takes.
    Done(Answer),
    /// The client is to be asked.
    Ask(InputRequired),
}

/// Reads a modern upstream's answer to a legacy client's call of `method`.
pub fn next(answer: Answer, method: &str) -> Next {
    let raw = match answer {
        Answer::Error(raw) => return Next::Done(error(raw, method)),
        Answer::Result(raw) => raw,
    };
    // Most results are complete and large: what isn't said to need input is not parsed further.
    let result_type = Object::parse(&raw).ok().and_then(|object| object.get("resultType"));
    if result_type.as_deref() == Some(br#""task""#) {
        return Next::Done(internal_error("the upstream made a task of a call that can't be one"));
    }
    if result_type.as_deref() != Some(br#""input_required""#) {
        return Next::Done(Answer::Result(result(&raw)));
    }
    match serde_json::from_slice::<RawResult<'_>>(&raw) {
        Ok(parsed) if parsed.result_type.as_deref() == Some("input_required") => Next::Ask(InputRequired {
            requests: parsed.input_requests,
            state: parsed.request_state.map(|state| Bytes::copy_from_slice(state.get().as_bytes())),
        }),
        _ => Next::Done(internal_error("the upstream asked for input in a form that isn't valid")),
    }
}

/// Puts every input request to the client, side by side, and gives the params of the next round: the
/// same with the answers, and with the state exactly as the upstream made it.
pub async fn retry_params(
    params: &Bytes,
    required: InputRequired,
    conversation: &Conversation,
) -> Result<Bytes, Answer> {
    let answers = required.requests.into_iter().map(|(key, request)| async move {
        let asked = request.params.map(|params| with_elicitation_id(params.get()));
        match conversation.ask(&request.method, asked).await {
            Ok(Answer::Result(raw)) => Ok((key, raw)),
            Ok(Answer::Error(raw)) => Err(declined(&request.method, &raw)),
            Err(refused) => Err(refused_error(&refused)),
        }
    });
    let answers = try_join_all(answers).await?;
    let mut object = Object::parse(params).unwrap_or_else(|_| Object::empty());
    let mut responses = Object::empty();
    for (key, raw) in answers {
        responses.set(&key, raw);
    }
    object.set("inputResponses", responses.into_bytes());
    match required.state {
        Some(state) => object.set("requestState", state),
        None => {
            object.remove("requestState");
        }
    }
    Ok(object.into_bytes())
}

/// 2025-11-25 names each visit of a page, which the modern era has done away with; a client of before
/// is never asked for one.
fn with_elicitation_id(params: &str) -> Bytes {
    let raw = Bytes::copy_from_slice(params.as_bytes());
    let Ok(mut object) = Object::parse(&raw) else { return raw };
    let is_visit = object.text("mode").is_some_and(|mode| mode.as_str() == "url");
    if !is_visit || object.get("elicitationId").is_some() {
        return raw;
    }
    object.set("elicitationId", compose::string(&Uuid::now_v7().to_string()));
    object.into_bytes()
}

fn result(raw: &Bytes) -> Bytes {
    let Ok(mut object) = Object::parse(raw) else { return raw.clone() };
    for key in ["resultType", "ttlMs", "cacheScope"] {
        object.remove(key);
    }
    if let Some(mut meta) = object.get("_meta").and_then(|raw| Object::parse(&raw).ok()) {
        meta.remove(meta::SERVER_INFO);
        if meta.is_empty() {
            object.remove("_meta");
        } else {
            object.set("_meta", meta.into_bytes());
        }
    }
    object.into_bytes()
}

fn error(raw: Bytes, method: &str) -> Answer {
    let Some(mut object) = ErrorObject::read(&raw) else { return Answer::Error(raw) };
    match object.code {
        MISSING_CAPABILITY if method == "tools/call" => return Answer::Result(missing_capability(&object)),
        code if MODERN_CODES.contains(&code) => object.code = INTERNAL_ERROR,
        INVALID_PARAMS if method == "resources/read" => object.code = RESOURCE_NOT_FOUND,
        _ => return Answer::Error(raw.clone()),
    }
    Answer::Error(object.to_bytes())
}

/// A tool that needs what the client never declared has failed, in words that a model can act on.
fn missing_capability(error: &ErrorObject<'_>) -> Bytes {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Data {
        required_capabilities: BTreeMap<String, serde_json::Value>,
    }
    let names = error
        .data
        .and_then(|data| serde_json::from_str::<Data>(data.get()).ok())
        .map(|data| data.required_capabilities.into_keys().collect::<Vec<_>>().join(", "))
        .filter(|names| !names.is_empty())
        .unwrap_or_else(|| error.message.to_string());
    tool_error(&format!("This tool needs a capability that the client does not have: {names}."))
}

fn tool_error(text: &str) -> Bytes {
    #[derive(Serialize)]
    struct Content<'a> {
        r#type: &'a str,
        text: &'a str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ToolResult<'a> {
        content: [Content<'a>; 1],
        is_error: bool,
    }
    let result = ToolResult { content: [Content { r#type: "text", text }], is_error: true };
    serde_json::to_vec(&result).expect("texts and a flag").into()
}

fn declined(method: &str, raw: &[u8]) -> Answer {
    let said = ErrorObject::read(raw).map(|object| object.message.into_owned()).unwrap_or_default();
    internal_error(&format!("the client refused {method}: {said}"))
}

fn refused_error(refused: &AskRefused) -> Answer {
    internal_error(&refused.message)
}

/// The call can't go on for a reason on the gateway's side of the bridge.
pub fn internal_error(message: &str) -> Answer {
    Answer::Error(ErrorObject { code: INTERNAL_ERROR, message: message.into(), data: None }.to_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::downstream::conversation::{self, Outbound, Owner};

    fn bytes(value: &Value) -> Bytes {
        Bytes::from(value.to_string())
    }

    fn value(raw: &[u8]) -> Value {
        serde_json::from_slice(raw).expect("JSON")
    }

    fn asking(requests: &Value, state: Option<&str>) -> InputRequired {
        let mut result = json!({"resultType": "input_required", "inputRequests": requests});
        if let Some(state) = state {
            result["requestState"] = state.into();
        }
        match next(Answer::Result(bytes(&result)), "tools/call") {
            Next::Ask(required) => required,
            Next::Done(answer) => panic!("it asks, but: {answer:?}"),
        }
    }

    fn done(answer: Answer, method: &str) -> Answer {
        match next(answer, method) {
            Next::Done(answer) => answer,
            Next::Ask(_) => panic!("nothing is asked"),
        }
    }

    /// Puts the questions to a client that answers each in the given way.
    async fn asked(
        params: &Value,
        required: InputRequired,
        mut reply: impl FnMut(&str) -> Result<Answer, AskRefused>,
    ) -> Result<Value, Answer> {
        let (conversation, mut outbox) =
            conversation::open(Owner(uuid::Uuid::nil()), CancellationToken::new());
        let params = bytes(params);
        let client = async {
            while let Some(Outbound::Ask(ask)) = outbox.next().await {
                let _ = ask.reply.send(reply(&ask.method));
            }
        };
        tokio::select! {
            retried = retry_params(&params, required, &conversation) => retried.map(|raw| value(&raw)),
            () = client => panic!("the conversation outlasts the round"),
        }
    }

    #[tokio::test]
    async fn every_question_is_put_and_the_state_goes_back_as_it_came() {
        let requests = json!({
            "a": {"method": "elicitation/create", "params": {"message": "Who?"}},
            "b": {"method": "roots/list"},
        });
        let params = json!({"name": "t", "inputResponses": {"old": 1}, "requestState": "old"});
        let retried = asked(&params, asking(&requests, Some("s\u{e9}1")), |method| {
            Ok(Answer::Result(bytes(&json!({"said": method}))))
        });
        let expected = json!({
            "name": "t",
            "inputResponses": {"a": {"said": "elicitation/create"}, "b": {"said": "roots/list"}},
            "requestState": "s\u{e9}1",
        });
        assert_eq!(retried.await.expect("a next round"), expected);
        let none = asked(&params, asking(&json!({}), None), |_| Err(AskRefused::unanswered())).await;
        assert_eq!(none.expect("a next round"), json!({"name": "t", "inputResponses": {}}));
    }

    #[tokio::test]
    async fn a_client_that_refuses_ends_the_call() {
        let requests = json!({"a": {"method": "roots/list"}});
        let error = || Ok(Answer::Error(bytes(&json!({"code": -1, "message": "no"}))));
        for reply in [error(), Err(AskRefused::unsupported("roots/list"))] {
            let refused = asked(&json!({}), asking(&requests, None), |_| reply.clone()).await;
            let Err(Answer::Error(raw)) = refused else { panic!("an error") };
            assert_eq!(value(&raw)["code"], INTERNAL_ERROR);
        }
    }

    #[test]
    fn a_page_to_visit_gets_the_name_that_the_legacy_era_wants() {
        let page = |raw: &str| value(&with_elicitation_id(raw));
        let id = |raw: &str| page(raw)["elicitationId"].as_str().map(str::to_owned);
        let visit = r#"{"mode":"url","message":"Log in","url":"https://example.com/"}"#;
        assert!(id(visit).is_some_and(|first| id(visit).is_some_and(|second| first != second)));
        assert_eq!(id(r#"{"mode":"url","elicitationId":"e"}"#).as_deref(), Some("e"));
        let form = r#"{"mode":"form","message":"Who?"}"#;
        assert_eq!(with_elicitation_id(form), form);
    }

    #[test]
    fn a_question_that_is_none_is_an_error_and_no_panic() {
        for requests in [json!([]), json!({"a": 1}), json!({"a": {"params": {}}}), Value::Null] {
            let result = json!({"resultType": "input_required", "inputRequests": requests});
            let answer = done(Answer::Result(bytes(&result)), "tools/call");
            assert!(matches!(answer, Answer::Error(_)), "{requests}");
        }
    }

    #[test]
    fn a_result_loses_what_a_legacy_client_does_not_know() {
        let result = json!({"resultType": "complete", "content": [], "ttlMs": 1, "cacheScope": "public",
            "_meta": {"io.modelcontextprotocol/serverInfo": {}, "x": 1}});
        let Answer::Result(raw) = done(Answer::Result(bytes(&result)), "tools/call") else {
            panic!("a result")
        };
        assert_eq!(value(&raw), json!({"content": [], "_meta": {"x": 1}}));
    }

    #[test]
    fn codes_of_the_modern_era_are_translated() {
        let code = |code: i64, method: &str| {
            let error = json!({"code": code, "message": "m", "data": {"d": 1}});
            let Answer::Error(raw) = done(Answer::Error(bytes(&error)), method) else { panic!("an error") };
            assert_eq!(value(&raw)["data"], json!({"d": 1}));
            value(&raw)["code"].as_i64()
        };
        assert_eq!(code(-32020, "tools/call"), Some(INTERNAL_ERROR));
        assert_eq!(code(-32022, "tools/call"), Some(INTERNAL_ERROR));
        assert_eq!(code(-32021, "prompts/get"), Some(INTERNAL_ERROR));
        assert_eq!(code(-32602, "resources/read"), Some(RESOURCE_NOT_FOUND));
        assert_eq!(code(-32602, "tools/call"), Some(INVALID_PARAMS));
        assert_eq!(code(-1, "tools/call"), Some(-1));
        let data = json!({"requiredCapabilities": {"sampling": {}}});
        let error = json!({"code": -32021, "message": "m", "data": data});
        let Answer::Result(raw) = done(Answer::Error(bytes(&error)), "tools/call") else {
            panic!("a result that failed")
        };
        assert_eq!(value(&raw)["isError"], true);
        assert!(value(&raw)["content"][0]["text"].as_str().is_some_and(|text| text.contains("sampling")));
    }

    #[test]
    fn a_legacy_client_never_declares_tasks_and_is_never_given_one() {
        let declared = r#"{"sampling":{},"extensions":{"io.modelcontextprotocol/tasks":{},"x/y":{"a":1.0}}}"#;
        let capabilities = RawValue::from_string(declared.to_owned()).expect("JSON");
        let said = Said { capabilities: &capabilities, client_info: None, log_level: LogLevel::Info };
        let sent = value(&params(&bytes(&json!({"name": "t"})), &said));
        let expected = json!({"sampling": {}, "extensions": {"x/y": {"a": 1.0}}});
        assert_eq!(sent["_meta"][meta::CLIENT_CAPABILITIES], expected);
        let task = json!({"resultType": "task", "taskId": "1", "status": "working"});
        let Answer::Error(raw) = done(Answer::Result(bytes(&task)), "tools/call") else { panic!("an error") };
        assert_eq!(value(&raw)["code"], INTERNAL_ERROR);
    }
}
