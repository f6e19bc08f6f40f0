//! A client of one revision on one transport: HTTP, HTTP+SSE or WebSocket, all with the same words.
//!
//! It has the capabilities of its revision, answers what it is asked with its own name, and looks at the
//! shape of all it gets: nothing of another era, and no answer to what it has cancelled.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use crate::harness::{Exchange, Line, META, MODERN, Mcp, Session, TestGateway};

/// Rounds of questions that a modern call may take.
const ROUNDS_MAX: usize = 5;

/// What came wrong, in words.
pub(super) type Outcome<T> = Result<T, String>;

/// One client. Its name is in all it answers.
pub(super) struct Client {
    pub(super) revision: &'static str,
    pub(super) name: String,
    channel: Channel,
    /// What came on a line for none of the requests that were waited for.
    aside: VecDeque<Value>,
    /// Where HTTP has that: the GET stream, or the answer to `subscriptions/listen`.
    outside: Option<Exchange>,
    last_id: u64,
}

enum Channel {
    Legacy(Session),
    Modern(Mcp),
    Line(Box<Line>),
}

/// A request that isn't answered yet.
pub(super) struct Ongoing {
    id: u64,
    /// The answer, where each request has one of its own.
    exchange: Option<Exchange>,
}

/// What came of a call.
pub(super) struct Heard {
    /// The notifications before the answer.
    pub(super) before: Vec<Value>,
    /// What was asked of this client.
    pub(super) questions: Vec<Value>,
    /// The answer: `result` or `error`.
    pub(super) answer: Value,
}

impl Heard {
    /// The text of a result that is no failure.
    pub(super) fn text(&self) -> Outcome<&str> {
        let result = &self.answer["result"];
        let text = result["content"][0]["text"].as_str().filter(|_| result["isError"] != true);
        text.ok_or_else(|| format!("answered with {}", self.answer))
    }
}

impl Client {
    /// Connects, with a handshake where the revision has one.
    pub(super) async fn connect(
        gateway: &TestGateway,
        key: &str,
        transport: &str,
        revision: &'static str,
    ) -> Self {
        let mcp = gateway.mcp_as(key).apart().declaring(capabilities_of(revision));
        let channel = match transport {
            "http" if revision == MODERN => Channel::Modern(mcp),
            "http" => {
                let session = mcp.initialize_with(revision, capabilities_of(revision)).await;
                assert_eq!(session.version(), revision);
                Channel::Legacy(session)
            }
            line => {
                let mut line = Line::open_as(line, gateway, key).await;
                if revision != MODERN {
                    let result = line.initialize(revision, capabilities_of(revision)).await;
                    assert_eq!(result["protocolVersion"], revision);
                }
                Channel::Line(Box::new(line))
            }
        };
        let name = format!("{revision} over {transport}");
        Self { revision, name, channel, aside: VecDeque::new(), outside: None, last_id: 100 }
    }

    pub(super) fn is_modern(&self) -> bool {
        self.revision == MODERN
    }

    /// Ends the session, where there is one that doesn't end with its connection.
    pub(super) async fn leave(self) {
        if let Channel::Legacy(session) = self.channel {
            session.delete().await;
        }
    }

    /// Calls a tool.
    pub(super) async fn call(&mut self, tool: &str, arguments: Value) -> Outcome<Heard> {
        self.call_with(tool, arguments, json!({})).await
    }

    /// Calls a tool with this in its `_meta`, and answers what it is asked.
    pub(super) async fn call_with(&mut self, tool: &str, arguments: Value, meta: Value) -> Outcome<Heard> {
        let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
        let (mut before, mut questions) = (Vec::new(), Vec::new());
        let mut round = params.clone();
        for _ in 0..ROUNDS_MAX {
            let mut ongoing = self.begin("tools/call", round).await;
            let answer = self.follow(&mut ongoing, &mut before, &mut questions).await?;
            let result = &answer["result"];
            if result["resultType"] != "input_required" {
                return Ok(Heard { before, questions, answer });
            }
            let requests = result["inputRequests"].as_object().ok_or("input requests that are none")?;
            let mut responses = Map::new();
            for (key, request) in requests {
                responses.insert(key.clone(), self.answer_to(request));
                questions.push(request.clone());
            }
            round = params.clone();
            round["inputResponses"] = Value::Object(responses);
            if let Some(state) = result.get("requestState") {
                round["requestState"] = state.clone();
            }
        }
        Err(format!("asked for more than {ROUNDS_MAX} rounds"))
    }

    /// A request that answers with a result.
    pub(super) async fn result(&mut self, method: &str, params: Value) -> Outcome<Value> {
        let mut ongoing = self.begin(method, params).await;
        let mut answer = self.follow(&mut ongoing, &mut Vec::new(), &mut Vec::new()).await?;
        if answer.get("result").is_none() {
            return Err(format!("{method} was answered with {answer}"));
        }
        Ok(answer["result"].take())
    }

    /// Sends a request, and waits for nothing.
    pub(super) async fn begin(&mut self, method: &str, mut params: Value) -> Ongoing {
        self.last_id += 1;
        let id = self.last_id;
        if params["_meta"] == json!({}) {
            params.as_object_mut().expect("an object").remove("_meta");
        }
        let exchange = match &mut self.channel {
            Channel::Legacy(session) => Some(session.request_as(id, method, params).await),
            Channel::Modern(mcp) => Some(crate::harness::send(mcp.modern_request(id, method, params)).await),
            Channel::Line(line) if self.revision == MODERN => {
                let declared = format!("{META}clientCapabilities");
                params["_meta"][declared] = capabilities_of(self.revision);
                line.modern(id, method, params).await;
                None
            }
            Channel::Line(line) => {
                line.request(id, method, params).await;
                None
            }
        };
        Ongoing { id, exchange }
    }

    /// The next message that belongs to a request; none where its stream ends without an answer.
    pub(super) async fn next(&mut self, ongoing: &mut Ongoing) -> Outcome<Option<Value>> {
        let message = match (&mut ongoing.exchange, &mut self.channel) {
            (Some(exchange), _) => exchange.next().await,
            (None, Channel::Line(line)) => loop {
                let message = line.next().await;
                match message {
                    Some(message) if is_outside(&message) => self.aside.push_back(message),
                    message => break message,
                }
            },
            (None, _) => unreachable!("a request over HTTP has an exchange"),
        };
        if let Some(message) = &message {
            self.look_at(message)?;
            let is_answer = message.get("method").is_none();
            if is_answer && message["id"] != ongoing.id {
                return Err(format!("an answer that nobody waits for: {message}"));
            }
        }
        Ok(message)
    }

    /// Cancels in the way of its era and transport; over HTTP a legacy stream must end unanswered.
    pub(super) async fn cancel(&mut self, mut ongoing: Ongoing) -> Outcome<()> {
        let params = json!({"requestId": ongoing.id, "reason": "enough"});
        match &mut self.channel {
            Channel::Modern(_) => drop(ongoing),
            Channel::Line(line) => line.notify("notifications/cancelled", params).await,
            Channel::Legacy(session) => {
                session.notify("notifications/cancelled", params).await;
                if let Some(message) = self.next(&mut ongoing).await? {
                    return Err(format!("cancelled, and yet there came {message}"));
                }
            }
        }
        Ok(())
    }

    /// Begins to hear what belongs to no call: of these resources, and of the tools.
    pub(super) async fn listen(&mut self, resources: &[&str]) -> Outcome<()> {
        match &self.channel {
            Channel::Legacy(session) if self.outside.is_none() => {
                self.outside = Some(session.stream().await);
            }
            Channel::Legacy(_) => {}
            _ if self.is_modern() => {
                let filter = json!({"toolsListChanged": true, "resourceSubscriptions": resources});
                let mut ongoing = self.begin("subscriptions/listen", json!({"notifications": filter})).await;
                self.outside = ongoing.exchange.take();
                let acknowledged = self.hear("notifications/subscriptions/acknowledged").await?;
                let honoured = &acknowledged["notifications"]["resourceSubscriptions"];
                if honoured.as_array().map_or(0, Vec::len) != resources.len() {
                    return Err(format!("acknowledged only {acknowledged}"));
                }
            }
            _ => {}
        }
        if !self.is_modern() {
            for uri in resources {
                let result = self.result("resources/subscribe", json!({"uri": uri})).await?;
                if result != json!({}) {
                    return Err(format!("subscribed with {result}"));
                }
            }
        }
        Ok(())
    }

    /// The params of the next message of that kind which belongs to no call.
    pub(super) async fn hear(&mut self, method: &str) -> Outcome<Value> {
        loop {
            let mut message = match (self.aside.pop_front(), &mut self.outside, &mut self.channel) {
                (Some(message), _, _) => Some(message),
                (None, Some(stream), _) => stream.next().await,
                (None, None, Channel::Line(line)) => line.next().await,
                (None, None, _) => return Err("nothing is listened to".to_owned()),
            }
            .ok_or("the stream has ended")?;
            if message.get("method").is_none() {
                return Err(format!("an answer that nobody waits for: {message}"));
            }
            if message["method"] != method {
                continue;
            }
            let tag = &message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
            if tag.is_null() == self.is_modern() {
                return Err(format!("not of this era: {message}"));
            }
            return Ok(message["params"].take());
        }
    }

    /// Sets the level of log messages, which a modern client says with each request.
    pub(super) async fn set_level(&mut self, level: &str) -> Outcome<Value> {
        if self.is_modern() {
            return Ok(json!({"io.modelcontextprotocol/logLevel": level}));
        }
        self.result("logging/setLevel", json!({"level": level})).await?;
        Ok(json!({}))
    }

    /// Follows a request to its answer, answering questions on the way.
    async fn follow(
        &mut self,
        ongoing: &mut Ongoing,
        before: &mut Vec<Value>,
        questions: &mut Vec<Value>,
    ) -> Outcome<Value> {
        loop {
            let message = self.next(ongoing).await?.ok_or("no answer")?;
            match (message.get("method").is_some(), message.get("id").is_some()) {
                (false, _) => return Ok(message),
                (true, false) => before.push(message),
                (true, true) => {
                    self.reply(&message["id"], self.answer_to(&message)).await;
                    questions.push(message);
                }
            }
        }
    }

    async fn reply(&mut self, id: &Value, result: Value) {
        match &mut self.channel {
            Channel::Legacy(session) => session.answer(id, result).await,
            Channel::Line(line) => line.send(&json!({"jsonrpc": "2.0", "id": id, "result": result})).await,
            Channel::Modern(_) => unreachable!("looked at: a modern client gets no requests"),
        }
    }

    /// What this client's user, model and files say.
    fn answer_to(&self, request: &Value) -> Value {
        match request["method"].as_str() {
            Some("elicitation/create") => {
                json!({"action": "accept", "content": {"username": self.name, "email": "a@example.com"}})
            }
            Some("sampling/createMessage") => {
                let content = json!({"type": "text", "text": self.name});
                json!({"role": "assistant", "content": content, "model": "none"})
            }
            Some("roots/list") => json!({"roots": [{"uri": "file:///matrix", "name": self.name}]}),
            other => panic!("nobody can answer {other:?}"),
        }
    }

    /// Whether a message has the shape of this client's era.
    fn look_at(&self, message: &Value) -> Outcome<()> {
        let wrong = |what: &str| Err(format!("{what} in {message}"));
        if let Some(result) = message.get("result") {
            if result.get("resultType").is_some() != self.is_modern() {
                return wrong("a result of another era");
            }
            let meta = result["_meta"].as_object().into_iter().flat_map(Map::keys);
            let is_modern = meta.clone().any(|key| key.starts_with("io.modelcontextprotocol/"));
            if is_modern && !self.is_modern() {
                return wrong("_meta of another era");
            }
        }
        if self.is_modern() && message.get("method").is_some() && message.get("id").is_some() {
            return wrong("a request to a modern client");
        }
        Ok(())
    }
}

/// What a client of a revision can be asked, as it says so.
fn capabilities_of(revision: &str) -> Value {
    let mut capabilities = json!({"sampling": {}, "roots": {}});
    match revision {
        "2024-11-05" | "2025-03-26" => {}
        "2025-06-18" => capabilities["elicitation"] = json!({}),
        _ => capabilities["elicitation"] = json!({"form": {}}),
    }
    capabilities
}

/// Whether a message on a line belongs to no call.
fn is_outside(message: &Value) -> bool {
    let tagged = !message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].is_null();
    let method = message["method"].as_str().unwrap_or_default();
    tagged || method.ends_with("/list_changed") || method == "notifications/resources/updated"
}
