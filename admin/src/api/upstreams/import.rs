//! `POST /api/admin/upstreams/import`: the upstreams that a client's own file names.
//!
//! All of the file or nothing: with anything wrong in it nothing is saved, and everything wrong is said.
//! `dryRun` shows what would become of each server, what exactly would run, and what would be sealed.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{RawQuery, State};
use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Serialize;
use sql::model::{FieldError, NewUpstream, Upstream, UpstreamId};
use sql::{Tx, upstreams};
use utoipa::ToSchema;

use super::imported::{Imported, imported};
use super::{input, wire};
use crate::App;
use crate::audit::{self, Act};
use crate::client_files::{self, Language, Server, Unreadable};
use crate::error::{ApiError, ProblemField};
use crate::extract::Admin;
use crate::fields::Problems;

/// Names in the query: as many as a file may have servers, twice.
const PARAMETERS_MAX: usize = 2 * client_files::SERVERS_MAX + 8;

/// What became, or would become, of the servers of a file.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImportReport {
    /// Whether nothing was saved.
    dry_run: bool,
    /// Each server, by name; those of a list in its order.
    items: Vec<ImportedItem>,
}

/// What became of one server.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImportedItem {
    /// Its name in the file, and that of the upstream.
    name: String,
    /// `create`, `replace`, `skip` or `error`.
    #[schema(value_type = String)]
    action: Action,
    /// The upstream, once it is there.
    #[schema(value_type = Option<uuid::Uuid>)]
    id: Option<UpstreamId>,
    /// The exact command, with its environment, or the address; without secrets.
    command: String,
    /// What is sealed, by JSON pointer into the upstream.
    secrets: Vec<String>,
    /// Variables whose values the gateway doesn't have. While there are any the upstream is switched off.
    missing: Vec<String>,
    /// What is not taken over, or otherwise worth knowing.
    warnings: Vec<String>,
    /// What is wrong, by JSON pointer into the file.
    #[schema(value_type = Vec<ProblemField>)]
    errors: Vec<FieldError>,
}

/// What is done with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Create,
    Replace,
    Skip,
    Error,
}

/// What the query asks for.
#[derive(Default)]
struct Wishes {
    dry_run: bool,
    on_conflict: Option<Action>,
    /// Names; all if there are none.
    only: BTreeSet<String>,
    replace: BTreeSet<String>,
}

/// Import upstreams from a client's file
///
/// `mcp.json` of Claude and Cursor (`mcpServers`), VS Code's (`servers`), Codex's TOML (`mcp_servers`), or the
/// registry's `server.json`. Environment values, headers, arguments and parameters that look like credentials
/// are sealed. A server whose name an upstream has is skipped, unless `onConflict` or `replace` says otherwise.
#[utoipa::path(post, path = "/api/admin/upstreams/import", tag = "upstreams",
    params(
        ("dryRun" = Option<bool>, Query, description = "Save nothing"),
        ("onConflict" = Option<String>, Query, description = "What becomes of a server whose name an upstream has: `skip` (if not said), `replace` or `error`"),
        ("only" = Option<Vec<String>>, Query, description = "Only the servers of these names"),
        ("replace" = Option<Vec<String>>, Query, description = "Replace the upstreams of these names"),
    ),
    request_body(content((Object = "application/json"), (String = "application/toml"), (String = "text/plain"))),
    responses((status = 200, body = ImportReport)))]
pub(crate) async fn import(
    admin: Admin,
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ImportReport>, ApiError> {
    let wishes = wishes(query.as_deref().unwrap_or_default())?;
    let servers = client_files::read(&body, language(&headers)?).map_err(|unreadable| match unreadable {
        Unreadable::Syntax(said) => ApiError::Malformed(said),
        Unreadable::Shape(problems) => ApiError::Invalid(problems),
    })?;
    let servers = wished(servers, &wishes)?;
    let mut tx = if wishes.dry_run { app.store.read().await? } else { app.store.begin().await? };
    let stored = upstreams::list(&mut tx).await?;
    let exported = Server::all(&stored);
    let stored_as: Vec<(&Upstream, &Server)> = stored.iter().zip(&exported).collect();
    let planned: Vec<Planned> =
        servers.iter().map(|server| plan(&app, server, &stored_as, &wishes)).collect();
    if wishes.dry_run {
        let items = planned.into_iter().map(|planned| planned.item).collect();
        return Ok(Json(ImportReport { dry_run: true, items }));
    }
    let errors: Vec<FieldError> = planned.iter().flat_map(|planned| planned.errors.iter().cloned()).collect();
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    let last = stored.iter().map(|upstream| upstream.sort_order).max();
    let items = save(&app, &admin, &mut tx, planned, last.map_or(0, |last| last.saturating_add(1))).await?;
    tx.commit().await?;
    Ok(Json(ImportReport { dry_run: false, items }))
}

fn language(headers: &HeaderMap) -> Result<Language, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Language::Json),
        "application/toml" | "text/toml" => Ok(Language::Toml),
        "text/plain" => Ok(Language::Guess),
        _ => Err(ApiError::WrongMediaType),
    }
}

fn wishes(query: &str) -> Result<Wishes, ApiError> {
    let mut wishes = Wishes::default();
    let mut problems = Problems::default();
    for (index, (name, value)) in url::form_urlencoded::parse(query.as_bytes()).enumerate() {
        match (name.as_ref(), value.as_ref()) {
            _ if index >= PARAMETERS_MAX => {
                problems.add("", "has too many parameters");
                break;
            }
            ("dryRun", "true") => wishes.dry_run = true,
            ("dryRun", "false") => wishes.dry_run = false,
            ("dryRun", _) => problems.add("/dryRun", "must be true or false"),
            ("onConflict", "skip") => wishes.on_conflict = Some(Action::Skip),
            ("onConflict", "replace") => wishes.on_conflict = Some(Action::Replace),
            ("onConflict", "error") => wishes.on_conflict = Some(Action::Error),
            ("onConflict", _) => problems.add("/onConflict", "must be skip, replace or error"),
            ("only", name) => drop(wishes.only.insert(name.to_owned())),
            ("replace", name) => drop(wishes.replace.insert(name.to_owned())),
            (name, _) => problems.add(crate::fields::pointer_to("", name), "is not a known parameter"),
        }
    }
    problems.unless_any(Some(wishes))
}

/// The servers that are asked for.
fn wished(servers: Vec<Server>, wishes: &Wishes) -> Result<Vec<Server>, ApiError> {
    let mut problems = Problems::default();
    for (pointer, names) in [("/only", &wishes.only), ("/replace", &wishes.replace)] {
        if names.iter().any(|name| !servers.iter().any(|server| server.name == *name)) {
            problems.add(pointer, "names a server that the file doesn't have");
        }
    }
    let is_wished = |server: &Server| wishes.only.is_empty() || wishes.only.contains(&server.name);
    // What isn't asked for may be called as it likes.
    let servers: Vec<Server> = servers.into_iter().filter(is_wished).collect();
    let mut names = BTreeSet::new();
    for server in &servers {
        if !names.insert(&server.name) {
            problems.add(&server.pointer, "has the name of another server of this file");
        }
    }
    problems.unless_any(Some(()))?;
    Ok(servers)
}

struct Planned {
    item: ImportedItem,
    errors: Vec<FieldError>,
    new: Option<NewUpstream>,
    before: Option<Upstream>,
}

/// What becomes of a server; `stored` has each upstream with how an export would say it.
fn plan(app: &App, server: &Server, stored: &[(&Upstream, &Server)], wishes: &Wishes) -> Planned {
    let found = stored.iter().find(|(upstream, _)| upstream.name == server.name).copied();
    let before = found.map(|(upstream, _)| upstream);
    let wanted = match before {
        None => Action::Create,
        Some(_) if wishes.replace.contains(&server.name) => Action::Replace,
        Some(_) => wishes.on_conflict.unwrap_or(Action::Skip),
    };
    let replaced = before.filter(|_| wanted == Action::Replace);
    let Imported { body, command, secrets, missing, mut warnings, problems: mut errors } = imported(
        server,
        replaced.and(found).and_then(|(upstream, exported)| Some((upstream, exported.reach.as_ref()?))),
    );
    let mut new = None;
    if server.reach.is_some() {
        match input::parse(app, body, replaced) {
            Ok(input) => new = Some(input.new),
            Err(ApiError::Invalid(problems)) => {
                errors.extend(problems.into_iter().map(|problem| in_file(server, problem)));
            }
            Err(error) => errors.push(FieldError::new(&server.pointer, error.to_string())),
        }
    }
    if wanted == Action::Error {
        errors.push(FieldError::new(&server.pointer, "another upstream has this name"));
    }
    let unchanged = match (replaced, &new) {
        (Some(before), Some(new)) => replacement(before, new.clone()) == *before,
        _ => false,
    };
    if unchanged {
        warnings.push("is so already".into());
    }
    // What is skipped can't go wrong.
    if wanted == Action::Skip {
        errors.clear();
    }
    let action = match wanted {
        _ if !errors.is_empty() => Action::Error,
        Action::Replace if unchanged => Action::Skip,
        wanted => wanted,
    };
    let shown = errors.clone();
    let id = before.map(|upstream| upstream.id);
    let name = server.name.clone();
    let item = ImportedItem { name, action, id, command, secrets, missing, warnings, errors: shown };
    Planned { item, errors, new, before: replaced.cloned() }
}

/// A problem of an upstream's body, by pointer into the file.
fn in_file(server: &Server, problem: FieldError) -> FieldError {
    let pointer = match problem.pointer.as_str() {
        "/name" => "",
        "/credential" => "/headers/Authorization",
        pointer => pointer.strip_prefix("/connParams").unwrap_or(pointer),
    };
    FieldError::new(format!("{}{pointer}", server.pointer), problem.message)
}

fn replacement(before: &Upstream, new: NewUpstream) -> Upstream {
    let sort_order = before.sort_order;
    Upstream {
        sort_order,
        version: before.version,
        updated_at: before.updated_at,
        ..Upstream::create(new, before.id, before.created_at)
    }
}

async fn save(
    app: &App,
    admin: &Admin,
    tx: &mut Tx,
    planned: Vec<Planned>,
    mut place: i64,
) -> Result<Vec<ImportedItem>, ApiError> {
    let now = app.store.clock().now();
    let mut items = Vec::with_capacity(planned.len());
    for Planned { mut item, new, before, .. } in planned {
        match (item.action, new, before) {
            (Action::Create, Some(new), _) => {
                let mut upstream = Upstream::create(new, UpstreamId::at(now), now);
                upstream.sort_order = place;
                place = place.saturating_add(1);
                upstreams::insert(tx, &upstream).await.map_err(super::name_taken)?;
                let diff = audit::diff(None, Some(&wire::audited(&upstream, &app.fingerprint)));
                let act = Act::on("upstream.create", upstream.id, upstream.name.as_str(), diff);
                audit::record(tx, now, admin, act).await?;
                item.id = Some(upstream.id);
            }
            (Action::Replace, Some(new), Some(before)) => {
                let after = replacement(&before, new);
                super::save(tx, app, admin, now, "upstream.update", &before, after).await?;
            }
            _ => {}
        }
        items.push(item);
    }
    Ok(items)
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
