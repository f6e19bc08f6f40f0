//! What the control plane may ask about the authorisation of upstreams.

use serde::Serialize;
use sql::model::{OAuthClient, Secret, Timestamp, Upstream};

/// How an upstream's authorisation stands. Never holds a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OAuthStatus {
    /// In one word.
    pub state: OAuthState,
    /// Who granted the token, if there is one.
    pub issuer: Option<String>,
    /// What the token allows.
    pub scopes: Vec<String>,
    /// When the token ends, if its end is known; it is renewed before.
    pub expires_at: Option<Timestamp>,
    /// The scopes that the upstream asked for last and the token lacks.
    pub missing_scope: Option<String>,
}

/// How an upstream's authorisation stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OAuthState {
    /// An admin has to authorise it.
    Required,
    /// An admin has to authorise more.
    InsufficientScope,
    /// It is authorised.
    Authorized,
}

impl OAuthState {
    /// Every state's word.
    pub const WORDS: &'static [&'static str] = &["required", "insufficient-scope", "authorized"];
}

/// How an authorisation is to begin.
#[derive(Debug, Clone)]
pub struct OAuthStart {
    /// Which upstream.
    pub upstream: Upstream,
    /// Where the admin's browser is sent back to.
    pub redirect_uri: String,
    /// Where the gateway's client metadata document is, if authorization servers can fetch it.
    pub client_metadata_url: Option<String>,
    /// A client that the admin has registered by hand: comes before all others.
    pub client: Option<OAuthClient>,
    /// Clients that authorization servers gave us before, by issuer.
    pub known: Vec<(String, OAuthClient)>,
    /// What to ask for; empty: what the upstream says.
    pub scopes: Vec<String>,
}

/// An authorisation that has begun.
#[derive(Debug, Clone)]
pub struct OAuthStarted {
    /// Where the admin's browser is to go.
    pub url: String,
    /// The state that it comes back with.
    pub state: Secret<String>,
    /// The authorization server.
    pub issuer: String,
    /// Where the token will be sent.
    pub origin: String,
    /// The resource that it is asked for.
    pub resource: String,
    /// Who we are there.
    pub client: OAuthClient,
    /// The server's metadata, as JSON.
    pub metadata: String,
    /// What the code is exchanged with.
    pub exchange: Secret<String>,
}

/// What came back with the browser.
#[derive(Debug, Clone)]
pub struct OAuthReturn {
    /// The state.
    pub state: Secret<String>,
    /// The code.
    pub code: Secret<String>,
    /// Who says to have answered (RFC 9207).
    pub issuer: Option<String>,
}

/// Why there is no authorisation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OAuthError {
    /// The upstream or its authorization server can't be asked, or doesn't do its part.
    #[error("{reason}")]
    Failed {
        /// In words for a person, without addresses.
        reason: String,
    },
    /// Another authorization server answered than the one that was asked.
    #[error("another authorization server answered than the one that was asked")]
    ForeignIssuer,
}

impl OAuthError {
    /// With this reason.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into() }
    }
}
