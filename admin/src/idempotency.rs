//! Creating a thing once, though the request comes twice.
//!
//! An `Idempotency-Key` names an attempt of one admin. The first request with it acts; the same
//! request again gets the first one's answer. Answers are kept in this process, for a short time
//! and in small number: a retry after a lost connection is covered, a restart in between is not.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use ring::digest::{SHA256, digest};
use sql::clock::Clock;
use sql::model::AdminUserId;

use crate::error::ApiError;

/// How long an answer is kept: longer than any client's retries.
const KEEP_MS: i64 = 10 * 60 * 1_000;

/// Answers kept: creates are rare, and each answer is a few KiB.
const ENTRIES_MAX: usize = 256;

/// A key's length: a UUID has 36.
const KEY_BYTES_MAX: usize = 255;

/// The most an answer to a create can have; they are far smaller.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The answers kept.
#[derive(Clone)]
pub(crate) struct Idempotency {
    clock: Clock,
    entries: Arc<Mutex<HashMap<Attempt, Entry>>>,
}

/// One admin's attempt at one operation.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Attempt {
    admin: AdminUserId,
    operation: &'static str,
    key: String,
}

struct Entry {
    at_ms: i64,
    body_hash: [u8; 32],
    state: State,
}

#[derive(Clone)]
enum State {
    Running,
    Answered { status: StatusCode, headers: HeaderMap, body: Bytes },
}

impl Idempotency {
    /// Nothing kept yet.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, entries: Arc::default() }
    }

    /// Runs `act` unless `headers` name an attempt that was answered already.
    pub(crate) async fn once(
        &self,
        admin: AdminUserId,
        operation: &'static str,
        headers: &HeaderMap,
        body: &[u8],
        act: impl Future<Output = Result<Response, ApiError>>,
    ) -> Result<Response, ApiError> {
        let Some(key) = key_of(headers)? else { return act.await };
        let attempt = Attempt { admin, operation, key };
        if let Some(answer) = self.begin(&attempt, body)? {
            return Ok(answer);
        }
        // Forgets the attempt unless it was answered: a failure may be tried again.
        let running = Running { idempotency: self, attempt: Some(attempt) };
        let (parts, body) = act.await?.into_parts();
        let body = axum::body::to_bytes(body, ANSWER_BYTES_MAX)
            .await
            .map_err(|source| ApiError::internal("keeping an answer", source))?;
        running.answered(State::Answered {
            status: parts.status,
            headers: parts.headers.clone(),
            body: body.clone(),
        });
        Ok(Response::from_parts(parts, Body::from(body)))
    }

    fn begin(&self, attempt: &Attempt, body: &[u8]) -> Result<Option<Response>, ApiError> {
        let now = self.clock.now().millis();
        let mut body_hash = [0; 32];
        body_hash.copy_from_slice(digest(&SHA256, body).as_ref());
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| now - entry.at_ms < KEEP_MS);
        match entries.get(attempt) {
            Some(entry) if entry.body_hash != body_hash => {
                return Err(ApiError::conflict("this Idempotency-Key was used for a different body"));
            }
            Some(Entry { state: State::Running, .. }) => {
                return Err(ApiError::conflict("a request with this Idempotency-Key is still running"));
            }
            Some(Entry { state: State::Answered { status, headers, body }, .. }) => {
                let mut response = Response::new(Body::from(body.clone()));
                *response.status_mut() = *status;
                *response.headers_mut() = headers.clone();
                return Ok(Some(response));
            }
            None => {}
        }
        if entries.len() >= ENTRIES_MAX {
            // Refused rather than forgotten: dropping an older answer would break its promise.
            return Err(ApiError::RateLimited { retry_after: Duration::from_mins(1) });
        }
        entries.insert(attempt.clone(), Entry { at_ms: now, body_hash, state: State::Running });
        Ok(None)
    }
}

/// An attempt that was begun and not yet answered.
struct Running<'a> {
    idempotency: &'a Idempotency,
    attempt: Option<Attempt>,
}

impl Running<'_> {
    fn answered(mut self, answer: State) {
        let Some(attempt) = self.attempt.take() else { return };
        let mut entries = self.idempotency.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&attempt) {
            entry.state = answer;
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.idempotency.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&attempt);
        }
    }
}

fn key_of(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if values.next().is_some() || text.is_empty() || text.len() > KEY_BYTES_MAX {
        return Err(ApiError::Malformed("Idempotency-Key must be one text of 1 to 255 characters".into()));
    }
    Ok(Some(text.to_owned()))
}
