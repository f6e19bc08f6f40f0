//! `POST /api/admin/templates/{id}/build`: a filled-in form as the body of `POST /api/admin/upstreams`. Saves nothing.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::App;
use crate::api::upstreams;
use crate::error::ApiError;
use crate::extract::{Admin, Id, OptionalJson};
use crate::fields::{self, Fields, Problems};
use crate::templates::{self, Filled};

/// A filled-in form.
#[derive(ToSchema)]
#[schema(as = TemplateForm)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct Form {
    /// The name of the upstream; that of the template if not said.
    name: Option<String>,
    /// A value for each placeholder that is filled in; a whole number may be one.
    values: Option<BTreeMap<String, String>>,
}

/// What the form comes to.
#[derive(Serialize, ToSchema)]
#[schema(as = BuiltTemplate)]
pub(crate) struct Built {
    /// As `POST /api/admin/upstreams` takes it, with the secrets that were filled in.
    #[schema(value_type = upstreams::input::UpstreamBody)]
    upstream: Value,
    /// What exactly would run, or be dialled; without secrets.
    command: String,
}

/// Fill a template
#[utoipa::path(post, path = "/api/admin/templates/{id}/build", tag = "templates", params(("id" = String, Path)),
    request_body = Form, responses((status = 200, body = Built)))]
pub(crate) async fn build(
    _admin: Admin,
    State(app): State<App>,
    Id(id): Id<String>,
    OptionalJson(body): OptionalJson,
) -> Result<Json<Built>, ApiError> {
    let template = templates::find(&id).ok_or(ApiError::NotFound("template"))?;
    let mut problems = Problems::default();
    let filled = Fields::open(body, "", &mut problems).map(|mut form| {
        let name = form.optional("name", &mut problems, fields::name(1..=100));
        let values = match form.take("values") {
            None => Map::new(),
            Some(Value::Object(values)) => values,
            Some(_) => {
                problems.add("/values", "must be an object");
                Map::new()
            }
        };
        form.close(&mut problems);
        templates::fill(template, name.as_deref().unwrap_or(&template.name), values, &mut problems)
    });
    let Filled { body, command } = problems.unless_any(filled)?;
    // What every write asks: so that a form isn't filled in for nothing.
    upstreams::allowed(&app, body.clone())?;
    Ok(Json(Built { upstream: body, command }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/templates";

    #[tokio::test]
    async fn a_form_becomes_an_upstream_that_can_be_created() {
        let scene = Scene::logged_in().await;
        let form = json!({"name": "lab", "values": {"token": "CANARY", "apiUrl": "https://git.lab/api/v4"}});
        let built = scene.post(&format!("{PATH}/gitlab/build"), form).await;
        assert_eq!(built.status, 200, "{}", built.json);
        assert_eq!(
            built.json["command"],
            "GITLAB_API_URL=https://git.lab/api/v4 GITLAB_PERSONAL_ACCESS_TOKEN=[secret] GITLAB_READ_ONLY_MODE=true \
             npx -y @zereight/mcp-gitlab@2.1.64"
        );
        assert_eq!(
            built.json["upstream"]["connParams"]["env"]["GITLAB_PERSONAL_ACCESS_TOKEN"],
            json!({"secret": "CANARY"})
        );
        assert_eq!(scene.get("/api/admin/upstreams").await.json["total"], 0);
        let created = scene.post("/api/admin/upstreams", built.json["upstream"].clone()).await;
        assert_eq!((created.status, &created.json["name"]), (201, &json!("lab")));
        assert!(!created.text.contains("CANARY"));
    }

    #[tokio::test]
    async fn what_is_not_filled_in_is_left_out() {
        let scene = Scene::logged_in().await;
        let built = scene.post(&format!("{PATH}/time/build"), json!({})).await;
        assert_eq!(built.json["command"], "uvx mcp-server-time@2026.10.19", "{}", built.json);
        let built =
            scene.post(&format!("{PATH}/kubernetes/build"), json!({"values": {"kubeconfig": "/k"}})).await;
        assert_eq!(built.json["command"], "npx -y kubernetes-mcp-server@0.0.67 --read-only --kubeconfig /k");
        let built = scene.post(&format!("{PATH}/word/build"), json!({})).await;
        assert_eq!(built.json["command"], "uvx --from office-word-mcp-server==1.1.11 word_mcp_server");
        let dialled =
            scene.post(&format!("{PATH}/hugging-face/build"), json!({"values": {"token": "hf_x"}})).await;
        assert_eq!(dialled.json["upstream"]["credential"], "hf_x");
        assert_eq!(dialled.json["command"], "https://huggingface.co/mcp");
    }

    #[tokio::test]
    async fn everything_wrong_is_said_at_once() {
        let scene = Scene::logged_in().await;
        let form = json!({"name": " x", "extra": 1, "values": {
            "host": "a b", "port": "many", "user": "-oops", "password": 7, "other": "x"}});
        let answer = scene.post(&format!("{PATH}/mysql/build"), form).await;
        let mut pointers = answer.pointers();
        pointers.sort();
        assert_eq!(
            pointers,
            [
                "/extra",
                "/name",
                "/values/host",
                "/values/other",
                "/values/password",
                "/values/port",
                "/values/user"
            ]
        );
        let nothing = scene.post(&format!("{PATH}/mysql/build"), json!({})).await;
        assert_eq!(nothing.pointers(), ["/values/user", "/values/password"]);
        let hidden = json!({"values": {"token": "a\u{200B}b"}});
        assert_eq!(scene.post(&format!("{PATH}/asana/build"), hidden).await.pointers(), ["/values/token"]);
    }

    /// T26: a template is a way in like any other.
    #[tokio::test]
    async fn the_policy_is_asked() {
        let scene = Scene::logged_in().await;
        scene.plane.forbid("/connParams/command", "this command is not allowed");
        let answer = scene.post(&format!("{PATH}/time/build"), json!({})).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/connParams/command".to_owned()]));
    }
}
