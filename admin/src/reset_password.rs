//! A new password for an admin who lost the old one, for whoever runs the gateway's machine.

use serde_json::json;
use sql::model::{Actor, AuditEvent, AuditEventId, Outcome, Secret};
use sql::{Store, admin_users, audit_log};

use crate::error::ApiError;
use crate::password::{self, Hasher, Password};

/// Why the password is still the old one.
#[derive(Debug, thiserror::Error)]
pub enum NotReset {
    /// The password can't be used; says why, not what it is.
    #[error("the password {0}")]
    Password(&'static str),
    /// Nobody has this name.
    #[error("there is no admin of this name")]
    Unknown,
    /// Hashing failed.
    #[error("the password could not be hashed")]
    Hash,
    /// The store failed.
    #[error("the password could not be stored")]
    Store(#[from] sql::StoreError),
}

/// Sets the password of an admin and ends all of its sessions, at once and at every replica.
pub async fn reset(store: &Store, username: &str, password: &Secret<String>) -> Result<(), NotReset> {
    let password = Password::parse(password.expose().clone()).map_err(NotReset::Password)?;
    let hasher = Hasher::new(password::COST);
    let hash = hasher.hash(password).await.map_err(|_: ApiError| NotReset::Hash)?;
    let now = store.clock().now();
    let mut tx = store.begin().await?;
    let admin = admin_users::by_username(&mut tx, username).await?.ok_or(NotReset::Unknown)?;
    if !admin_users::set_password(&mut tx, admin.id, &hash, now).await? {
        return Err(NotReset::Unknown);
    }
    let ended = admin_users::delete_tokens_of(&mut tx, admin.id, None).await?;
    let event = AuditEvent {
        id: AuditEventId::at(now),
        at: now,
        actor: Actor::System,
        address: None,
        user_agent: None,
        action: "admin.reset-password".into(),
        target_kind: "admin".into(),
        target_id: Some(admin.id.to_string()),
        target_name: Some(admin.username),
        diff: json!({ "sessionsEnded": ended }),
        request_id: None,
        outcome: Outcome::Success,
    };
    audit_log::append(&mut tx, &event).await?;
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sql::model::Secret;

    use super::{NotReset, reset};
    use crate::testing::{PASSWORD, Scene};

    #[tokio::test]
    async fn the_new_password_is_the_only_one_and_no_session_goes_on() {
        let scene = Scene::logged_in().await;
        reset(&scene.store, "root", &Secret::from("CANARY another password")).await.unwrap();
        assert_eq!(scene.get("/api/admin/auth/me").await.status, 401);
        let login = async |password: &str| {
            let body = json!({"username": "root", "password": password});
            scene.post("/api/auth/login", body).await.status
        };
        assert_eq!((login(PASSWORD).await, login("CANARY another password").await), (401, 200));
        let events = scene.audited("admin.reset-password").await;
        assert_eq!((events.len(), &events[0].diff), (1, &json!({"sessionsEnded": 1})));
        assert!(!format!("{events:?}").contains("CANARY"));
    }

    #[tokio::test]
    async fn a_bad_password_or_name_changes_nothing() {
        let scene = Scene::logged_in().await;
        for (name, password) in [("root", "short"), ("nobody", "a good password")] {
            let refused = reset(&scene.store, name, &Secret::from(password)).await;
            assert!(matches!(refused, Err(NotReset::Password(_) | NotReset::Unknown)), "{name}");
        }
        assert_eq!(scene.get("/api/admin/auth/me").await.status, 200);
        assert!(scene.audited("admin.reset-password").await.is_empty());
    }
}
