//! What a broker says, and what it is answered.
//!
//! Several robots share a connection: each sends its own `initialize`, and some send none, since they did so
//! before the connection was made anew. So every message is answered as it comes. Ids go back byte for byte,
//! be they 0, strings or anything else that an id can be: a relay on the way knows its robots by them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sql::clock::Clock;
use sql::model::{CallTransport, KeyMode, Kind, Mode, XiaozhiEndpoint};
use tokio::time::timeout;

use super::answer;
use super::shown::Shown;
use crate::access::{Admitted, Caller};
use crate::bridge;
use crate::catalog::{Audience, View, lists};
use crate::downstream::dispatch::{Answered, Asked, Client, Dispatch, Outcome, Running};
use crate::downstream::live::Live;
use crate::downstream::mode::ModeOf;
use crate::downstream::session::Session;
use crate::downstream::{incoming, initialize, smart_mode};
use crate::facet::PathMode;
use crate::refusal::Refusal;
use crate::wire::compose;
use crate::wire::envelope::{self, Message, Params, Request};
use crate::wire::ids::Id;
use crate::wire::meta::Version;

const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;

/// What a call's record and its session call this transport, as the path of another does.
const FACE: &str = "/mcp/xiaozhi";

/// What a message asks for.
pub(super) enum Step {
    /// Nothing is to be said.
    Silent,
    /// This is.
    Say(Bytes),
    /// The end of a call is to be waited for; `None` if it was withdrawn.
    Call(BoxFuture<'static, Option<Bytes>>),
}

/// One connection, as a client of the gateway.
pub(super) struct Messages {
    dispatch: Arc<Dispatch>,
    live: Arc<Live>,
    session: Arc<Session>,
    shown: Arc<Shown>,
    deadline: Duration,
}

impl Messages {
    /// A client that has said nothing yet.
    pub(super) fn new(
        dispatch: &Arc<Dispatch>,
        clock: &Clock,
        caller: &Caller,
        view: &View,
        endpoint: &XiaozhiEndpoint,
    ) -> Self {
        let deadline = Duration::from_secs(u64::from(endpoint.deadline_s));
        let nothing = RawValue::from_string("{}".into()).expect("an empty object is JSON");
        let (version, now) = (Version::V2024_11_05, clock.now());
        let session = Session {
            mode: mode(endpoint, caller, view),
            deadline: Some(deadline),
            // What it declares it never answers, so nothing of it is believed.
            ..Session::new(caller.key().id, FACE.into(), version, now, nothing, None)
        };
        Self {
            live: dispatch.live.of(session.id, || CallTransport::Xiaozhi),
            dispatch: Arc::clone(dispatch),
            shown: Arc::new(shown(endpoint, caller, view)),
            session: Arc::new(session),
            deadline,
        }
    }

    /// What is shown now.
    pub(super) fn shown(&self) -> &Shown {
        &self.shown
    }

    /// Answers a message of a broker that was admitted, or says why it wasn't.
    pub(super) fn take(
        &mut self,
        text: Bytes,
        admitted: Result<&Admitted, &Refusal>,
        view: &Arc<View>,
        has_room: impl FnOnce() -> bool,
    ) -> Step {
        let message = match envelope::parse(text) {
            Ok(message) => message,
            Err(bad) => return Step::Say(compose::error(bad.id(), bad.code(), &bad.to_string(), None)),
        };
        match (message, admitted) {
            (Message::Request(request), Err(refusal)) => {
                tracing::info!(refusal.reason = refusal.reason(), "message refused");
                Step::Say(compose::error_raw(Some(&request.id), &refusal.error_object()))
            }
            (Message::Request(request), Ok(admitted)) => {
                self.request(&request, admitted.caller(), view, has_room)
            }
            (Message::Notification(notification), _) => {
                // Nobody but this connection can have begun the call that it ends.
                let _ = incoming::notified(&self.dispatch.live, self.session.id, &notification);
                Step::Silent
            }
            // Nothing was asked.
            (Message::Response(_), _) => Step::Silent,
            (Message::Batch(_), _) => {
                Step::Say(compose::error(None, INVALID_REQUEST, "batches are not taken", None))
            }
        }
    }

    fn request(
        &mut self,
        request: &Request,
        caller: &Caller,
        view: &Arc<View>,
        has_room: impl FnOnce() -> bool,
    ) -> Step {
        let id = &request.id;
        match request.method.as_str() {
            "initialize" => Step::Say(self.initialize(request)),
            "ping" => Step::Say(compose::result(id, b"{}")),
            "tools/list" => Step::Say(compose::result(id, &self.shown.list)),
            "tools/call" if !has_room() => {
                let text = answer::said("Error: too many calls are running at once. Try again in a moment.");
                Step::Say(compose::result(id, &text))
            }
            "tools/call" => self.call(request, caller, view),
            method => {
                let text = format!("Method not found: {method}");
                Step::Say(compose::error(Some(id), METHOD_NOT_FOUND, &text, None))
            }
        }
    }

    /// Only tools are declared, since nothing else is read, and no word of a changed list arrives.
    fn initialize(&mut self, request: &Request) -> Bytes {
        let params = request.params.as_ref().and_then(|params| params.object().ok());
        let asked = params.and_then(|params| params.text("protocolVersion"));
        let version = asked.map_or(Version::V2024_11_05, |asked| initialize::negotiate(&asked));
        self.session = Arc::new(Session { version, ..Session::clone(&self.session) });
        let result = json!({
            "protocolVersion": version.as_str(),
            "capabilities": { "tools": {} },
            "serverInfo": serde_json::from_slice::<Value>(&bridge::implementation()).unwrap_or_default(),
        });
        compose::result(&request.id, result.to_string().as_bytes())
    }

    fn call(&self, request: &Request, caller: &Caller, view: &Arc<View>) -> Step {
        let id = request.id.detached();
        let Some(name) = request.params.as_ref().and_then(Params::name) else {
            let text = "params.name must be a string";
            return Step::Say(compose::error(Some(&id), INVALID_PARAMS, text, None));
        };
        let Some(exposed) = self.shown.exposed(&name) else {
            let text = format!("Unknown tool: {}", &*name);
            return Step::Say(compose::error(Some(&id), INVALID_PARAMS, &text, None));
        };
        let Some(request) = plain_call(&id, exposed, request.params.as_ref()) else {
            let text = "params.arguments must be an object";
            return Step::Say(compose::error(Some(&id), INVALID_PARAMS, text, None));
        };
        let client = Client::Legacy(Arc::clone(&self.session));
        let asked = Asked {
            request,
            client,
            caller: caller.clone(),
            view: Arc::clone(view),
            trace: None,
            span: None,
        };
        match self.dispatch.request(asked) {
            Outcome::Done(answered) => Step::Say(told(&id, &answered)),
            Outcome::Running(running) => Step::Call(self.run(id, running)),
        }
    }

    /// Follows a call to its end or its deadline. Given up, it is dropped, and so the upstream is told.
    fn run(&self, id: Id, running: Running) -> BoxFuture<'static, Option<Bytes>> {
        let entered = self.live.enter_call(id.detached(), running.cancel.clone());
        let deadline = self.deadline;
        async move {
            let ended = timeout(deadline, running.alone()).await;
            drop(entered);
            if let Ok(answered) = ended {
                return Some(told(&id, &answered?));
            }
            let text = format!(
                "Error: the tool did not answer within {} seconds, and was given up. What it does may have \
                 happened nevertheless.",
                deadline.as_secs()
            );
            Some(compose::result(&id, &answer::said(&text)))
        }
        .boxed()
    }
}

impl Drop for Messages {
    /// What hangs off the connection goes with it.
    fn drop(&mut self) {
        self.live.end();
        self.dispatch.live.forget(self.session.id);
        self.dispatch.updates.end(self.session.id);
    }
}

/// What an endpoint is shown of what its key sees.
pub(super) fn shown(endpoint: &XiaozhiEndpoint, caller: &Caller, view: &View) -> Shown {
    match mode(endpoint, caller, view) {
        Mode::Full => {
            let items = lists::some(view, Kind::Tool, Audience::Plain, None, usize::MAX);
            let items = items.map(|page| page.items).unwrap_or_default();
            let definitions = items.iter().map(|(_, rendered)| &rendered[..]);
            Shown::of(definitions, view.count(Kind::Tool), endpoint)
        }
        Mode::Smart => {
            let own: Value = serde_json::from_slice(&smart_mode::own_tools()).unwrap_or_default();
            let own = own.get("tools").and_then(Value::as_array).into_iter().flatten();
            let own: Vec<String> = own.map(Value::to_string).collect();
            // All that the key sees can be called through them.
            Shown::of(own.iter().map(String::as_bytes), view.count(Kind::Tool), endpoint)
        }
    }
}

fn mode(endpoint: &XiaozhiEndpoint, caller: &Caller, view: &View) -> Mode {
    let said = match endpoint.mode {
        KeyMode::Inherit => None,
        KeyMode::Smart => Some(PathMode::Smart),
        KeyMode::Full => Some(PathMode::Full),
    };
    ModeOf::Path(said).now(caller.key(), view.settings())
}

/// The call as any other client would make it: by the exposed name, and without what brokers add.
fn plain_call(id: &Id, exposed: &str, params: Option<&Params>) -> Option<Request> {
    let arguments = params.and_then(Params::arguments).filter(|arguments| arguments[..] != b"null"[..]);
    let arguments = arguments.unwrap_or_else(|| Bytes::from_static(b"{}"));
    if !arguments.starts_with(b"{") {
        return None;
    }
    let mut message = br#"{"jsonrpc":"2.0","id":"#.to_vec();
    for part in [
        &id.raw()[..],
        br#","method":"tools/call","params":{"name":"#,
        &compose::string(exposed),
        br#","arguments":"#,
        &arguments,
        b"}}",
    ] {
        message.extend_from_slice(part);
    }
    match envelope::parse(Bytes::from(message)) {
        Ok(Message::Request(request)) => Some(request),
        _ => None,
    }
}

/// An answer as a robot takes it: of a result the words, an error as it is.
fn told(id: &Id, answered: &Answered) -> Bytes {
    let whole = answered.message.concat();
    let parsed: Value = serde_json::from_slice(&whole).unwrap_or_default();
    match (parsed.get("result"), parsed.get("error")) {
        (Some(result), _) => compose::result(id, &answer::result(result)),
        (None, Some(error)) => {
            let code = error.get("code").and_then(Value::as_i64).unwrap_or(-32603);
            let message = error.get("message").and_then(Value::as_str).unwrap_or("the call failed");
            // An upstream's own words may be long; nothing else of it is read.
            let message: String = message.chars().take(ERROR_CHARS_MAX).collect();
            compose::error(Some(id), code, &message, None)
        }
        (None, None) => compose::error(Some(id), -32603, "the answer can't be read", None),
    }
}

/// Characters of an error's message.
const ERROR_CHARS_MAX: usize = 2_000;
