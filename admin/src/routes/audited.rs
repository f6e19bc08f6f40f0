//! Every operation that writes leaves an event in the audit log: by going through the list of routes.

use bytes::Bytes;
use proxy::control::SyncReport;
use serde_json::{Value, json};
use sql::model::{ClientSession, Kind, Pin, Review};
use sql::{audit_log, client_sessions, lists, pins, upstreams};
use uuid::Uuid;

use super::tests::routes_of;
use super::{Access, groups};
use crate::testing::{PASSWORD, Scene};

/// Operations that are no reading by their method, and change nothing.
const CHANGE_NOTHING: [&str; 3] = [
    "POST /api/admin/backup/preview",
    "POST /api/admin/rules/preview",
    "POST /api/admin/templates/{id}/build",
];

/// Where the gateway is reached, which an authorisation needs to know.
const HOST: [(&str, &str); 1] = [("host", "localhost")];

/// One of everything that an operation can be about.
struct Things {
    scene: Scene,
    upstream: String,
    tool: String,
    prompt: String,
    resource: String,
    key: String,
    alias: String,
    filter: String,
    session: String,
}

/// What a route is called with: its id, its body, and whether it takes an `If-Match`.
struct Call {
    id: String,
    body: Value,
}

impl Things {
    async fn new() -> Self {
        let scene = Scene::logged_in().await;
        let upstream = scene.upstream("a").await;
        let hold = json!({"onToolChange": "hold"});
        let path = format!("/api/admin/upstreams/{upstream}");
        assert_eq!(scene.send("PATCH", &path, Some(hold), &[("if-match", "\"1\"")]).await.status, 200);
        let mut items = Vec::new();
        for (kind, name) in [(Kind::Tool, "t"), (Kind::Prompt, "p"), (Kind::Resource, "file:///r")] {
            items.push(scene.item(kind, &upstream, name).await.to_string());
        }
        let [tool, prompt, resource] = <[String; 3]>::try_from(items).unwrap();
        let key = scene.key("k").await.0;
        let owner = json!({"type": "upstream", "id": upstream});
        let alias = json!({"owner": owner, "pattern": "t", "targetName": "u"});
        let filter = json!({"owner": owner, "pattern": "x", "action": "deny"});
        let rule = async |noun: &str, body| {
            let answer = scene.post(&format!("/api/admin/rules/{noun}"), body).await;
            assert_eq!(answer.status, 201, "{}", answer.json);
            answer.json["id"].as_str().unwrap().to_owned()
        };
        let (alias, filter) = (rule("aliases", alias).await, rule("filters", filter).await);
        let other = scene.clone().logged_in_again().await;
        let sessions = other.get("/api/admin/auth/sessions").await.json;
        let session =
            sessions["items"].as_array().unwrap().iter().find(|one| one["current"] == true).unwrap();
        let session = session["id"].as_str().unwrap().to_owned();
        Self { scene, upstream, tool, prompt, resource, key, alias, filter, session }
    }

    /// Has an admin asked about an item; says its hash.
    async fn to_be_reviewed(&self, id: &str) -> String {
        let mut tx = self.scene.store.begin().await.unwrap();
        let item = lists::get(&mut tx, id.parse().unwrap()).await.unwrap().unwrap();
        let owner = upstreams::get(&mut tx, item.upstream_id).await.unwrap().unwrap();
        let approved = Some(Bytes::from_static(b"{}"));
        let review = Some(Review::Changed);
        let pin = Pin { approved, review, ..proxy::pinning::agreed(&owner, &item) };
        pins::save(&mut tx, &[pin]).await.unwrap();
        tx.commit().await.unwrap();
        item.hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    async fn open_session(&self) {
        let now = self.scene.clock.now();
        let session = ClientSession {
            rid: Uuid::nil(),
            key_id: self.key.parse().unwrap(),
            path: "/mcp/http".into(),
            version: "2025-11-25".into(),
            client: None,
            address: None,
            created_at: now,
            expires_at: now.plus(std::time::Duration::from_mins(1)),
        };
        let mut tx = self.scene.store.begin().await.unwrap();
        client_sessions::insert(&mut tx, &[session]).await.unwrap();
        tx.commit().await.unwrap();
    }

    fn endpoint(&self, name: &str) -> Value {
        json!({"name": name, "url": "wss://api.xiaozhi.me/mcp/?token=t", "keyId": self.key})
    }

    async fn authorize(&self) {
        let start = format!("/api/admin/upstreams/{}/oauth/start", self.upstream);
        self.scene.send("POST", &start, Some(json!({})), &HOST).await;
        self.scene.get("/api/auth/oauth/callback?state=state-1&code=code-1").await;
    }

    /// What an operation is called with. One that isn't here is new: add how it is called, or that it changes
    /// nothing.
    async fn call(&self, method: &str, path: &str) -> Call {
        let what = path.trim_start_matches("/api/admin/");
        let (noun, verb) = what.split_once("/{id}").unwrap_or((what, ""));
        let with = |id: &str, body| Call { id: id.to_owned(), body };
        let ids = json!({"ids": [self.upstream]});
        let ordered = |id: &str| json!({"owner": {"type": "upstream", "id": self.upstream}, "ids": [id]});
        let owner = json!({"type": "upstream", "id": self.upstream});
        match (method, noun, verb) {
            ("POST", "auth/change-password", _) => {
                with("", json!({"currentPassword": PASSWORD, "newPassword": "another password"}))
            }
            ("POST", "auth/refresh" | "auth/logout", _) | ("DELETE", "auth/sessions", "")
                if !path.contains("{id}") =>
            {
                with("", json!({}))
            }
            ("DELETE", "auth/sessions", "") => with(&self.session, json!({})),
            ("POST", "upstreams/reorder", _) => with("", ids),
            ("POST", "upstreams/bulk", _) => with("", json!({"action": "disable", "ids": [self.upstream]})),
            ("POST", "upstreams" | "upstreams/test", "") => {
                let parameters = json!({"url": "https://b.example/mcp"});
                with("", json!({"name": "b", "transport": "streamable-http", "connParams": parameters}))
            }
            ("PATCH", "upstreams", "") => with(&self.upstream, json!({"name": "b"})),
            ("POST", "upstreams", "/enable") => {
                let path = format!("/api/admin/upstreams/{}/disable", self.upstream);
                assert_eq!(self.scene.post(&path, json!({})).await.status, 200);
                with(&self.upstream, json!({}))
            }
            ("POST", "upstreams", "/sync") => {
                self.scene.plane.next_sync(Ok(SyncReport::default()));
                with(&self.upstream, json!({}))
            }
            ("DELETE", "upstreams", "/oauth") => {
                self.authorize().await;
                with(&self.upstream, json!({}))
            }
            ("POST", "upstreams/import", _) => {
                with("", json!({"mcpServers": {"imported": {"url": "https://i.example/mcp"}}}))
            }
            (_, "upstreams", _) => with(&self.upstream, json!({})),
            ("POST", "keys", "") => with("", json!({"name": "other"})),
            ("PATCH", "keys", "") => with(&self.key, json!({"name": "other"})),
            ("POST", "keys", "/enable") => {
                let path = format!("/api/admin/keys/{}/disable", self.key);
                assert_eq!(self.scene.post(&path, json!({})).await.status, 200);
                with(&self.key, json!({}))
            }
            ("DELETE", "keys", "/sessions/{sid}") => {
                self.open_session().await;
                with(&self.key, json!({}))
            }
            (_, "keys", _) => with(&self.key, json!({})),
            ("POST", "tools/call", _) => with("", json!({"keyId": self.key, "name": "t", "arguments": {}})),
            (_, "tools" | "prompts" | "resources", _) => {
                let id = match noun {
                    "tools" => &self.tool,
                    "prompts" => &self.prompt,
                    _ => &self.resource,
                };
                if verb == "/approve" {
                    return with(id, json!({"hash": self.to_be_reviewed(id).await}));
                }
                with(id, if method == "PATCH" { json!({"enabled": false}) } else { json!({}) })
            }
            ("POST", "rules/aliases", "") => {
                with("", json!({"owner": owner, "pattern": "y", "targetName": "z"}))
            }
            ("POST", "rules/filters", "") => {
                with("", json!({"owner": owner, "pattern": "y", "action": "deny"}))
            }
            ("POST", "rules/aliases/reorder", _) => with("", ordered(&self.alias)),
            ("POST", "rules/filters/reorder", _) => with("", ordered(&self.filter)),
            (_, "rules/aliases", _) => with(&self.alias, json!({"pattern": "w"})),
            (_, "rules/filters", _) => with(&self.filter, json!({"pattern": "w"})),
            ("POST", "xiaozhi", "") => with("", self.endpoint("other")),
            (_, "xiaozhi", _) => {
                let made = self.scene.post("/api/admin/xiaozhi", self.endpoint("room")).await;
                assert_eq!(made.status, 201, "{}", made.json);
                with(made.json["id"].as_str().unwrap(), json!({"name": "den"}))
            }
            ("POST", "backup/export", _) => with("", json!({})),
            ("POST", "backup/import", _) => {
                let backup = self.scene.post("/api/admin/backup/export", json!({})).await.json;
                with("", json!({"backup": backup, "mode": "merge"}))
            }
            ("PATCH", "settings", _) => with("", json!({"naming": {"length_max": 32}})),
            _ => panic!("{method} {path} is new: say here how it is called"),
        }
    }

    async fn events(&self) -> i64 {
        let mut tx = self.scene.store.read().await.unwrap();
        audit_log::extent(&mut tx).await.unwrap().head
    }
}

#[tokio::test]
async fn every_operation_that_writes_leaves_an_event() {
    let mut tried = 0;
    for (access, _, group) in groups() {
        for (path, item) in group.into_openapi().paths.paths {
            let methods = [
                ("POST", item.post.is_some()),
                ("PATCH", item.patch.is_some()),
                ("DELETE", item.delete.is_some()),
            ];
            for (method, _) in methods.into_iter().filter(|(_, there)| *there && access == Access::Admin) {
                let route = format!("{method} {path}");
                if CHANGE_NOTHING.contains(&route.as_str()) {
                    continue;
                }
                let things = Things::new().await;
                let Call { id, body } = things.call(method, &path).await;
                let at = path.replace("{id}", &id).replace("{sid}", &Uuid::nil().to_string());
                let read = things.scene.get(&at).await;
                let etag = read.headers.get("etag").map(|tag| tag.to_str().unwrap().to_owned());
                let etag = etag.filter(|_| method == "PATCH");
                let etag = etag.iter().map(|tag| ("if-match", tag.as_str()));
                let headers: Vec<_> = etag.chain(HOST).collect();
                let before = things.events().await;
                let answer = things.scene.send(method, &at, Some(body), &headers).await;
                assert!((200..300).contains(&answer.status), "{route}: {} {}", answer.status, answer.json);
                assert!(things.events().await > before, "{route} leaves no event");
                tried += 1;
            }
        }
    }
    let writing = routes_of(Access::Admin).iter().filter(|(method, ..)| *method != "GET").count();
    assert_eq!(tried + CHANGE_NOTHING.len(), writing);
}

/// What an operation of the open class writes: a registration, a good and a bad login.
#[tokio::test]
async fn logins_good_and_bad_leave_an_event() {
    let scene = Scene::new().await;
    scene.register().await;
    let count = async |action: &str| scene.audited(action).await.len();
    assert_eq!(count("admin.register").await, 1);
    for (password, total) in [(PASSWORD, 1), ("not the password", 2)] {
        scene.post("/api/auth/login", json!({"username": "root", "password": password})).await;
        assert_eq!(count("admin.login").await, total);
    }
}
