//! `POST /api/auth/login`: a token for a password (threats T12, T13).

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use sql::admin_users;
use sql::model::{Actor, AdminUser, Outcome, Secret};
use utoipa::ToSchema;

use crate::App;
use crate::api::auth::{self, Session};
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Client};
use crate::fields::{self, Fields, Problems};
use crate::throttle::Account;

/// A username in an audit event: no longer than one can be. What was typed may be a password.
const AUDITED_USERNAME_CHARS_MAX: usize = 32;

/// Who logs in.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct Login {
    /// As registered.
    username: String,
    /// As registered.
    #[schema(format = Password)]
    password: String,
}

struct Input {
    username: String,
    password: Secret<String>,
}

/// Log in
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", request_body = Login,
    responses((status = 200, body = Session)))]
pub(crate) async fn login(
    State(app): State<App>,
    client: Client,
    body: extract::Json,
) -> Result<Json<Session>, ApiError> {
    let input = parse(body.value)?;
    let account = Account::new(client.address, &input.username);
    // Before the password is looked at, so that whoever waits learns nothing about it.
    app.throttle.admit(&account).await?;

    let known = known(&app, &input.username).await?;
    let hash = known.as_ref().map(|admin| admin.password_hash.clone());
    let right = app.hasher.verify(input.password, hash).await?;
    let Some(admin) = known.filter(|_| right) else {
        failed(&app, &client, &input.username).await?;
        return Err(ApiError::WrongPassword);
    };
    app.throttle.clear(&account).await?;
    open(&app, &client, admin).await.map(Json)
}

fn parse(value: Value) -> Result<Input, ApiError> {
    let mut problems = Problems::default();
    let Some(mut fields) = Fields::open(value, "", &mut problems) else {
        return problems.unless_any(None);
    };
    // Looser than at registration: a name that can't exist fails like one that doesn't.
    let username = fields.required("username", &mut problems, fields::text(1..=256));
    let password = auth::tried_password(&mut fields, "password", &mut problems);
    fields.close(&mut problems);
    problems.unless_any(username.zip(password).map(|(username, password)| Input { username, password }))
}

async fn known(app: &App, username: &str) -> Result<Option<AdminUser>, ApiError> {
    let mut tx = app.store.read().await?;
    Ok(admin_users::by_username(&mut tx, username).await?)
}

async fn failed(app: &App, client: &Client, username: &str) -> Result<(), ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let act = Act {
        action: "admin.login",
        target_id: None,
        target_name: Some(username.chars().take(AUDITED_USERNAME_CHARS_MAX).collect()),
        diff: json!({}),
        outcome: Outcome::Failure,
    };
    audit::record_as(&mut tx, now, Actor::System, client, act).await?;
    tx.commit().await?;
    tracing::info!(client.address = %client.address, "login refused");
    Ok(())
}

async fn open(app: &App, client: &Client, admin: AdminUser) -> Result<Session, ApiError> {
    let now = app.store.clock().now();
    let issued = app.tokens.issue(admin.id, app.session_timeout(), &client.origin(), None)?;
    let mut tx = app.store.begin().await?;
    // Between the check and now the password may have been changed, and all sessions ended with it.
    let same = admin_users::get(&mut tx, admin.id)
        .await?
        .is_some_and(|now| now.password_hash == admin.password_hash);
    if !same {
        return Err(ApiError::WrongPassword);
    }
    admin_users::insert_token(&mut tx, &issued.row).await?;
    let actor = Actor::Admin { id: admin.id, name: admin.username.clone() };
    let act = Act::on("admin.login", admin.id, admin.username.as_str(), json!({}));
    audit::record_as(&mut tx, now, actor, client, act).await?;
    tx.commit().await?;
    Ok(Session { token: issued.text, expires_at: issued.row.expires_at, username: admin.username })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::testing::{Answer, PASSWORD, Scene};

    async fn login(scene: &Scene, username: &str, password: &str) -> Answer {
        scene.post("/api/auth/login", json!({"username": username, "password": password})).await
    }

    #[tokio::test]
    async fn a_right_password_opens_a_session() {
        let scene = Scene::new().await;
        scene.register().await;
        let answer = login(&scene, "root", PASSWORD).await;
        assert_eq!((answer.status, &answer.json["username"]), (200, &json!("root")));
        let token = answer.json["token"].as_str().unwrap().to_owned();
        assert_eq!(scene.with_token(&token).get("/api/admin/auth/me").await.status, 200);
        assert!(answer.headers.get("set-cookie").is_none(), "no cookies anywhere (T16)");
    }

    #[tokio::test]
    async fn wrong_password_and_unknown_user_look_alike() {
        let scene = Scene::new().await;
        scene.register().await;
        let wrong = login(&scene, "root", "not the password").await;
        let unknown = login(&scene, "nobody", "not the password").await;
        assert_eq!((wrong.status, unknown.status), (401, 401));
        assert_eq!(wrong.without_request_id(), unknown.without_request_id());
        let events = scene.audited("admin.login").await;
        assert_eq!(events.len(), 2);
        assert!(events.iter().all(|event| event.outcome.as_str() == "failure"));
    }

    /// T12.
    #[tokio::test]
    async fn from_the_sixth_on_guesses_wait() {
        let scene = Scene::new().await;
        scene.register().await;
        for _ in 0..5 {
            assert_eq!(login(&scene, "root", "not the password").await.status, 401);
        }
        for _ in 0..4 {
            let answer = login(&scene, "root", "not the password").await;
            assert_eq!((answer.status, &answer.json["code"]), (429, &json!("RATE_LIMITED")));
            assert_eq!(answer.headers["retry-after"], "5");
        }
        assert_eq!(login(&scene, "root", PASSWORD).await.status, 429, "no oracle");
        let elsewhere = scene.clone().from("198.51.100.7");
        assert_eq!(login(&elsewhere, "root", PASSWORD).await.status, 200, "others still get in");

        scene.clock.advance(Duration::from_secs(5));
        assert_eq!(login(&scene, "root", "not the password").await.status, 401);
        assert_eq!(login(&scene, "root", PASSWORD).await.headers["retry-after"], "10", "waits double");
        scene.clock.advance(Duration::from_secs(10));
        assert_eq!(login(&scene, "root", PASSWORD).await.status, 200);
        assert_eq!(login(&scene, "root", "not the password").await.status, 401, "and start anew");
    }

    /// T13.
    #[tokio::test]
    async fn a_long_password_is_not_cut() {
        let scene = Scene::new().await;
        let long = "x".repeat(71);
        scene.post("/api/auth/register", json!({"username": "root", "password": long})).await;
        assert_eq!(login(&scene, "root", &format!("{long}y")).await.status, 401);
        assert_eq!(login(&scene, "root", &long).await.status, 200);
    }
}
