//! Creating a thing once, though the request comes twice.
//!
//! An `Idempotency-Key` names an attempt of one admin. The first request with it acts; the same request again gets
//! the first one's answer, from any replica and after a restart: it is kept, sealed, in the transaction of the act,
//! so that there is never one without the other. Two at once act one after the other, and what the second did is
//! taken back. Answers are kept for a short time: longer than a client retries.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ring::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};
use sql::model::{AdminUserId, Timestamp};
use sql::{Store, Tx, idempotent_answers};

use crate::error::ApiError;

/// How long an answer is kept: longer than any client's retries.
const KEEP_MS: i64 = 10 * 60 * 1_000;

/// Answers kept of all admins: a few KiB each. More creates than that within [`KEEP_MS`] need no key to wait.
const ENTRIES_MAX: u64 = 4_096;

/// A key's length: a UUID has 36.
const KEY_BYTES_MAX: usize = 255;

/// The most an answer to a create can have; they are far smaller.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a create comes to: what it did, not yet committed, and its answer.
pub(crate) type Created = Result<(Tx, Response), ApiError>;

/// The answers kept.
pub(crate) struct Idempotency {
    store: Store,
}

/// One admin's attempt at one operation, with a body.
struct Attempt {
    name: [u8; 32],
    body_hash: [u8; 32],
}

/// An answer as it is kept.
#[derive(Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Idempotency {
    /// Answers are kept in that store.
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Runs `act` and commits it, unless `headers` name an attempt that was answered already.
    pub(crate) async fn once(
        &self,
        admin: AdminUserId,
        operation: &'static str,
        headers: &HeaderMap,
        body: &[u8],
        act: impl Future<Output = Created>,
    ) -> Result<Response, ApiError> {
        let Some(key) = key_of(headers)? else {
            let (tx, response) = act.await?;
            tx.commit().await?;
            return Ok(response);
        };
        let attempt = Attempt::new(admin, operation, key, body);
        if let Some(answer) = self.answered(&attempt).await? {
            return Ok(answer);
        }
        let (mut tx, response) = match act.await {
            Ok(created) => created,
            // The same at once may have been first: what it made is in the way of this one.
            Err(error) => return self.answered(&attempt).await?.ok_or(error),
        };
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, ANSWER_BYTES_MAX)
            .await
            .map_err(|source| ApiError::internal("keeping an answer", source))?;
        let answer = Answer::of(parts.status, &parts.headers, &body);
        let answer =
            serde_json::to_vec(&answer).map_err(|source| ApiError::internal("keeping an answer", source))?;
        // Whoever writes to the audit log waits for whoever does already, so here is one at a time.
        idempotent_answers::sweep(&mut tx, self.since()).await?;
        if idempotent_answers::count(&mut tx).await? >= ENTRIES_MAX {
            // Refused rather than forgotten: dropping an older answer would break its promise.
            return Err(ApiError::RateLimited { retry_after: Duration::from_mins(1) });
        }
        if !idempotent_answers::insert(&mut tx, &attempt.name, &attempt.body_hash, &answer).await? {
            drop(tx);
            let answer = self.answered(&attempt).await?;
            return answer
                .ok_or_else(|| ApiError::conflict("this Idempotency-Key is used by another request"));
        }
        tx.commit().await?;
        Ok(Response::from_parts(parts, Body::from(body)))
    }

    async fn answered(&self, attempt: &Attempt) -> Result<Option<Response>, ApiError> {
        let mut tx = self.store.read().await?;
        let Some(kept) = idempotent_answers::get(&mut tx, &attempt.name, self.since()).await? else {
            return Ok(None);
        };
        if kept.body_hash != attempt.body_hash {
            return Err(ApiError::conflict("this Idempotency-Key was used for a different body"));
        }
        let answer = kept.answer.and_then(|answer| serde_json::from_slice::<Answer>(&answer).ok());
        let response = answer.and_then(Answer::into_response);
        let lost = || ApiError::conflict("this was done already, and its answer is no longer known");
        response.ok_or_else(lost).map(Some)
    }

    fn since(&self) -> Timestamp {
        Timestamp::from_millis(self.store.clock().now().millis().saturating_sub(KEEP_MS))
    }
}

impl Attempt {
    fn new(admin: AdminUserId, operation: &str, key: &str, body: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in [admin.to_string().as_str(), operation, key] {
            context.update(part.as_bytes());
            // No part has it.
            context.update(&[0]);
        }
        let (mut name, mut body_hash) = ([0; 32], [0; 32]);
        name.copy_from_slice(context.finish().as_ref());
        body_hash.copy_from_slice(digest(&SHA256, body).as_ref());
        Self { name, body_hash }
    }
}

impl Answer {
    fn of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        // Both are of our own making, and text.
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let body = String::from_utf8_lossy(body).into_owned();
        Self { status: status.as_u16(), headers: headers.iter().filter_map(text).collect(), body }
    }

    fn into_response(self) -> Option<Response> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).ok()?;
        for (name, value) in self.headers {
            response
                .headers_mut()
                .append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
        }
        Some(response)
    }
}

fn key_of(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if values.next().is_some() || text.is_empty() || text.len() > KEY_BYTES_MAX {
        return Err(ApiError::Malformed("Idempotency-Key must be one text of 1 to 255 characters".into()));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use serde_json::json;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/keys";

    #[tokio::test]
    async fn an_answer_outlives_the_process_and_ends_after_ten_minutes() {
        let scene = Scene::logged_in().await;
        let key = [("idempotency-key", "one")];
        let body = || Some(json!({"name": "k"}));
        let first = scene.send("POST", PATH, body(), &key).await;
        let replica = scene.replica();
        let again = replica.send("POST", PATH, body(), &key).await;
        assert_eq!((again.status, &again.json), (201, &first.json));
        for name in ["location", "etag", "content-type"] {
            assert_eq!(again.headers[name], first.headers[name], "{name}");
        }
        let other = replica.send("POST", PATH, Some(json!({"name": "other"})), &key).await;
        assert_eq!((other.status, &other.json["code"]), (409, &json!("CONFLICT")));
        scene.clock.advance(Duration::from_mins(11));
        let late = replica.send("POST", PATH, body(), &key).await;
        assert_eq!((late.status, late.pointers()), (409, vec!["/name".to_owned()]), "it is taken by now");
    }

    #[tokio::test]
    async fn the_same_at_once_makes_one_thing() {
        let scene = Scene::logged_in().await;
        let replica = scene.replica();
        let key = [("idempotency-key", "one")];
        let body = json!({"name": "u", "transport": "stdio", "connParams": {"command": "cat"}});
        let send = |index: usize| {
            let (scene, body) = (if index.is_multiple_of(2) { &scene } else { &replica }, body.clone());
            async move { scene.send("POST", "/api/admin/upstreams", Some(body), &key).await }
        };
        let answers = join_all((0..8).map(send)).await;
        let told: Vec<_> = answers.iter().map(|answer| (answer.status, &answer.json["id"])).collect();
        assert!(told.iter().all(|answer| *answer == (201, &answers[0].json["id"])), "{told:?}");
        assert_eq!(scene.get("/api/admin/upstreams").await.json["total"], 1);
        assert_eq!(scene.audited("upstream.create").await.len(), 1);
    }

    #[tokio::test]
    async fn what_failed_may_be_tried_again() {
        let scene = Scene::logged_in().await;
        let (taken, key) = (scene.key("k").await.0, [("idempotency-key", "one")]);
        assert_eq!(scene.send("POST", PATH, Some(json!({"name": "k"})), &key).await.status, 409);
        let etag = scene.get(&format!("{PATH}/{taken}")).await.headers["etag"].to_str().unwrap().to_owned();
        let gone = scene.send("DELETE", &format!("{PATH}/{taken}"), None, &[("if-match", &etag)]).await;
        assert_eq!(gone.status, 204, "{}", gone.json);
        assert_eq!(scene.send("POST", PATH, Some(json!({"name": "k"})), &key).await.status, 201);
    }
}
