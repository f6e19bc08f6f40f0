//! `GET /api/auth/oauth/callback`: the browser comes back from an authorization server.
//!
//! It comes without a token of ours, so what proves it is the state: unguessable, of one use, ten minutes
//! old at most, and dead with the session of the admin who began. Whatever happens, the browser is sent on
//! to the console, which says in the admin's language how it went.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, Uri, header};
use proxy::control::{OAuthError, OAuthReturn};
use serde_json::json;
use sql::model::{Actor, OAuthAuthorization, OAuthGrant, Outcome, Secret, Upstream};
use sql::{Tx, admin_users, oauth, upstreams};

use super::CALLBACK;
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::Client;

/// How it went, as the console is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The upstream is authorised.
    Authorized,
    /// The state is unknown, used, or too old.
    Expired,
    /// The session in which it began is over.
    SessionEnded,
    /// The upstream is elsewhere by now.
    Moved,
    /// The person said no.
    Declined,
    /// Another authorization server answered.
    ForeignIssuer,
    /// Anything else.
    Failed,
}

impl Ending {
    fn as_str(self) -> &'static str {
        match self {
            Self::Authorized => "authorized",
            Self::Expired => "expired",
            Self::SessionEnded => "session-ended",
            Self::Moved => "moved",
            Self::Declined => "declined",
            Self::ForeignIssuer => "foreign-issuer",
            Self::Failed => "failed",
        }
    }
}

/// Come back from an authorization server
///
/// Sends the browser on to the console with `?oauth=` and how it went.
#[utoipa::path(get, path = "/api/auth/oauth/callback", tag = "oauth",
    params(("state" = Option<String>, Query), ("code" = Option<String>, Query),
        ("iss" = Option<String>, Query), ("error" = Option<String>, Query)),
    responses((status = 303, headers(("Location" = String)))))]
pub(crate) async fn callback(State(app): State<App>, client: Client, uri: Uri) -> Result<Response, ApiError> {
    let query = Query::of(&uri);
    let Some(begun) = take(&app, &query).await? else {
        return Ok(sent_to("/upstreams", Ending::Expired));
    };
    let outcome = complete(&app, &client, &begun, query).await?;
    let base = begun.client.redirect_uri.strip_suffix(CALLBACK).unwrap_or_default();
    Ok(sent_to(&format!("{base}/upstreams/{}", begun.upstream_id), outcome))
}

/// What the authorization server sends along.
#[derive(Default)]
struct Query {
    state: Option<Secret<String>>,
    code: Option<Secret<String>>,
    issuer: Option<String>,
    error: Option<String>,
}

impl Query {
    fn of(uri: &Uri) -> Self {
        let mut query = Self::default();
        for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            let value = value.into_owned();
            match &*name {
                "state" => query.state = Some(Secret::new(value)),
                "code" => query.code = Some(Secret::new(value)),
                "iss" => query.issuer = Some(value),
                "error" => query.error = Some(value),
                _ => {}
            }
        }
        query
    }
}

/// What began with this state; it is used up from here on, however it ends.
async fn take(app: &App, query: &Query) -> Result<Option<OAuthAuthorization>, ApiError> {
    let Some(state) = query.state.as_ref() else { return Ok(None) };
    // Strangers may ask as well: what isn't known costs no write.
    let mut tx = app.store.read().await?;
    if !oauth::is_begun(&mut tx, state.expose()).await? {
        return Ok(None);
    }
    drop(tx);
    let mut tx = app.store.begin().await?;
    let begun = oauth::take(&mut tx, state.expose()).await?;
    tx.commit().await?;
    Ok(begun)
}

async fn complete(
    app: &App,
    client: &Client,
    begun: &OAuthAuthorization,
    query: Query,
) -> Result<Ending, ApiError> {
    let mut tx = app.store.read().await?;
    let place = place(app, &mut tx, begun).await?;
    drop(tx);
    if let Err(outcome) = place {
        return failed(app, client, begun, outcome, None).await;
    }
    let (Some(state), Some(code)) = (query.state, query.code) else {
        // What another server says isn't listened to, be it an error.
        let outcome = match (query.issuer, query.error.as_deref()) {
            (Some(issuer), _) if issuer != begun.issuer => Ending::ForeignIssuer,
            (_, Some("access_denied")) => Ending::Declined,
            _ => Ending::Failed,
        };
        return failed(app, client, begun, outcome, None).await;
    };
    let back = OAuthReturn { state, code, issuer: query.issuer };
    match app.control.oauth_finish(begun, &back).await {
        Ok(grant) => keep(app, client, begun, &grant).await,
        Err(error) => {
            let outcome = match &error {
                OAuthError::ForeignIssuer => Ending::ForeignIssuer,
                OAuthError::Failed { .. } => Ending::Failed,
            };
            failed(app, client, begun, outcome, Some(error.to_string())).await
        }
    }
}

/// The upstream, if what began still fits it and the session it began in goes on.
async fn place(
    app: &App,
    tx: &mut Tx,
    begun: &OAuthAuthorization,
) -> Result<Result<Upstream, Ending>, ApiError> {
    let now = app.store.clock().now();
    let session = admin_users::token(tx, begun.session_id).await?;
    if !session.is_some_and(|row| row.admin_id == begun.admin_id && row.expires_at > now) {
        return Ok(Err(Ending::SessionEnded));
    }
    let upstream = upstreams::get(tx, begun.upstream_id).await?;
    let fits = |upstream: &Upstream| app.control.origin_of(upstream).as_ref() == Some(&begun.origin);
    Ok(upstream.filter(fits).ok_or(Ending::Moved))
}

async fn keep(
    app: &App,
    client: &Client,
    begun: &OAuthAuthorization,
    grant: &OAuthGrant,
) -> Result<Ending, ApiError> {
    let mut tx = app.store.begin().await?;
    // Once more: the exchange took a while.
    let upstream = match place(app, &mut tx, begun).await? {
        Ok(upstream) => upstream,
        Err(outcome) => {
            drop(tx);
            return failed(app, client, begun, outcome, None).await;
        }
    };
    oauth::save_grant(&mut tx, grant).await?;
    let diff = json!({
        "/oauth/issuer": { "after": grant.issuer },
        "/oauth/scopes": { "after": grant.scopes },
    });
    let act = Act::on("upstream.oauth_authorize", upstream.id, upstream.name, diff);
    record(&mut tx, app, client, begun, act).await?;
    tx.commit().await?;
    Ok(Ending::Authorized)
}

async fn failed(
    app: &App,
    client: &Client,
    begun: &OAuthAuthorization,
    outcome: Ending,
    reason: Option<String>,
) -> Result<Ending, ApiError> {
    let mut tx = app.store.begin().await?;
    let name = upstreams::get(&mut tx, begun.upstream_id).await?.map(|upstream| upstream.name);
    tracing::info!(upstream.id = %begun.upstream_id, outcome = outcome.as_str(), reason, "an upstream was not authorised");
    let act = Act {
        action: "upstream.oauth_authorize",
        target_id: Some(begun.upstream_id.to_string()),
        target_name: name,
        diff: json!({ "/oauth/outcome": { "after": outcome.as_str() }, "/oauth/reason": { "after": reason } }),
        outcome: Outcome::Failure,
    };
    record(&mut tx, app, client, begun, act).await?;
    tx.commit().await?;
    Ok(outcome)
}

/// Written down for the admin who began: nobody else knows the state.
async fn record(
    tx: &mut Tx,
    app: &App,
    client: &Client,
    begun: &OAuthAuthorization,
    act: Act,
) -> Result<(), ApiError> {
    let admin = admin_users::get(tx, begun.admin_id).await?;
    let actor = admin.map_or(Actor::System, |admin| Actor::Admin { id: admin.id, name: admin.username });
    Ok(audit::record_as(tx, app.store.clock().now(), actor, client, act).await?)
}

fn sent_to(page: &str, outcome: Ending) -> Response {
    let location = HeaderValue::from_str(&format!("{page}?oauth={}", outcome.as_str()));
    match location {
        Ok(location) => (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response(),
        // Made of our own address, an id and a word.
        Err(error) => ApiError::internal("sending the browser on", error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use sql::model::OAuthGrant;
    use sql::oauth;

    use crate::testing::Scene;

    async fn begun() -> (Scene, String) {
        let scene = Scene::logged_in().await;
        let id = scene.upstream("a").await;
        let path = format!("/api/admin/upstreams/{id}/oauth/start");
        let answer =
            scene.send("POST", &path, Some(json!({})), &[("origin", "https://gateway.example")]).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        (scene, id)
    }

    /// Where the browser is sent; it has no token.
    async fn back(scene: &Scene, query: &str) -> String {
        let answer = scene.clone().logged_out().get(&format!("/api/auth/oauth/callback?{query}")).await;
        assert_eq!(answer.status, 303, "{}", answer.json);
        answer.headers["location"].to_str().unwrap().to_owned()
    }

    async fn grant(scene: &Scene, id: &str) -> Option<OAuthGrant> {
        let mut tx = scene.store.read().await.unwrap();
        oauth::grant(&mut tx, id.parse().unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn the_admin_is_sent_on_and_the_grant_is_kept() {
        let (scene, id) = begun().await;
        let location = back(&scene, "state=state-1&code=code-1&iss=https%3A%2F%2Fissuer.example").await;
        assert_eq!(location, format!("https://gateway.example/upstreams/{id}?oauth=authorized"));
        assert_eq!(grant(&scene, &id).await.unwrap().access_token.expose(), "CANARY-access");
        let event = scene.audited("upstream.oauth_authorize").await.remove(0);
        assert!(!event.diff.to_string().contains("CANARY"), "{}", event.diff);
        assert!(matches!(event.actor, sql::model::Actor::Admin { name, .. } if name == "root"));
        assert_eq!(back(&scene, "state=state-1&code=code-1").await, "/upstreams?oauth=expired");
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_used_up() {
        for (query, ending) in [
            ("state=state-1&code=code-1&iss=https%3A%2F%2Fevil.example", "foreign-issuer"),
            ("state=state-1&error=access_denied&iss=https%3A%2F%2Fevil.example", "foreign-issuer"),
            ("state=state-1&error=access_denied&iss=https%3A%2F%2Fissuer.example", "declined"),
            ("state=state-1&error=access_denied", "declined"),
            ("state=state-1&error=server_error", "failed"),
            ("state=state-1", "failed"),
        ] {
            let (scene, id) = begun().await;
            let location = back(&scene, query).await;
            assert_eq!(location, format!("https://gateway.example/upstreams/{id}?oauth={ending}"));
            assert_eq!(back(&scene, "state=state-1&code=code-1").await, "/upstreams?oauth=expired");
            assert!(grant(&scene, &id).await.is_none());
            let events = scene.audited("upstream.oauth_authorize").await;
            assert_eq!(events[0].outcome, sql::model::Outcome::Failure);
        }
    }

    #[tokio::test]
    async fn a_state_ends_with_its_time_its_session_and_its_upstream() {
        let (scene, _) = begun().await;
        scene.clock.advance(Duration::from_mins(10));
        assert_eq!(back(&scene, "state=state-1&code=code-1").await, "/upstreams?oauth=expired");

        let (scene, id) = begun().await;
        scene.post("/api/admin/auth/logout", json!({})).await;
        assert!(back(&scene, "state=state-1&code=code-1").await.ends_with("?oauth=session-ended"));
        assert!(grant(&scene, &id).await.is_none());

        let (scene, id) = begun().await;
        scene.delete(&format!("/api/admin/upstreams/{id}")).await;
        assert_eq!(back(&scene, "state=state-1&code=code-1").await, "/upstreams?oauth=expired");

        let (scene, _) = begun().await;
        for query in ["", "state=other&code=code-1", "code=code-1"] {
            assert_eq!(back(&scene, query).await, "/upstreams?oauth=expired");
        }
    }
}
