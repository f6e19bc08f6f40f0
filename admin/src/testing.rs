//! A control plane for tests: the real router on a real store in memory, with a scripted data plane.

mod plane;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request};
use proxy::context::ClientContext;
use proxy::control::{Control, ControlPlane};
use serde_json::{Value, json};
use sql::audit_log::{self, AuditFilter};
use sql::clock::Clock;
use sql::model::{
    ApiKey, AuditEvent, Definition, DefinitionId, Finding, Kind, ListDiff, ListState, PageRequest, Secret,
    Settings, Timestamp, Upstream, UpstreamId,
};
use sql::seal::MasterKey;
use sql::{Database, Store, StoreOptions, api_keys, lists, names, upstreams};
use tokio::sync::watch;
use tower::ServiceExt;

pub(crate) use self::plane::{ISSUER, ScriptedPlane, status};
use crate::log_ring::LogRing;
use crate::{App, Deps, routes};

/// The password of `root`.
pub(crate) const PASSWORD: &str = "correct horse";

/// What strangers register with.
pub(crate) const SETUP_TOKEN: &str = "setup-token";

/// What the store is sealed with.
pub(crate) const MASTER_KEY: &str = "9f3c71e25ab84d06c8e7f1a2b3945d6e07c18f29a4be53d0617298acfe4b0d35";

/// The cheapest bcrypt: what is tested is what happens, not how long it takes.
const PASSWORD_COST: u32 = 4;

/// A client of a control plane. Clones talk to the same one.
#[derive(Clone)]
pub(crate) struct Scene {
    router: Router,
    deps: Deps,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) plane: Arc<ScriptedPlane>,
    pub(crate) logs: LogRing,
    address: IpAddr,
    token: Option<String>,
}

impl Scene {
    /// Nobody has registered yet.
    pub(crate) async fn new() -> Self {
        Self::made(None).await
    }

    /// The same where the operator says how the gateway is reached.
    pub(crate) async fn at(url: &str) -> Self {
        Self::made(Some(url.to_owned())).await
    }

    /// The same where the environment fixes one setting, to this.
    pub(crate) async fn with_fixed_mode(mode: sql::model::Mode) -> Self {
        let mut settings = Settings::default();
        settings.mcp_api.mode = mode;
        let scene = Self::made_with(None, settings, vec!["mcp_api.mode".into()]).await;
        scene.register().await;
        scene.logged_in_again().await
    }

    /// The same for the length of names.
    pub(crate) async fn with_fixed_name_length(length_max: u32) -> Self {
        let mut settings = Settings::default();
        settings.naming.length_max = length_max;
        let scene = Self::made_with(None, settings, vec!["naming.length_max".into()]).await;
        scene.register().await;
        scene.logged_in_again().await
    }

    async fn made(public_url: Option<String>) -> Self {
        Self::made_with(public_url, Settings::default(), Vec::new()).await
    }

    async fn made_with(public_url: Option<String>, settings: Settings, locked: Vec<String>) -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_750_000_000_000));
        let (master_key, _) = MasterKey::from_env_text(MASTER_KEY).unwrap();
        let options = StoreOptions {
            database: Database::SqliteMemory,
            master_key,
            previous_keys: Vec::new(),
            clock: clock.clone(),
            start_timeout: Duration::from_secs(5),
        };
        let store = Store::open(options).await.unwrap();
        let plane = Arc::new(ScriptedPlane::default());
        let logs = LogRing::default();
        let deps = Deps {
            store: store.clone(),
            control: Control::new(Arc::clone(&plane) as Arc<dyn ControlPlane>),
            settings: watch::channel(Arc::new(settings)).1,
            locked,
            logs: logs.clone(),
            setup_token: Some(Secret::from(SETUP_TOKEN)),
            public_url,
            version: "test",
        };
        let router = routes::router(App::new(deps.clone(), PASSWORD_COST));
        Self { router, deps, store, clock, plane, logs, address: "127.0.0.1".parse().unwrap(), token: None }
    }

    /// `root` has registered and logged in.
    pub(crate) async fn logged_in() -> Self {
        let scene = Self::new().await;
        scene.register().await;
        scene.logged_in_again().await
    }

    /// The same client at another replica: a router of its own on the same store.
    pub(crate) fn replica(&self) -> Self {
        let router = routes::router(App::new(self.deps.clone(), PASSWORD_COST));
        Self { router, ..self.clone() }
    }

    /// The same client at another address.
    pub(crate) fn from(mut self, address: &str) -> Self {
        self.address = address.parse().unwrap();
        self
    }

    /// The same client with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same client in a session of its own.
    pub(crate) async fn logged_in_again(self) -> Self {
        let login = self.post("/api/auth/login", json!({"username": "root", "password": PASSWORD})).await;
        assert_eq!(login.status, 200, "{}", login.json);
        self.with_token(login.json["token"].as_str().unwrap())
    }

    /// The same client without a token.
    pub(crate) fn logged_out(mut self) -> Self {
        self.token = None;
        self
    }

    /// Registers `root`.
    pub(crate) async fn register(&self) {
        let answer = self.post("/api/auth/register", json!({"username": "root", "password": PASSWORD})).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None, &[]).await
    }

    /// What is answered, as text.
    pub(crate) async fn text(&self, path: &str) -> String {
        self.send("GET", path, None, &[]).await.text
    }

    /// Status and body of what isn't JSON.
    pub(crate) async fn get_text(&self, path: &str) -> (u16, String) {
        let response = self.ask("GET", path, "", &[]).await;
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, Some(body), &[]).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None, &[]).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut headers = headers.to_vec();
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.send_raw(method, path, &body, &headers).await
    }

    pub(crate) async fn send_raw(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let (parts, body) = self.ask(method, path, body, headers).await.into_parts();
        let bytes = axum::body::to_bytes(body, 16 << 20).await.unwrap();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status.as_u16(), headers: parts.headers, json, text }
    }

    /// The answer, its body not yet read.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> axum::response::Response {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let context = ClientContext { address: self.address, request_id: "request-1".into() };
        let request = request.extension(context).body(Body::from(body.to_owned())).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Creates an upstream and gives its id.
    pub(crate) async fn upstream(&self, name: &str) -> String {
        let url = format!("https://{name}.example/mcp");
        let body = json!({"name": name, "transport": "streamable-http", "connParams": {"url": url}});
        let answer = self.post("/api/admin/upstreams", body).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
        answer.json["id"].as_str().unwrap().to_owned()
    }

    /// Creates a key and gives its id and secret.
    pub(crate) async fn key(&self, name: &str) -> (String, String) {
        let answer = self.post("/api/admin/keys", json!({"name": name})).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
        let text = |member: &str| answer.json[member].as_str().unwrap().to_owned();
        (text("id"), text("plaintextKey"))
    }

    /// Creates a XiaoZhi endpoint with a key of its own and gives its id.
    pub(crate) async fn xiaozhi(&self, name: &str) -> String {
        let (key, _) = self.key(&format!("key of {name}")).await;
        let body = json!({"name": name, "url": "wss://api.xiaozhi.me/mcp/?token=CANARY", "keyId": key});
        let answer = self.post("/api/admin/xiaozhi", body).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
        answer.json["id"].as_str().unwrap().to_owned()
    }

    /// The XiaoZhi endpoints as they are stored.
    pub(crate) async fn endpoints(&self) -> Vec<sql::model::XiaozhiEndpoint> {
        let mut tx = self.store.read().await.unwrap();
        sql::xiaozhi_endpoints::list(&mut tx).await.unwrap()
    }

    /// What was agreed to, as it is stored.
    pub(crate) async fn pins(&self) -> Vec<sql::model::Pin> {
        let mut tx = self.store.read().await.unwrap();
        sql::pins::all(&mut tx).await.unwrap()
    }

    /// Has a tool agreed to, where its upstream is now or where `identity` says.
    pub(crate) async fn agree(&self, upstream_id: &str, name: &str, identity: Option<[u8; 32]>) {
        let mut tx = self.store.begin().await.unwrap();
        let upstream = upstreams::get(&mut tx, upstream_id.parse().unwrap()).await.unwrap().unwrap();
        let pin = sql::model::Pin {
            upstream_id: upstream.id,
            kind: Kind::Tool,
            upstream_name: name.to_owned(),
            identity: identity.unwrap_or_else(|| proxy::pinning::identity(&upstream)),
            pin: [3; 32],
            approved: Some("{\"name\": \"\u{e9}\"}".into()),
            review: None,
            found_at: None,
        };
        sql::pins::save(&mut tx, &[pin]).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Stores a tool of an upstream, behind those it has.
    pub(crate) async fn tool(&self, upstream_id: &str, name: &str) -> DefinitionId {
        self.item(Kind::Tool, upstream_id, name).await
    }

    /// The same for an item of any list.
    pub(crate) async fn item(&self, kind: Kind, upstream_id: &str, name: &str) -> DefinitionId {
        let upstream_id: UpstreamId = upstream_id.parse().unwrap();
        let now = self.clock.now();
        let mut tx = self.store.begin().await.unwrap();
        let position = lists::of_upstream(&mut tx, upstream_id, kind).await.unwrap().len();
        let claim = sql::model::Claim {
            kind,
            exposed_name: name.into(),
            upstream_id,
            upstream_name: name.into(),
            wanted: name.into(),
        };
        assert!(names::claim(&mut tx, &claim).await.unwrap());
        let body = json!({"name": name, "description": format!("what {name} does"), "inputSchema": {"type": "object"}});
        let body = body.to_string();
        let definition = Definition {
            id: DefinitionId::at(now),
            upstream_id,
            kind,
            upstream_name: name.into(),
            exposed_name: name.into(),
            hash: ring::digest::digest(&ring::digest::SHA256, body.as_bytes()).as_ref().try_into().unwrap(),
            body: body.into(),
            position: i64::try_from(position).unwrap(),
            enabled: true,
            sort_order: None,
            first_seen_at: now,
            changed_at: now,
        };
        let id = definition.id;
        let diff = ListDiff { added: vec![definition], ..ListDiff::none(upstream_id, kind) };
        let state = ListState {
            upstream_id,
            kind,
            synced_at: now,
            ttl_ms: None,
            cache_scope_public: false,
            findings: vec![Finding {
                kind: Kind::Tool,
                upstream_name: "bad".into(),
                code: "no-schema".into(),
                message: "has no usable schema".into(),
            }],
        };
        lists::apply(&mut tx, &diff, &state).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    /// The audit events of one action, newest first.
    pub(crate) async fn audited(&self, action: &str) -> Vec<AuditEvent> {
        let mut tx = self.store.read().await.unwrap();
        let request = PageRequest { limit: 200, ..PageRequest::default() };
        let filter = AuditFilter { action: Some(action.into()), ..AuditFilter::default() };
        audit_log::page(&mut tx, &request, &filter).await.unwrap().items
    }

    /// The upstream as it is stored, secrets and all.
    pub(crate) async fn stored(&self, id: &str) -> Upstream {
        let mut tx = self.store.read().await.unwrap();
        upstreams::get(&mut tx, id.parse().unwrap()).await.unwrap().unwrap()
    }

    /// The key as it is stored.
    pub(crate) async fn stored_key(&self, name: &str) -> ApiKey {
        let mut tx = self.store.read().await.unwrap();
        api_keys::by_name(&mut tx, name).await.unwrap().unwrap()
    }
}

/// The token that a client of [`Scene`] sends.
pub(crate) fn token_of(scene: &Scene) -> String {
    scene.token.clone().unwrap()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
    pub(crate) text: String,
}

impl Answer {
    /// The pointers of the fields that are said to be wrong, in order.
    pub(crate) fn pointers(&self) -> Vec<String> {
        let errors = self.json["errors"].as_array().into_iter().flatten();
        errors.map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }

    /// Status and body, but for what differs from request to request.
    pub(crate) fn without_request_id(&self) -> Value {
        let mut body = self.json.clone();
        body.as_object_mut().unwrap().remove("requestId");
        json!({"status": self.status, "body": body})
    }
}
