//! `POST /api/admin/rules/aliases` and `/filters`: a new rule.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use sql::model::rule::RULES_PER_OWNER_MAX;
use sql::model::{AliasRule, FilterRule, RuleId};
use sql::{StoreError, rules};

use super::input::{self, AliasBody, FilterBody, Stamp};
use super::noun::Noun;
use super::owner;
use super::wire::{AliasView, FilterView};
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin, etag};
use crate::idempotency::Created;

/// Create an alias rule
///
/// Items that it matches have their new name at once, for every caller if the rule is an upstream's or of
/// all, and in one key's view if it is that key's.
#[utoipa::path(post, path = "/api/admin/rules/aliases", tag = "rules", request_body = AliasBody,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = AliasView, headers(("Location" = String), ("ETag" = String)))))]
pub(crate) async fn create_alias(
    admin: Admin,
    State(app): State<App>,
    headers: HeaderMap,
    body: extract::Json,
) -> Result<Response, ApiError> {
    create::<AliasRule>(&app, &admin, &headers, body).await
}

/// Create a filter rule
#[utoipa::path(post, path = "/api/admin/rules/filters", tag = "rules", request_body = FilterBody,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = FilterView, headers(("Location" = String), ("ETag" = String)))))]
pub(crate) async fn create_filter(
    admin: Admin,
    State(app): State<App>,
    headers: HeaderMap,
    body: extract::Json,
) -> Result<Response, ApiError> {
    create::<FilterRule>(&app, &admin, &headers, body).await
}

async fn create<R: Noun>(
    app: &App,
    admin: &Admin,
    headers: &HeaderMap,
    body: extract::Json,
) -> Result<Response, ApiError> {
    let now = app.store.clock().now();
    let (rule, placed) = input::parse::<R>(body.value, Stamp::new(RuleId::at(now), now))?;
    app.idempotency.once(admin.id, R::CREATE, headers, &body.bytes, act(app, admin, rule, placed)).await
}

async fn act<R: Noun>(app: &App, admin: &Admin, mut rule: R, placed: bool) -> Created {
    let now = app.store.clock().now();
    let owner = rule.owner();
    let mut tx = app.store.begin().await?;
    owner::check(&mut tx, owner).await?;
    if !placed {
        let stored = rules::of_owner(&mut tx, owner).await?;
        let last = R::of(&stored).last().map(Noun::sort_order);
        rule = rule.placed(last.map_or(0, |last| last.saturating_add(1)));
    }
    rules::insert(&mut tx, &rule).await.map_err(owner_gone)?;
    super::settle_names::<R>(&mut tx, app, owner).await?;
    let diff = audit::diff(None, Some(&rule.settable()));
    audit::record(&mut tx, now, admin, Act::on(R::CREATE, rule.id(), rule.pattern(), diff)).await?;
    // Last: who writes to the audit log waits for whoever does already, so two at once can't both be the last.
    if rules::count::<R>(&mut tx, owner).await? > RULES_PER_OWNER_MAX {
        return Err(ApiError::field("/owner", format!("has {RULES_PER_OWNER_MAX} such rules already")));
    }
    let location = format!("{}/{}", R::PATH, rule.id());
    let mut response =
        (StatusCode::CREATED, [(header::LOCATION, location)], Json(rule.view())).into_response();
    response.headers_mut().insert(header::ETAG, etag(rule.version()));
    Ok((tx, response))
}

/// The one thing of a rule that can clash is its owner, who may have gone meanwhile.
fn owner_gone(error: StoreError) -> ApiError {
    match error {
        StoreError::Conflict { .. } => ApiError::field("/owner/id", "is gone"),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use crate::testing::Scene;

    const ALIASES: &str = "/api/admin/rules/aliases";
    const FILTERS: &str = "/api/admin/rules/filters";

    #[tokio::test]
    async fn a_rule_of_each_owner_is_kept_as_it_was_written() {
        let scene = Scene::logged_in().await;
        let (upstream, (key, _)) = (scene.upstream("a").await, scene.key("k").await);
        for owner in [json!({"type": "upstream", "id": upstream}), json!({"type": "all"})] {
            let body = json!({
                "owner": owner, "pattern": "get_(.*)", "isRegex": true, "targetName": "read_$1",
                "targetDescription": "Reads.\nNothing else.", "enabled": false, "sortOrder": 7, "kinds": ["tool"],
            });
            let created = scene.post(ALIASES, body.clone()).await;
            assert_eq!(created.status, 201, "{}", created.json);
            let path = created.headers["location"].to_str().unwrap().to_owned();
            let read = scene.get(&path).await;
            assert_eq!(
                (read.status, &read.json, &read.headers["etag"]),
                (200, &created.json, &created.headers["etag"])
            );
            for (name, said) in body.as_object().unwrap() {
                assert_eq!(&read.json[name], said, "{name}");
            }
            assert_eq!(read.json["matchOn"], "upstream");
        }
        let owner = json!({"type": "key", "id": key});
        let body = json!({"owner": owner, "pattern": "delete_x", "action": "deny", "matchOn": "exposed"});
        let created = scene.post(FILTERS, body).await;
        assert_eq!(created.status, 201, "{}", created.json);
        assert_eq!(created.json["kinds"], json!(["tool", "prompt", "resource"]));
        assert_eq!(created.json["owner"], owner);
        assert_eq!(scene.audited("alias_rule.create").await.len(), 2);
        assert_eq!(scene.audited("filter_rule.create").await[0].target_name.as_deref(), Some("delete_x"));
    }

    #[tokio::test]
    async fn without_a_place_a_rule_is_the_last() {
        let scene = Scene::logged_in().await;
        let mut places = Vec::new();
        for place in [json!(null), json!(5), json!(null)] {
            let body =
                json!({"owner": {"type": "all"}, "pattern": "a", "action": "allow", "sortOrder": place});
            places.push(scene.post(FILTERS, body).await.json["sortOrder"].clone());
        }
        assert_eq!(places, [0, 5, 6]);
    }

    #[tokio::test]
    async fn everything_wrong_is_said_at_once() {
        let scene = Scene::logged_in().await;
        let body = json!({
            "owner": {"type": "all", "id": "x"},
            "pattern": "(a",
            "isRegex": true,
            "matchOn": "exposed",
            "targetName": "",
            "targetDescription": "\u{7}",
            "enabled": 1,
            "sortOrder": "first",
            "kinds": ["tool", "server"],
            "action": "deny",
        });
        let answer = scene.post(ALIASES, body).await;
        let expected = [
            "/owner/id",
            "/pattern",
            "/matchOn",
            "/enabled",
            "/sortOrder",
            "/kinds/1",
            "/targetName",
            "/targetDescription",
            "/action",
        ];
        assert_eq!((answer.status, answer.pointers()), (422, expected.map(str::to_owned).to_vec()));
        let answer = scene.post(FILTERS, json!({"owner": {"type": "server"}, "kinds": []})).await;
        assert_eq!(answer.pointers(), ["/owner/type", "/pattern", "/kinds", "/action"]);
    }

    #[tokio::test]
    async fn a_target_refers_to_groups_that_its_pattern_has() {
        let scene = Scene::logged_in().await;
        let with = |pattern: &str, target: &str| json!({"owner": {"type": "all"}, "pattern": pattern, "isRegex": true, "targetName": target});
        assert_eq!(scene.post(ALIASES, with("a(.*)", "b$2")).await.pointers(), ["/targetName"]);
        assert_eq!(scene.post(ALIASES, with("a(?P<rest>.*)", "b${rest}_$1")).await.status, 201);
    }

    #[tokio::test]
    async fn an_owner_must_exist() {
        let scene = Scene::logged_in().await;
        for kind in ["upstream", "key"] {
            let owner = json!({"type": kind, "id": uuid::Uuid::nil()});
            let answer = scene.post(FILTERS, json!({"owner": owner, "pattern": "a", "action": "deny"})).await;
            assert_eq!((answer.status, answer.pointers()), (422, vec!["/owner/id".to_owned()]), "{kind}");
        }
    }

    /// T32.
    #[tokio::test]
    async fn a_pattern_that_would_cost_too_much_is_refused_at_once() {
        let scene = Scene::logged_in().await;
        let long = "a".repeat(1_025);
        for pattern in ["(((a{100}){100}){100})", long.as_str(), "a)|(b", r"(a)\1", "*"] {
            let body =
                json!({"owner": {"type": "all"}, "pattern": pattern, "isRegex": true, "action": "deny"});
            // The quickest of three, since a test may be made to wait by others.
            let mut quickest = Duration::MAX;
            for _ in 0..3 {
                let started = Instant::now();
                let answer = scene.post(FILTERS, body.clone()).await;
                quickest = quickest.min(started.elapsed());
                assert_eq!(
                    (answer.status, answer.pointers()),
                    (422, vec!["/pattern".to_owned()]),
                    "{pattern}"
                );
            }
            assert!(quickest < Duration::from_millis(50), "{pattern}: {quickest:?}");
        }
    }

    #[tokio::test]
    async fn an_owner_has_so_many_rules_and_no_more() {
        let scene = Scene::logged_in().await;
        let body =
            |at: usize| json!({"owner": {"type": "all"}, "pattern": format!("p{at}"), "action": "deny"});
        for at in 0..200 {
            assert_eq!(scene.post(FILTERS, body(at)).await.status, 201);
        }
        let answer = scene.post(FILTERS, body(200)).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/owner".to_owned()]));
        assert_eq!(scene.get(FILTERS).await.json["total"], 200);
        // Of the other kind it has none yet.
        let alias = json!({"owner": {"type": "all"}, "pattern": "a", "targetName": "b"});
        assert_eq!(scene.post(ALIASES, alias).await.status, 201);
    }

    #[tokio::test]
    async fn the_same_request_again_makes_no_second_rule() {
        let scene = Scene::logged_in().await;
        let body: Value = json!({"owner": {"type": "all"}, "pattern": "a", "action": "deny"});
        let key = [("idempotency-key", "one")];
        let first = scene.send("POST", FILTERS, Some(body.clone()), &key).await;
        let again = scene.send("POST", FILTERS, Some(body), &key).await;
        assert_eq!((first.status, &first.json), (201, &again.json));
        assert_eq!(scene.get(FILTERS).await.json["total"], 1);
    }

    #[tokio::test]
    async fn an_alias_of_an_upstream_renames_what_is_stored() {
        let scene = Scene::logged_in().await;
        let (upstream, (key, _)) = (scene.upstream("a").await, scene.key("k").await);
        let id = scene.tool(&upstream, "get_time").await;
        let path = format!("/api/admin/tools/{id}");
        let named = async || scene.get(&path).await.json["item"]["exposedName"].clone();
        let alias = |owner: Value, target: &str| json!({"owner": owner, "pattern": "get_(.*)", "isRegex": true, "targetName": target});
        // A key's counts in its own view alone.
        scene.post(ALIASES, alias(json!({"type": "key", "id": key}), "mine_$1")).await;
        assert_eq!(named().await, "get_time");
        let of_all = scene.post(ALIASES, alias(json!({"type": "all"}), "all_$1")).await;
        assert_eq!(named().await, "all_time");
        scene.post(ALIASES, alias(json!({"type": "upstream", "id": upstream}), "own_$1")).await;
        assert_eq!(named().await, "own_time", "what is said of one upstream goes first");
        assert_eq!(scene.delete(of_all.headers["location"].to_str().unwrap()).await.status, 204);
        assert_eq!(named().await, "own_time");
    }
}
