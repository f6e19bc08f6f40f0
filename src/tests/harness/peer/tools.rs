//! What the server in the test's process can do.

#![expect(deprecated, reason = "2026-07-28 keeps logging and sampling for another year, and so do servers")]

use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientResult, ContentBlock,
    CreateMessageRequest, ElicitRequest, ErrorCode, ErrorData, InputRequiredResult, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ServerConfig, ServerRequest,
    SetLevelRequestParams, SubscriptionFilter, Tool,
};
use rmcp::service::{NotificationContext, RequestContext, ServiceError, SubscriptionContext};
use rmcp::{RoleServer, ServerHandler};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::State;

type Outcome = Result<CallToolResponse, ErrorData>;

/// The tools that do something: `echo` answers its `message`; `wait` tells its progress and answers its
/// `canary` when the test lets it; `steps` reports once, and `count` times in all when the test lets it;
/// `progress` reports three times; `log` says one thing on each of three levels; `ask` and `sample` need
/// the client's help. Beside them, where a test lists them: `interview` asks two things at once, between
/// two reports, `gated` wants a page visited before the second call, `considerate` asks what the handshake
/// of its session declared, and `declared` tells that (all four of the legacy era).
pub(crate) fn own() -> Vec<Tool> {
    ["echo", "wait", "steps", "progress", "log", "ask", "sample"].into_iter().map(plain).collect()
}

/// A tool without a subject.
pub(crate) fn plain(name: impl Into<String>) -> Tool {
    tool(name, json!({"type": "object"}))
}

/// A tool whose arguments look like this.
pub(crate) fn tool(name: impl Into<String>, schema: Value) -> Tool {
    let name = name.into();
    let description = format!("The tool {name}.");
    let Value::Object(schema) = schema else { panic!("a schema is an object") };
    Tool::new(name, description, schema)
}

/// The handler of every session of a server.
#[derive(Clone)]
pub(super) struct Tools {
    state: Arc<State>,
}

impl Tools {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    async fn wait(&self, request: &CallToolRequestParams, context: RequestContext<RoleServer>) -> Outcome {
        let canary = argument(request, "canary");
        if let Some(token) = context.meta.get_progress_token() {
            let progress = ProgressNotificationParam::new(token, 1.0).with_message(canary.clone());
            context.peer.notify_progress(progress).await.map_err(lost)?;
        }
        let (release, released) = oneshot::channel();
        self.state.parked.lock().expect("nobody panics with it").push(release);
        let mut parked = Parked { state: &self.state, is_cancelled: true };
        self.state.count(|counts| counts.parked += 1);
        tokio::select! {
            released = released => released.expect("the state lives"),
            // Its end is counted by the guard, as it is where the call is simply dropped.
            () = context.ct.cancelled() => return text("cancelled"),
        }
        parked.is_cancelled = false;
        text(canary)
    }

    /// Its answer is its `canary`, as is what each of its reports says.
    async fn steps(&self, request: &CallToolRequestParams, context: RequestContext<RoleServer>) -> Outcome {
        let count = request.arguments.as_ref().and_then(|arguments| arguments.get("count")?.as_u64());
        let count = u32::try_from(count.unwrap_or_default()).expect("not that many");
        let token = context.meta.get_progress_token();
        let outcome = self.wait(request, context.clone()).await;
        for step in 2..=count {
            if let Some(token) = &token {
                let progress = ProgressNotificationParam::new(token.clone(), f64::from(step))
                    .with_message(argument(request, "canary"));
                context.peer.notify_progress(progress).await.map_err(lost)?;
            }
        }
        outcome
    }

    async fn progress(&self, context: &RequestContext<RoleServer>) -> Outcome {
        if let Some(token) = context.meta.get_progress_token() {
            for step in [1.0, 2.0, 3.0] {
                let progress = ProgressNotificationParam::new(token.clone(), step).with_total(3.0);
                context.peer.notify_progress(progress).await.map_err(lost)?;
            }
        }
        text("done")
    }

    async fn log(&self, context: &RequestContext<RoleServer>) -> Outcome {
        for level in ["debug", "info", "error"] {
            let message =
                parsed(json!({"level": level, "logger": "peer", "data": format!("said at {level}")}));
            context.peer.notify_logging_message(message).await.map_err(lost)?;
        }
        text("logged")
    }

    /// Has the client do `method`, in the way of the era.
    async fn need(
        &self,
        key: &str,
        method: &str,
        params: Value,
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Outcome {
        if context.protocol_version() == Some(ProtocolVersion::V_2026_07_28) {
            let Some(answers) = &request.input_responses else {
                let needed: InputRequiredResult = parsed(json!({
                    "resultType": "input_required", "requestState": format!("state of {key} = \"1\""),
                    "inputRequests": {key: {"method": method, "params": params}},
                }));
                return Ok(needed.into());
            };
            assert_eq!(
                request.request_state,
                Some(format!("state of {key} = \"1\"")),
                "it comes back as it was"
            );
            return text(format!("answered {}", answers[key]));
        }
        self.state.count(|counts| counts.parked += 1);
        let mut parked = Parked { state: &self.state, is_cancelled: true };
        let said = tokio::select! {
            said = ask(method, params, context) => said?,
            () = context.ct.cancelled() => return text("cancelled"),
        };
        parked.is_cancelled = false;
        text(said)
    }

    /// Asks two things at once, and reports before and after.
    async fn interview(&self, context: &RequestContext<RoleServer>) -> Outcome {
        let report = async |step: f64| match context.meta.get_progress_token() {
            Some(token) => {
                let progress = ProgressNotificationParam::new(token, step);
                context.peer.notify_progress(progress).await.map_err(lost)
            }
            None => Ok(()),
        };
        report(1.0).await?;
        let (who, capital) = (who(), capital());
        let (name, capital) = tokio::join!(
            ask("elicitation/create", who, context),
            ask("sampling/createMessage", capital, context)
        );
        report(2.0).await?;
        text(format!("{} and {}", name?, capital?))
    }

    /// Asks its client for a name and for a capital, each if it was declared that it can.
    async fn considerate(&self, context: &RequestContext<RoleServer>) -> Outcome {
        let declared = declared(context);
        let mut said = Vec::new();
        for (capability, method, params) in
            [("elicitation", "elicitation/create", who()), ("sampling", "sampling/createMessage", capital())]
        {
            said.push(match declared.get(capability) {
                Some(_) => ask(method, params, context).await?,
                None => format!("no {capability}"),
            });
        }
        text(said.join(" and "))
    }

    /// Refuses until its user has visited a page, which the second call takes for done.
    fn gated(&self) -> Outcome {
        if self.state.counts.borrow().calls > 1 {
            return text("let in");
        }
        let page = json!({
            "mode": "url", "elicitationId": "e-1", "message": "Log in", "url": "https://example.com/login",
        });
        let data = json!({"elicitations": [page]});
        Err(ErrorData::new(ErrorCode(-32042), "a visit is needed", Some(data)))
    }
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let capabilities = json!({"tools": {"listChanged": true}, "logging": {}});
        ServerConfig::new(parsed(capabilities)).with_instructions("Ask nicely.")
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.state.tools.lock().expect("nobody panics with it").clone();
        self.state.count(|counts| counts.listed += 1);
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Outcome {
        self.state.count(|counts| counts.calls += 1);
        match &*request.name {
            "echo" => text(format!("echo: {}", argument(&request, "message"))),
            "wait" => self.wait(&request, context).await,
            "steps" => self.steps(&request, context).await,
            "progress" => self.progress(&context).await,
            "log" => self.log(&context).await,
            "ask" => self.need("who", "elicitation/create", who(), &request, &context).await,
            "sample" => self.need("capital", "sampling/createMessage", capital(), &request, &context).await,
            "interview" => self.interview(&context).await,
            "gated" => self.gated(),
            "considerate" => self.considerate(&context).await,
            "declared" => text(declared(&context).to_string()),
            name => text(format!("{name} got {}", json!(request.arguments.unwrap_or_default()))),
        }
    }

    async fn set_level(
        &self,
        _: SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        self.state.clients.lock().expect("nobody panics with it").push(context.peer);
        self.state.count(|counts| counts.initialized += 1);
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.state.changes.subscribe();
        self.state.count(|counts| counts.listening += 1);
        loop {
            tokio::select! {
                changed = changes.changed() => changed.expect("the state lives"),
                () = context.cancelled() => break,
            }
            if context.sink().notify_tool_list_changed().await.is_err() {
                break;
            }
        }
        self.state.count(|counts| counts.listening -= 1);
        Ok(())
    }
}

/// A call's presence among the parked.
struct Parked<'a> {
    state: &'a State,
    is_cancelled: bool,
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.state.count(|counts| {
            counts.parked -= 1;
            counts.cancelled += usize::from(self.is_cancelled);
        });
    }
}

/// What the handshake of this session declared that can be asked.
fn declared(context: &RequestContext<RoleServer>) -> Value {
    let client = context.peer.peer_info().expect("there was a handshake");
    let mut declared = json!(client.capabilities);
    declared.as_object_mut().expect("an object").remove("extensions");
    declared
}

fn who() -> Value {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    json!({"mode": "form", "message": "Who are you?", "requestedSchema": schema})
}

fn capital() -> Value {
    let question = json!({"role": "user", "content": {"type": "text", "text": "Capital of France?"}});
    json!({"messages": [question], "maxTokens": 10})
}

/// Asks a client of the legacy era; what came back, in words.
async fn ask(method: &str, params: Value, context: &RequestContext<RoleServer>) -> Result<String, ErrorData> {
    let asked = match method {
        "elicitation/create" => ServerRequest::ElicitRequest(ElicitRequest::new(parsed(params))),
        _ => sampling(params),
    };
    match context.peer.send_request(asked).await {
        Ok(ClientResult::ElicitResult(answer)) => Ok(format!("answered {}", json!(answer))),
        Ok(ClientResult::CreateMessageResult(answer)) => Ok(format!("answered {}", json!(answer))),
        Ok(other) => Ok(format!("strange answer {other:?}")),
        Err(ServiceError::McpError(error)) => Ok(format!("refused with {}", error.code.0)),
        Err(error) => Err(lost(error)),
    }
}

fn sampling(params: Value) -> ServerRequest {
    ServerRequest::CreateMessageRequest(CreateMessageRequest::new(parsed(params)))
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a tool returns")]
fn text(text: impl Into<String>) -> Outcome {
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
}

fn argument(request: &CallToolRequestParams, name: &str) -> String {
    let value = request.arguments.as_ref().and_then(|arguments| arguments.get(name)?.as_str());
    value.unwrap_or_default().to_owned()
}

/// The typed form of what is easier to read as JSON.
fn parsed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("as the protocol has it")
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err asks for")]
fn lost(error: ServiceError) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}
