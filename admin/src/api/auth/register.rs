//! `POST /api/auth/register`: the first admin, once and never again (threat T05).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::{Value, json};
use sql::admin_users;
use sql::model::{Actor, AdminUser, AdminUserId, Secret};
use utoipa::ToSchema;

use crate::App;
use crate::api::auth;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Client};
use crate::fields::{Fields, Problems};
use crate::password::Password;

/// The first admin.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct Registration {
    /// 3 to 32 characters.
    #[schema(min_length = 3, max_length = 32)]
    username: String,
    /// 8 to 71 bytes.
    #[schema(min_length = 8, max_length = 71, format = Password)]
    password: String,
    /// From the gateway's log; needed from any address but loopback.
    setup_token: Option<String>,
}

/// Who was registered.
#[derive(Serialize, ToSchema)]
pub(crate) struct Registered {
    /// The admin.
    #[schema(value_type = uuid::Uuid)]
    id: AdminUserId,
    /// Under which name.
    username: String,
}

struct Input {
    username: String,
    password: Password,
    setup_token: Option<Secret<String>>,
}

/// Register the first admin
#[utoipa::path(post, path = "/api/auth/register", tag = "auth", request_body = Registration,
    responses((status = 201, body = Registered)))]
pub(crate) async fn register(
    State(app): State<App>,
    client: Client,
    body: extract::Json,
) -> Result<Response, ApiError> {
    // One at a time: of fifty at once, the first hashes a password and the others see an admin.
    let _turn = app.registering.lock().await;
    // Before anything else is looked at: once there is an admin, this route only ever says so.
    refuse_second(&app).await?;
    let input = parse(body.value)?;
    check_setup_token(&app, &client, input.setup_token.as_ref())?;
    let password_hash = app.hasher.hash(input.password).await?;

    let now = app.store.clock().now();
    let admin = AdminUser {
        id: AdminUserId::at(now),
        username: input.username,
        password_hash,
        created_at: now,
        updated_at: now,
    };
    let mut tx = app.store.begin().await?;
    // The store decides: another replica may have been first.
    if !admin_users::insert_first(&mut tx, &admin).await? {
        return Err(already());
    }
    let actor = Actor::Admin { id: admin.id, name: admin.username.clone() };
    let diff = audit::diff(None, Some(&json!({"username": admin.username})));
    let act = Act::on("admin.register", admin.id, admin.username.as_str(), diff);
    audit::record_as(&mut tx, now, actor, &client, act).await?;
    tx.commit().await?;
    tracing::info!(admin.id = %admin.id, "first admin registered");
    let location = [(header::LOCATION, "/api/admin/auth/me")];
    let registered = Registered { id: admin.id, username: admin.username };
    Ok((StatusCode::CREATED, location, Json(registered)).into_response())
}

async fn refuse_second(app: &App) -> Result<(), ApiError> {
    let mut tx = app.store.read().await?;
    if admin_users::count(&mut tx).await? > 0 { Err(already()) } else { Ok(()) }
}

fn already() -> ApiError {
    ApiError::conflict("an admin is registered already")
}

fn parse(value: Value) -> Result<Input, ApiError> {
    let mut problems = Problems::default();
    let Some(mut fields) = Fields::open(value, "", &mut problems) else {
        return problems.unless_any(None);
    };
    let username = auth::username(&mut fields, &mut problems);
    let password = auth::new_password(&mut fields, "password", &mut problems);
    let setup_token = fields.optional("setupToken", &mut problems, |value| match value {
        Value::String(text) => Ok(Secret::new(text)),
        _ => Err("must be a text".into()),
    });
    fields.close(&mut problems);
    let input = username.zip(password).map(|(username, password)| Input { username, password, setup_token });
    problems.unless_any(input)
}

fn check_setup_token(app: &App, client: &Client, shown: Option<&Secret<String>>) -> Result<(), ApiError> {
    if client.address.is_loopback() {
        return Ok(());
    }
    // Digests are compared, so that time says nothing of how much was right.
    let hash = |token: &Secret<String>| digest(&SHA256, token.expose().as_bytes()).as_ref().to_vec();
    let (Some(shown), Some(expected)) = (shown, &app.setup_token) else {
        return Err(ApiError::Forbidden("the setup token from the gateway's log is required"));
    };
    if hash(shown) == hash(expected) {
        Ok(())
    } else {
        Err(ApiError::Forbidden("this is not the setup token from the gateway's log"))
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use serde_json::json;

    use crate::testing::{PASSWORD, SETUP_TOKEN, Scene};

    fn body() -> serde_json::Value {
        json!({"username": "root", "password": PASSWORD})
    }

    #[tokio::test]
    async fn registers_once_and_never_again() {
        let scene = Scene::new().await;
        let first = scene.post("/api/auth/register", body()).await;
        assert_eq!((first.status, &first.json["username"]), (201, &json!("root")));
        let second = scene.post("/api/auth/register", json!({"username": "b"})).await;
        assert_eq!((second.status, &second.json["code"]), (409, &json!("CONFLICT")));
        assert_eq!(scene.audited("admin.register").await.len(), 1);
    }

    /// T05.
    #[tokio::test]
    async fn of_fifty_at_once_one_is_registered() {
        let scene = Scene::new().await;
        let answers = join_all((0..50).map(|_| scene.post("/api/auth/register", body()))).await;
        let created = answers.iter().filter(|answer| answer.status == 201).count();
        let refused = answers.iter().filter(|answer| answer.status == 409).count();
        assert_eq!((created, refused), (1, 49));
    }

    /// T05.
    #[tokio::test]
    async fn a_stranger_needs_the_setup_token() {
        let scene = Scene::new().await.from("203.0.113.9");
        assert_eq!(scene.post("/api/auth/register", body()).await.status, 403);
        let mut wrong = body();
        wrong["setupToken"] = json!("wrong");
        assert_eq!(scene.post("/api/auth/register", wrong).await.status, 403);
        let mut right = body();
        right["setupToken"] = json!(SETUP_TOKEN);
        assert_eq!(scene.post("/api/auth/register", right).await.status, 201);
    }

    /// T13, and every field at once.
    #[tokio::test]
    async fn refuses_what_cannot_be_a_login() {
        let scene = Scene::new().await;
        let long = "x".repeat(80);
        let answer =
            scene.post("/api/auth/register", json!({"username": "a\nb", "password": long, "x": 1})).await;
        assert_eq!((answer.status, &answer.json["code"]), (422, &json!("VALIDATION")));
        assert_eq!(answer.pointers(), ["/username", "/password", "/x"]);
        for password in ["1234567", "nul\0nul\0nul", ""] {
            let answer =
                scene.post("/api/auth/register", json!({"username": "root", "password": password})).await;
            assert_eq!((answer.status, answer.pointers()), (422, vec!["/password".to_owned()]));
        }
    }
}
