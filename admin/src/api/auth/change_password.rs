//! `POST /api/admin/auth/change-password`: a new password ends all other sessions.

use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use sql::admin_users;
use sql::model::Secret;
use utoipa::ToSchema;

use crate::App;
use crate::api::auth;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin};
use crate::fields::{Fields, Problems};
use crate::password::Password;
use crate::throttle::Account;

/// Both passwords.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct PasswordChange {
    /// The one that holds now.
    #[schema(format = Password)]
    current_password: String,
    /// The one that is to hold: 8 to 71 bytes.
    #[schema(min_length = 8, max_length = 71, format = Password)]
    new_password: String,
}

struct Input {
    current: Secret<String>,
    new: Password,
}

/// Change the password
///
/// All other sessions end at once.
#[utoipa::path(post, path = "/api/admin/auth/change-password", tag = "auth", request_body = PasswordChange,
    responses((status = 204)))]
pub(crate) async fn change_password(
    admin: Admin,
    State(app): State<App>,
    body: extract::Json,
) -> Result<StatusCode, ApiError> {
    let input = parse(body.value)?;
    // A stolen token must not be a way to guess the password.
    let account = Account::new(admin.client.address, &admin.username);
    app.throttle.admit(&account).await?;
    let mut tx = app.store.read().await?;
    let user = admin_users::get(&mut tx, admin.id).await?.ok_or(ApiError::Unauthenticated)?;
    drop(tx);
    if !app.hasher.verify(input.current, Some(user.password_hash)).await? {
        return Err(ApiError::field("/currentPassword", "is not your password"));
    }
    app.throttle.clear(&account).await?;
    let hash = app.hasher.hash(input.new).await?;

    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    admin_users::set_password(&mut tx, admin.id, &hash, now).await?;
    admin_users::delete_tokens_of(&mut tx, admin.id, Some(admin.token)).await?;
    let act = Act::on("admin.change-password", admin.id, &*admin.username, json!({}));
    audit::record(&mut tx, now, &admin, act).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse(value: Value) -> Result<Input, ApiError> {
    let mut problems = Problems::default();
    let Some(mut fields) = Fields::open(value, "", &mut problems) else {
        return problems.unless_any(None);
    };
    let current = auth::tried_password(&mut fields, "currentPassword", &mut problems);
    let new = auth::new_password(&mut fields, "newPassword", &mut problems);
    fields.close(&mut problems);
    problems.unless_any(current.zip(new).map(|(current, new)| Input { current, new }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{PASSWORD, Scene};

    const PATH: &str = "/api/admin/auth/change-password";

    /// T11.
    #[tokio::test]
    async fn a_new_password_ends_all_other_sessions() {
        let scene = Scene::logged_in().await;
        let other = scene.clone().logged_in_again().await;
        let body = json!({"currentPassword": PASSWORD, "newPassword": "another password"});
        assert_eq!(scene.post(PATH, body).await.status, 204);
        assert_eq!(scene.get("/api/admin/auth/me").await.status, 200);
        assert_eq!(other.get("/api/admin/auth/me").await.status, 401);
        for (password, expected) in [(PASSWORD, 401), ("another password", 200)] {
            let login = json!({"username": "root", "password": password});
            assert_eq!(scene.post("/api/auth/login", login).await.status, expected);
        }
    }

    #[tokio::test]
    async fn the_current_password_is_needed_and_guesses_wait() {
        let scene = Scene::logged_in().await;
        let body = json!({"currentPassword": "wrong password", "newPassword": "another password"});
        for _ in 0..5 {
            let answer = scene.post(PATH, body.clone()).await;
            assert_eq!((answer.status, answer.pointers()), (422, vec!["/currentPassword".to_owned()]));
        }
        assert_eq!(scene.post(PATH, body).await.status, 429);
    }

    #[tokio::test]
    async fn both_passwords_are_checked_together() {
        let scene = Scene::logged_in().await;
        let answer = scene.post(PATH, json!({"newPassword": "short"})).await;
        assert_eq!(answer.pointers(), ["/currentPassword", "/newPassword"]);
    }
}
