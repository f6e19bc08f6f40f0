//! `GET /api/admin/audit/export`: the log as a file, streamed as it is read.
//!
//! Pages are read in transactions of their own while the client takes them, so that a slow one holds nothing up.
//! What was written after the export began isn't in it; that there was one, is what the log has next.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sql::audit_log::{self, AuditFilter, Numbered};
use sql::model::{PageRequest, TokenId};
use sql::{Store, StoreError, admin_users};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;

use super::filter::AuditQuery;
use super::wire::{AuditRow, ChainedRow};
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::query::SEARCH_CHARS_MAX;

/// Events of one export: about a gigabyte. More is exported month by month.
const EVENTS_MAX: u64 = 1_000_000;
/// Exports of one replica at once. Each reads as fast as its client takes it.
pub(crate) const EXPORTS_MAX: usize = 4;
/// When one who found no room may come again.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Events that are read at once.
const PAGE: u32 = 500;
/// The columns of a table.
const COLUMNS: &str = "seq,at,actorType,actorId,actorName,address,userAgent,action,targetKind,targetId,targetName,outcome,requestId,diff,hash\r\n";
/// What a spreadsheet takes for the beginning of a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// How the file is to look.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// `jsonl`, one object a line, or `csv`.
    #[param(value_type = Option<String>)]
    format: Option<String>,
    /// Only what holds this text, whatever its case.
    search: Option<String>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Jsonl,
    Csv,
}

/// Export audit events
///
/// The oldest first, each with its number and hash in the chain. At most a million; the filters narrow it.
#[utoipa::path(get, path = "/api/admin/audit/export", tag = "audit", params(ExportQuery, AuditQuery),
    responses((status = 200, content((String = "application/x-ndjson"), (String = "text/csv")))))]
pub(crate) async fn export(
    admin: Admin,
    State(app): State<App>,
    Query(query): Query<ExportQuery>,
    Query(filter): Query<AuditQuery>,
) -> Result<Response, ApiError> {
    let place = Arc::clone(&app.exporting).try_acquire_owned();
    let place = place.map_err(|_| ApiError::RateLimited { retry_after: RETRY_AFTER })?;
    let format = match query.format.as_deref() {
        None | Some("jsonl") => Format::Jsonl,
        Some("csv") => Format::Csv,
        Some(_) => return Err(ApiError::field("/format", "must be one of jsonl, csv")),
    };
    let search = query.search.filter(|search| !search.is_empty());
    if search.as_ref().is_some_and(|search| search.chars().count() > SEARCH_CHARS_MAX) {
        return Err(ApiError::field("/search", format!("must have at most {SEARCH_CHARS_MAX} characters")));
    }
    let asked = json!({"format": format, "search": search, "filter": &filter});
    let filter = filter.parse()?;
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let request = PageRequest { limit: 1, search: search.clone(), ..PageRequest::default() };
    let total = audit_log::page(&mut tx, &request, &filter).await?.total;
    if total > EVENTS_MAX {
        let message = format!("{total} events match, at most {EVENTS_MAX} are exported at once");
        return Err(ApiError::field("/from", message));
    }
    let last = audit_log::extent(&mut tx).await?.head;
    let act = Act::on("audit.export", "audit", "audit", json!({"asked": asked, "events": total}));
    audit::record(&mut tx, now, &admin, act).await?;
    tx.commit().await?;
    let (store, token) = (app.store.clone(), admin.token);
    let reading = Reading { store, token, filter, search, after: 0, last, format, _place: place };
    Ok(answer(reading, &now.to_string()[..10]))
}

fn answer(reading: Reading, date: &str) -> Response {
    let (kind, ending, head) = match reading.format {
        Format::Jsonl => ("application/x-ndjson", "jsonl", ""),
        Format::Csv => ("text/csv; charset=utf-8", "csv", COLUMNS),
    };
    let pages = futures::stream::try_unfold(reading, async |mut reading: Reading| {
        let page = reading.next().await?;
        Ok::<_, BrokenOff>(page.map(|page| (page, reading)))
    });
    let head = futures::stream::iter([Ok(Bytes::from_static(head.as_bytes()))]);
    let name = format!("attachment; filename=\"audit-{date}.{ending}\"");
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, name)];
    (headers, Body::from_stream(futures::StreamExt::chain(head, pages))).into_response()
}

/// How far an export is.
struct Reading {
    store: Store,
    token: TokenId,
    filter: AuditFilter,
    search: Option<String>,
    after: i64,
    last: i64,
    format: Format,
    _place: OwnedSemaphorePermit,
}

/// Why an export breaks off.
#[derive(Debug, thiserror::Error)]
enum BrokenOff {
    #[error("the session is over")]
    SessionOver,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Reading {
    /// The next page as text; none after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, BrokenOff> {
        let mut tx = self.store.read().await?;
        // It may go on for long: whoever has been shut out meanwhile reads no more.
        let row = admin_users::token(&mut tx, self.token).await?;
        if row.is_none_or(|row| row.expires_at <= self.store.clock().now()) {
            return Err(BrokenOff::SessionOver);
        }
        let place = (self.after, self.last);
        let events = audit_log::after(&mut tx, &self.filter, self.search.as_deref(), place, PAGE).await?;
        let Some(last) = events.last() else { return Ok(None) };
        self.after = last.seq;
        let mut text = String::new();
        for event in events {
            let row = chained(event);
            match self.format {
                Format::Jsonl => {
                    text.push_str(&serde_json::to_string(&row).unwrap_or_default());
                    text.push('\n');
                }
                Format::Csv => write_csv(&row, &mut text),
            }
        }
        Ok(Some(Bytes::from(text)))
    }
}

fn chained(numbered: Numbered) -> ChainedRow {
    let mut hash = String::with_capacity(64);
    for byte in numbered.hash {
        let _ = write!(hash, "{byte:02x}");
    }
    ChainedRow { seq: numbered.seq, row: AuditRow::from(numbered.event), hash }
}

fn write_csv(ChainedRow { seq, row, hash }: &ChainedRow, out: &mut String) {
    let address = row.address.map(|address| address.to_string());
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let cells = [
        seq.to_string(),
        row.at.to_string(),
        row.actor.kind.to_owned(),
        text(&row.actor.id),
        text(&row.actor.name),
        text(&address),
        text(&row.user_agent),
        row.action.clone(),
        row.target_kind.clone(),
        text(&row.target_id),
        text(&row.target_name),
        row.outcome.to_string(),
        text(&row.request_id),
        row.diff.to_string(),
        hash.clone(),
    ];
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push('"');
        if cell.starts_with(FORMULA) {
            out.push('\'');
        }
        out.push_str(&cell.replace('"', "\"\""));
        out.push('"');
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use serde_json::{Value, json};

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/audit/export";

    #[tokio::test]
    async fn lines_hold_what_the_list_has_and_the_export_is_told_itself() {
        let scene = Scene::logged_in().await;
        scene.upstream("a").await;
        let answer = scene.get_text(&format!("{PATH}?targetKind=upstream")).await;
        assert_eq!(answer.0, 200);
        let lines: Vec<Value> = answer.1.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["seq"], &lines[0]["action"]), (&json!(3), &json!("upstream.create")));
        assert_eq!(lines[0]["hash"].as_str().unwrap().len(), 64);
        let told = scene.audited("audit.export").await;
        assert_eq!(
            told[0].diff,
            json!({"events": 1,
            "asked": {"format": "jsonl", "search": null, "filter": {"targetKind": "upstream"}}})
        );
        assert_eq!(scene.get(&format!("{PATH}?format=xml")).await.pointers(), ["/format"]);
        assert_eq!(scene.get(&format!("{PATH}?from=x")).await.pointers(), ["/from"]);
        assert_eq!(scene.audited("audit.export").await.len(), 1, "what is refused is none");
    }

    #[tokio::test]
    async fn a_long_log_comes_whole_and_in_order() {
        let scene = Scene::logged_in().await;
        let event = scene.audited("admin.login").await.remove(0);
        let mut tx = scene.store.begin().await.unwrap();
        for _ in 0..1_200 {
            let id = sql::model::AuditEventId::new(&scene.clock);
            let event = sql::model::AuditEvent { id, ..event.clone() };
            sql::audit_log::append(&mut tx, &event).await.unwrap();
        }
        tx.commit().await.unwrap();
        let lines = scene.get_text(PATH).await.1;
        let numbers: Vec<i64> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_i64().unwrap())
            .collect();
        assert_eq!(numbers, (1..=1_202).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn it_breaks_off_with_its_session_and_there_is_room_for_so_many() {
        let scene = Scene::logged_in().await;
        let mut running = Vec::new();
        for _ in 0..super::EXPORTS_MAX {
            let answer = scene.ask("GET", PATH, "", &[]).await;
            assert_eq!(answer.status().as_u16(), 200);
            running.push(answer.into_body().into_data_stream());
        }
        let refused = scene.get(PATH).await;
        assert_eq!((refused.status, &refused.headers["retry-after"]), (429, &"10".parse().unwrap()));
        let mut export = running.pop().unwrap();
        assert_eq!(export.next().await.unwrap().unwrap(), "", "its head");
        let other = scene.get_text(PATH).await;
        assert_eq!(other.0, 429, "as long as it runs");
        drop(running);
        assert_eq!(scene.post("/api/admin/auth/logout", json!({})).await.status, 204);
        assert!(export.next().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_table_is_safe_in_a_spreadsheet() {
        let scene = Scene::logged_in().await;
        let parameters = json!({"url": "https://a.example/mcp"});
        let body = json!({"name": "=1+\"1\"", "transport": "streamable-http", "connParams": parameters});
        assert_eq!(scene.post("/api/admin/upstreams", body).await.status, 201);
        let table = scene.get_text(&format!("{PATH}?format=csv&targetKind=upstream")).await.1;
        assert!(table.starts_with("seq,at,actorType,"), "{table}");
        assert!(table.contains("\"'=1+\"\"1\"\"\""), "{table}");
        assert_eq!(table.matches("\r\n").count(), 2);
    }
}
