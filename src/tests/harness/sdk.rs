//! rmcp as a client of the gateway, in either lifecycle: a client that isn't ours.

#![expect(deprecated, reason = "2026-07-28 keeps logging and sampling for another year, and so do clients")]

use rmcp::model::{
    CallToolRequestParams, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
    ElicitRequestParams, ElicitResult, ErrorData, LoggingMessageNotificationParam, ProgressNotificationParam,
    ProtocolVersion,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{IntoTransport, StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::connected;
use super::gateway::TestGateway;

/// A connected client.
pub(crate) struct Sdk {
    pub(crate) client: RunningService<RoleClient, Handler>,
    /// What the gateway said beside its answers, in the order it came.
    pub(crate) heard: mpsc::UnboundedReceiver<String>,
}

/// Notes what it hears, and answers every question.
pub(crate) struct Handler {
    config: ClientConfig,
    heard: mpsc::UnboundedSender<String>,
}

impl Sdk {
    /// A client of the legacy era that asks for this version.
    pub(crate) async fn initialize(gateway: &TestGateway, version: &str) -> Self {
        Self::connect(gateway, version, ClientLifecycleMode::Initialize).await
    }

    /// A client of the modern era.
    pub(crate) async fn discover(gateway: &TestGateway) -> Self {
        let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
        Self::connect(gateway, "2026-07-28", ClientLifecycleMode::Discover { preferred_versions }).await
    }

    /// A client that starts `connect` as its server, of the era that the version belongs to.
    pub(crate) async fn by_connect(gateway: &TestGateway, version: &str) -> Self {
        let lifecycle = if version == "2026-07-28" {
            ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
        } else {
            ClientLifecycleMode::Initialize
        };
        let command = tokio::process::Command::from(connected::command(gateway, gateway.key()));
        let transport = TokioChildProcess::new(command).expect("the binary starts");
        Self::over(transport, version, lifecycle).await
    }

    async fn connect(gateway: &TestGateway, version: &str, lifecycle: ClientLifecycleMode) -> Self {
        let mut config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", gateway.url()));
        config = config.auth_header(gateway.key());
        let transport = StreamableHttpClientTransport::with_client(reqwest::Client::new(), config);
        Self::over(transport, version, lifecycle).await
    }

    async fn over<T, E, A>(transport: T, version: &str, lifecycle: ClientLifecycleMode) -> Self
    where
        T: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let (sender, heard) = mpsc::unbounded_channel();
        let client = serde_json::from_value(json!({
            "protocolVersion": version, "capabilities": {"elicitation": {}, "sampling": {}},
            "clientInfo": {"name": "sdk", "version": "1"},
        }));
        let handler = Handler { config: client.expect("as the protocol has it"), heard: sender };
        let client = handler.serve_with_lifecycle(transport, lifecycle).await.expect("a handshake");
        Self { client, heard }
    }

    /// The names of all tools.
    pub(crate) async fn tool_names(&self) -> Vec<String> {
        let tools = self.client.list_all_tools().await.expect("a list");
        tools.into_iter().map(|tool| tool.name.into_owned()).collect()
    }

    /// Calls a tool; the answer is the text of its result.
    pub(crate) async fn call(&self, name: &str, arguments: Value) -> String {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        let params = CallToolRequestParams::new(name.to_owned()).with_arguments(arguments);
        let result = self.client.call_tool(params).await.expect("a result");
        let result = json!(result);
        assert_ne!(result["isError"], true, "{result}");
        result["content"][0]["text"].as_str().expect("a text").to_owned()
    }

    /// What it has heard so far.
    pub(crate) fn heard(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }
}

impl Handler {
    fn note(&self, what: String) {
        // Nobody listens once the test is over.
        let _ = self.heard.send(what);
    }
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        self.config.clone()
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.note(format!("progress {}", params.progress));
    }

    async fn on_logging_message(
        &self,
        params: LoggingMessageNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.note(format!("log {}", params.data));
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.note("tools changed".into());
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.note(format!("asked {}", json!(request)["message"]));
        let answer = json!({"action": "accept", "content": {"name": "Ada"}});
        Ok(serde_json::from_value(answer).expect("as the protocol has it"))
    }

    async fn create_message(
        &self,
        request: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        self.note(format!("sampled {}", json!(request)["messages"][0]["content"]["text"]));
        let content = json!({"type": "text", "text": "Paris"});
        let answer = json!({"role": "assistant", "content": content, "model": "none"});
        Ok(serde_json::from_value(answer).expect("as the protocol has it"))
    }
}
