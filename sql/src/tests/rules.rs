//! Rules: what is written is read again in order, goes with its owner, and one bad row harms no other.

use uuid::Uuid;

use super::harness::{TestDatabase, on_each_database};
use super::upstreams::http;
use crate::db::cells;
use crate::error::StoreError;
use crate::model::api_key::{ApiKey, PlaintextKey};
use crate::model::ids::{ApiKeyId, RuleId};
use crate::model::page::PageRequest;
use crate::model::rule::{
    AliasRule, DamagedRule, FilterAction, FilterRule, MatchOn, OwnerRules, RuleKind, RuleKinds, RuleOwner,
};
use crate::model::upstream::Upstream;
use crate::{ChangeKind, Entries, Tx, api_keys, changes, rules, upstreams};

fn alias(db: &TestDatabase, owner: RuleOwner, pattern: &str, sort_order: i64) -> AliasRule {
    AliasRule {
        id: RuleId::new(&db.clock),
        owner,
        pattern: pattern.into(),
        is_regex: true,
        match_on: MatchOn::Upstream,
        target_name: Some("读_$1".into()),
        target_description: None,
        enabled: false,
        sort_order,
        kinds: RuleKinds::of([RuleKind::Tool, RuleKind::Resource]).expect("two kinds"),
        version: 1,
        created_at: db.now(),
        updated_at: db.now(),
    }
}

fn filter(db: &TestDatabase, owner: RuleOwner, pattern: &str, sort_order: i64) -> FilterRule {
    FilterRule {
        id: RuleId::new(&db.clock),
        owner,
        pattern: pattern.into(),
        is_regex: false,
        match_on: if matches!(owner, RuleOwner::Key(_)) { MatchOn::Exposed } else { MatchOn::Upstream },
        action: FilterAction::Allow,
        enabled: true,
        sort_order,
        kinds: RuleKinds::ALL,
        version: 1,
        created_at: db.now(),
        updated_at: db.now(),
    }
}

async fn begin_with_owners(db: &TestDatabase) -> (Tx, Upstream, ApiKeyId) {
    let upstream = http(db, "a");
    let key = ApiKey::create(ApiKeyId::new(&db.clock), "k", &PlaintextKey::generate(), db.now());
    let mut tx = db.store.begin().await.expect("begins");
    upstreams::insert(&mut tx, &upstream).await.expect("inserts");
    api_keys::insert(&mut tx, &key).await.expect("inserts");
    tx.commit().await.expect("commits");
    (db.store.begin().await.expect("begins"), upstream, key.id)
}

/// What a commit says it changed.
async fn changed_by(db: &TestDatabase, mut tx: Tx) -> Vec<(ChangeKind, Uuid)> {
    let before = changes::revision(&mut tx).await.expect("reads");
    tx.commit().await.expect("commits");
    let since = changes::since(&mut db.store.read().await.expect("reads"), before).await.expect("reads");
    let Entries::All(entries) = since.entries else { panic!("a gap") };
    entries.into_iter().map(|change| (change.kind, change.id)).collect()
}

on_each_database! {
    async fn what_is_inserted_is_read_again_in_order(db) {
        let (mut tx, upstream, key) = begin_with_owners(db).await;
        let (ours, keys) = (RuleOwner::Upstream(upstream.id), RuleOwner::Key(key));
        let mut aliases = [alias(db, ours, "b", 1), alias(db, ours, "c", 1), alias(db, ours, "a", 0)];
        // Of one place, and made in one moment, they stand as their ids do.
        aliases[..2].sort_by_key(|rule| rule.id);
        for rule in &aliases {
            rules::insert(&mut tx, rule).await.expect("inserts");
        }
        let filters = [filter(db, ours, "x", 0), filter(db, RuleOwner::All, "y", 0), filter(db, keys, "z", 0)];
        for rule in &filters {
            rules::insert(&mut tx, rule).await.expect("inserts");
        }
        let [first, second, third] = aliases;
        let [of_upstream, of_all, of_key] = filters;
        let of = |filter: &FilterRule| OwnerRules { aliases: vec![], filters: vec![filter.clone()] };
        let whole =
            OwnerRules { aliases: vec![third.clone(), first, second], filters: vec![of_upstream.clone()] };
        let loaded = rules::all(&mut tx).await.expect("reads");
        assert_eq!(loaded.damaged, []);
        let found: Vec<_> = loaded.owners.into_iter().collect();
        let expected = [(ours, whole.clone()), (RuleOwner::All, of(&of_all)), (keys, of(&of_key))];
        assert_eq!(found, expected);
        for (owner, expected) in expected {
            assert_eq!(rules::of_owner(&mut tx, owner).await.expect("reads"), expected);
            let by_id = rules::of_owner_id(&mut tx, owner.id()).await.expect("reads");
            assert_eq!(by_id.owners.into_iter().collect::<Vec<_>>(), [(owner, expected)]);
        }
        assert_eq!(rules::get::<AliasRule>(&mut tx, third.id).await.expect("reads"), Some(third.clone()));
        assert_eq!(rules::get::<FilterRule>(&mut tx, third.id).await.expect("reads"), None);
        assert_eq!(rules::count::<AliasRule>(&mut tx, ours).await.expect("counts"), 3);
        assert_eq!(rules::count::<AliasRule>(&mut tx, keys).await.expect("counts"), 0);
        let mut changed = changed_by(db, tx).await;
        changed.sort_unstable();
        let mut owners = [ours, RuleOwner::All, keys].map(|owner| (ChangeKind::Rules, owner.id()));
        owners.sort_unstable();
        assert_eq!(changed, owners);
    }

    async fn an_update_needs_the_version_it_read_and_moves_no_rule(db) {
        let (mut tx, upstream, _) = begin_with_owners(db).await;
        let mut rule = alias(db, RuleOwner::Upstream(upstream.id), "a", 0);
        rules::insert(&mut tx, &rule).await.expect("inserts");
        rule.pattern = "b".into();
        rule.target_name = None;
        rule.target_description = Some("what it does".into());
        assert!(rules::update(&mut tx, &rule, 1).await.expect("updates"));
        assert!(!rules::update(&mut tx, &rule, 1).await.expect("is stale"));
        rule.version = 2;
        assert_eq!(rules::get(&mut tx, rule.id).await.expect("reads"), Some(rule.clone()));
        let moved = AliasRule { owner: RuleOwner::All, ..rule.clone() };
        assert!(rules::update(&mut tx, &moved, 2).await.expect("updates"));
        let read: AliasRule = rules::get(&mut tx, rule.id).await.expect("reads").expect("is there");
        assert_eq!((read.owner, read.version), (rule.owner, 3));
        assert!(rules::delete::<AliasRule>(&mut tx, rule.id).await.expect("deletes"));
        assert!(!rules::delete::<AliasRule>(&mut tx, rule.id).await.expect("is gone"));
    }

    async fn rules_go_with_their_owner_and_their_followers_hear_of_it(db) {
        let (mut tx, upstream, key) = begin_with_owners(db).await;
        let (ours, keys) = (RuleOwner::Upstream(upstream.id), RuleOwner::Key(key));
        for owner in [ours, keys, RuleOwner::All] {
            rules::insert(&mut tx, &alias(db, owner, "a", 0)).await.expect("inserts");
            rules::insert(&mut tx, &filter(db, owner, "a", 0)).await.expect("inserts");
        }
        tx.commit().await.expect("commits");
        let mut tx = db.store.begin().await.expect("begins");
        assert!(upstreams::delete(&mut tx, upstream.id).await.expect("deletes"));
        assert!(api_keys::delete(&mut tx, key).await.expect("deletes"));
        let left: Vec<_> = rules::all(&mut tx).await.expect("reads").owners.into_keys().collect();
        assert_eq!(left, [RuleOwner::All]);
        let changed = changed_by(db, tx).await;
        assert!(changed.contains(&(ChangeKind::Rules, upstream.id.uuid())), "{changed:?}");
        assert!(changed.contains(&(ChangeKind::Rules, key.uuid())), "{changed:?}");
        let mut tx = db.store.begin().await.expect("begins");
        let refused = rules::insert(&mut tx, &filter(db, keys, "a", 0)).await.expect_err("has no owner");
        assert!(matches!(refused, StoreError::Conflict { constraint } if constraint == StoreError::FOREIGN_KEY));
    }

    async fn an_owner_without_rules_goes_without_a_word(db) {
        let (mut tx, _, key) = begin_with_owners(db).await;
        assert!(api_keys::delete(&mut tx, key).await.expect("deletes"));
        assert_eq!(changed_by(db, tx).await, [(ChangeKind::ApiKey, key.uuid())]);
    }

    async fn a_new_order_names_every_rule_of_the_owner_once(db) {
        let (mut tx, upstream, key) = begin_with_owners(db).await;
        let owner = RuleOwner::Upstream(upstream.id);
        let (a, b, other) =
            (filter(db, owner, "a", 0), filter(db, owner, "b", 1), filter(db, RuleOwner::Key(key), "c", 0));
        for rule in [&a, &b, &other] {
            rules::insert(&mut tx, rule).await.expect("inserts");
        }
        for wrong in [vec![], vec![a.id], vec![a.id, a.id], vec![a.id, b.id, other.id]] {
            assert!(!rules::reorder::<FilterRule>(&mut tx, owner, &wrong).await.expect("isn't all of them"));
        }
        assert!(rules::reorder::<FilterRule>(&mut tx, owner, &[b.id, a.id]).await.expect("reorders"));
        let order: Vec<_> = rules::of_owner(&mut tx, owner).await.expect("reads").filters;
        let found: Vec<_> = order.iter().map(|rule| (rule.pattern.as_str(), rule.version)).collect();
        assert_eq!(found, [("b", 2), ("a", 2)]);
    }

    async fn pages_are_of_one_owner_or_of_all(db) {
        let (mut tx, upstream, key) = begin_with_owners(db).await;
        let owners = [RuleOwner::Upstream(upstream.id), RuleOwner::All, RuleOwner::Key(key)];
        for (owner, pattern) in owners.into_iter().zip(["one", "two", "three"]) {
            rules::insert(&mut tx, &filter(db, owner, pattern, 0)).await.expect("inserts");
        }
        let by_pattern = PageRequest { limit: 2, sort: Some("pattern".into()), ..PageRequest::default() };
        let (page, damaged) = rules::page::<FilterRule>(&mut tx, &by_pattern, None).await.expect("reads");
        let patterns: Vec<_> = page.items.iter().map(|rule| rule.pattern.as_str()).collect();
        assert_eq!((patterns, page.total, damaged), (vec!["one", "three"], 3, vec![]));
        for owner in owners {
            let (page, _) =
                rules::page::<FilterRule>(&mut tx, &by_pattern, Some(owner)).await.expect("reads");
            assert_eq!(page.items.iter().map(|rule| rule.owner).collect::<Vec<_>>(), [owner]);
        }
    }

    async fn a_damaged_allow_opens_nothing(db) {
        let (mut tx, _, key) = begin_with_owners(db).await;
        let owner = RuleOwner::Key(key);
        let allow = FilterRule { action: FilterAction::Allow, ..filter(db, owner, "good", 0) };
        rules::insert(&mut tx, &allow).await.expect("inserts");
        let damage = "UPDATE filter_rules SET kinds = 'perhaps' WHERE id = $1";
        tx.execute("filter_rules", damage, cells![allow.id]).await.expect("updates");
        let filters = rules::of_owner(&mut tx, owner).await.expect("reads").filters;
        let stands: Vec<_> = filters.iter().map(|rule| (rule.id, rule.action, &*rule.pattern)).collect();
        assert_eq!(stands, [(allow.id, FilterAction::Allow, "")]);
        let off = "UPDATE filter_rules SET enabled = $2 WHERE id = $1";
        tx.execute("filter_rules", off, cells![allow.id, false]).await.expect("updates");
        assert_eq!(rules::of_owner(&mut tx, owner).await.expect("reads").filters, []);
    }

    async fn a_damaged_row_is_named_and_takes_no_other_with_it(db) {
        let (mut tx, upstream, key) = begin_with_owners(db).await;
        let owner = RuleOwner::Upstream(upstream.id);
        let (good, bad) = (filter(db, owner, "good", 0), filter(db, owner, "bad", 1));
        let lost = filter(db, RuleOwner::Key(key), "lost", 0);
        for rule in [&good, &bad, &lost] {
            rules::insert(&mut tx, rule).await.expect("inserts");
        }
        let sql = "UPDATE filter_rules SET action = 'perhaps' WHERE id = $1";
        tx.execute("filter_rules", sql, cells![bad.id]).await.expect("updates");
        // A rule that lost its key must not become one of all.
        let sql = "UPDATE filter_rules SET key_id = NULL WHERE id = $1";
        tx.execute("filter_rules", sql, cells![lost.id]).await.expect("updates");

        let mut loaded = rules::all(&mut tx).await.expect("reads");
        assert_eq!(loaded.owners.remove(&owner).expect("has one").filters, std::slice::from_ref(&good));
        assert!(loaded.owners.is_empty(), "{:?}", loaded.owners);
        loaded.damaged.sort_by(|a, b| a.column.cmp(&b.column));
        let damage = |rule: &FilterRule, column: &str, owner| DamagedRule {
            table: "filter_rules",
            id: rule.id.to_string(),
            column: column.into(),
            owner,
        };
        let expected = [damage(&bad, "action", Some(owner)), damage(&lost, "owner", None)];
        assert_eq!(loaded.damaged, expected);
        let (page, damaged) =
            rules::page::<FilterRule>(&mut tx, &PageRequest::default(), Some(owner)).await.expect("reads");
        assert_eq!((page.items, page.total, damaged), (vec![good], 2, expected[..1].to_vec()));
        let refused = rules::get::<FilterRule>(&mut tx, bad.id).await.expect_err("is damaged");
        assert!(matches!(refused, StoreError::Corrupt { table: "filter_rules", .. }));
        for rule in [&bad, &lost] {
            assert!(rules::delete::<FilterRule>(&mut tx, rule.id).await.expect("deletes"));
        }
    }
}
