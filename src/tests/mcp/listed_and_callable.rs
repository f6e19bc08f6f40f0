//! What is listed can be called, and nothing else: over every transport, era and method, under rules that are
//! drawn at random.

use std::collections::BTreeSet;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Admin, LEGACY_LATEST, Line, Mcp, PATIENCE, Reference, Session, TestGateway, send};

/// How often new rules of upstreams and of all are drawn; each time every face has a key with rules of its own.
const ROUNDS: usize = 4;

/// Where clients come from: the transport, and whether they are modern.
const FACES: [(&str, bool); 6] =
    [("http", false), ("http", true), ("sse", false), ("sse", true), ("ws", false), ("ws", true)];

/// Tools of the server that answer at once, whatever they are given.
const QUICK: [&str; 5] = ["echo", "add", "test_simple_text", "test_image_content", "test_error_handling"];

/// Tools of the server that run as tasks only: a key sees them, but not every client of the key can call them.
const TASK_ONLY: [&str; 2] = ["failing_job", "test_tool_with_task"];

/// What rules are drawn from: patterns, each with a name for what it matches.
const PATTERNS: [(&str, &str); 10] = [
    ("(.*)", "x_$1"),
    ("test_(.*)", "t.$1"),
    ("echo|add", "same"),
    (".*_(content|text)", "$1"),
    ("add", "echo"),
    ("test_(?<what>.*)_prompt", "${what}"),
    ("test://static-(.*)", "moved://$1"),
    ("test://.*", "nothing"),
    (".*a.*", "中 $1"),
    ("e.*", "echo"),
];

/// Draws numbers, always the same ones.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64: any numbers will do.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    /// A rule of an owner: the noun and the body.
    fn rule(&mut self, owner: &Value) -> (&'static str, Value) {
        let (pattern, target) = PATTERNS[self.below(PATTERNS.len())];
        let mut rule = json!({"owner": owner, "pattern": pattern, "isRegex": true});
        if owner["type"] == "key" && self.below(2) == 0 {
            rule["matchOn"] = "exposed".into();
        }
        if self.below(3) == 0 {
            let kind = ["tool", "prompt", "resource"][self.below(3)];
            rule["kinds"] = json!([kind]);
        }
        match self.below(4) {
            0 => rule["action"] = "allow".into(),
            1 => rule["action"] = "deny".into(),
            _ => {
                // What has no groups is given none to refer to.
                let has_group = pattern.contains('(');
                rule["targetName"] = if has_group { target.into() } else { target.replace("$1", "").into() };
                return ("aliases", rule);
            }
        }
        ("filters", rule)
    }
}

/// One kind of list, and how its items are asked for.
struct Noun {
    list: &'static str,
    items: &'static str,
    name: &'static str,
    unknown: &'static str,
}

const NOUNS: [Noun; 4] = [
    Noun { list: "tools/list", items: "tools", name: "name", unknown: "Unknown tool" },
    Noun { list: "prompts/list", items: "prompts", name: "name", unknown: "Unknown prompt" },
    Noun { list: "resources/list", items: "resources", name: "uri", unknown: "Resource not found" },
    Noun {
        list: "resources/templates/list",
        items: "resourceTemplates",
        name: "uriTemplate",
        unknown: "Resource not found",
    },
];

/// A client on one face.
enum Client {
    Session(Session),
    Modern(Mcp),
    Line { line: Box<Line>, is_modern: bool, last_id: u64 },
}

impl Client {
    async fn connect(gateway: &TestGateway, key: &str, (transport, is_modern): (&str, bool)) -> Self {
        match transport {
            "http" if is_modern => Self::Modern(gateway.mcp_as(key)),
            "http" => Self::Session(gateway.mcp_as(key).initialize(LEGACY_LATEST).await),
            line => {
                let mut line = Line::open_as(line, gateway, key).await;
                if !is_modern {
                    line.initialize(LEGACY_LATEST, json!({})).await;
                }
                Self::Line { line: Box::new(line), is_modern, last_id: 0 }
            }
        }
    }

    /// The answer to a request.
    async fn ask(&mut self, method: &str, params: Value) -> Value {
        match self {
            Self::Session(session) => session.request(method, params).await.answer().await,
            Self::Modern(mcp) => mcp.modern(method, params).await.answer().await,
            Self::Line { line, is_modern, last_id } => {
                *last_id += 1;
                if *is_modern {
                    line.modern(*last_id, method, params).await;
                } else {
                    line.request(*last_id, method, params).await;
                }
                line.answer(*last_id).await.1
            }
        }
    }

    async fn list(&mut self, noun: &Noun) -> BTreeSet<String> {
        let mut params = json!({});
        let mut names = Vec::new();
        loop {
            let answer = self.ask(noun.list, params).await;
            let items =
                answer["result"][noun.items].as_array().unwrap_or_else(|| panic!("no list in {answer}"));
            names.extend(items.iter().map(|item| item[noun.name].as_str().expect("a name").to_owned()));
            match answer["result"]["nextCursor"].as_str() {
                Some(cursor) => params = json!({"cursor": cursor}),
                None => break,
            }
        }
        let once: BTreeSet<String> = names.iter().cloned().collect();
        assert_eq!(once.len(), names.len(), "a name twice in {names:?}");
        once
    }

    /// Every request that names an item, by the method.
    fn requests(&self, noun: &Noun, name: &str) -> Vec<(&'static str, Value)> {
        let argument = json!({"name": "arg1", "value": ""});
        let prompt = json!({"ref": {"type": "ref/prompt", "name": name}, "argument": argument});
        let resource = json!({"ref": {"type": "ref/resource", "uri": name}, "argument": argument});
        let by_name = json!({"name": name, "arguments": {}});
        match noun.items {
            "tools" => vec![("tools/call", by_name)],
            "prompts" => vec![("prompts/get", by_name), ("completion/complete", prompt)],
            "resources" => {
                let mut requests = vec![("resources/read", json!({"uri": name}))];
                let is_legacy = matches!(self, Self::Session(_) | Self::Line { is_modern: false, .. });
                if is_legacy {
                    requests.push(("resources/subscribe", json!({"uri": name})));
                }
                requests
            }
            _ => {
                let expanded = name.replace("{id}", "7");
                vec![("completion/complete", resource), ("resources/read", json!({"uri": expanded}))]
            }
        }
    }

    /// Asserts that an item is known, or unknown, to every method.
    async fn assert_known(&mut self, noun: &Noun, name: &str, is_listed: bool) {
        for (method, params) in self.requests(noun, name) {
            let answer = self.ask(method, params).await;
            let message = answer["error"]["message"].as_str().unwrap_or_default();
            let is_unknown = message.starts_with(noun.unknown);
            assert_eq!(is_unknown, !is_listed, "{method} of {name}, listed: {is_listed}: {answer}");
        }
    }
}

/// Which of these resources a modern client may subscribe to.
async fn subscribed(mcp: &Mcp, uris: &[&String]) -> BTreeSet<String> {
    let wanted = json!({"notifications": {"resourceSubscriptions": uris}});
    let mut stream = send(mcp.modern_request(1, "subscriptions/listen", wanted)).await;
    let acknowledged = stream.expect().await;
    let honoured = acknowledged["params"]["notifications"]["resourceSubscriptions"].as_array().cloned();
    honoured.unwrap_or_default().iter().map(|uri| uri.as_str().expect("a URI").to_owned()).collect()
}

/// Makes rules, all at once; their paths.
async fn make(admin: &Admin, rules: Vec<(&'static str, Value)>) -> Vec<String> {
    join_all(rules.into_iter().map(async |(noun, body)| {
        let (status, created) = admin.post(&format!("rules/{noun}"), &body).await;
        assert_eq!(status, StatusCode::CREATED, "{body}: {created}");
        format!("rules/{noun}/{}", created["id"].as_str().expect("an id"))
    }))
    .await
}

/// The tools of a key by exposed name, as an admin is told.
async fn told(admin: &Admin, key: &str) -> Vec<(String, String)> {
    let (status, page) = admin.get(&format!("tools?keyId={key}&limit=200")).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let text = |item: &Value, field: &str| item[field].as_str().expect("a text").to_owned();
    let items = page["items"].as_array().expect("a list").iter();
    items.map(|item| (text(item, "exposedName"), text(item, "name"))).collect()
}

#[tokio::test]
async fn what_is_listed_can_be_called_and_nothing_else_on_every_transport_and_in_every_era() {
    let references = [Reference::start(&["--era", "both"]), Reference::start(&["--era", "legacy"])];
    let gateway = TestGateway::start()
        .alone("on other replicas a change takes a moment")
        .with_http_upstream("one", &references[0].url())
        .with_http_upstream("two", &references[1].url())
        .with_key()
        .await;
    let admin = gateway.admin().await;
    let open = gateway.mcp();
    open.lists_become(|names| names.iter().filter(|name| name.starts_with("echo")).count() == 2).await;
    let mut everything = Client::Modern(open.clone());
    // Templates come last.
    let templates = async { while everything.list(&NOUNS[3]).await.len() < 2 {} };
    tokio::time::timeout(PATIENCE, templates).await.expect("both servers have templates");
    let mut pools: Vec<BTreeSet<String>> = Vec::new();
    for noun in &NOUNS {
        pools.push(everything.list(noun).await);
    }
    let mut owners = vec![json!({"type": "all"})];
    for name in ["one", "two"] {
        owners.push(json!({"type": "upstream", "id": admin.upstream_id(name).await}));
    }
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut listed_ones, mut hidden_ones) = (0, 0);
    for round in 0..ROUNDS {
        let shared = owners.iter().map(|owner| dice.rule(owner)).collect();
        let shared = make(&admin, shared).await;
        let names: Vec<String> =
            FACES.iter().map(|(transport, era)| format!("{round} {transport} {era}")).collect();
        let keys = join_all(names.iter().map(|name| admin.create_key(name, json!({})))).await;
        let mut own = Vec::new();
        for (id, _) in &keys {
            let owner = json!({"type": "key", "id": id});
            own.extend((0..2).map(|_| dice.rule(&owner)));
        }
        make(&admin, own).await;
        for (noun, pool) in NOUNS.iter().zip(&mut pools) {
            pool.extend(everything.list(noun).await);
        }
        for (face, (id, secret)) in FACES.into_iter().zip(&keys) {
            let mut client = Client::connect(&gateway, secret, face).await;
            let told = told(&admin, id).await;
            for (noun, pool) in NOUNS.iter().zip(&mut pools) {
                let listed = client.list(noun).await;
                if noun.items == "tools" {
                    let is_for_client = |(name, own): &&(String, String)| {
                        !TASK_ONLY.contains(&own.as_str()) || listed.contains(name)
                    };
                    let names: BTreeSet<String> =
                        told.iter().filter(is_for_client).map(|(name, _)| name.clone()).collect();
                    assert_eq!(listed, names, "what an admin is told, in round {round} on {face:?}");
                }
                pool.extend(listed.iter().cloned());
                let is_quick = |name: &str| {
                    noun.items != "tools"
                        || told.iter().any(|(exposed, own)| exposed == name && QUICK.contains(&own.as_str()))
                };
                for name in listed.iter().filter(|name| is_quick(name)).take(4) {
                    client.assert_known(noun, name, true).await;
                    listed_ones += 1;
                }
                let hidden: Vec<&String> = pool.difference(&listed).collect();
                for _ in 0..hidden.len().min(4) {
                    client.assert_known(noun, hidden[dice.below(hidden.len())], false).await;
                    hidden_ones += 1;
                }
                if let (Client::Modern(mcp), "resources") = (&client, noun.items) {
                    let honoured = subscribed(mcp, &pool.iter().collect::<Vec<_>>()).await;
                    assert!(honoured.is_subset(&listed), "{honoured:?} of {listed:?}");
                }
            }
        }
        join_all(
            shared.iter().map(async |path| assert_eq!(admin.delete(path).await.0, StatusCode::NO_CONTENT)),
        )
        .await;
    }
    // The rules that were drawn leave something and take something away.
    assert!(listed_ones > 100 && hidden_ones > 100, "{listed_ones} listed, {hidden_ones} hidden");
}
