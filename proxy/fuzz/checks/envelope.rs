//! What must hold for any bytes given to the envelope; used by the fuzz target and by ordinary tests.

use bytes::Bytes;
use serde_json::Value;

use super::wire::edit::Object;
use super::wire::envelope::{EnvelopeError, Message, Params, ResponseBody, parse};
use super::wire::ids::Id;
use super::wire::{compose, meta};

/// Panics if a property doesn't hold.
pub fn check(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let second: Result<Value, _> = serde_json::from_slice(data);
    match parse(body.clone()) {
        Ok(message) => {
            match second {
                Ok(tree) => agrees(&message, &tree),
                Err(error) => assert!(is_beyond_the_second_parser(&error), "accepted, but: {error}"),
            }
            holds_together(&message);
            if let Message::Batch(elements) = message {
                assert!(!elements.is_empty() && elements.len() <= 100);
                for element in elements {
                    check(&element);
                }
            }
        }
        Err(EnvelopeError::NotJson { at, .. }) => {
            assert!(at <= data.len());
            assert!(second.is_err(), "refused as JSON, though it is");
        }
        Err(EnvelopeError::TooDeep { .. }) => assert!(second.is_err(), "not that deep"),
        Err(EnvelopeError::NotAMessage { id, .. }) => {
            match second {
                Ok(tree) => {
                    if let Some(id) = id {
                        same_id(&id, &tree["id"]);
                    }
                }
                // A batch that is too long isn't read to its end.
                Err(error) => {
                    assert!(is_beyond_the_second_parser(&error) || data.trim_ascii().starts_with(b"["));
                }
            }
        }
    }
}

/// It has smaller limits: numbers must fit, and one level of nesting less is allowed.
fn is_beyond_the_second_parser(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    text.contains("number out of range") || text.contains("recursion limit exceeded")
}

fn agrees(message: &Message, tree: &Value) {
    match message {
        Message::Request(request) => {
            assert_eq!(tree["jsonrpc"], "2.0");
            assert_eq!(tree["method"], request.method.as_str());
            same_id(&request.id, &tree["id"]);
            same_params(request.params.as_ref(), tree);
        }
        Message::Notification(notification) => {
            assert_eq!(tree["method"], notification.method.as_str());
            assert!(tree.get("id").is_none());
            same_params(notification.params.as_ref(), tree);
        }
        Message::Response(response) => {
            assert!(tree.get("method").is_none());
            match &response.id {
                Some(id) => same_id(id, &tree["id"]),
                None => assert!(tree["id"].is_null()),
            }
            let (raw, value) = match &response.body {
                ResponseBody::Result(raw) => (raw, &tree["result"]),
                ResponseBody::Error(raw) => (raw, &tree["error"]),
            };
            same_value(raw, value);
        }
        Message::Batch(elements) => {
            let values = tree.as_array().expect("an array");
            assert_eq!(values.len(), elements.len());
            elements.iter().zip(values).for_each(|(element, value)| same_value(element, value));
        }
    }
}

fn same_params(params: Option<&Params>, tree: &Value) {
    let Some(params) = params else {
        assert!(tree.get("params").is_none());
        return;
    };
    let tree = &tree["params"];
    same_value(params.raw(), tree);
    assert_eq!(params.name().as_deref(), tree["name"].as_str());
    assert_eq!(params.uri().as_deref(), tree["uri"].as_str());
    assert_eq!(params.cursor().as_deref(), tree["cursor"].as_str());
    match params.arguments() {
        Some(arguments) => same_value(&arguments, &tree["arguments"]),
        None => assert!(tree.get("arguments").is_none()),
    }
    let Some(raw) = params.meta() else {
        assert!(tree.get("_meta").is_none());
        return;
    };
    same_value(&raw, &tree["_meta"]);
    if let Ok(read) = meta::RequestMeta::read(&raw) {
        assert_eq!(read.protocol_version.as_deref(), tree["_meta"][meta::PROTOCOL_VERSION].as_str());
        match read.progress_token {
            Some(token) => same_id(&token, &tree["_meta"][meta::PROGRESS_TOKEN]),
            None => assert!(tree["_meta"].get(meta::PROGRESS_TOKEN).is_none()),
        }
    }
}

fn same_value(raw: &[u8], value: &Value) {
    let own: Value = serde_json::from_slice(raw).expect("a part of valid JSON");
    assert_eq!(&own, value);
}

fn same_id(id: &Id, value: &Value) {
    assert!(value.is_string() || value.is_number(), "an id of another type");
    same_value(id.raw(), value);
}

/// What is cut out can be put together again.
fn holds_together(message: &Message) {
    match message {
        Message::Request(request) => {
            assert_eq!(Id::read(request.id.raw()).as_ref(), Some(&request.id));
            let answer = compose::result(&request.id, b"{}");
            let Ok(Message::Response(answer)) = parse(answer) else { panic!("the answer is a response") };
            assert_eq!(answer.id.as_ref(), Some(&request.id));
            let again =
                compose::request(7, &request.method, request.params.as_ref().map(|params| &params.raw()[..]));
            let Ok(Message::Request(again)) = parse(again) else { panic!("a request stays one") };
            assert_eq!((again.method, again.id.as_u64()), (request.method.clone(), Some(7)));
            request.params.iter().for_each(edits);
        }
        Message::Notification(notification) => notification.params.iter().for_each(edits),
        Message::Response(_) | Message::Batch(_) => {}
    }
}

fn edits(params: &Params) {
    assert_eq!(params.with(&[]), params.raw());
    // An object in `params` may have members beyond those that the envelope knows, but none twice.
    let object = params.object().expect("its keys were checked");
    assert_eq!(object.clone().into_bytes(), params.raw());
    let mut edited = object.clone();
    edited.set("name", &b"\"x\""[..]);
    assert_eq!(edited.clone().into_chain().concat(), edited.clone().into_bytes());
    let edited = Object::parse(&edited.into_bytes()).expect("an edit keeps it an object");
    let expected: Vec<_> = object.iter().filter(|(key, _)| *key != "name").collect();
    assert_eq!(edited.iter().filter(|(key, _)| *key != "name").collect::<Vec<_>>(), expected);
    assert_eq!(edited.text("name").as_deref(), Some("x"));
    let mut emptied = object.clone();
    object.iter().for_each(|(key, value)| assert_eq!(emptied.remove(key), Some(value)));
    assert!(Object::parse(&emptied.into_bytes()).expect("still an object").is_empty());
}
