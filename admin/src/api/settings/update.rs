//! `PATCH /api/admin/settings`: a merge patch on the version that the client saw.

use axum::extract::State;
use axum::response::Response;
use proxy::catalog::naming::settle as naming;
use sql::settings;

use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin, IfMatch};

/// Change settings
///
/// A merge patch: `null` brings back a default. Takes effect within moments, without a restart.
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
    let after = before.merge_patch(&body.value).map_err(ApiError::Invalid)?;
    if after == before {
        return Ok(super::answer(&before, stored));
    }
    if !settings::save(&mut tx, &after, stored).await? {
        return Err(ApiError::PreconditionFailed);
    }
    // Unless the environment says how long names may be, in which case what is stored has no say.
    let in_force = app.name_length_max() == before.naming.length_max;
    if in_force && after.naming.length_max != before.naming.length_max {
        naming::resettle(&mut tx, naming::Scope::All, after.naming.length_max).await?;
    }
    let diff = audit::diff(Some(&before.document()), Some(&after.document()));
    audit::record(&mut tx, now, &admin, Act::on("settings.update", "settings", "settings", diff)).await?;
    tx.commit().await?;
    Ok(super::answer(&after, stored + 1))
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
}
