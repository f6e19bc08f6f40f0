//! What authorises the gateway at upstreams: clients, grants, and authorisations that have begun.
//!
//! Everything that is secret is sealed for its place, which names upstream, issuer and origin: a token
//! that is moved to another row doesn't open there. Of the state that comes back through a browser only
//! the hash is kept.

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::changes::ChangeKind;
use crate::db::{Row, cells};
use crate::error::StoreError;
use crate::model::ids::{AdminUserId, UpstreamId};
use crate::model::oauth::{OAuthAuthorization, OAuthClient, OAuthGrant};
use crate::model::secret::Secret;
use crate::model::time::Timestamp;
use crate::seal::{Place, Sealer};
use crate::tx::Tx;

const CLIENTS: &str = "oauth_clients";
const GRANTS: &str = "oauth_grants";
const AUTHORIZATIONS: &str = "oauth_authorizations";

const GRANT_COLUMNS: &str =
    "upstream_id, issuer, origin, scopes, tokens, received_at, expires_at, authorized_at, version";

/// The sealed form of a client.
#[derive(Serialize, Deserialize)]
struct SealedClient {
    id: String,
    secret: Option<String>,
}

/// The sealed part of a grant.
#[derive(Serialize, Deserialize)]
struct SealedTokens {
    access: String,
    refresh: Option<String>,
    resource: String,
    metadata: String,
    client: SealedClient,
    redirect_uri: String,
}

/// The sealed form of an authorisation.
#[derive(Serialize, Deserialize)]
struct SealedAuthorization {
    admin: AdminUserId,
    issuer: String,
    origin: String,
    resource: String,
    client: SealedClient,
    redirect_uri: String,
    metadata: String,
    exchange: String,
}

/// Keeps who the gateway is to `issuer`, in place of what was known before.
pub async fn save_client(
    tx: &mut Tx,
    id: UpstreamId,
    issuer: &str,
    client: &OAuthClient,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO oauth_clients (upstream_id, issuer, redirect_uri, client) VALUES ($1, $2, $3, $4)
        ON CONFLICT (upstream_id, issuer) DO UPDATE
        SET redirect_uri = excluded.redirect_uri, client = excluded.client";
    let row = format!("{id} {issuer}");
    let sealed = seal(&tx.sealer(), &seal_client(client), CLIENTS, "client", &row);
    tx.execute(CLIENTS, sql, cells![id, issuer, &client.redirect_uri, sealed]).await.map(drop)
}

/// Who the gateway is to the authorization servers of an upstream, by issuer.
pub async fn clients(tx: &mut Tx, id: UpstreamId) -> Result<Vec<(String, OAuthClient)>, StoreError> {
    let sql = "SELECT issuer, redirect_uri, client FROM oauth_clients WHERE upstream_id = $1 ORDER BY issuer";
    let rows = tx.query(CLIENTS, sql, cells![id]).await?;
    let sealer = tx.sealer();
    let read = |row: &Row| {
        let issuer: String = row.get("issuer")?;
        let place = format!("{id} {issuer}");
        let client: SealedClient = open(&sealer, row, CLIENTS, "client", &place)?;
        Ok((issuer, unseal_client(client, row.get("redirect_uri")?)))
    };
    rows.iter().map(read).collect()
}

/// Remembers that an authorisation has begun, under the state that it comes back with. What the same
/// session had begun for the same upstream, and what has expired, is forgotten.
pub async fn begin(tx: &mut Tx, state: &str, authorization: &OAuthAuthorization) -> Result<(), StoreError> {
    let (now, begun) = (tx.clock().now(), authorization);
    let sql = "DELETE FROM oauth_authorizations
        WHERE expires_at <= $1 OR (upstream_id = $2 AND session_id = $3)";
    tx.execute(AUTHORIZATIONS, sql, cells![now, begun.upstream_id, begun.session_id]).await?;
    let sql = "INSERT INTO oauth_authorizations (state, upstream_id, session_id, document, expires_at)
        VALUES ($1, $2, $3, $4, $5)";
    let hash = hash(state);
    let document = SealedAuthorization {
        admin: begun.admin_id,
        issuer: begun.issuer.clone(),
        origin: begun.origin.clone(),
        resource: begun.resource.clone(),
        client: seal_client(&begun.client),
        redirect_uri: begun.client.redirect_uri.clone(),
        metadata: begun.metadata.clone(),
        exchange: begun.exchange.expose().clone(),
    };
    let document = seal(&tx.sealer(), &document, AUTHORIZATIONS, "document", &hash);
    let cells = cells![hash, begun.upstream_id, begun.session_id, document, begun.expires_at];
    tx.execute(AUTHORIZATIONS, sql, cells).await.map(drop)
}

/// Whether there is an authorisation of this state, be it too old. Uses nothing up.
pub async fn is_begun(tx: &mut Tx, state: &str) -> Result<bool, StoreError> {
    let sql = "SELECT state FROM oauth_authorizations WHERE state = $1";
    Ok(tx.query_opt(AUTHORIZATIONS, sql, cells![hash(state)]).await?.is_some())
}

/// The authorisation that began with this state, which is used up by asking. `None`: there is none (any
/// more), or its time is over.
pub async fn take(tx: &mut Tx, state: &str) -> Result<Option<OAuthAuthorization>, StoreError> {
    let hash = hash(state);
    let sql = "DELETE FROM oauth_authorizations WHERE state = $1
        RETURNING upstream_id, session_id, document, expires_at";
    let Some(row) = tx.query_opt(AUTHORIZATIONS, sql, cells![&hash]).await? else { return Ok(None) };
    let expires_at: Timestamp = row.get("expires_at")?;
    if expires_at <= tx.clock().now() {
        return Ok(None);
    }
    let document: SealedAuthorization = open(&tx.sealer(), &row, AUTHORIZATIONS, "document", &hash)?;
    Ok(Some(OAuthAuthorization {
        upstream_id: row.get("upstream_id")?,
        admin_id: document.admin,
        session_id: row.get("session_id")?,
        issuer: document.issuer,
        origin: document.origin,
        resource: document.resource,
        client: unseal_client(document.client, document.redirect_uri),
        metadata: document.metadata,
        exchange: Secret::new(document.exchange),
        expires_at,
    }))
}

/// Keeps a grant in place of the one that was. Its `version` is passed over.
pub async fn save_grant(tx: &mut Tx, grant: &OAuthGrant) -> Result<(), StoreError> {
    let sql = "INSERT INTO oauth_grants (upstream_id, issuer, origin, scopes, tokens, received_at,
        expires_at, authorized_at, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1)
        ON CONFLICT (upstream_id) DO UPDATE SET issuer = excluded.issuer, origin = excluded.origin,
        scopes = excluded.scopes, tokens = excluded.tokens, received_at = excluded.received_at,
        expires_at = excluded.expires_at, authorized_at = excluded.authorized_at,
        version = oauth_grants.version + 1";
    let cells = values(&tx.sealer(), grant);
    tx.execute(GRANTS, sql, cells).await?;
    tx.changed(ChangeKind::OAuth, grant.upstream_id.uuid());
    Ok(())
}

/// Keeps what a grant of this version was renewed to. False: there is another one by now, or none.
pub async fn renew_grant(tx: &mut Tx, grant: &OAuthGrant) -> Result<bool, StoreError> {
    let sql = "UPDATE oauth_grants SET issuer = $2, origin = $3, scopes = $4, tokens = $5, received_at = $6,
        expires_at = $7, version = version + 1
        WHERE upstream_id = $1 AND authorized_at = $8 AND version = $9";
    let mut cells = values(&tx.sealer(), grant);
    cells.extend(cells![grant.version]);
    let written = tx.execute(GRANTS, sql, cells).await? == 1;
    if written {
        tx.changed(ChangeKind::OAuth, grant.upstream_id.uuid());
    }
    Ok(written)
}

/// Forgets a grant of this version. False: there is another one by now, or none.
pub async fn drop_grant(tx: &mut Tx, grant: &OAuthGrant) -> Result<bool, StoreError> {
    let sql = "DELETE FROM oauth_grants WHERE upstream_id = $1 AND authorized_at = $2 AND version = $3";
    let cells = cells![grant.upstream_id, grant.authorized_at, grant.version];
    let dropped = tx.execute(GRANTS, sql, cells).await? == 1;
    if dropped {
        tx.changed(ChangeKind::OAuth, grant.upstream_id.uuid());
    }
    Ok(dropped)
}

/// Forgets all that authorises the gateway at an upstream, and who it is there. False: there was no grant.
pub async fn forget(tx: &mut Tx, id: UpstreamId) -> Result<bool, StoreError> {
    let sql = "DELETE FROM oauth_authorizations WHERE upstream_id = $1";
    tx.execute(AUTHORIZATIONS, sql, cells![id]).await?;
    tx.execute(CLIENTS, "DELETE FROM oauth_clients WHERE upstream_id = $1", cells![id]).await?;
    let sql = "DELETE FROM oauth_grants WHERE upstream_id = $1";
    let forgotten = tx.execute(GRANTS, sql, cells![id]).await? == 1;
    if forgotten {
        tx.changed(ChangeKind::OAuth, id.uuid());
    }
    Ok(forgotten)
}

/// The grant for an upstream.
pub async fn grant(tx: &mut Tx, id: UpstreamId) -> Result<Option<OAuthGrant>, StoreError> {
    let sql = format!("SELECT {GRANT_COLUMNS} FROM oauth_grants WHERE upstream_id = $1");
    let row = tx.query_opt(GRANTS, &sql, cells![id]).await?;
    row.map(|row| read_grant(&tx.sealer(), &row)).transpose()
}

/// All grants that can be read, by upstream.
pub async fn grants(tx: &mut Tx) -> Result<Vec<OAuthGrant>, StoreError> {
    let sql = format!("SELECT {GRANT_COLUMNS} FROM oauth_grants ORDER BY upstream_id");
    let rows = tx.query(GRANTS, &sql, cells![]).await?;
    let sealer = tx.sealer();
    tx.readable(&rows, |row| read_grant(&sealer, row))
}

fn values(sealer: &Sealer, grant: &OAuthGrant) -> Vec<crate::db::Cell> {
    let tokens = SealedTokens {
        access: grant.access_token.expose().clone(),
        refresh: grant.refresh_token.as_ref().map(|token| token.expose().clone()),
        resource: grant.resource.clone(),
        metadata: grant.metadata.clone(),
        client: seal_client(&grant.client),
        redirect_uri: grant.client.redirect_uri.clone(),
    };
    let place = grant_place(grant.upstream_id, &grant.issuer, &grant.origin);
    cells![
        grant.upstream_id,
        &grant.issuer,
        &grant.origin,
        serde_json::to_string(&grant.scopes).expect("texts are JSON"),
        seal(sealer, &tokens, GRANTS, "tokens", &place),
        grant.received_at,
        grant.expires_at,
        grant.authorized_at,
    ]
}

fn read_grant(sealer: &Sealer, row: &Row) -> Result<OAuthGrant, StoreError> {
    let upstream_id: UpstreamId = row.get("upstream_id")?;
    let (issuer, origin): (String, String) = (row.get("issuer")?, row.get("origin")?);
    let place = grant_place(upstream_id, &issuer, &origin);
    let tokens: SealedTokens = open(sealer, row, GRANTS, "tokens", &place)?;
    Ok(OAuthGrant {
        upstream_id,
        issuer,
        origin,
        resource: tokens.resource,
        scopes: row.json("scopes")?,
        client: unseal_client(tokens.client, tokens.redirect_uri),
        metadata: tokens.metadata,
        access_token: Secret::new(tokens.access),
        refresh_token: tokens.refresh.map(Secret::new),
        received_at: row.get("received_at")?,
        expires_at: row.get("expires_at")?,
        authorized_at: row.get("authorized_at")?,
        version: row.get("version")?,
    })
}

fn grant_place(id: UpstreamId, issuer: &str, origin: &str) -> String {
    format!("{id} {issuer} {origin}")
}

fn seal_client(client: &OAuthClient) -> SealedClient {
    let secret = client.client_secret.as_ref().map(|secret| secret.expose().clone());
    SealedClient { id: client.client_id.clone(), secret }
}

fn unseal_client(client: SealedClient, redirect_uri: String) -> OAuthClient {
    OAuthClient { client_id: client.id, client_secret: client.secret.map(Secret::new), redirect_uri }
}

fn seal(sealer: &Sealer, value: &impl Serialize, table: &str, column: &str, row: &str) -> String {
    let plain = Secret::new(serde_json::to_vec(value).expect("texts are JSON"));
    sealer.seal(plain.expose(), Place { table, column, row })
}

fn open<T: serde::de::DeserializeOwned>(
    sealer: &Sealer,
    row: &Row,
    table: &str,
    column: &str,
    place: &str,
) -> Result<T, StoreError> {
    let sealed: String = row.get(column)?;
    let opened = sealer.unseal(&sealed, Place { table, column, row: place }).ok();
    opened.and_then(|plain| serde_json::from_slice(plain.expose()).ok()).ok_or_else(|| row.corrupt(column))
}

/// The state is a password until it is used: whoever reads the table must not be able to use it.
fn hash(state: &str) -> String {
    digest(&SHA256, state.as_bytes()).as_ref().iter().fold(String::new(), |mut hex, byte| {
        use std::fmt::Write as _;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
