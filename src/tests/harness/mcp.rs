//! A client of the MCP endpoint that shows every byte, in both eras.
//!
//! It does nothing that the test doesn't say: no retries, no notifications of its own, no checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Body, Client, Method, RequestBuilder, StatusCode};
use serde_json::{Map, Value, json};

use super::exchange::{Exchange, PATIENCE};
use super::gateway::TestGateway;
use super::intermediary::Intermediary;

/// The versions that have a handshake, oldest first.
pub(crate) const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// The newest of them.
pub(crate) const LEGACY_LATEST: &str = "2025-11-25";
/// The version that has none.
pub(crate) const MODERN: &str = "2026-07-28";

/// The prefix of what 2026-07-28 puts into `_meta`.
pub(crate) const META: &str = "io.modelcontextprotocol/";
/// Why a call failed in the gateway.
pub(crate) const GATEWAY_ERROR: &str = "io.github.mcp-proxy-gateway/error";

/// Between two looks at a list that is to become something.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A client with a key. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Mcp {
    http: Client,
    url: String,
    key: String,
    capabilities: Value,
    /// Each replica of the gateway.
    each: Arc<[String]>,
}

/// Connections as the tests' clients have them: where `MPG_TEST_REPLICAS` puts a balancer between, none is
/// kept for a second request, which is to find another replica.
pub(super) fn client() -> Client {
    let replicas = std::env::var("MPG_TEST_REPLICAS").is_ok_and(|count| !count.is_empty());
    if !replicas {
        return Client::new();
    }
    Client::builder().pool_max_idle_per_host(0).build().expect("the settings are good")
}

impl Mcp {
    pub(super) fn new(gateway: &str, key: &str, each: Arc<[String]>) -> Self {
        Self {
            http: client(),
            url: format!("{gateway}/mcp/http"),
            key: key.to_owned(),
            capabilities: json!({}),
            each,
        }
    }

    /// The same on another path of the gateway.
    pub(crate) fn at(&self, path: &str) -> Self {
        let gateway = self.url.trim_end_matches("/mcp/http");
        Self { url: format!("{gateway}{path}"), ..self.clone() }
    }

    /// The same by another way, with the connections of nobody else.
    pub(crate) fn through(&self, intermediary: &Intermediary) -> Self {
        let path = self.url.splitn(4, '/').nth(3).expect("a path");
        Self { url: format!("{}/{path}", intermediary.url()), ..self.apart() }
    }

    /// The same with the connections of nobody else.
    pub(crate) fn apart(&self) -> Self {
        Self { http: client(), ..self.clone() }
    }

    /// The same by this client's connections.
    pub(crate) fn by(&self, http: Client) -> Self {
        Self { http, ..self.clone() }
    }

    /// The same with the capabilities that its modern requests declare.
    pub(crate) fn declaring(&self, capabilities: Value) -> Self {
        Self { capabilities, ..self.clone() }
    }

    /// The same at one replica of its gateway.
    pub(crate) fn at_replica(&self, gateway: &TestGateway, replica: usize) -> Self {
        let url = gateway.replica(replica).url();
        Self { url: format!("{url}/mcp/http"), ..self.clone() }
    }

    /// The same at each replica, past what is between.
    pub(crate) fn at_each(&self) -> Vec<Self> {
        let path = self.url.splitn(4, '/').nth(3).expect("a path");
        self.each.iter().map(|url| Self { url: format!("{url}/{path}"), ..self.clone() }).collect()
    }

    /// Waits until each replica knows the key. What is asked costs nothing of the key's limit and quotas.
    pub(super) async fn is_known_to_each(&self) {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        for one in self.at_each() {
            while send(one.request(Method::DELETE)).await.status() == StatusCode::UNAUTHORIZED {
                ticks.tick().await;
            }
        }
    }

    /// Its key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// A request with the key and nothing else.
    pub(crate) fn request(&self, method: Method) -> RequestBuilder {
        self.http.request(method, &self.url).bearer_auth(&self.key)
    }

    /// A POST with the key and the media types that every POST has.
    pub(crate) fn post(&self) -> RequestBuilder {
        self.request(Method::POST)
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json")
    }

    /// Posts a body as it is.
    pub(crate) async fn send(&self, body: impl Into<Body>) -> Exchange {
        send(self.post().body(body)).await
    }

    /// A request of 2026-07-28, complete.
    pub(crate) fn modern_request(&self, id: impl Into<Value>, method: &str, params: Value) -> RequestBuilder {
        let params = self.with_meta(params);
        let mut request = self.post().header("mcp-protocol-version", MODERN).header("mcp-method", method);
        let named = ["name", "uri", "taskId"].into_iter().find_map(|field| params.get(field));
        if let Some(name) = named.and_then(Value::as_str) {
            request = request.header("mcp-name", name);
        }
        let message = json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params});
        request.body(message.to_string())
    }

    /// Sends a request of 2026-07-28.
    pub(crate) async fn modern(&self, method: &str, params: Value) -> Exchange {
        send(self.modern_request(1, method, params)).await
    }

    /// Calls a tool as 2026-07-28 does; the answer must be a result.
    pub(crate) async fn call(&self, name: &str, arguments: Value) -> Value {
        self.modern("tools/call", json!({"name": name, "arguments": arguments})).await.result().await
    }

    /// Every tool, over all pages.
    pub(crate) async fn tools(&self) -> Vec<Value> {
        let mut tools = Vec::new();
        let mut params = json!({});
        loop {
            let mut result = self.modern("tools/list", params).await.result().await;
            tools.append(result["tools"].as_array_mut().expect("a list of tools"));
            match result["nextCursor"].take() {
                Value::Null => return tools,
                cursor => params = json!({"cursor": cursor}),
            }
        }
    }

    /// The names of all tools, in the order of the list.
    pub(crate) async fn tool_names(&self) -> Vec<String> {
        self.tools().await.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// Waits until the list has all these tools; upstreams connect after the gateway is ready.
    pub(crate) async fn lists(&self, wanted: &[&str]) -> Vec<String> {
        self.lists_become(|names| wanted.iter().all(|wanted| names.iter().any(|name| name == wanted))).await
    }

    /// Waits until the list is as it should be, at each replica.
    pub(crate) async fn lists_become(&self, is_right: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut last = Vec::new();
        let look = async {
            let mut ticks = tokio::time::interval(LOOK_INTERVAL);
            for one in self.at_each() {
                loop {
                    ticks.tick().await;
                    last = one.tool_names().await;
                    if is_right(&last) {
                        break;
                    }
                }
            }
        };
        let looked = tokio::time::timeout(PATIENCE, look).await;
        assert!(looked.is_ok(), "the list has become {last:?}");
        last
    }

    /// Waits until the resource is listed: the lists of an upstream come one after the other.
    pub(crate) async fn has_resource(&self, uri: &str) {
        self.resources_become(|uris| uris.iter().any(|one| one == uri)).await;
    }

    /// Waits until the template is listed, which comes last.
    pub(crate) async fn has_template(&self, template: &str) {
        let place = ("resources/templates/list", "resourceTemplates", "uriTemplate");
        self.first_page_becomes(place, |templates| templates.iter().any(|one| one == template)).await;
    }

    /// Waits until the resources on the first page are as they should be: their URIs.
    pub(crate) async fn resources_become(&self, is_right: impl Fn(&[String]) -> bool) -> Vec<String> {
        self.first_page_becomes(("resources/list", "resources", "uri"), is_right).await
    }

    /// Waits until the first page of a list is as it should be. Its place: the method, the list in the result, and
    /// the member that names an item.
    async fn first_page_becomes(
        &self,
        (method, list, member): (&str, &str, &str),
        is_right: impl Fn(&[String]) -> bool,
    ) -> Vec<String> {
        let mut last = Vec::new();
        let look = async {
            let mut ticks = tokio::time::interval(LOOK_INTERVAL);
            for one in self.at_each() {
                loop {
                    ticks.tick().await;
                    let listed = one.modern(method, json!({})).await.result().await;
                    let items = listed[list].as_array().expect("a list");
                    last = items.iter().map(|one| one[member].as_str().expect("a text").to_owned()).collect();
                    if is_right(&last) {
                        break;
                    }
                }
            }
        };
        let looked = tokio::time::timeout(PATIENCE, look).await;
        assert!(looked.is_ok(), "{method} has become {last:?}");
        last
    }

    /// Waits until the key is as it should be: what an admin writes takes effect a moment later.
    pub(crate) async fn answers_with(&self, status: StatusCode) -> Duration {
        let started = Instant::now();
        let look = async {
            let mut ticks = tokio::time::interval(LOOK_INTERVAL);
            for one in self.at_each() {
                while one.modern("tools/list", json!({})).await.status() != status {
                    ticks.tick().await;
                }
            }
        };
        let looked = tokio::time::timeout(PATIENCE, look).await;
        assert!(looked.is_ok(), "the key isn't answered with {status}");
        started.elapsed()
    }

    /// A session, made without capabilities.
    pub(crate) async fn initialize(&self, version: &str) -> Session {
        self.initialize_with(version, json!({})).await
    }

    /// A session of a client that can be asked.
    pub(crate) async fn initialize_with(&self, version: &str, capabilities: Value) -> Session {
        let params = json!({
            "protocolVersion": version, "capabilities": capabilities,
            "clientInfo": {"name": "harness", "version": "1"},
        });
        let message = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let exchange = self.send(message.to_string()).await;
        assert_eq!(exchange.status(), StatusCode::OK);
        let id = exchange.header("mcp-session-id").to_owned();
        let result = exchange.result().await;
        let version = result["protocolVersion"].as_str().expect("a version").to_owned();
        let session =
            Session { mcp: self.clone(), id, version, result, last_id: Arc::new(AtomicU64::new(0)) };
        session.notify("notifications/initialized", json!({})).await;
        session
    }

    fn with_meta(&self, mut params: Value) -> Value {
        let given = params.get_mut("_meta").map_or_else(|| json!({}), Value::take);
        let mut meta = Map::new();
        meta.insert(format!("{META}protocolVersion"), json!(MODERN));
        meta.insert(format!("{META}clientCapabilities"), self.capabilities.clone());
        meta.insert(format!("{META}clientInfo"), json!({"name": "harness", "version": "1"}));
        meta.extend(given.as_object().expect("an object").clone());
        params["_meta"] = Value::Object(meta);
        params
    }
}

/// A session of the legacy era. Clones are the same session.
#[derive(Clone)]
pub(crate) struct Session {
    mcp: Mcp,
    id: String,
    version: String,
    result: Value,
    last_id: Arc<AtomicU64>,
}

impl Session {
    /// What `Mcp-Session-Id` said.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The version that was agreed.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// What `initialize` answered.
    pub(crate) fn result(&self) -> &Value {
        &self.result
    }

    /// The same session, shown by somebody else.
    pub(crate) fn shown_by(&self, other: &Mcp) -> Self {
        Self { mcp: other.clone(), ..self.clone() }
    }

    /// A request with the headers of the session.
    pub(crate) fn with_headers(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.header("mcp-session-id", &self.id);
        // The header exists since 2025-06-18.
        if self.version.as_str() < "2025-06-18" {
            return request;
        }
        request.header("mcp-protocol-version", &self.version)
    }

    /// Posts a body as it is.
    pub(crate) async fn send(&self, body: impl Into<Body>) -> Exchange {
        send(self.with_headers(self.mcp.post()).body(body)).await
    }

    /// Sends a request under the next free id.
    pub(crate) async fn request(&self, method: &str, params: Value) -> Exchange {
        self.request_as(self.last_id.fetch_add(1, Ordering::Relaxed) + 1, method, params).await
    }

    /// Sends a request under an id of the test's own.
    pub(crate) async fn request_as(&self, id: impl Into<Value>, method: &str, params: Value) -> Exchange {
        let message = json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params});
        self.send(message.to_string()).await
    }

    /// Calls a tool; the answer must be a result.
    pub(crate) async fn call(&self, name: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({"name": name, "arguments": arguments})).await.result().await
    }

    /// Sends a notification, which is accepted.
    pub(crate) async fn notify(&self, method: &str, params: Value) {
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        assert_eq!(self.send(message.to_string()).await.status(), StatusCode::ACCEPTED, "{method}");
    }

    /// Answers a request of the gateway, which is accepted.
    pub(crate) async fn answer(&self, id: &Value, result: Value) {
        let message = json!({"jsonrpc": "2.0", "id": id, "result": result});
        assert_eq!(self.send(message.to_string()).await.status(), StatusCode::ACCEPTED);
    }

    /// Opens the stream for what belongs to no request.
    pub(crate) async fn stream(&self) -> Exchange {
        let request = self.mcp.request(Method::GET).header(ACCEPT, "text/event-stream");
        send(self.with_headers(request)).await
    }

    /// Asks for the rest of a stream.
    pub(crate) async fn resume(&self, last_event_id: &str) -> Exchange {
        let request = self.mcp.request(Method::GET).header(ACCEPT, "text/event-stream");
        send(self.with_headers(request).header("last-event-id", last_event_id)).await
    }

    /// Ends the session.
    pub(crate) async fn delete(&self) -> StatusCode {
        send(self.with_headers(self.mcp.request(Method::DELETE))).await.status()
    }

    /// The names of all tools on the first page.
    pub(crate) async fn tool_names(&self) -> Vec<String> {
        let result = self.request("tools/list", json!({})).await.result().await;
        let tools = result["tools"].as_array().expect("a list of tools");
        tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    }
}

/// Sends a request that a test completed by itself.
pub(crate) async fn send(request: RequestBuilder) -> Exchange {
    let response = tokio::time::timeout(PATIENCE, request.send()).await;
    Exchange::new(response.expect("an answer in time").expect("an answer"))
}

/// The text of a tool's result, which has one block of it.
#[track_caller]
pub(crate) fn text_of(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {result}"))
}

/// The text of a result that is no failure.
#[track_caller]
pub(crate) fn success_of(result: &Value) -> &str {
    assert_ne!(result["isError"], true, "{result}");
    text_of(result)
}
