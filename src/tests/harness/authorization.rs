//! An authorization server and the MCP server that it protects, of another make, as a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use reqwest::{Method, StatusCode, redirect};
use serde_json::{Value, json};

use super::admin::Admin;
use super::exchange::PATIENCE;
use super::gateway::TestGateway;
use super::reference::tests_folder;

/// Between two looks at an upstream.
const LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(20);

/// Both servers. Dropped, they end.
pub(crate) struct Authorization {
    child: Child,
    issuer: String,
    resource: String,
    http: reqwest::Client,
}

impl Authorization {
    /// Starts them, with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        // A second test of this process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut command = Command::new("node");
        command.arg(tests_folder().join("peers/oauth-peer.mjs")).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node is installed");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let mut words = line.trim().strip_prefix("listening ").expect("it says where it listens").split(' ');
        let mut word = || words.next().expect("two addresses").to_owned();
        let (issuer, resource) = (word(), word());
        let http = reqwest::Client::builder().redirect(redirect::Policy::none()).build().expect("a client");
        Self { child, issuer, resource, http }
    }

    /// The authorization server.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The MCP server.
    pub(crate) fn resource(&self) -> &str {
        &self.resource
    }

    /// The MCP server, as an upstream.
    pub(crate) fn upstream(&self, transport: &str) -> Value {
        json!({"name": "protected", "transport": transport, "connParams": {"url": self.resource}})
    }

    /// Tells them what to do from now on.
    pub(crate) async fn told(&self, script: Value) {
        let request = self.http.post(format!("{}/control", self.issuer)).json(&script);
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::OK);
    }

    /// What they have seen.
    pub(crate) async fn seen(&self) -> Value {
        let answer = self.http.get(format!("{}/control", self.issuer)).send().await.expect("an answer");
        answer.json().await.expect("JSON")
    }

    /// Begins to authorise, as the console does: where the browser is to go.
    pub(crate) async fn begin(&self, gateway: &TestGateway, admin: &Admin, id: &str) -> String {
        let request = admin.request(Method::POST, &format!("upstreams/{id}/oauth/start"));
        let answer = request.header("Origin", gateway.url()).send().await.expect("an answer");
        let status = answer.status();
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(status, StatusCode::OK, "{body}");
        body["authorizationUrl"].as_str().expect("a URL").to_owned()
    }

    /// The person says yes, or what the script says: where the browser is sent back to, at this gateway.
    pub(crate) async fn agree(&self, gateway: &TestGateway, url: &str) -> String {
        let answer = self.http.get(url).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::FOUND, "{:?}", answer.text().await);
        let back = answer.headers()["location"].to_str().expect("text");
        let at = back.find("/api/auth/oauth/callback").expect("the callback");
        format!("{}{}", gateway.url(), &back[at..])
    }

    /// The browser goes there: how it went, as the console is told.
    pub(crate) async fn come_back(&self, url: &str) -> String {
        let answer = self.http.get(url).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let location = answer.headers()["location"].to_str().expect("text");
        location.split_once("?oauth=").expect("how it went").1.to_owned()
    }

    /// All three steps.
    pub(crate) async fn authorize(&self, gateway: &TestGateway, admin: &Admin, id: &str) -> String {
        let url = self.begin(gateway, admin, id).await;
        self.come_back(&self.agree(gateway, &url).await).await
    }
}

impl Drop for Authorization {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Admin {
    /// Waits until an upstream is as it should be.
    pub(crate) async fn upstream_becomes(&self, id: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let look = async {
            let mut ticks = tokio::time::interval(LOOK_INTERVAL);
            loop {
                ticks.tick().await;
                last = self.get(&format!("upstreams/{id}")).await.1;
                if is_right(&last) {
                    return;
                }
            }
        };
        let looked = tokio::time::timeout(PATIENCE, look).await;
        assert!(looked.is_ok(), "the upstream has become {last}");
        last
    }
}
