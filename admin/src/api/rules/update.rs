//! `PATCH /api/admin/rules/aliases/{id}` and `/filters/{id}`: a merge patch on the version that the client saw.

use axum::extract::State;
use axum::response::Response;
use sql::model::{AliasRule, FilterRule, RuleId};
use sql::rules;

use super::input::{self, AliasPatch, FilterPatch, Stamp};
use super::noun::Noun;
use super::wire::{AliasView, FilterView};
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin, Id, IfMatch};

/// Change an alias rule
///
/// A merge patch (RFC 7396): absent fields stay, `null` brings back the default.
#[utoipa::path(patch, path = "/api/admin/rules/aliases/{id}", tag = "rules",
    params(("id" = uuid::Uuid, Path), ("If-Match" = String, Header)), request_body = AliasPatch,
    responses((status = 200, body = AliasView, headers(("ETag" = String)))))]
pub(crate) async fn update_alias(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<RuleId>,
    version: Result<IfMatch, ApiError>,
    body: extract::Json,
) -> Result<Response, ApiError> {
    update::<AliasRule>(&app, &admin, id, version, body).await
}

/// Change a filter rule
///
/// A merge patch (RFC 7396): absent fields stay, `null` brings back the default.
#[utoipa::path(patch, path = "/api/admin/rules/filters/{id}", tag = "rules",
    params(("id" = uuid::Uuid, Path), ("If-Match" = String, Header)), request_body = FilterPatch,
    responses((status = 200, body = FilterView, headers(("ETag" = String)))))]
pub(crate) async fn update_filter(
    admin: Admin,
    State(app): State<App>,
    Id(id): Id<RuleId>,
    version: Result<IfMatch, ApiError>,
    body: extract::Json,
) -> Result<Response, ApiError> {
    update::<FilterRule>(&app, &admin, id, version, body).await
}

async fn update<R: Noun>(
    app: &App,
    admin: &Admin,
    id: RuleId,
    version: Result<IfMatch, ApiError>,
    body: extract::Json,
) -> Result<Response, ApiError> {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    // First: of what doesn't exist no version can be stated.
    let before = super::find::<R>(&mut tx, id).await?;
    if version?.0 != before.version() {
        return Err(ApiError::PreconditionFailed);
    }
    let after = input::parse_patch(body.value, &before)?;
    if after == before {
        return Ok(super::answer(&before));
    }
    let stamp = Stamp { version: before.version() + 1, updated_at: now, ..before.stamp() };
    let after = after.stamped(stamp);
    if !rules::update(&mut tx, &after, before.version()).await? {
        return Err(ApiError::PreconditionFailed);
    }
    super::settle_names::<R>(&mut tx, app, after.owner()).await?;
    let diff = audit::diff(Some(&before.settable()), Some(&after.settable()));
    audit::record(&mut tx, now, admin, Act::on(R::UPDATE, id, after.pattern(), diff)).await?;
    tx.commit().await?;
    Ok(super::answer(&after))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Answer, Scene};

    async fn patch(scene: &Scene, path: &str, etag: &str, body: Value) -> Answer {
        scene.send("PATCH", path, Some(body), &[("if-match", etag)]).await
    }

    #[tokio::test]
    async fn a_change_needs_the_version_it_is_based_on() {
        let scene = Scene::logged_in().await;
        let body = json!({"owner": {"type": "all"}, "pattern": "a(.)", "isRegex": true, "targetName": "b$1"});
        let created = scene.post("/api/admin/rules/aliases", body).await;
        let path = created.headers["location"].to_str().unwrap().to_owned();
        assert_eq!(scene.send("PATCH", &path, Some(json!({})), &[]).await.status, 428);
        assert_eq!(patch(&scene, &path, "\"7\"", json!({})).await.status, 412);
        let first = patch(&scene, &path, "\"1\"", json!({"enabled": false, "targetName": null})).await;
        assert_eq!((first.status, first.headers["etag"].to_str().unwrap()), (200, "\"2\""));
        assert_eq!((&first.json["enabled"], &first.json["targetName"]), (&json!(false), &json!(null)));
        assert_eq!(first.json["pattern"], "a(.)");
        // What changes nothing writes nothing.
        let same = patch(&scene, &path, "\"2\"", json!({"enabled": false})).await;
        assert_eq!((same.status, &same.json["version"]), (200, &json!(2)));
        assert_eq!(scene.audited("alias_rule.update").await.len(), 1);
    }

    #[tokio::test]
    async fn a_change_is_checked_as_a_whole_and_a_rule_stays_its_owners() {
        let scene = Scene::logged_in().await;
        let (upstream, (key, _)) = (scene.upstream("a").await, scene.key("k").await);
        let body = json!({"owner": {"type": "upstream", "id": upstream}, "pattern": "a", "action": "deny"});
        let created = scene.post("/api/admin/rules/filters", body).await;
        let path = created.headers["location"].to_str().unwrap().to_owned();
        for (body, pointers) in [
            (json!({"owner": {"type": "key", "id": key}}), vec!["/owner"]),
            (json!({"matchOn": "exposed"}), vec!["/matchOn"]),
            (json!({"pattern": "(", "isRegex": true, "action": null}), vec!["/pattern", "/action"]),
            (json!([]), vec![""]),
        ] {
            let answer = patch(&scene, &path, "\"1\"", body).await;
            assert_eq!(
                (answer.status, answer.pointers()),
                (422, pointers.into_iter().map(str::to_owned).collect())
            );
        }
    }
}
