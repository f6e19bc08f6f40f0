//! Administrators and the tokens they hold.

use std::net::IpAddr;

use super::ids::{AdminUserId, TokenId};
use super::secret::Secret;
use super::time::Timestamp;

/// One who administers the installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminUser {
    /// Who.
    pub id: AdminUserId,
    /// The name to log in with, unique as it is written.
    pub username: String,
    /// The bcrypt hash of the password.
    pub password_hash: Secret<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When the password was last set.
    pub updated_at: Timestamp,
}

/// A token that is in force. One that has no row is worth nothing, however well it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// The token's `jti`.
    pub id: TokenId,
    /// Whose it is.
    pub admin_id: AdminUserId,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// Where the login came from.
    pub address: Option<IpAddr>,
    /// What the login was made with.
    pub user_agent: String,
}
