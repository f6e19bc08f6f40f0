//! From a challenge to a token, and what becomes of a token: authorise, exchange, renew, revoke.
//!
//! Nothing is kept here: what a step needs of the one before comes as a value, so that the browser may
//! come back to another replica.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request};
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadata, CredentialStore, InMemoryCredentialStore,
    InMemoryStateStore, OAuthClientConfig, StateStore, StoredAuthorizationState, StoredCredentials,
};
use serde::Deserialize;
use serde_json::json;
use sql::model::{OAuthAuthorization, OAuthClient, OAuthGrant, Secret, Timestamp};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;
use url::Url;

use super::http::{Failed, Http};
use super::{Pass, origin_of};
use crate::control::{OAuthError, OAuthReturn, OAuthStart, OAuthStarted};
use crate::upstream::pool::Pool;

/// What authorization servers show an admin who is asked.
const CLIENT_NAME: &str = "MCP Proxy Gateway";

/// Why a grant isn't renewed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotRenewed {
    /// The server doesn't take the refresh token any longer: an admin has to authorise anew.
    Rejected,
    /// It may succeed later; why it didn't now, in words for an admin.
    Failed(String),
}

/// Finds the authorization server of an upstream, makes sure that it knows us, and writes the URL where
/// the admin says yes.
pub(crate) async fn start(
    pool: &Pool,
    pass: Option<Arc<Pass>>,
    ask: OAuthStart,
) -> Result<OAuthStarted, OAuthError> {
    // Its debug lines quote what servers answer.
    begin(pool, pass, ask).with_subscriber(Dispatch::none()).await
}

async fn begin(pool: &Pool, pass: Option<Arc<Pass>>, ask: OAuthStart) -> Result<OAuthStarted, OAuthError> {
    let no_url = || OAuthError::failed("the upstream has no URL that can be authorised");
    let origin = origin_of(&ask.upstream, pool.dialler().egress()).ok_or_else(no_url)?;
    let url = resource_url(&ask).ok_or_else(no_url)?;
    let mut manager = manager(pool, &url, None).await?;
    let challenge = pass.as_ref().and_then(|pass| pass.challenge.load_full());
    let resolution = manager.resolve_metadata_from_challenge(challenge.as_ref().map(|text| text.as_str()));
    let resolution = resolution.await.map_err(|error| failure(&error))?;
    let (metadata, is_published) = (resolution.metadata, resolution.source.is_discovered());
    check_endpoints(&url, &metadata)?;
    // Servers of 2025-03-26 publish nothing and stand where the upstream stands.
    let issuer = metadata.issuer.clone().unwrap_or_else(|| origin.clone());
    manager.set_metadata(metadata.clone());

    let scopes = scopes(&manager, pass.as_deref(), &ask).await;
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let client = client(&mut manager, &metadata, &issuer, &ask, &scopes).await.map_err(|error| {
        if is_published { error } else { OAuthError::failed("the upstream publishes no OAuth metadata") }
    })?;
    manager.configure_client(config(&client)).map_err(|error| failure(&error))?;

    let states = InMemoryStateStore::new();
    manager.set_state_store(states.clone());
    let url = manager.get_authorization_url(&scopes).await.map_err(|error| failure(&error))?;
    let query = |name: &str| {
        let url = Url::parse(&url).ok()?;
        url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
    };
    let unusable = || OAuthError::failed("the authorization server's address can't be used");
    let (state, resource) = (query("state").ok_or_else(unusable)?, query("resource").ok_or_else(unusable)?);
    let exchange = states.load(&state).await.ok().flatten().ok_or_else(unusable)?;
    Ok(OAuthStarted {
        url,
        state: Secret::new(state),
        issuer,
        origin,
        resource,
        client,
        metadata: serde_json::to_string(&metadata).map_err(|_| unusable())?,
        exchange: Secret::new(serde_json::to_string(&exchange).map_err(|_| unusable())?),
    })
}

/// Exchanges what came back for a token. `begun` is used up already.
pub(crate) async fn finish(
    pool: &Pool,
    begun: &OAuthAuthorization,
    back: &OAuthReturn,
    now: Timestamp,
) -> Result<OAuthGrant, OAuthError> {
    let corrupt = || OAuthError::failed("what was begun can't be read any more");
    let exchange: StoredAuthorizationState =
        serde_json::from_str(begun.exchange.expose()).map_err(|_| corrupt())?;
    let asked = exchange.requested_scopes.clone();
    // It logs the code.
    let exchanged = async {
        let mut manager = manager_for(pool, &begun.resource, &begun.metadata, &begun.client).await?;
        let states = InMemoryStateStore::new();
        let state = back.state.expose();
        states.save(state, exchange).await.map_err(|_| corrupt())?;
        manager.set_state_store(states);
        let response =
            manager.exchange_code_for_token_with_issuer(back.code.expose(), state, back.issuer.as_deref());
        response.await.map_err(|error| failure(&error))
    };
    let response = exchanged.with_subscriber(Dispatch::none()).await?;
    let grant = OAuthGrant {
        upstream_id: begun.upstream_id,
        issuer: begun.issuer.clone(),
        origin: begun.origin.clone(),
        resource: begun.resource.clone(),
        scopes: asked,
        client: begun.client.clone(),
        metadata: begun.metadata.clone(),
        access_token: Secret::new(String::new()),
        refresh_token: None,
        received_at: now,
        expires_at: None,
        authorized_at: now,
        version: 0,
    };
    tokens(&response).and_then(|tokens| tokens.into_grant(grant, now)).ok_or_else(|| {
        OAuthError::failed("the authorization server's answer holds no token that can be used")
    })
}

/// Renews a grant; its `version` stays the one that was read.
pub(super) async fn renew(pool: &Pool, grant: &OAuthGrant, now: Timestamp) -> Result<OAuthGrant, NotRenewed> {
    let Some(refresh_token) = &grant.refresh_token else { return Err(NotRenewed::Rejected) };
    let stored = json!({
        "client_id": grant.client.client_id,
        "token_response": {
            "access_token": grant.access_token.expose(),
            "token_type": "bearer",
            "refresh_token": refresh_token.expose(),
        },
        "granted_scopes": grant.scopes,
        "issuer": grant.issuer,
    });
    let failed = |reason: &str| NotRenewed::Failed(reason.into());
    let stored: StoredCredentials =
        serde_json::from_value(stored).map_err(|_| failed("what is stored can't be read"))?;
    let renewed = async {
        let mut manager = manager_for(pool, &grant.resource, &grant.metadata, &grant.client)
            .await
            .map_err(|error| NotRenewed::Failed(error.to_string()))?;
        let credentials = InMemoryCredentialStore::new();
        credentials.save(stored).await.map_err(|_| failed("what is stored can't be read"))?;
        manager.set_credential_store(credentials);
        manager.refresh_token().await.map_err(|error| match error {
            AuthError::TokenRefreshRejected(_) | AuthError::AuthorizationRequired => NotRenewed::Rejected,
            error => NotRenewed::Failed(failure(&error).to_string()),
        })
    };
    let response = renewed.with_subscriber(Dispatch::none()).await?;
    tokens(&response)
        .and_then(|tokens| tokens.into_grant(grant.clone(), now))
        .ok_or_else(|| failed("the authorization server's answer holds no token that can be used"))
}

/// Asks the authorization server to take a grant back, if it says where (RFC 7009). Nothing hangs on it:
/// whatever it answers, the grant is forgotten here.
pub(crate) async fn revoke(pool: &Pool, grant: &OAuthGrant) -> Result<(), OAuthError> {
    let unusable = || OAuthError::failed("the authorization server's metadata can't be read");
    let metadata: AuthorizationMetadata = serde_json::from_str(&grant.metadata).map_err(|_| unusable())?;
    let Some(endpoint) = text(&metadata, "revocation_endpoint") else { return Ok(()) };
    let resource = Url::parse(&grant.resource).map_err(|_| unusable())?;
    check_endpoint(&resource, endpoint)?;
    // With the refresh token the server takes back what came of it.
    let (token, hint) = match &grant.refresh_token {
        Some(token) => (token, "refresh_token"),
        None => (&grant.access_token, "access_token"),
    };
    let client = &grant.client;
    let mut form = vec![("token", token.expose().as_str()), ("token_type_hint", hint)];
    let mut request = Request::post(endpoint).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    match &client.client_secret {
        Some(secret) if !posts_secret(&metadata) => {
            request = request.header(AUTHORIZATION, basic(&client.client_id, secret).ok_or_else(unusable)?);
        }
        Some(secret) => {
            form.extend([("client_id", client.client_id.as_str()), ("client_secret", secret.expose())]);
        }
        None => form.push(("client_id", &client.client_id)),
    }
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = request.body(form.into_bytes()).map_err(|_| unusable())?;
    let answer = Http::new(pool, None).send(request).await;
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(OAuthError::failed(format!("the answer was {}", answer.status().as_u16()))),
        Err(Failed(reason)) => Err(OAuthError::Failed { reason }),
    }
}

/// RFC 6749, section 2.3.1: both halves are form-encoded first.
fn basic(client_id: &str, secret: &Secret<String>) -> Option<HeaderValue> {
    use base64::Engine as _;
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(client_id), encode(secret.expose()));
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The same choice as rmcp's: in the header, unless the server only takes it in the body.
fn posts_secret(metadata: &AuthorizationMetadata) -> bool {
    let methods = metadata.additional_fields.get("token_endpoint_auth_methods_supported");
    let offers = |wanted: &str| {
        methods.and_then(|all| all.as_array()).is_some_and(|all| all.iter().any(|one| one == wanted))
    };
    offers("client_secret_post") && !offers("client_secret_basic")
}

/// The upstream as a resource: its URL without what may hold a credential.
fn resource_url(ask: &OAuthStart) -> Option<Url> {
    let sql::model::ConnParams::Http { url, .. } = &ask.upstream.conn_params else { return None };
    let mut url = Url::parse(url).ok()?;
    let scheme = match url.scheme() {
        "ws" | "http" => "http",
        _ => "https",
    };
    url.set_scheme(scheme).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    Some(url)
}

async fn manager(
    pool: &Pool,
    base: &Url,
    resource: Option<&str>,
) -> Result<AuthorizationManager, OAuthError> {
    let http = Arc::new(Http::new(pool, resource));
    let manager = AuthorizationManager::new_with_oauth_http_client(base.as_str(), http).await;
    manager.map_err(|error| failure(&error))
}

/// A manager for a server that has been found before.
async fn manager_for(
    pool: &Pool,
    resource: &str,
    metadata: &str,
    client: &OAuthClient,
) -> Result<AuthorizationManager, OAuthError> {
    let unusable = |_| OAuthError::failed("the authorization server's metadata can't be read");
    let base = Url::parse(resource).map_err(|_| OAuthError::failed("its resource is not a URL"))?;
    let mut manager = manager(pool, &base, Some(resource)).await?;
    manager.set_metadata(serde_json::from_str(metadata).map_err(unusable)?);
    manager.configure_client(config(client)).map_err(|error| failure(&error))?;
    Ok(manager)
}

fn config(client: &OAuthClient) -> OAuthClientConfig {
    let config = OAuthClientConfig::new(client.client_id.as_str(), client.redirect_uri.as_str())
        .with_application_type(application_type(&client.redirect_uri));
    match &client.client_secret {
        Some(secret) => config.with_client_secret(secret.expose().as_str()),
        None => config,
    }
}

/// OIDC registration: a web application comes back over TLS, a native one to the machine it runs on.
fn application_type(redirect_uri: &str) -> &'static str {
    if redirect_uri.starts_with("https:") { "web" } else { "native" }
}

/// Who we are to this server, in the order that 2026-07-28 asks for: who is registered there already, by
/// hand or by us; who our metadata document says; or who we become by registering now.
async fn client(
    manager: &mut AuthorizationManager,
    metadata: &AuthorizationMetadata,
    issuer: &str,
    ask: &OAuthStart,
    scopes: &[&str],
) -> Result<OAuthClient, OAuthError> {
    if let Some(client) = &ask.client {
        return Ok(client.clone());
    }
    let known = ask.known.iter().find(|(of, client)| of == issuer && client.redirect_uri == ask.redirect_uri);
    let takes_documents = metadata
        .additional_fields
        .get("client_id_metadata_document_supported")
        .is_some_and(|value| value == true);
    let new = |client_id: String, client_secret: Option<String>| OAuthClient {
        client_id,
        client_secret: client_secret.map(Secret::new),
        redirect_uri: ask.redirect_uri.clone(),
    };
    match (known, &ask.client_metadata_url) {
        (Some((_, client)), _) => Ok(client.clone()),
        (None, Some(document)) if takes_documents => Ok(new(document.clone(), None)),
        _ => {
            // Says what kind of application is to be registered, and nothing else.
            let unregistered = new("unregistered".into(), None);
            manager.configure_client(config(&unregistered)).map_err(|error| failure(&error))?;
            let registered = manager.register_client(CLIENT_NAME, &ask.redirect_uri, scopes).await;
            let registered = registered.map_err(|error| failure(&error))?;
            Ok(new(registered.client_id, registered.client_secret))
        }
    }
}

/// What to ask for: what the admin says, or what the upstream does; and what was granted before, when it is
/// more that the upstream wants.
async fn scopes(manager: &AuthorizationManager, pass: Option<&Pass>, ask: &OAuthStart) -> Vec<String> {
    if !ask.scopes.is_empty() {
        return ask.scopes.clone();
    }
    let mut scopes = manager.select_initial_scopes(&[]).await;
    let granted = pass.and_then(Pass::shown).map(|shown| shown.scopes).unwrap_or_default();
    for scope in granted {
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    scopes
}

fn text<'a>(metadata: &'a AuthorizationMetadata, name: &str) -> Option<&'a str> {
    metadata.additional_fields.get(name)?.as_str()
}

/// Whether the server's endpoints are such that codes and tokens can be sent there.
fn check_endpoints(upstream: &Url, metadata: &AuthorizationMetadata) -> Result<(), OAuthError> {
    check_endpoint(upstream, &metadata.authorization_endpoint)?;
    check_endpoint(upstream, &metadata.token_endpoint)?;
    // What it publishes came from there.
    metadata.issuer.iter().try_for_each(|issuer| check_endpoint(upstream, issuer))?;
    metadata.registration_endpoint.iter().try_for_each(|endpoint| check_endpoint(upstream, endpoint))
}

/// OAuth 2.1, section 1.5: over TLS. An upstream without it, on one's own network, may have a server
/// without it.
fn check_endpoint(upstream: &Url, endpoint: &str) -> Result<(), OAuthError> {
    let scheme = Url::parse(endpoint).map(|url| url.scheme().to_owned()).unwrap_or_default();
    match scheme.as_str() {
        "https" => Ok(()),
        "http" if upstream.scheme() == "http" => Ok(()),
        _ => Err(OAuthError::failed("the authorization server's endpoints are not reached over TLS")),
    }
}

/// What a token endpoint answers.
#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
    scope: Option<String>,
}

/// rmcp's answer by its fields; `None`: it has no token.
fn tokens(response: &impl serde::Serialize) -> Option<Tokens> {
    serde_json::from_value(serde_json::to_value(response).ok()?).ok()
}

impl Tokens {
    /// The grant with these tokens; `None`: they can't be used.
    fn into_grant(self, grant: OAuthGrant, now: Timestamp) -> Option<OAuthGrant> {
        let fits =
            !self.access_token.is_empty() && self.access_token.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits || !self.token_type.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let scopes = self.scope.map(|scope| scope.split_whitespace().map(str::to_owned).collect());
        Some(OAuthGrant {
            access_token: Secret::new(self.access_token),
            refresh_token: self.refresh_token.map(Secret::new).or(grant.refresh_token),
            scopes: scopes.unwrap_or(grant.scopes),
            received_at: now,
            expires_at: self.expires_in.map(|seconds| now.plus(Duration::from_secs(seconds))),
            ..grant
        })
    }
}

/// What an error of rmcp's means, in words for an admin: its own quote addresses and what servers answer.
fn failure(error: &AuthError) -> OAuthError {
    let words = match error {
        AuthError::AuthorizationServerMismatch { .. }
        | AuthError::AuthorizationServerMissingIssuer { .. } => {
            return OAuthError::ForeignIssuer;
        }
        AuthError::DiscoveryRequestFailed { source, .. } => {
            let why = source.downcast_ref::<Failed>().map_or("it was refused", |failed| failed.0.as_str());
            return OAuthError::failed(format!("its OAuth metadata can't be fetched: {why}"));
        }
        AuthError::ProtectedResourceMetadataInvalid { .. } => "its OAuth metadata is about another resource",
        AuthError::AuthorizationServersUnavailable { .. } => {
            "none of the authorization servers that it names can be used"
        }
        AuthError::NoAuthorizationSupport => "the upstream publishes no OAuth metadata",
        AuthError::PkceUnsupported => "the authorization server does not know PKCE with S256",
        AuthError::RegistrationFailed(_) => {
            "the authorization server does not register the gateway by itself: register it there by hand and \
             give the client id"
        }
        AuthError::TokenExchangeFailed(_) => "the authorization server did not exchange the code",
        AuthError::TokenRefreshFailed(_) => "the authorization server did not renew the token",
        _ => "the authorization server can't be used",
    };
    OAuthError::failed(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_tokens_go_over_tls_where_the_upstream_has_it() {
        let https = Url::parse("https://host/mcp").expect("a URL");
        let http = Url::parse("http://host/mcp").expect("a URL");
        let good = json!({
            "issuer": "https://as",
            "authorization_endpoint": "https://as/authorize",
            "token_endpoint": "https://as/token",
            "registration_endpoint": "https://as/register",
        });
        let checked = |upstream: &Url, metadata: &serde_json::Value| {
            check_endpoints(upstream, &serde_json::from_value(metadata.clone()).expect("metadata")).is_ok()
        };
        assert!(checked(&https, &good));
        for name in ["issuer", "authorization_endpoint", "token_endpoint", "registration_endpoint"] {
            for (url, in_clear) in
                [("http://as/x", true), ("javascript:alert(1)", false), ("file:///x", false)]
            {
                let mut metadata = good.clone();
                metadata[name] = json!(url);
                assert_eq!(
                    (checked(&https, &metadata), checked(&http, &metadata)),
                    (false, in_clear),
                    "{name} {url}"
                );
            }
        }
    }
}
