//! `PATCH /api/admin/settings`: a merge patch on the version that the client saw.

use axum::extract::State;
use axum::response::Response;
use proxy::catalog::naming::settle as naming;
use serde_json::{Value, json};
use sql::model::FieldError;
use sql::settings;

use super::LOCKED;
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin, IfMatch};

/// Change settings
///
/// A merge patch: `null` brings back a default. Takes effect within moments, without a restart. What the environment
/// fixes can't be changed; what was read may be sent back.
#[utoipa::path(patch, path = "/api/admin/settings", tag = "settings", request_body = Object,
    params(("If-Match" = String, Header)),
    responses((status = 200, body = Object, headers(("ETag" = String)))))]
pub(crate) async fn update(
    admin: Admin,
    State(app): State<App>,
    IfMatch(version): IfMatch,
    body: extract::Json,
) -> Result<Response, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let (before, stored) = super::load(&mut tx).await?;
    if version != stored {
        return Err(ApiError::PreconditionFailed);
    }
    let patch = unlocked(&app, body.value)?;
    let after = before.merge_patch(&patch).map_err(ApiError::Invalid)?;
    if after == before {
        return Ok(super::answer(&app, &before, stored));
    }
    if !settings::save(&mut tx, &after, stored).await? {
        return Err(ApiError::PreconditionFailed);
    }
    // Unless the environment says how long names may be, in which case what is stored has no say.
    let is_locked = super::locked(&app).any(|at| at == ("naming", "length_max"));
    if !is_locked && after.naming.length_max != before.naming.length_max {
        naming::resettle(&mut tx, naming::Scope::All, after.naming.length_max).await?;
    }
    let diff = audit::diff(Some(&before.document()), Some(&after.document()));
    audit::record(&mut tx, now, &admin, Act::on("settings.update", "settings", "settings", diff)).await?;
    tx.commit().await?;
    Ok(super::answer(&app, &after, stored + 1))
}

/// The patch without what the environment fixes, which may be sent back as it was read and not otherwise.
fn unlocked(app: &App, mut patch: Value) -> Result<Value, ApiError> {
    let in_force = app.settings().document();
    let mut problems = Vec::new();
    for (group, key) in super::locked(app) {
        // All of a group but what is fixed.
        if patch.get(group).is_some_and(Value::is_null) {
            let keys = in_force[group].as_object().into_iter().flat_map(|group| group.keys());
            let all = keys.filter(|name| !super::locked(app).any(|at| at == (group, name.as_str())));
            patch[group] = all.map(|name| (name.clone(), Value::Null)).collect();
        }
        let said = patch.get_mut(group).and_then(Value::as_object_mut).and_then(|group| group.remove(key));
        if said.is_some_and(|said| said != in_force[group][key]) {
            let variable = format!("MPG_SETTING__{}__{}", group.to_uppercase(), key.to_uppercase());
            problems.push(FieldError::new(
                format!("/{group}/{key}"),
                format!("is fixed by the environment, in {variable}"),
            ));
        }
    }
    if patch.get(LOCKED).is_some_and(|locked| *locked == json!(app.locked)) {
        patch.as_object_mut().map(|patch| patch.remove(LOCKED));
    }
    if problems.is_empty() { Ok(patch) } else { Err(ApiError::Invalid(problems)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/settings";

    #[tokio::test]
    async fn a_change_needs_its_version_and_keeps_to_the_ranges() {
        let scene = Scene::logged_in().await;
        let body = json!({"auth": {"session_timeout_s": 600}});
        assert_eq!(scene.send("PATCH", PATH, Some(body.clone()), &[]).await.status, 428);
        let first = scene.send("PATCH", PATH, Some(body.clone()), &[("if-match", "\"0\"")]).await;
        assert_eq!((first.status, &first.json["auth"]["session_timeout_s"]), (200, &json!(600)));
        let etag = first.headers["etag"].to_str().unwrap().to_owned();
        assert_eq!(scene.get(PATH).await.headers["etag"], etag.as_str());
        assert_eq!(scene.send("PATCH", PATH, Some(body), &[("if-match", "\"0\"")]).await.status, 412);
        let wrong = json!({"auth": {"session_timeout_s": 1}, "naming": {"surprise": 1}});
        let answer = scene.send("PATCH", PATH, Some(wrong), &[("if-match", &etag)]).await;
        assert_eq!((answer.status, answer.pointers().len()), (422, 2));
        let events = scene.audited("settings.update").await;
        assert_eq!(events[0].diff, json!({"/auth/session_timeout_s": {"before": 3600, "after": 600}}));
    }

    /// What is fixed is not what the rest of its group is brought back to.
    #[tokio::test]
    async fn a_group_is_brought_back_without_what_the_environment_fixes() {
        let scene = Scene::with_fixed_name_length(100).await;
        let mut tx = scene.store.begin().await.unwrap();
        let mut stored = sql::model::Settings::default();
        stored.naming.length_max = 32;
        assert!(sql::settings::save(&mut tx, &stored, 0).await.unwrap());
        tx.commit().await.unwrap();
        let (upstream, name) = (scene.upstream("a").await, "n".repeat(90));
        let id = scene.tool(&upstream, &name).await;
        let answer = scene.send("PATCH", PATH, Some(json!({"naming": null})), &[("if-match", "\"1\"")]).await;
        assert_eq!(
            (answer.status, &answer.json["naming"]["length_max"]),
            (200, &json!(100)),
            "{}",
            answer.json
        );
        let mut tx = scene.store.read().await.unwrap();
        assert_eq!(sql::settings::load(&mut tx).await.unwrap().unwrap().0.naming.length_max, 32);
        assert_eq!(sql::lists::get(&mut tx, id).await.unwrap().unwrap().exposed_name.as_str(), name);
    }

    /// A replica that doesn't know the last change yet makes the next one all the same.
    #[tokio::test]
    async fn names_are_settled_by_what_is_stored() {
        // The settings in force stay as they were.
        let scene = Scene::logged_in().await;
        let id = scene.tool(&scene.upstream("a").await, &"n".repeat(90)).await;
        for (version, length_max) in [("\"0\"", 128), ("\"1\"", 32)] {
            let change = json!({"naming": {"length_max": length_max}});
            let answer = scene.send("PATCH", PATH, Some(change), &[("if-match", version)]).await;
            assert_eq!(answer.status, 200, "{}", answer.json);
            let mut tx = scene.store.read().await.unwrap();
            let settled = sql::lists::get(&mut tx, id).await.unwrap().unwrap().exposed_name;
            assert_eq!(settled.as_str().len(), length_max.min(90));
        }
    }

    #[tokio::test]
    async fn what_the_environment_fixes_may_be_sent_back_and_not_changed() {
        let scene = Scene::with_fixed_mode(sql::model::Mode::Smart).await;
        let mut read = scene.get(PATH).await.json;
        read["naming"]["length_max"] = json!(32);
        let answer = scene.send("PATCH", PATH, Some(read), &[("if-match", "\"0\"")]).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        assert_eq!(answer.json["mcp_api"]["mode"], "smart");
        let mut tx = scene.store.read().await.unwrap();
        let stored = sql::settings::load(&mut tx).await.unwrap().unwrap().0;
        drop(tx);
        assert_eq!(stored.mcp_api.mode, sql::model::Mode::Full, "what is beneath stays");
        let change = json!({"mcp_api": {"mode": "full"}, "locked": ["x"]});
        let answer = scene.send("PATCH", PATH, Some(change), &[("if-match", "\"1\"")]).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/mcp_api/mode".to_owned()]));
        assert!(answer.json.to_string().contains("MPG_SETTING__MCP_API__MODE"));
    }
}
