//! All that decides what a caller sees, read from the store for [`proxy::catalog::rules::explain`].

use std::collections::{BTreeMap, HashSet};

use proxy::catalog::rules::explain::{Explained, Scene};
use sql::model::{ApiKey, ApiKeyId, Definition, DefinitionId, Kind, OnToolChange, RuleOwner, Upstream};
use sql::{Tx, api_keys, lists, names, pins, rules, upstreams};

use crate::App;
use crate::error::ApiError;

/// What is stored, as `key` meets it; without one, before the rules of any key.
pub(crate) async fn load(tx: &mut Tx, app: &App, key: Option<ApiKey>) -> Result<Scene, ApiError> {
    let upstreams = upstreams::list(tx).await?;
    let mut claims = Vec::new();
    for kind in Kind::ALL {
        claims.extend(names::claims(tx, *kind).await?);
    }
    // Not those of other keys: there may be a hundred thousand.
    let owners = upstreams.iter().map(|upstream| RuleOwner::Upstream(upstream.id));
    let owners = owners.chain([RuleOwner::All]).chain(key.as_ref().map(|key| RuleOwner::Key(key.id)));
    let mut stored = BTreeMap::new();
    for owner in owners {
        stored.insert(owner, rules::of_owner(tx, owner).await?);
    }
    let definitions = lists::all(tx).await?;
    let held = held(tx, &upstreams, &definitions).await?;
    Ok(Scene { upstreams, definitions, held, claims, rules: stored, length_max: app.name_length_max(), key })
}

/// The definitions that wait for an admin.
async fn held(
    tx: &mut Tx,
    upstreams: &[Upstream],
    definitions: &[Definition],
) -> Result<HashSet<DefinitionId>, ApiError> {
    let holding = |id| {
        let holds = |one: &Upstream| one.id == id && one.on_tool_change == OnToolChange::Hold;
        upstreams.iter().any(holds)
    };
    let mut waiting = pins::under_review(tx, None).await?;
    waiting.retain(|pin| holding(pin.upstream_id));
    let waiting: HashSet<_> =
        waiting.iter().map(|pin| (pin.upstream_id, pin.kind, pin.upstream_name.as_str())).collect();
    let waits =
        |item: &&Definition| waiting.contains(&(item.upstream_id, item.kind, item.upstream_name.as_str()));
    Ok(definitions.iter().filter(waits).map(|item| item.id).collect())
}

/// The key that `?keyId=` names.
pub(crate) async fn key(tx: &mut Tx, id: Option<&str>) -> Result<Option<ApiKey>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    let refused = || ApiError::field("/keyId", "must be the id of a key");
    let id: ApiKeyId = id.parse().map_err(|_| refused())?;
    api_keys::get(tx, id).await?.map(Some).ok_or_else(refused)
}

/// What becomes of every item. For ten thousand items and costly rules that takes a second: on a thread that
/// nobody waits for.
pub(crate) async fn preview(scene: Scene) -> Result<(Scene, Vec<Explained>), ApiError> {
    let explain = move || {
        let explained = proxy::catalog::rules::explain::preview(&scene);
        (scene, explained)
    };
    tokio::task::spawn_blocking(explain).await.map_err(|error| ApiError::internal("explaining rules", error))
}
