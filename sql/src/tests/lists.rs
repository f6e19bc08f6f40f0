//! Lists and names: diffs, states, switches, claims.

use bytes::Bytes;
use ring::digest::{SHA256, digest};

use super::harness::{TestDatabase, on_each_database};
use super::upstreams::http;
use crate::error::StoreError;
use crate::model::definition::{Claim, Definition, Finding, Kind, ListDiff, ListState, NAME_BYTES_MAX};
use crate::model::ids::{DefinitionId, UpstreamId};
use crate::model::upstream::Upstream;
use crate::{Tx, changes, lists, names, upstreams};

fn tool(db: &TestDatabase, upstream: &Upstream, name: &str, position: i64) -> Definition {
    let body = Bytes::from(format!("{{ \"name\":\"{name}\", \"x\": 1.0 }}"));
    Definition {
        id: DefinitionId::new(&db.clock),
        upstream_id: upstream.id,
        kind: Kind::Tool,
        upstream_name: name.into(),
        exposed_name: format!("x_{name}"),
        hash: digest(&SHA256, &body).as_ref().try_into().expect("32 bytes"),
        body,
        position,
        enabled: true,
        sort_order: None,
        first_seen_at: db.now(),
        changed_at: db.now(),
    }
}

fn state(db: &TestDatabase, upstream: &Upstream) -> ListState {
    ListState {
        upstream_id: upstream.id,
        kind: Kind::Tool,
        synced_at: db.now(),
        ttl_ms: Some(5_000),
        cache_scope_public: false,
        findings: Vec::new(),
    }
}

fn adding(upstream: &Upstream, added: Vec<Definition>) -> ListDiff {
    ListDiff { added, ..ListDiff::none(upstream.id, Kind::Tool) }
}

async fn begin_with_upstream(db: &TestDatabase) -> (Tx, Upstream) {
    let upstream = http(db, "a");
    let mut tx = db.store.begin().await.expect("begins");
    upstreams::insert(&mut tx, &upstream).await.expect("inserts");
    tx.commit().await.expect("commits");
    (db.store.begin().await.expect("begins"), upstream)
}

/// An upstream with tools of these names.
pub(super) async fn with_tools(db: &TestDatabase, names: &[&str]) -> (UpstreamId, Vec<Definition>) {
    let (mut tx, upstream) = begin_with_upstream(db).await;
    let tools: Vec<_> = (0..).zip(names).map(|(at, name)| tool(db, &upstream, name, at)).collect();
    lists::apply(&mut tx, &adding(&upstream, tools.clone()), &state(db, &upstream)).await.expect("applies");
    tx.commit().await.expect("commits");
    (upstream.id, tools)
}

async fn revision_after(db: &TestDatabase, tx: Tx) -> i64 {
    tx.commit().await.expect("commits");
    changes::revision(&mut db.store.read().await.expect("reads")).await.expect("reads")
}

on_each_database! {
    async fn a_diff_is_applied_whole(db) {
        let (mut tx, upstream) = begin_with_upstream(db).await;
        // More than one INSERT's worth, so that both statements are used.
        let mut tools: Vec<_> = (0..120).map(|at| tool(db, &upstream, &format!("t{at}"), at)).collect();
        let diff = adding(&upstream, tools.clone());
        lists::apply(&mut tx, &diff, &state(db, &upstream)).await.expect("applies");
        assert_eq!(lists::of_upstream(&mut tx, upstream.id, Kind::Tool).await.expect("reads"), tools);
        assert_eq!(lists::of_upstream(&mut tx, upstream.id, Kind::Prompt).await.expect("reads"), []);

        let gone = tools.remove(0);
        // One that takes the name of the one that went, one that changed its body, and the last comes first.
        let mut renamed = tools[0].clone();
        renamed.upstream_name.clone_from(&gone.upstream_name);
        renamed.body = Bytes::from_static(b"{}");
        let last = tools.last_mut().expect("there are many");
        last.position = -1;
        let diff = ListDiff {
            changed: vec![renamed.clone()],
            removed: vec![gone.id],
            moved: vec![(last.id, -1)],
            ..adding(&upstream, vec![tool(db, &upstream, "new", 500)])
        };
        lists::apply(&mut tx, &diff, &state(db, &upstream)).await.expect("applies");
        tools[0] = renamed;
        tools.extend(diff.added);
        tools.sort_by_key(|tool| tool.position);
        assert_eq!(lists::all(&mut tx).await.expect("reads"), tools);
        assert_eq!(lists::get(&mut tx, tools[5].id).await.expect("reads").as_ref(), Some(&tools[5]));
        assert_eq!(lists::get(&mut tx, gone.id).await.expect("reads"), None);
    }

    async fn a_sync_leaves_the_admins_switches_alone(db) {
        let (mut tx, upstream) = begin_with_upstream(db).await;
        let mut tool = tool(db, &upstream, "t", 0);
        lists::apply(&mut tx, &adding(&upstream, vec![tool.clone()]), &state(db, &upstream)).await.expect("applies");
        assert!(lists::set_enabled(&mut tx, tool.id, false).await.expect("switches"));
        assert!(lists::set_sort_order(&mut tx, tool.id, Some(9)).await.expect("orders"));
        assert!(!lists::set_enabled(&mut tx, DefinitionId::new(&db.clock), false).await.expect("isn't there"));
        tool.body = Bytes::from_static(b"{}");
        let diff = ListDiff { changed: vec![tool.clone()], ..ListDiff::none(upstream.id, Kind::Tool) };
        lists::apply(&mut tx, &diff, &state(db, &upstream)).await.expect("applies");
        tool.enabled = false;
        tool.sort_order = Some(9);
        assert_eq!(lists::all(&mut tx).await.expect("reads"), [tool.clone()]);
        assert!(lists::set_sort_order(&mut tx, tool.id, None).await.expect("takes it away"));
    }

    async fn a_list_that_is_the_same_does_not_bump_the_revision(db) {
        let (mut tx, upstream) = begin_with_upstream(db).await;
        let none = ListDiff::none(upstream.id, Kind::Tool);
        let mut state = state(db, &upstream);
        lists::apply(&mut tx, &none, &state).await.expect("applies");
        let first = revision_after(db, tx).await;

        state.synced_at = state.synced_at.plus(std::time::Duration::from_secs(9));
        let mut tx = db.store.begin().await.expect("begins");
        lists::apply(&mut tx, &none, &state).await.expect("applies");
        assert_eq!(lists::states(&mut tx).await.expect("reads"), [state.clone()]);
        assert_eq!(revision_after(db, tx).await, first);

        let finding = Finding { kind: Kind::Tool, upstream_name: "a\0b".into(), code: "name".into(), message: "é".into() };
        state.findings.push(finding);
        let mut tx = db.store.begin().await.expect("begins");
        lists::apply(&mut tx, &none, &state).await.expect("applies");
        assert_eq!(lists::states_of(&mut tx, upstream.id).await.expect("reads"), [state]);
        assert_eq!(revision_after(db, tx).await, first + 1);
    }

    async fn lists_go_with_their_upstream_and_none_comes_after(db) {
        let (mut tx, upstream) = begin_with_upstream(db).await;
        let diff = adding(&upstream, vec![tool(db, &upstream, "t", 0)]);
        lists::apply(&mut tx, &diff, &state(db, &upstream)).await.expect("applies");
        upstreams::delete(&mut tx, upstream.id).await.expect("deletes");
        assert_eq!(lists::all(&mut tx).await.expect("reads"), []);
        assert_eq!(lists::states(&mut tx).await.expect("reads"), []);
        let refused = lists::apply(&mut tx, &diff, &state(db, &upstream)).await.expect_err("is gone");
        assert!(matches!(refused, StoreError::Conflict { constraint } if constraint == StoreError::FOREIGN_KEY));
    }

    async fn a_name_stands_once_in_a_list(db) {
        let (mut tx, upstream) = begin_with_upstream(db).await;
        let diff = adding(&upstream, vec![tool(db, &upstream, "t", 0), tool(db, &upstream, "t", 1)]);
        let refused = lists::apply(&mut tx, &diff, &state(db, &upstream)).await.expect_err("is twice");
        let expected = "definitions.upstream_id,kind,upstream_name";
        assert!(matches!(refused, StoreError::Conflict { constraint } if constraint == expected));
    }

    async fn the_longest_name_is_stored_and_a_longer_one_refused(db) {
        let (mut tx, upstream) = begin_with_upstream(db).await;
        let mut longest = tool(db, &upstream, "t", 0);
        // Random enough that no database compresses it before it is indexed.
        let name: String = (0_u32..).map(|n| char::from(b'a' + (n * n / 7 % 26) as u8)).take(NAME_BYTES_MAX).collect();
        longest.upstream_name.clone_from(&name);
        longest.exposed_name.clone_from(&name);
        let claim = claim(&longest, &name);
        assert!(names::claim(&mut tx, &claim).await.expect("claims"));
        lists::apply(&mut tx, &adding(&upstream, vec![longest.clone()]), &state(db, &upstream)).await.expect("applies");
        longest.id = DefinitionId::new(&db.clock);
        longest.upstream_name.push('x');
        let refused = lists::apply(&mut tx, &adding(&upstream, vec![longest]), &state(db, &upstream)).await;
        assert!(matches!(refused, Err(StoreError::Unstorable { .. })), "{refused:?}");
    }

    async fn one_item_holds_a_name_until_it_releases_it(db) {
        let (mut tx, upstream) = begin_with_upstream(db).await;
        let other = http(db, "b");
        upstreams::insert(&mut tx, &other).await.expect("inserts");
        let mine = claim(&tool(db, &upstream, "search", 0), "search");
        let theirs = claim(&tool(db, &other, "search", 0), "search");
        assert!(names::claim(&mut tx, &mine).await.expect("claims"));
        assert!(names::claim(&mut tx, &mine).await.expect("holds it already"));
        assert!(!names::claim(&mut tx, &theirs).await.expect("is held"));
        let second = Claim { exposed_name: "search_2".into(), ..mine.clone() };
        assert!(!names::claim(&mut tx, &second).await.expect("holds another"));
        let prompt = Claim { kind: Kind::Prompt, ..theirs.clone() };
        assert!(names::claim(&mut tx, &prompt).await.expect("is of another kind"));
        assert_eq!(names::claims(&mut tx, Kind::Tool).await.expect("reads"), std::slice::from_ref(&mine));

        assert!(names::release(&mut tx, Kind::Tool, upstream.id, "search").await.expect("releases"));
        assert!(!names::release(&mut tx, Kind::Tool, upstream.id, "search").await.expect("holds none"));
        assert!(names::claim(&mut tx, &theirs).await.expect("is free"));
        upstreams::delete(&mut tx, other.id).await.expect("deletes");
        assert_eq!(names::claims(&mut tx, Kind::Tool).await.expect("reads"), []);
    }

    async fn a_claim_outlasts_its_definition(db) {
        let (mut tx, upstream) = begin_with_upstream(db).await;
        let tool = tool(db, &upstream, "t", 0);
        let claim = claim(&tool, "t");
        names::claim(&mut tx, &claim).await.expect("claims");
        lists::apply(&mut tx, &adding(&upstream, vec![tool.clone()]), &state(db, &upstream)).await.expect("applies");
        let diff = ListDiff { removed: vec![tool.id], ..ListDiff::none(upstream.id, Kind::Tool) };
        lists::apply(&mut tx, &diff, &state(db, &upstream)).await.expect("applies");
        assert_eq!(names::claims(&mut tx, Kind::Tool).await.expect("reads"), [claim]);
        // No diff reaches into another upstream's list.
        lists::apply(&mut tx, &adding(&upstream, vec![tool.clone()]), &state(db, &upstream)).await.expect("applies");
        let foreign = ListDiff { upstream_id: UpstreamId::new(&db.clock), ..diff };
        let _ = lists::apply(&mut tx, &foreign, &state(db, &upstream)).await;
        assert_eq!(lists::all(&mut tx).await.expect("reads"), [tool]);
    }
}

fn claim(tool: &Definition, exposed_name: &str) -> Claim {
    Claim {
        kind: Kind::Tool,
        exposed_name: exposed_name.into(),
        upstream_id: tool.upstream_id,
        upstream_name: tool.upstream_name.clone(),
        wanted: exposed_name.into(),
    }
}
