//! Killed at any moment: what was acknowledged is there, what was not is there whole or not at all, and what was begun
//! goes on where it ended (F16).

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{Admin, Scene, TestGateway, sqlite};

/// How often a gateway is killed while it writes; the environment may say more.
const CRASHES: (&str, u64) = ("MPG_TEST_CRASHES", 8);
/// Between what the first writes take and what hundreds do.
const MOMENT_MAX_MS: u64 = 250;

/// Upstreams whose secrets a rotation has to seal anew: enough that it can be cut off in the middle.
const SEALED: usize = 150;
/// How much longer than the one before a rotation lives that is killed.
const LIFE_STEP: Duration = Duration::from_millis(30);

const KEY: &str = "hex:8f1c2a94d07be5360c9a4f7712de83b5a6e0194c72fd3b8865017ac9e42b5dd1";
const OTHER_KEY: &str = "hex:1f1c2a94d07be5360c9a4f7712de83b5a6e0194c72fd3b8865017ac9e42b5dd1";

/// An upstream with a secret, which is never connected to.
fn body(name: &str) -> Value {
    json!({
        "name": name, "transport": "streamable-http", "enabled": false, "credential": format!("secret of {name}"),
        "connParams": {"url": "http://127.0.0.1:1/mcp", "headers": {"x-token": {"secret": name}}},
    })
}

/// What an admin was told of the upstreams there are, by their ids, and what a crash left in doubt.
#[derive(Default)]
struct Told {
    kept: BTreeMap<String, String>,
    /// Asked for last, and not answered: the name of a new one, or the id of one to be deleted.
    in_doubt: Option<String>,
}

impl Told {
    /// What a crash left in doubt took effect or didn't; which of both, the store says.
    fn settle(&mut self, stored: &BTreeMap<String, String>) {
        let Some(subject) = self.in_doubt.take() else { return };
        if !stored.contains_key(&subject) {
            self.kept.remove(&subject);
        }
        let made = stored.iter().find(|(_, name)| **name == subject);
        self.kept.extend(made.map(|(id, name)| (id.clone(), name.clone())));
    }
}

/// Creates upstreams and deletes every third, one after the other, until there is no answer any more.
async fn write(admin: Admin, round: u64, mut told: Told) -> Told {
    for number in 0.. {
        let oldest = told.kept.keys().next().filter(|_| number % 3 == 2).cloned();
        let (subject, request, expected) = if let Some(id) = oldest {
            let request = admin.request(Method::DELETE, &format!("upstreams/{id}"));
            (id, request, StatusCode::NO_CONTENT)
        } else {
            let name = format!("u{round}-{number}");
            let request = admin.request(Method::POST, "upstreams").json(&body(&name));
            (name, request, StatusCode::CREATED)
        };
        told.in_doubt = Some(subject.clone());
        let Ok(answer) = request.send().await else { break };
        assert_eq!(answer.status(), expected);
        if expected == StatusCode::CREATED {
            let Ok(created) = answer.json::<Value>().await else { break };
            told.kept.insert(created["id"].as_str().expect("an id").to_owned(), subject);
        } else {
            told.kept.remove(&subject);
        }
        told.in_doubt = None;
    }
    told
}

/// The upstreams there are, by their ids.
async fn stored(admin: &Admin) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut stored = BTreeMap::new();
    let mut query = "upstreams?limit=200".to_owned();
    loop {
        let page = admin.get(&query).await.1;
        let items = page["items"].as_array().expect("a list");
        stored.extend(items.iter().map(|item| (text(&item["id"]), text(&item["name"]))));
        match page["nextCursor"].as_str() {
            Some(cursor) => query = format!("upstreams?limit=200&cursor={cursor}"),
            None => return stored,
        }
    }
}

#[tokio::test]
async fn whenever_it_is_killed_what_was_acknowledged_is_there() {
    let mut gateway = TestGateway::start().alone("it is one process that is killed").await;
    let rounds = std::env::var(CRASHES.0).map_or(CRASHES.1, |text| text.parse().expect("a number"));
    let mut told = Told::default();
    for round in 0..rounds {
        let mut writing = JoinSet::new();
        writing.spawn(write(gateway.admin().await, round, told));
        // Another one each time, in no order.
        let moment = Duration::from_millis(1 + round * 97 % MOMENT_MAX_MS);
        let early = timeout(moment, writing.join_next()).await;
        assert!(early.is_err(), "it writes until it has no answer");
        gateway.kill_9().await;
        told = writing.join_next().await.expect("it writes").expect("it was answered as expected");
        gateway.start_again().await;

        let admin = gateway.admin().await;
        let stored = stored(&admin).await;
        told.settle(&stored);
        assert_eq!(stored, told.kept, "after {moment:?}");
        assert_eq!(admin.get("audit/verify").await.1["intact"], true);
        assert_eq!(admin.get("health").await.1["unreadable"], json!([]));
    }
    let admin = gateway.admin().await;
    let written = async |action: &str| admin.get(&format!("audit?action={action}")).await.1["total"].clone();
    let (created, deleted) = (written("upstream.create").await, written("upstream.delete").await);
    let left = created.as_u64().expect("a number") - deleted.as_u64().expect("a number");
    assert_eq!(left, told.kept.len() as u64, "each act has its event, and each event its act");
    let database = gateway.data("gateway.db");
    if database.exists() {
        gateway.terminate().await;
        assert_eq!(sqlite::integrity(&database), "ok");
    }
}

#[tokio::test]
async fn a_change_of_the_key_that_is_killed_goes_on_where_it_ended() {
    let scene = TestGateway::start().alone("commands run on its machine").on_sqlite();
    let upstreams = (0..SEALED).map(|number| body(&format!("u{number}")));
    let scene = upstreams.fold(scene, Scene::with_upstream);
    let mut gateway = scene.with_env("MPG_ENCRYPTION_KEY", KEY).await;
    gateway.terminate().await;

    let mut rotate = gateway.command(&["rotate-key"]);
    rotate = rotate.env("MPG_ENCRYPTION_KEY", OTHER_KEY).env("MPG_ENCRYPTION_KEY_PREVIOUS", KEY);
    let (mut killed, mut life) = (0, LIFE_STEP);
    let output = loop {
        if let Some(output) = rotate.run_for(life) {
            break output;
        }
        killed += 1;
        life += LIFE_STEP;
        // The next would wait until it is sure that this one is dead, which takes half a minute.
        sqlite::execute(&gateway.data("gateway.db"), "DELETE FROM leases WHERE name = 'rotate-key'");
    };
    output.assert_success();
    assert!(killed > 1, "it was cut off {killed} times");

    // The old key is needed for nothing any more.
    let mut again = gateway.command(&["rotate-key"]).env("MPG_ENCRYPTION_KEY", OTHER_KEY);
    let told = again.run().assert_success().stdout.clone();
    assert!(told.starts_with("0 values were sealed anew, 300 needed no change"), "{told}");
}
