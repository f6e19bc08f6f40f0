//! `PATCH /api/admin/upstreams/{id}`: a merge patch on the version that the client saw.

use axum::extract::State;
use axum::response::Response;
use sql::model::{NewUpstream, Upstream, UpstreamId};

use super::input::{self, UpstreamPatch};
use super::wire::UpstreamView;
use crate::App;
use crate::error::ApiError;
use crate::extract::{self, Admin, Id, IfMatch};

/// Change an upstream
#[utoipa::path(patch, path = "/api/admin/upstreams/{id}", tag = "upstreams",
    params(("id" = uuid::Uuid, Path), ("If-Match" = String, Header)), request_body = UpstreamPatch,
    responses((status = 200, body = UpstreamView, headers(("ETag" = String)))))]
pub(crate) async fn update(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
    version: Result<IfMatch, ApiError>,
    body: extract::Json,
) -> Result<Response, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    // First: of what doesn't exist no version can be stated.
    let before = super::find(&mut tx, id).await?;
    if version?.0 != before.version {
        return Err(ApiError::PreconditionFailed);
    }
    let new = input::parse_patch(&app, body.value, &before)?;
    let after = applied(&before, new);
    let after = super::save(&mut tx, &app, &admin, now, "upstream.update", &before, after).await?;
    tx.commit().await?;
    Ok(super::answer(&app, &after))
}

fn applied(before: &Upstream, new: NewUpstream) -> Upstream {
    Upstream {
        version: before.version,
        updated_at: before.updated_at,
        ..Upstream::create(new, before.id, before.created_at)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Answer, Scene};

    async fn patch(scene: &Scene, id: &str, etag: &str, body: Value) -> Answer {
        let path = format!("/api/admin/upstreams/{id}");
        scene.send("PATCH", &path, Some(body), &[("if-match", etag)]).await
    }

    async fn with_secrets(scene: &Scene) -> String {
        let body = json!({
            "name": "a",
            "transport": "stdio",
            "connParams": {
                "command": "npx",
                "args": ["-y", {"secret": "CANARY-one"}],
                "env": {"TOKEN": {"secret": "CANARY-two"}, "secret": "plain"},
            },
            "credential": "CANARY-three",
        });
        scene.post("/api/admin/upstreams", body).await.json["id"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_change_needs_the_version_it_is_based_on() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        let path = format!("/api/admin/upstreams/{id}");
        let missing = scene.send("PATCH", &path, Some(json!({"name": "b"})), &[]).await;
        assert_eq!((missing.status, &missing.json["code"]), (428, &json!("PRECONDITION")));
        let first = patch(&scene, &id, "\"1\"", json!({"name": "b"})).await;
        assert_eq!(
            (first.status, &first.json["name"], &first.json["version"]),
            (200, &json!("b"), &json!(2))
        );
        assert_eq!(first.headers["etag"], "\"2\"");
        for stale in ["\"1\"", "\"3\"", "nonsense", "*"] {
            let answer = patch(&scene, &id, stale, json!({"name": "c"})).await;
            assert_eq!((answer.status, &answer.json["code"]), (412, &json!("PRECONDITION")), "{stale}");
        }
    }

    #[tokio::test]
    async fn absent_stays_and_null_brings_back_the_default() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        let set =
            json!({"callTimeoutS": 5, "tags": ["x"], "connParams": {"headers": {"X-A": "1", "X-B": "2"}}});
        patch(&scene, &id, "\"1\"", set).await;
        let change = json!({"callTimeoutS": null, "connParams": {"headers": {"X-A": null}}});
        let answer = patch(&scene, &id, "\"2\"", change).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        assert_eq!(answer.json["callTimeoutS"], Value::Null);
        assert_eq!(answer.json["tags"], json!(["x"]));
        assert_eq!(answer.json["connParams"]["headers"], json!({"X-B": "2"}));
        assert_eq!(answer.json["connParams"]["url"], "https://a.example/mcp");
    }

    #[tokio::test]
    async fn a_placeholder_keeps_the_stored_secret() {
        let scene = Scene::logged_in().await;
        let id = with_secrets(&scene).await;
        let read = scene.get(&format!("/api/admin/upstreams/{id}")).await;
        let mut params = read.json["connParams"].clone();
        params["args"] = json!(["-v", "-y", {"secret": true}]);
        params["env"]["MODE"] = json!("x");
        let answer = patch(&scene, &id, "\"1\"", json!({"connParams": params})).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        let stored = scene.stored(&id).await;
        assert_eq!(stored.credential.as_ref().unwrap().expose(), "CANARY-three");
        let sql::model::ConnParams::Stdio { args, env, .. } = stored.conn_params else { panic!("not stdio") };
        assert_eq!((args[2].expose(), args[2].is_secret()), ("CANARY-one", true));
        assert_eq!((env["TOKEN"].expose(), env["TOKEN"].is_secret()), ("CANARY-two", true));
        assert_eq!((env["MODE"].expose(), env["secret"].expose()), ("x", "plain"));
    }

    #[tokio::test]
    async fn a_placeholder_without_a_secret_behind_it_is_refused() {
        let scene = Scene::logged_in().await;
        let id = with_secrets(&scene).await;
        let body = json!({"connParams": {"env": {"NEW": {"secret": true}}, "args": [{"secret": true}, {"secret": true}]}});
        let answer = patch(&scene, &id, "\"1\"", body).await;
        assert_eq!(answer.pointers(), ["/connParams/args/0", "/connParams/args/1", "/connParams/env/NEW"]);
    }

    #[tokio::test]
    async fn a_changed_secret_shows_as_a_change_and_nothing_more() {
        let scene = Scene::logged_in().await;
        let id = with_secrets(&scene).await;
        patch(&scene, &id, "\"1\"", json!({"credential": "CANARY-four"})).await;
        patch(&scene, &id, "\"2\"", json!({"credential": null})).await;
        let events = scene.audited("upstream.update").await;
        assert_eq!(events.len(), 2);
        for event in &events {
            assert_eq!(event.diff.as_object().unwrap().keys().collect::<Vec<_>>().len(), 1);
            assert!(!event.diff.to_string().contains("CANARY"), "{}", event.diff);
        }
        assert!(scene.stored(&id).await.credential.is_none());
    }

    #[tokio::test]
    async fn another_transport_starts_with_empty_parameters() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        let body = json!({"transport": "stdio", "connParams": {"command": "npx"}});
        let answer = patch(&scene, &id, "\"1\"", body).await;
        assert_eq!(answer.json["connParams"], json!({"command": "npx", "args": [], "env": {}, "cwd": null}));
    }

    #[tokio::test]
    async fn no_change_is_no_write() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        let answer = patch(&scene, &id, "\"1\"", json!({"name": "a"})).await;
        assert_eq!((answer.status, &answer.json["version"]), (200, &json!(1)));
        assert!(scene.audited("upstream.update").await.is_empty());
    }
}
