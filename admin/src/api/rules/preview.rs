//! `POST /api/admin/rules/preview`: what becomes of each item by the stored rules, or by a draft of an owner's.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use proxy::catalog::rules::explain::{Explained, Scene};
use serde::Serialize;
use serde_json::Value;
use sql::model::rule::RULES_PER_OWNER_MAX;
use sql::model::{AliasRule, ApiKeyId, FilterRule, OwnerRules, RuleId, RuleKind, RuleOwner, UpstreamId};
use utoipa::ToSchema;

use super::input::{AliasPatch, FilterPatch, Stamp};
use super::noun::Noun;
use super::{OwnerView, input, owner};
use crate::App;
use crate::api::items::scene;
use crate::api::items::steps::{ExplainedView, RuleView, Teller};
use crate::doc;
use crate::error::ApiError;
use crate::extract::{self, Admin};
use crate::fields::{self, Fields, Problems, integer, parsed, text};

/// Items in one answer, if not said otherwise.
const LIMIT_DEFAULT: u32 = 200;

/// Items in one answer: one is a few hundred bytes.
const LIMIT_MAX: u32 = 1_000;

/// What to preview. An empty object shows what is.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct Preview {
    /// Whose rules the draft stands in for. Without one, all rules are the stored ones.
    owner: Option<OwnerView>,
    /// The owner's alias rules as they would be, in order, without `owner`; the stored ones if not said.
    aliases: Option<Vec<AliasPatch>>,
    /// The owner's filter rules as they would be, without `owner`; the stored ones if not said.
    filters: Option<Vec<FilterPatch>>,
    /// The key whose view is meant; that of the draft's owner if it is a key, and else what every key starts from.
    key_id: Option<uuid::Uuid>,
    /// Only items of this upstream.
    upstream_id: Option<uuid::Uuid>,
    /// Only items of this kind.
    #[schema(schema_with = doc::rule_kind)]
    kind: Option<RuleKind>,
    /// Only items whose name, upstream or new name holds this text, whatever its case.
    search: Option<String>,
    /// How many items at most, 1 to 1,000; 200 if not said.
    limit: Option<u32>,
}

/// What becomes of the items.
#[derive(Serialize, ToSchema)]
pub(crate) struct Previewed {
    /// In the order of lists: tools, prompts, resources, templates; as many as were asked for.
    items: Vec<ExplainedView>,
    /// How many items match in all.
    total: usize,
    /// How many of them the caller sees.
    visible: usize,
}

/// Preview rules
#[utoipa::path(post, path = "/api/admin/rules/preview", tag = "rules", request_body = Preview,
    responses((status = 200, body = Previewed)))]
pub(crate) async fn preview(
    _admin: Admin,
    State(app): State<App>,
    body: extract::Json,
) -> Result<Json<Previewed>, ApiError> {
    let ask = parse(body.value)?;
    let mut tx = app.store.read().await?;
    if let Some(draft) = &ask.draft {
        owner::check(&mut tx, draft.owner).await?;
    }
    let key = scene::key(&mut tx, ask.key_id.map(|id| id.to_string()).as_deref()).await?;
    let mut scene = scene::load(&mut tx, &app, key).await?;
    drop(tx);
    let drafted = ask.draft.map(|draft| draft.lay_over(&mut scene)).unwrap_or_default();
    let (scene, explained) = scene::preview(scene).await?;
    let teller = Teller::new(&scene, drafted);
    let matching: Vec<&Explained> =
        explained.iter().filter(|item| ask.wanted.holds(item, teller.upstream(item))).collect();
    let limit = usize::try_from(ask.limit).unwrap_or(usize::MAX);
    Ok(Json(Previewed {
        total: matching.len(),
        visible: matching.iter().filter(|item| item.exposed_name.is_some()).count(),
        items: matching.into_iter().take(limit).map(|item| teller.view(item)).collect(),
    }))
}

struct Ask {
    draft: Option<Draft>,
    key_id: Option<ApiKeyId>,
    wanted: Wanted,
    limit: u32,
}

/// An owner's rules as they would be; a list that isn't there is the stored one.
struct Draft {
    owner: RuleOwner,
    aliases: Option<Vec<AliasRule>>,
    filters: Option<Vec<FilterRule>>,
}

impl Draft {
    /// Puts the draft in the place of what is stored, and says how its rules are called.
    fn lay_over(self, scene: &mut Scene) -> HashMap<RuleId, RuleView> {
        let rules: &mut OwnerRules = scene.rules.entry(self.owner).or_default();
        let mut named = HashMap::new();
        if let Some(aliases) = self.aliases {
            named.extend(aliases.iter().enumerate().map(called));
            rules.aliases = aliases;
        }
        if let Some(filters) = self.filters {
            named.extend(filters.iter().enumerate().map(called));
            rules.filters = filters;
        }
        named
    }
}

fn called<R: Noun>((place, rule): (usize, &R)) -> (RuleId, RuleView) {
    (rule.id(), RuleView { id: None, draft: Some(place), pattern: rule.pattern().to_owned() })
}

/// Which items are shown.
struct Wanted {
    upstream_id: Option<UpstreamId>,
    kind: Option<RuleKind>,
    search: Option<String>,
}

impl Wanted {
    fn holds(&self, item: &Explained, upstream: &str) -> bool {
        self.upstream_id.is_none_or(|id| item.upstream_id == id)
            && self.kind.is_none_or(|kind| RuleKind::from(item.kind) == kind)
            && self.search.as_ref().is_none_or(|search| {
                [Some(&*item.upstream_name), item.exposed_name.as_deref(), Some(upstream)]
                    .into_iter()
                    .flatten()
                    .any(|text| text.to_lowercase().contains(search))
            })
    }
}

fn parse(value: Value) -> Result<Ask, ApiError> {
    let mut problems = Problems::default();
    let ask = read(value, &mut problems);
    problems.unless_any(ask)
}

fn read(value: Value, problems: &mut Problems) -> Option<Ask> {
    let mut fields = Fields::open(value, "", problems)?;
    let draft = draft(&mut fields, problems);
    let key_id = fields.optional("keyId", problems, |id| {
        parsed::<ApiKeyId>(id).map_err(|_| "must be the id of a key".into())
    });
    let of_draft = match draft.as_ref().map(|draft| draft.owner) {
        Some(RuleOwner::Key(id)) => Some(id),
        _ => None,
    };
    let ask = Ask {
        draft,
        key_id: key_id.or(of_draft),
        wanted: Wanted {
            upstream_id: fields.optional("upstreamId", problems, |id| {
                parsed(id).map_err(|_| "must be the id of an upstream".into())
            }),
            kind: fields.optional("kind", problems, parsed),
            search: fields.optional("search", problems, text(0..=200)).map(|text| text.to_lowercase()),
        },
        limit: fields.optional("limit", problems, integer(1..=LIMIT_MAX)).unwrap_or(LIMIT_DEFAULT),
    };
    fields.close(problems);
    Some(ask)
}

/// The draft, if there is one.
fn draft(fields: &mut Fields, problems: &mut Problems) -> Option<Draft> {
    let (aliases, filters) = (fields.take("aliases"), fields.take("filters"));
    let owner = if let Some(owner) = fields.take("owner") {
        // Read as a member of its own object, so that its pointers are those of the body.
        let body = Value::Object([("owner".to_owned(), owner)].into_iter().collect());
        owner::read(&mut Fields::open(body, "", problems)?, problems)
    } else if aliases.is_some() || filters.is_some() {
        problems.add("/owner", "is required with a draft");
        None
    } else {
        return None;
    };
    // With the owner of nobody the rules can still be read, to say what else is wrong.
    let stand_in = owner.unwrap_or(RuleOwner::All);
    let aliases = aliases.map(|value| rules(value, "/aliases", stand_in, problems));
    let filters = filters.map(|value| rules(value, "/filters", stand_in, problems));
    Some(Draft { owner: owner?, aliases: aliases.flatten(), filters: filters.flatten() })
}

/// The rules of a list, in its order; of an owner that stands beside it.
fn rules<R: Noun>(value: Value, pointer: &str, owner: RuleOwner, problems: &mut Problems) -> Option<Vec<R>> {
    let mut place = 0;
    fields::list(value, pointer, RULES_PER_OWNER_MAX, problems, |mut value, at, problems| {
        if let Value::Object(members) = &mut value {
            members.insert("owner".into(), owner::settable(owner));
        }
        let now = sql::model::Timestamp::from_millis(0);
        let (rule, _) = input::read::<R>(value, at, Stamp::new(RuleId::at(now), now), problems)?;
        place += 1;
        Some(rule.placed(place))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Answer, Scene};

    const PATH: &str = "/api/admin/rules/preview";

    fn named(answer: &Answer) -> Vec<(&str, Option<&str>)> {
        assert_eq!(answer.status, 200, "{}", answer.json);
        let items = answer.json["items"].as_array().unwrap().iter();
        items.map(|item| (item["name"].as_str().unwrap(), item["exposedName"].as_str())).collect()
    }

    #[tokio::test]
    async fn a_draft_shows_what_saving_it_would_do_and_saves_nothing() {
        let scene = Scene::logged_in().await;
        let upstream = scene.upstream("a").await;
        for tool in ["get_a", "get_b", "delete_a"] {
            scene.tool(&upstream, tool).await;
        }
        let owner = json!({"type": "upstream", "id": upstream});
        let draft = json!({
            "owner": owner,
            "aliases": [
                {"pattern": "get_b", "enabled": false, "targetName": "never"},
                {"pattern": "get_(.*)", "isRegex": true, "targetName": "read_$1"},
            ],
            "filters": [{"pattern": "delete_.*", "isRegex": true, "action": "deny"}],
        });
        let answer = scene.post(PATH, draft.clone()).await;
        assert_eq!(
            named(&answer),
            [("get_a", Some("read_a")), ("get_b", Some("read_b")), ("delete_a", None)]
        );
        assert_eq!((&answer.json["total"], &answer.json["visible"]), (&json!(3), &json!(2)));
        let steps = &answer.json["items"][2]["steps"];
        assert_eq!(
            (&steps[0]["step"], &steps[0]["rule"]["draft"], &steps[0]["owner"]),
            (&json!("denied"), &json!(0), &owner)
        );
        assert_eq!(answer.json["items"][0]["steps"][0]["rule"]["draft"], 1);
        let stored = scene.post(PATH, json!({"search": "GET", "limit": 1})).await;
        assert_eq!((named(&stored), &stored.json["total"]), (vec![("get_a", Some("get_a"))], &json!(2)));

        // What was shown is what comes.
        for (noun, key) in [("aliases", "aliases"), ("filters", "filters")] {
            for rule in draft[key].as_array().unwrap() {
                let mut rule: Value = rule.clone();
                rule["owner"] = owner.clone();
                assert_eq!(scene.post(&format!("/api/admin/rules/{noun}"), rule).await.status, 201);
            }
        }
        let saved = scene.post(PATH, json!({})).await;
        assert_eq!(named(&saved), named(&answer));
        let tools = scene.get("/api/admin/tools?search=read").await;
        assert_eq!(tools.json["total"], 2);
        // An empty draft shows what it would be without them.
        let none = scene.post(PATH, json!({"owner": owner, "aliases": [], "filters": []})).await;
        assert_eq!(named(&none)[2], ("delete_a", Some("delete_a")));
    }

    #[tokio::test]
    async fn a_draft_of_a_key_shows_that_keys_view() {
        let scene = Scene::logged_in().await;
        let (upstream, (key, _)) = (scene.upstream("a").await, scene.key("k").await);
        scene.tool(&upstream, "get_a").await;
        let draft = json!({
            "owner": {"type": "key", "id": key},
            "filters": [{"pattern": "get_.*", "isRegex": true, "action": "deny", "matchOn": "exposed"}],
        });
        assert_eq!(named(&scene.post(PATH, draft).await), [("get_a", None)]);
        assert_eq!(named(&scene.post(PATH, json!({"keyId": key})).await), [("get_a", Some("get_a"))]);
        assert_eq!(scene.post(PATH, json!({"kind": "prompt"})).await.json["total"], 0);
    }

    #[tokio::test]
    async fn everything_wrong_is_said_at_once() {
        let scene = Scene::logged_in().await;
        let body = json!({
            "aliases": [{"pattern": "("  , "isRegex": true}],
            "filters": [{"pattern": "a"}],
            "kind": "server",
            "limit": 0,
            "x": 1,
        });
        let answer = scene.post(PATH, body).await;
        let expected = ["/owner", "/aliases/0/pattern", "/filters/0/action", "/kind", "/limit", "/x"];
        assert_eq!((answer.status, answer.pointers()), (422, expected.map(str::to_owned).to_vec()));
        let owner = json!({"type": "key", "id": uuid::Uuid::nil()});
        assert_eq!(scene.post(PATH, json!({"owner": owner})).await.pointers(), ["/owner/id"]);
        assert_eq!(scene.post(PATH, json!({"keyId": uuid::Uuid::nil()})).await.pointers(), ["/keyId"]);
    }
}
