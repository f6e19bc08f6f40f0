//! The admin of an unattended first start, from the environment.

use serde_json::json;
use sql::model::{Actor, AdminUser, AdminUserId, AuditEvent, AuditEventId, Outcome, Secret};
use sql::{Store, admin_users, audit_log};

use crate::audit;
use crate::error::ApiError;
use crate::password::{self, Hasher, Password};

/// Why there is no first admin.
#[derive(Debug, thiserror::Error)]
pub enum FirstAdminError {
    /// The password can't be used; says why, not what it is.
    #[error("the password {0}")]
    Password(&'static str),
    /// Hashing or storing failed.
    #[error("the admin could not be stored")]
    Store(#[from] sql::StoreError),
    /// The hasher gave up.
    #[error("the password could not be hashed")]
    Hash,
}

/// Whether the first admin is yet to be registered.
pub async fn is_awaited(store: &Store) -> Result<bool, sql::StoreError> {
    let mut tx = store.read().await?;
    Ok(admin_users::count(&mut tx).await? == 0)
}

/// Makes the first admin, unless there is one. `true`: it was made now.
pub async fn ensure(
    store: &Store,
    username: &str,
    password: &Secret<String>,
) -> Result<bool, FirstAdminError> {
    // Hashing takes a while on purpose, and a restart needs none of it.
    if !is_awaited(store).await? {
        return Ok(false);
    }
    let password = Password::parse(password.expose().clone()).map_err(FirstAdminError::Password)?;
    let hasher = Hasher::new(password::COST);
    let password_hash = hasher.hash(password).await.map_err(|_: ApiError| FirstAdminError::Hash)?;
    let now = store.clock().now();
    let admin = AdminUser {
        id: AdminUserId::at(now),
        username: username.to_owned(),
        password_hash,
        created_at: now,
        updated_at: now,
    };
    let mut tx = store.begin().await?;
    if !admin_users::insert_first(&mut tx, &admin).await? {
        return Ok(false);
    }
    let event = AuditEvent {
        id: AuditEventId::at(now),
        at: now,
        actor: Actor::System,
        address: None,
        user_agent: None,
        action: "admin.register".into(),
        target_kind: "admin".into(),
        target_id: Some(admin.id.to_string()),
        target_name: Some(admin.username.clone()),
        diff: audit::diff(None, Some(&json!({ "username": admin.username }))),
        request_id: None,
        outcome: Outcome::Success,
    };
    audit_log::append(&mut tx, &event).await?;
    tx.commit().await?;
    Ok(true)
}
