//! `POST /api/admin/tools/call`: calls a tool as a key would, to see what its clients get.

use axum::Json;
use axum::extract::State;
use proxy::control::{PlayError, ToolCall};
use serde::Serialize;
use serde_json::{Value, json};
use sql::api_keys;
use sql::model::{ApiKeyId, Outcome};
use utoipa::ToSchema;

use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin};
use crate::fields::{self, Fields, Problems, text};

/// The longest exposed name, in characters.
const NAME_CHARS_MAX: usize = 2_048;

/// A call.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct PlaygroundCall {
    /// As which key: what it may not see can't be called, and its limits hold.
    key_id: uuid::Uuid,
    /// The tool, as that key's clients call it.
    name: String,
    /// Its arguments; none if not said.
    #[schema(value_type = Option<Object>)]
    arguments: Option<Value>,
}

/// What came of it.
#[derive(Serialize, ToSchema)]
pub(crate) struct PlaygroundAnswer {
    /// The result as a client gets it; of an error, null.
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    /// The JSON-RPC error as a client gets it; of a result, null.
    #[schema(value_type = Option<Object>)]
    error: Option<Value>,
    /// How long it took.
    ms: u64,
}

/// Call a tool as a key
#[utoipa::path(post, path = "/api/admin/tools/call", tag = "tools", operation_id = "call",
    request_body = PlaygroundCall, responses((status = 200, body = PlaygroundAnswer)))]
pub(crate) async fn call(
    admin: Admin,
    State(app): State<App>,
    body: extract::Json,
) -> Result<Json<PlaygroundAnswer>, ApiError> {
    let (key, name, arguments) = parse(body.value)?;
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let stored = api_keys::get(&mut tx, key).await?;
    let stored = stored.ok_or_else(|| ApiError::field("/keyId", "must be the id of a key"))?;
    // Before the call, which can't be taken back. Never its arguments: they belong to others.
    let act = Act {
        action: "tool.call",
        target_id: None,
        target_name: Some(name.clone()),
        diff: json!({"keyId": key, "keyName": stored.name}),
        outcome: Outcome::Success,
    };
    audit::record(&mut tx, now, &admin, act).await?;
    tx.commit().await?;
    let call = ToolCall { key, name, arguments, address: admin.client.address };
    let played = app.control.call_tool(call).await.map_err(|error| match error {
        PlayError::Refused(reason) => ApiError::conflict(reason),
        PlayError::Limited { retry_after } => ApiError::RateLimited { retry_after },
        PlayError::TimedOut => ApiError::UpstreamTimeout,
    })?;
    Ok(Json(PlaygroundAnswer { result: played.result, error: played.error, ms: played.ms }))
}

fn parse(value: Value) -> Result<(ApiKeyId, String, Value), ApiError> {
    let mut problems = Problems::default();
    let Some(mut fields) = Fields::open(value, "", &mut problems) else {
        return problems.unless_any(None);
    };
    let key = fields.required("keyId", &mut problems, |value| {
        fields::parsed::<ApiKeyId>(value).map_err(|_| "must be the id of a key".to_owned())
    });
    let name = fields.required("name", &mut problems, text(1..=NAME_CHARS_MAX));
    let arguments = fields.optional("arguments", &mut problems, |value| match value {
        Value::Object(_) => Ok(value),
        _ => Err("must be an object".to_owned()),
    });
    fields.close(&mut problems);
    let arguments = arguments.unwrap_or_else(|| json!({}));
    problems.unless_any(key.zip(name).map(|(key, name)| (key, name, arguments)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/tools/call";

    #[tokio::test]
    async fn a_call_is_made_as_a_key_and_told() {
        let scene = Scene::logged_in().await;
        let (key, _) = scene.key("k").await;
        let body = json!({"keyId": key, "name": "add", "arguments": {"password": "CANARY"}});
        let answer = scene.post(PATH, body).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        assert_eq!(answer.json["result"], json!({"called": "add", "with": {"password": "CANARY"}}));
        let told = scene.audited("tool.call").await;
        assert_eq!((told[0].target_name.as_deref(), &told[0].diff["keyName"]), (Some("add"), &json!("k")));
        assert!(!told[0].diff.to_string().contains("CANARY"));
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_all_together() {
        let scene = Scene::logged_in().await;
        let wrong = json!({"keyId": "x", "name": "", "arguments": [], "y": 1});
        assert_eq!(scene.post(PATH, wrong).await.pointers(), ["/keyId", "/name", "/arguments", "/y"]);
        let gone = json!({"keyId": "01890000-0000-7000-8000-000000000000", "name": "a"});
        assert_eq!(scene.post(PATH, gone).await.pointers(), ["/keyId"]);
        assert!(scene.audited("tool.call").await.is_empty());
    }
}
