//! One client of the many: what it does, and how it looks at what it gets.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::verdict::Verdict;
use super::{Names, UPSTREAMS, process_of};
use crate::harness::{Exchange, LEGACY_LATEST, Line, META, Mcp, Session, TestGateway, send, text_of};

/// How a client speaks to the gateway.
pub(super) const KINDS: [&str; 4] = ["http", "modern", "sse", "ws"];

/// Calls that a client on one channel has in flight at once.
const WINDOW: usize = 2;
/// The longest that a call waits at its server, in milliseconds.
const JITTER_MS_MAX: u64 = 50;
/// What a call waits that is to be given up.
const FOR_EVER_MS: u64 = 3_600_000;
/// The rounds of questions that a modern client answers for one call.
const ROUNDS_MAX: usize = 3;

/// The prompt that all upstreams have.
pub(super) const PROMPT: &str = "test_prompt_with_arguments";

/// What goes on until all clients are done.
pub(super) type Ear = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A client. All of one kind differ in nothing but what they say.
pub(super) struct Client {
    /// What its nonces begin with.
    name: String,
    key: &'static str,
    names: Arc<Names>,
    verdict: Arc<Verdict>,
    kind: &'static str,
    /// The resource that it has subscribed to.
    watches: String,
    random: u64,
    made: u64,
}

/// One call: what is asked, and what it is known by.
#[derive(Clone)]
struct Deed {
    id: u64,
    nonce: String,
    upstream: &'static str,
    method: &'static str,
    params: Value,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// A call that says its nonce.
    Mirror,
    /// One that asks, too.
    Ask,
    /// One that is given up once its progress has come.
    GiveUp,
    /// One that changes a resource.
    Touch,
    /// A prompt with the nonce in it.
    Prompt,
    /// A resource with the nonce in its name.
    Resource,
}

/// What a message was.
enum Told {
    /// The answer to one of its own requests.
    Answer,
    /// A question, and what to say.
    Question(Value),
    /// Progress of the call with this nonce.
    Progress(String),
    /// Anything else.
    Else,
}

impl Client {
    pub(super) fn new(name: String, key: &'static str, names: Arc<Names>, verdict: Arc<Verdict>) -> Self {
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |seed: u64, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let watches = names.watched[place(seed)].clone();
        Self { name, key, names, verdict, kind: "", watches, random: seed, made: 0 }
    }

    /// Makes its calls; what it answers listens until `over`.
    pub(super) async fn run(
        mut self,
        kind: &'static str,
        gateway: &TestGateway,
        mcp: &Mcp,
        calls: usize,
        over: &CancellationToken,
    ) -> Option<Ear> {
        self.kind = kind;
        let elicitation = json!({"elicitation": {}});
        match kind {
            "http" => {
                let session = mcp.initialize_with(LEGACY_LATEST, elicitation).await;
                let stream = session.stream().await;
                let mut ear = self.ear(stream, over);
                session.request("logging/setLevel", json!({"level": "info"})).await.result().await;
                session.request("resources/subscribe", json!({"uri": self.watches})).await.result().await;
                tokio::select! {
                    () = self.over_http(&session, calls) => {}
                    () = &mut ear => self.verdict.failed(format!("{}: its stream ended", self.name)),
                }
                Some(ear)
            }
            "modern" => {
                let mcp = mcp.declaring(elicitation);
                let wanted = json!({"notifications": {"resourceSubscriptions": [self.watches]}});
                let stream = mcp.modern("subscriptions/listen", wanted).await;
                let mut ear = self.ear(stream, over);
                tokio::select! {
                    () = self.over_modern_http(&mcp, calls) => {}
                    () = &mut ear => self.verdict.failed(format!("{}: its stream ended", self.name)),
                }
                Some(ear)
            }
            _ => {
                let mut line = Line::open_as(kind, gateway, mcp.key()).await;
                line.initialize(LEGACY_LATEST, elicitation).await;
                line.result("logging/setLevel", json!({"level": "info"})).await;
                line.result("resources/subscribe", json!({"uri": self.watches})).await;
                self.over_line(&mut line, calls).await;
                None
            }
        }
    }

    /// Listens to what belongs to no call.
    fn ear(&self, mut stream: Exchange, over: &CancellationToken) -> Ear {
        let (watcher, over) = (self.listener(), over.clone());
        Box::pin(async move {
            while let Some(Some(message)) = over.run_until_cancelled(stream.next()).await {
                if !matches!(watcher.told(&message), Told::Else) {
                    watcher.verdict.foreign(format!("{}: outside of calls {message}", watcher.name));
                }
            }
        })
    }

    /// The same client, to look at what comes beside its calls.
    fn listener(&self) -> Self {
        let (name, watches) = (self.name.clone(), self.watches.clone());
        let (names, verdict) = (Arc::clone(&self.names), Arc::clone(&self.verdict));
        Self { name, key: self.key, names, verdict, kind: self.kind, watches, random: 0, made: 0 }
    }

    async fn over_http(&mut self, session: &Session, calls: usize) {
        for _ in 0..calls {
            let deed = self.deed();
            let mut exchange = session.request_as(deed.id, deed.method, deed.params.clone()).await;
            while let Some(message) = exchange.next().await {
                match self.told(&message) {
                    Told::Answer => self.answered(&deed, &message),
                    Told::Question(answer) => session.answer(&message["id"], answer).await,
                    Told::Progress(nonce) if deed.what == What::GiveUp && nonce == deed.nonce => {
                        session.notify("notifications/cancelled", json!({"requestId": deed.id})).await;
                        self.gave_up();
                        break;
                    }
                    Told::Progress(_) | Told::Else => {}
                }
            }
        }
    }

    async fn over_modern_http(&mut self, mcp: &Mcp, calls: usize) {
        'calls: for _ in 0..calls {
            let deed = self.deed();
            let mut params = deed.params.clone();
            params["_meta"][format!("{META}logLevel")] = json!("info");
            for _ in 0..ROUNDS_MAX {
                let mut exchange = send(mcp.modern_request(deed.id, deed.method, params.clone())).await;
                while let Some(message) = exchange.next().await {
                    match self.told(&message) {
                        Told::Answer => {
                            let result = &message["result"];
                            if result["resultType"] != "input_required" {
                                self.answered(&deed, &message);
                                continue 'calls;
                            }
                            if result["requestState"].is_string() {
                                params["requestState"] = result["requestState"].clone();
                            }
                            params["inputResponses"] = self.responses(result);
                            break;
                        }
                        Told::Progress(nonce) if deed.what == What::GiveUp && nonce == deed.nonce => {
                            self.gave_up();
                            continue 'calls; // Closing the stream says it.
                        }
                        _ => {}
                    }
                }
            }
            self.verdict.failed(format!("{}: asked too often", self.name));
        }
    }

    async fn over_line(&mut self, line: &mut Line, calls: usize) {
        let mut open: HashMap<u64, Deed> = HashMap::new();
        let mut left = calls;
        while left > 0 || !open.is_empty() {
            while left > 0 && open.len() < WINDOW {
                let deed = self.deed();
                line.request(deed.id, deed.method, deed.params.clone()).await;
                open.insert(deed.id, deed);
                left -= 1;
            }
            let message = line.expect().await;
            match self.told(&message) {
                Told::Answer => match message["id"].as_u64().and_then(|id| open.remove(&id)) {
                    Some(deed) => self.answered(&deed, &message),
                    // It was given up at the very moment of its answer, or it is another's.
                    None => self.verdict.foreign(format!("{}: not asked for {message}", self.name)),
                },
                Told::Question(answer) => {
                    line.send(&json!({"jsonrpc": "2.0", "id": message["id"], "result": answer})).await;
                }
                Told::Progress(nonce) => {
                    let id = open.values().find(|deed| deed.what == What::GiveUp && deed.nonce == nonce);
                    if let Some(id) = id.map(|deed| deed.id) {
                        open.remove(&id);
                        line.notify("notifications/cancelled", json!({"requestId": id})).await;
                        self.gave_up();
                    }
                }
                Told::Else => {}
            }
        }
    }

    /// Looks at a message: whose it is, and what.
    fn told(&self, message: &Value) -> Told {
        let params = &message["params"];
        let (what, said, told) = match message["method"].as_str() {
            None => return Told::Answer,
            Some("notifications/progress") => {
                let nonce = params["message"].as_str().unwrap_or_default().to_owned();
                if params["progressToken"] != 1 {
                    self.verdict.foreign(format!("{}: another's token {message}", self.name));
                }
                ("progress", &params["message"], Told::Progress(nonce))
            }
            Some("notifications/message") => ("log message", &params["data"], Told::Else),
            Some("elicitation/create") => {
                let content = json!({"nonce": params["message"]});
                let answer = json!({"action": "accept", "content": content});
                ("question", &params["message"], Told::Question(answer))
            }
            Some("notifications/resources/updated") => {
                self.is_own("update", params["uri"] == self.watches, message);
                return Told::Else;
            }
            Some(method) if method.ends_with("/list_changed") || method.ends_with("/acknowledged") => {
                return Told::Else;
            }
            Some(_) => ("nothing known", message, Told::Else),
        };
        self.is_own(what, self.is_nonce(said), message);
        told
    }

    fn is_own(&self, what: &str, is_own: bool, message: &Value) {
        if is_own {
            self.verdict.happened(format!("{what}: {}", self.kind));
        } else {
            self.verdict.foreign(format!("{}: {message}", self.name));
        }
    }

    fn is_nonce(&self, said: &Value) -> bool {
        said.as_str().and_then(|said| said.strip_prefix(&self.name)).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Answers what a modern call needs, which is in its result.
    fn responses(&self, result: &Value) -> Value {
        let requests = result["inputRequests"].as_object().cloned().unwrap_or_default();
        let responses = requests.into_iter().map(|(key, request)| {
            let said = &request["params"]["message"];
            self.is_own("question", self.is_nonce(said), &request);
            (key, json!({"action": "accept", "content": {"nonce": said}}))
        });
        responses.collect::<serde_json::Map<_, _>>().into()
    }

    fn gave_up(&self) {
        self.verdict.happened(format!("call given up: {}", self.kind));
    }

    /// Looks at the answer to a call.
    fn answered(&self, deed: &Deed, message: &Value) {
        let (result, nonce) = (&message["result"], json!(deed.nonce));
        let pair = format!("{} to {}", self.kind, deed.upstream);
        let is_right = match deed.what {
            What::Ask if message["error"].is_object() || result["isError"] == true => {
                // A server on a channel that many share can't ask, and not every bridge can carry a question.
                return self.verdict.happened(format!("call refused: {pair}"));
            }
            What::Mirror | What::Ask | What::GiveUp => {
                let said = &result["structuredContent"];
                let expected = if deed.what == What::Ask { &nonce } else { &json!("nothing") };
                if deed.what == What::Ask && said["heard"] == nonce {
                    self.verdict.happened(format!("question answered: {pair}"));
                }
                self.is_from(deed.upstream, result);
                let is_heard =
                    said["heard"] == *expected || deed.what == What::Ask && said["heard"] == "a refusal";
                is_heard && result["content"][0]["text"] == nonce && said["nonce"] == nonce
            }
            What::Touch => text_of(result).starts_with("test://watched-resource is at revision"),
            What::Prompt => {
                let expected = format!("Prompt with arguments: arg1='{}', arg2='same'", deed.nonce);
                result["messages"][0]["content"]["text"] == json!(expected)
            }
            What::Resource => {
                let text = result["contents"][0]["text"].as_str();
                let data: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
                let is_asked_for = result["contents"][0]["uri"] == deed.params["uri"];
                is_asked_for && data.is_some_and(|data| data["id"] == nonce)
            }
        };
        if message["id"] != json!(deed.id) {
            self.verdict.foreign(format!("{}: another's id {message}", self.name));
        } else if is_right {
            self.verdict.happened(format!("call answered: {pair}"));
        } else if message.to_string().contains("UPSTREAM_") || message["error"].is_object() {
            self.verdict.failed(format!("{} {pair}: {message}", self.name));
            self.verdict.happened(format!("call failed: {pair}"));
        } else {
            self.verdict.foreign(format!("{}, of {}: {message}", self.name, deed.nonce));
        }
    }

    /// The process that has answered is one of that upstream; where a key has its own, of that key.
    fn is_from(&self, upstream: &str, result: &Value) {
        let place = match upstream {
            "stdio_apart" => format!("{upstream} of key {}", self.key),
            upstream => upstream.to_owned(),
        };
        if let Some(process) = process_of(result) {
            self.verdict.answered_by(process, &place);
        }
    }

    /// What it does next.
    fn deed(&mut self) -> Deed {
        self.made += 1;
        let nonce = format!("{}.{}", self.name, self.made);
        // Each upstream in its turn, but for each client in another.
        let place = place(draw(&mut self.random, 7) + self.made);
        let prefix = &self.names.prefixes[place];
        let call = |tool: &str, arguments: Value| json!({"name": format!("{prefix}{tool}"), "arguments": arguments, "_meta": {"progressToken": 1}});
        let mirror = |ms: u64, asks: bool| call("mirror", json!({"nonce": nonce, "ms": ms, "asks": asks}));
        let template = &self.names.templates[place];
        let (percent, ms) = (draw(&mut self.random, 100), draw(&mut self.random, JITTER_MS_MAX));
        let (what, method, params) = match percent {
            0..10 => (What::Ask, "tools/call", mirror(ms, true)),
            10..15 => (What::GiveUp, "tools/call", mirror(FOR_EVER_MS, false)),
            15 => (What::Touch, "tools/call", call("test_update_watched_resource", json!({}))),
            16..26 => {
                let (name, arguments) = (format!("{prefix}{PROMPT}"), json!({"arg1": nonce, "arg2": "same"}));
                (What::Prompt, "prompts/get", json!({"name": name, "arguments": arguments}))
            }
            26..36 => (What::Resource, "resources/read", json!({"uri": template.replace("{id}", &nonce)})),
            _ => (What::Mirror, "tools/call", mirror(ms, false)),
        };
        Deed { id: self.made, nonce, upstream: UPSTREAMS[place].0, method, params, what }
    }
}

/// The place of an upstream.
fn place(number: u64) -> usize {
    usize::try_from(number).expect("64 bits") % UPSTREAMS.len()
}

/// A number below `below`; the same ones in each run (xorshift).
fn draw(random: &mut u64, below: u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random % below
}
