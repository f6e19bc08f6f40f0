//! `POST /api/admin/upstreams/{id}/oauth/start`: begins to have an upstream authorised.
//!
//! The answer is where the admin's browser is to go; what it comes back with is `oauth::callback`'s matter.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use proxy::control::{OAuthStart, OAuthStarted};
use serde::Serialize;
use serde_json::{Value, json};
use sql::model::{ConnParams, OAuthAuthorization, OAuthClient, Secret, Timestamp, Upstream, UpstreamId};
use sql::oauth;
use utoipa::ToSchema;

use crate::App;
use crate::api::oauth::{CALLBACK, CLIENT_METADATA, browser_base, public_base};
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{Admin, Id, OptionalJson};
use crate::fields::{self, Fields, Problems};

/// How long the admin may take at the authorization server.
const PATIENCE: Duration = Duration::from_mins(10);

/// A client id may be a URL; a secret, whatever the server made up.
const CLIENT_CHARS_MAX: usize = 2_048;

/// More than any server has.
const SCOPES_MAX: usize = 100;
const SCOPE_CHARS_MAX: usize = 256;

/// How to begin. All of it may be absent.
#[derive(ToSchema)]
#[schema(as = OAuthStart)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartBody {
    /// A client that was registered at the authorization server by hand.
    client_id: Option<String>,
    /// Its secret, if it has one.
    #[schema(format = Password)]
    client_secret: Option<String>,
    /// What to ask for, instead of what the upstream says.
    scopes: Option<Vec<String>>,
}

/// Where to go.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OAuthStarted)]
pub(crate) struct Started {
    /// Where the browser is to go.
    authorization_url: String,
    /// Until when it may come back.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

#[derive(Default)]
struct Input {
    client: Option<(String, Option<Secret<String>>)>,
    scopes: Vec<String>,
}

/// Begin to authorise an upstream
#[utoipa::path(post, path = "/api/admin/upstreams/{id}/oauth/start", tag = "upstreams",
    operation_id = "oauth_start", params(("id" = uuid::Uuid, Path)), request_body = StartBody,
    responses((status = 200, body = Started)))]
pub(crate) async fn start(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<UpstreamId>,
    headers: HeaderMap,
    OptionalJson(body): OptionalJson,
) -> Result<Json<Started>, ApiError> {
    let mut tx = app.store.read().await?;
    let upstream = super::find(&mut tx, id).await?;
    let known = oauth::clients(&mut tx, id).await?;
    drop(tx);
    let input = parse(body)?;
    check(&upstream)?;
    let base = browser_base(&app, &headers)?;
    let redirect_uri = format!("{base}{CALLBACK}");
    let client = |(client_id, client_secret)| OAuthClient {
        client_id,
        client_secret,
        redirect_uri: redirect_uri.clone(),
    };
    let ask = OAuthStart {
        client: input.client.map(client),
        client_metadata_url: public_base(&app).map(|base| format!("{base}{CLIENT_METADATA}")),
        upstream: upstream.clone(),
        redirect_uri,
        known,
        scopes: input.scopes,
    };
    let document = ask.client_metadata_url.clone();
    // Not in a transaction: it waits for servers of others.
    let started = app.control.oauth_start(ask).await;
    let started = started.map_err(|error| ApiError::UpstreamUnavailable { reason: error.to_string() })?;
    let is_document = document.as_ref() == Some(&started.client.client_id);
    begin(&app, &admin, upstream, started, is_document).await.map(Json)
}

async fn begin(
    app: &App,
    admin: &Admin,
    upstream: Upstream,
    started: OAuthStarted,
    is_document: bool,
) -> Result<Started, ApiError> {
    let now = app.store.clock().now();
    let expires_at = now.plus(PATIENCE);
    let mut tx = app.store.begin().await?;
    super::find(&mut tx, upstream.id).await?;
    if !is_document {
        oauth::save_client(&mut tx, upstream.id, &started.issuer, &started.client).await?;
    }
    let diff = json!({ "/oauth/issuer": { "after": started.issuer } });
    let authorization = OAuthAuthorization {
        upstream_id: upstream.id,
        admin_id: admin.id,
        session_id: admin.token,
        issuer: started.issuer,
        origin: started.origin,
        resource: started.resource,
        client: started.client,
        metadata: started.metadata,
        exchange: started.exchange,
        expires_at,
    };
    oauth::begin(&mut tx, started.state.expose(), &authorization).await?;
    let act = Act::on("upstream.oauth_start", upstream.id, upstream.name, diff);
    audit::record(&mut tx, now, admin, act).await?;
    tx.commit().await?;
    Ok(Started { authorization_url: started.url, expires_at })
}

/// What no token could be sent to.
fn check(upstream: &Upstream) -> Result<(), ApiError> {
    let ConnParams::Http { headers, .. } = &upstream.conn_params else {
        return Err(ApiError::conflict("an upstream over stdio has nothing to authorise"));
    };
    if headers.keys().any(|name| name.eq_ignore_ascii_case("authorization")) {
        return Err(ApiError::conflict(
            "the upstream has an Authorization header of its own: remove it first",
        ));
    }
    Ok(())
}

fn parse(value: Value) -> Result<Input, ApiError> {
    let mut problems = Problems::default();
    let Some(mut fields) = Fields::open(value, "", &mut problems) else {
        return problems.unless_any(None);
    };
    let client_id = fields.optional("clientId", &mut problems, fields::text(1..=CLIENT_CHARS_MAX));
    let secret = fields.optional("clientSecret", &mut problems, fields::text(1..=CLIENT_CHARS_MAX));
    if secret.is_some() && client_id.is_none() {
        problems.add("/clientSecret", "needs a clientId");
    }
    let scopes = fields.take("scopes").and_then(|value| {
        fields::list(value, "/scopes", SCOPES_MAX, &mut problems, |value, pointer, problems| {
            match fields::text(1..=SCOPE_CHARS_MAX)(value) {
                Ok(scope) if !scope.contains(' ') => Some(scope),
                Ok(_) => {
                    problems.add(pointer, "must not contain spaces");
                    None
                }
                Err(message) => {
                    problems.add(pointer, message);
                    None
                }
            }
        })
    });
    fields.close(&mut problems);
    let client = client_id.map(|id| (id, secret.map(Secret::new)));
    problems.unless_any(Some(Input { client, scopes: scopes.unwrap_or_default() }))
}

#[cfg(test)]
mod tests {
    use proxy::control::OAuthError;
    use serde_json::json;

    use crate::testing::{ISSUER, Scene};

    async fn start(scene: &Scene, id: &str, headers: &[(&str, &str)]) -> crate::testing::Answer {
        scene.send("POST", &format!("/api/admin/upstreams/{id}/oauth/start"), Some(json!({})), headers).await
    }

    #[tokio::test]
    async fn says_where_to_go_and_never_what_is_secret() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        let answer = start(&scene, &id, &[("origin", "http://127.0.0.1:8080")]).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        assert_eq!(answer.json["authorizationUrl"], "https://issuer.example/authorize?state=state-1");
        assert_eq!(answer.json["expiresAt"], "2025-06-15T15:16:40.000Z");
        let asked = scene.plane.oauth_asked().remove(0);
        assert_eq!(asked.redirect_uri, "http://127.0.0.1:8080/api/auth/oauth/callback");
        assert_eq!(asked.client_metadata_url, None, "nobody can fetch it");
        let event = scene.audited("upstream.oauth_start").await.remove(0);
        assert_eq!(event.diff, json!({"/oauth/issuer": {"after": ISSUER}}));
        start(&scene, &id, &[("origin", "http://127.0.0.1:8080")]).await;
        let known = scene.plane.oauth_asked().remove(1).known;
        assert_eq!(known[0].1.client_id, "CANARY-client", "who registered once need not again");
        assert!(!answer.json.to_string().contains("CANARY"));
    }

    #[tokio::test]
    async fn the_browser_comes_back_to_where_it_came_from() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(start(&scene, &id, &[("host", host)]).await.status, 200, "{host}");
            let asked = scene.plane.oauth_asked().pop().unwrap();
            assert_eq!(asked.redirect_uri, format!("http://{host}/api/auth/oauth/callback"));
        }
        // Whether it is reached with or without TLS, a host alone doesn't say.
        let answer = start(&scene, &id, &[("host", "gateway.example")]).await;
        assert_eq!((answer.status, &answer.json["code"]), (409, &json!("CONFLICT")));

        let scene = Scene::at("https://gateway.example").await;
        scene.register().await;
        let scene = scene.logged_in_again().await;
        let id = scene.upstream("a").await;
        start(&scene, &id, &[("origin", "http://127.0.0.1:8080")]).await;
        let asked = scene.plane.oauth_asked().remove(0);
        assert_eq!(asked.redirect_uri, "https://gateway.example/api/auth/oauth/callback");
        let document = Some("https://gateway.example/oauth/client-metadata.json");
        assert_eq!(asked.client_metadata_url.as_deref(), document);
    }

    #[tokio::test]
    async fn what_has_no_use_for_a_token_is_not_authorised() {
        let scene = Scene::logged_in().await;
        let body =
            json!({"name": "a", "transport": "stdio", "connParams": {"command": "npx"}, "enabled": false});
        let stdio = scene.post("/api/admin/upstreams", body).await.json["id"].as_str().unwrap().to_owned();
        let params = json!({"url": "https://h/mcp", "headers": {"authorization": "Basic x"}});
        let body = json!({"name": "b", "transport": "sse", "connParams": params});
        let own = scene.post("/api/admin/upstreams", body).await.json["id"].as_str().unwrap().to_owned();
        for id in [stdio, own] {
            assert_eq!(start(&scene, &id, &[("host", "localhost")]).await.status, 409);
        }
        assert!(scene.plane.oauth_asked().is_empty());
    }

    #[tokio::test]
    async fn a_client_may_be_given_by_hand() {
        let scene = Scene::logged_in().await;
        let path = format!("/api/admin/upstreams/{}/oauth/start", scene.upstream("a").await);
        let body = json!({"clientId": "by-hand", "clientSecret": "CANARY-hand", "scopes": ["a", "b"]});
        let answer = scene.send("POST", &path, Some(body), &[("host", "localhost")]).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        let asked = scene.plane.oauth_asked().remove(0);
        let client = asked.client.unwrap();
        assert_eq!((client.client_id.as_str(), asked.scopes), ("by-hand", vec!["a".into(), "b".into()]));
        assert_eq!(client.client_secret.unwrap().expose(), "CANARY-hand");
        for event in scene.audited("upstream.oauth_start").await {
            assert!(!event.diff.to_string().contains("CANARY"));
        }
        let body = json!({"clientSecret": "s", "scopes": ["a b", 1], "other": true});
        let answer = scene.send("POST", &path, Some(body), &[("host", "localhost")]).await;
        assert_eq!(answer.pointers(), ["/clientSecret", "/scopes/0", "/scopes/1", "/other"]);
    }

    #[tokio::test]
    async fn a_server_that_can_not_be_asked_is_said() {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        scene.plane.refuse_oauth(OAuthError::failed("its OAuth metadata can't be fetched"));
        let answer = start(&scene, &id, &[("host", "localhost")]).await;
        assert_eq!((answer.status, &answer.json["code"]), (502, &json!("UPSTREAM_UNAVAILABLE")));
        assert_eq!(answer.json["detail"], "its OAuth metadata can't be fetched");
    }
}
