//! What authorises the gateway at an upstream that wants OAuth.

use super::ids::{AdminUserId, TokenId, UpstreamId};
use super::secret::Secret;
use super::time::Timestamp;

/// Who the gateway is to one authorization server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthClient {
    /// Its client id: the URL of its metadata document, or what the server gave it.
    pub client_id: String,
    /// Its secret, if it was given one.
    pub client_secret: Option<Secret<String>>,
    /// Where the server sends the admin's browser back to.
    pub redirect_uri: String,
}

/// What an authorization server granted for one upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthGrant {
    /// For which upstream.
    pub upstream_id: UpstreamId,
    /// By which authorization server.
    pub issuer: String,
    /// The scheme, host and port of the upstream it was granted for: it is sent nowhere else.
    pub origin: String,
    /// The resource indicator (RFC 8707) that it was asked for with.
    pub resource: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// To whom it was granted.
    pub client: OAuthClient,
    /// The authorization server's metadata, as JSON: where it is renewed and revoked.
    pub metadata: String,
    /// What requests to the upstream carry.
    pub access_token: Secret<String>,
    /// What it is renewed with.
    pub refresh_token: Option<Secret<String>>,
    /// When the tokens came.
    pub received_at: Timestamp,
    /// When the access token ends, if the server said so.
    pub expires_at: Option<Timestamp>,
    /// When an admin authorised it.
    pub authorized_at: Timestamp,
    /// Grows by 1 with each write.
    pub version: i64,
}

/// An authorisation that an admin has begun, until the authorization server sends the browser back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthAuthorization {
    /// For which upstream.
    pub upstream_id: UpstreamId,
    /// Who began it.
    pub admin_id: AdminUserId,
    /// In which session; it ends with that.
    pub session_id: TokenId,
    /// See [`OAuthGrant::issuer`].
    pub issuer: String,
    /// See [`OAuthGrant::origin`].
    pub origin: String,
    /// See [`OAuthGrant::resource`].
    pub resource: String,
    /// See [`OAuthGrant::client`].
    pub client: OAuthClient,
    /// See [`OAuthGrant::metadata`].
    pub metadata: String,
    /// What the code is exchanged with, its verifier (PKCE) among it.
    pub exchange: Secret<String>,
    /// Until when the browser may come back.
    pub expires_at: Timestamp,
}
