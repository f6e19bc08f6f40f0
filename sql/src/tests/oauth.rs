//! What authorises the gateway at upstreams: written, read again, used up, and never in clear.

use std::time::Duration;

use super::harness::{TestDatabase, on_each_database};
use super::upstreams::http;
use crate::db::cells;
use crate::error::StoreError;
use crate::model::ids::{AdminUserId, TokenId, UpstreamId};
use crate::model::oauth::{OAuthAuthorization, OAuthClient, OAuthGrant};
use crate::model::secret::Secret;
use crate::{ChangeKind, Entries, changes, oauth, upstreams};

fn client() -> OAuthClient {
    OAuthClient {
        client_id: "client-1".into(),
        client_secret: Some(Secret::from("CANARY-client")),
        redirect_uri: "https://gateway/api/auth/oauth/callback".into(),
    }
}

fn grant(db: &TestDatabase, upstream_id: UpstreamId) -> OAuthGrant {
    OAuthGrant {
        upstream_id,
        issuer: "https://issuer".into(),
        origin: "https://host".into(),
        resource: "https://host/mcp".into(),
        scopes: vec!["read".into(), "write".into()],
        client: client(),
        metadata: "{}".into(),
        access_token: Secret::from("CANARY-access"),
        refresh_token: Some(Secret::from("CANARY-refresh")),
        received_at: db.now(),
        expires_at: Some(db.now().plus(Duration::from_hours(1))),
        authorized_at: db.now(),
        version: 1,
    }
}

fn authorization(db: &TestDatabase, upstream_id: UpstreamId, session_id: TokenId) -> OAuthAuthorization {
    OAuthAuthorization {
        upstream_id,
        admin_id: AdminUserId::at(db.now()),
        session_id,
        issuer: "https://issuer".into(),
        origin: "https://host".into(),
        resource: "https://host/mcp".into(),
        client: client(),
        metadata: "{}".into(),
        exchange: Secret::from("CANARY-verifier"),
        expires_at: db.now().plus(Duration::from_mins(10)),
    }
}

async fn upstream(db: &TestDatabase) -> UpstreamId {
    let upstream = http(db, "a");
    let mut tx = db.store.begin().await.expect("begins");
    upstreams::insert(&mut tx, &upstream).await.expect("inserts");
    tx.commit().await.expect("commits");
    upstream.id
}

/// An upstream of this name at which the gateway is authorised.
pub(super) async fn granted(db: &TestDatabase, name: &str) -> UpstreamId {
    let upstream = http(db, name);
    let mut tx = db.store.begin().await.expect("begins");
    upstreams::insert(&mut tx, &upstream).await.expect("inserts");
    oauth::save_grant(&mut tx, &grant(db, upstream.id)).await.expect("saves");
    tx.commit().await.expect("commits");
    upstream.id
}

/// The same, where the gateway is registered as well.
pub(super) async fn granted_with_client(db: &TestDatabase, name: &str) -> UpstreamId {
    let id = granted(db, name).await;
    let mut tx = db.store.begin().await.expect("begins");
    oauth::save_client(&mut tx, id, "https://issuer", &client()).await.expect("saves");
    tx.commit().await.expect("commits");
    id
}

/// An authorisation that waits for its end.
pub(super) async fn begun(db: &TestDatabase, id: UpstreamId, state: &str) {
    let mut tx = db.store.begin().await.expect("begins");
    let authorization = authorization(db, id, TokenId::at(db.now()));
    oauth::begin(&mut tx, state, &authorization).await.expect("begins");
    tx.commit().await.expect("commits");
}

on_each_database! {
    async fn a_grant_is_renewed_only_from_the_version_that_was_read(db) {
        let id = upstream(db).await;
        let mut tx = db.store.begin().await.expect("begins");
        oauth::save_grant(&mut tx, &grant(db, id)).await.expect("saves");
        let first = oauth::grant(&mut tx, id).await.expect("reads").expect("is there");
        assert_eq!(first, grant(db, id));
        let renewed = OAuthGrant { access_token: Secret::from("CANARY-two"), ..first.clone() };
        assert!(oauth::renew_grant(&mut tx, &renewed).await.expect("renews"));
        assert!(!oauth::renew_grant(&mut tx, &renewed).await.expect("is stale by now"));
        assert!(!oauth::drop_grant(&mut tx, &first).await.expect("is stale by now"));
        let second = oauth::grants(&mut tx).await.expect("reads").remove(0);
        assert_eq!((second.version, second.access_token.expose().as_str()), (2, "CANARY-two"));
        // Authorised anew, its versions begin anew: they are those of another grant.
        oauth::forget(&mut tx, id).await.expect("forgets");
        let anew = OAuthGrant { authorized_at: db.now().plus(Duration::from_secs(1)), ..first.clone() };
        oauth::save_grant(&mut tx, &anew).await.expect("saves");
        assert!(!oauth::renew_grant(&mut tx, &renewed).await.expect("is of another grant"));
        assert!(oauth::drop_grant(&mut tx, &anew).await.expect("drops"));
        tx.commit().await.expect("commits");
        let mut tx = db.store.begin().await.expect("begins");
        let Entries::All(entries) = changes::since(&mut tx, 1).await.expect("reads").entries else { panic!("no gap") };
        assert!(entries.iter().all(|entry| (entry.kind, entry.id) == (ChangeKind::OAuth, id.uuid())));
        assert_eq!(entries.len(), 1);
    }

    async fn a_state_is_used_once_and_in_time(db) {
        let id = upstream(db).await;
        let (one, other) = (TokenId::at(db.now()), TokenId::at(db.now()));
        let mut tx = db.store.begin().await.expect("begins");
        let begun = authorization(db, id, one);
        oauth::begin(&mut tx, "state-0", &begun).await.expect("begins");
        oauth::begin(&mut tx, "state-1", &begun).await.expect("begins");
        oauth::begin(&mut tx, "state-2", &authorization(db, id, other)).await.expect("begins");
        assert_eq!(oauth::take(&mut tx, "state-0").await.expect("was replaced"), None);
        assert_eq!(oauth::take(&mut tx, "state-1").await.expect("takes"), Some(begun));
        assert_eq!(oauth::take(&mut tx, "state-1").await.expect("is used up"), None);
        db.clock.advance(Duration::from_mins(10));
        assert_eq!(oauth::take(&mut tx, "state-2").await.expect("is over"), None);
    }

    async fn all_goes_with_the_upstream_or_when_it_is_forgotten(db) {
        let id = upstream(db).await;
        let mut tx = db.store.begin().await.expect("begins");
        oauth::save_client(&mut tx, id, "https://issuer", &client()).await.expect("saves");
        oauth::save_client(&mut tx, id, "https://issuer", &client()).await.expect("saves again");
        assert_eq!(oauth::clients(&mut tx, id).await.expect("reads"), [("https://issuer".to_owned(), client())]);
        oauth::save_grant(&mut tx, &grant(db, id)).await.expect("saves");
        assert!(oauth::forget(&mut tx, id).await.expect("forgets"));
        assert!(!oauth::forget(&mut tx, id).await.expect("had nothing to forget"));
        assert!(oauth::clients(&mut tx, id).await.expect("reads").is_empty());
        oauth::save_grant(&mut tx, &grant(db, id)).await.expect("saves");
        upstreams::delete(&mut tx, id).await.expect("deletes");
        assert_eq!(oauth::grant(&mut tx, id).await.expect("reads"), None);
    }

    async fn a_token_opens_only_for_its_issuer_and_origin_and_never_stands_in_clear(db) {
        let id = upstream(db).await;
        let mut tx = db.store.begin().await.expect("begins");
        oauth::save_grant(&mut tx, &grant(db, id)).await.expect("saves");
        oauth::save_client(&mut tx, id, "https://issuer", &client()).await.expect("saves");
        oauth::begin(&mut tx, "CANARY-state", &authorization(db, id, TokenId::at(db.now()))).await.expect("begins");
        for sql in [
            "SELECT issuer || origin || scopes || tokens AS text FROM oauth_grants",
            "SELECT issuer || redirect_uri || client AS text FROM oauth_clients",
            "SELECT state || document AS text FROM oauth_authorizations",
        ] {
            let text: String = tx.query_one("oauth", sql, cells![]).await.expect("reads").get("text").expect("a text");
            assert!(!text.contains("CANARY"), "{text}");
        }
        let moved = "UPDATE oauth_grants SET origin = $1";
        tx.execute("oauth_grants", moved, cells!["https://evil"]).await.expect("updates");
        let refused = oauth::grant(&mut tx, id).await.expect_err("it is sealed for another origin");
        assert!(matches!(refused, StoreError::Corrupt { table: "oauth_grants", .. }));
    }
}
