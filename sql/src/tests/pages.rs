//! Pages: every item once, in any order, whatever is searched for.

use super::harness::{TestDatabase, on_each_database};
use super::upstreams::http;
use crate::error::StoreError;
use crate::model::page::PageRequest;
use crate::model::upstream::{Transport, Upstream};
use crate::upstreams::{self, UpstreamFilter};

const NAMES: [&str; 7] = ["Zeta", "alpha", "beta_1", "beta%2", "beta", "Ünï", "数据库"];

async fn fill(db: &TestDatabase) {
    let mut tx = db.store.begin().await.expect("begins");
    for (sort_order, name) in [3, 1, 1, 2, 1, 0, 0].into_iter().zip(NAMES) {
        let upstream = Upstream { sort_order, enabled: name != "beta", ..http(db, name) };
        upstreams::insert(&mut tx, &upstream).await.expect("inserts");
        db.clock.advance(std::time::Duration::from_millis(1));
    }
    tx.commit().await.expect("commits");
}

/// The names of all pages, followed to the end.
async fn names(db: &TestDatabase, limit: u32, search: Option<&str>, sort: Option<&str>) -> Vec<String> {
    let mut tx = db.store.read().await.expect("reads");
    let mut request =
        PageRequest { limit, cursor: None, search: search.map(Into::into), sort: sort.map(Into::into) };
    let mut names = Vec::new();
    loop {
        let page = upstreams::page(&mut tx, &request, &UpstreamFilter::default()).await.expect("reads");
        assert!(page.items.len() <= limit as usize);
        names.extend(page.items.into_iter().map(|upstream| upstream.name));
        request.cursor = page.next_cursor;
        if request.cursor.is_none() {
            assert_eq!(page.total, names.len() as u64);
            return names;
        }
    }
}

on_each_database! {
    async fn every_item_stands_on_one_page(db) {
        fill(db).await;
        let by_place = ["Ünï", "数据库", "alpha", "beta_1", "beta", "beta%2", "Zeta"];
        let mut backwards = by_place;
        backwards.reverse();
        let by_name = ["Zeta", "alpha", "beta", "beta%2", "beta_1", "Ünï", "数据库"];
        for limit in 1..=8 {
            assert_eq!(names(db, limit, None, None).await, by_place);
            assert_eq!(names(db, limit, None, Some("sortOrder")).await, by_place);
            assert_eq!(names(db, limit, None, Some("-sortOrder")).await, backwards);
            assert_eq!(names(db, limit, None, Some("name")).await, by_name, "by bytes, on both databases");
            assert_eq!(names(db, limit, None, Some("createdAt")).await, NAMES);
        }
    }

    async fn a_search_minds_neither_case_nor_wildcards(db) {
        fill(db).await;
        for (search, expected) in [
            ("BETA", vec!["beta", "beta%2", "beta_1"]),
            ("zet", vec!["Zeta"]),
            ("%", vec!["beta%2"]),
            ("_", vec!["beta_1"]),
            ("\\", vec![]),
            ("'", vec![]),
            ("数", vec!["数据库"]),
            ("be\0ta", vec!["beta", "beta%2", "beta_1"]),
            ("", vec!["Zeta", "alpha", "beta", "beta%2", "beta_1", "Ünï", "数据库"]),
        ] {
            assert_eq!(names(db, 2, Some(search), Some("name")).await, expected, "{search}");
        }
    }

    async fn filters_hold_together(db) {
        fill(db).await;
        let mut tx = db.store.read().await.expect("reads");
        for (enabled, transport, expected) in [
            (Some(false), None, 1),
            (Some(true), Some(Transport::StreamableHttp), 6),
            (None, Some(Transport::Stdio), 0),
        ] {
            let filter = UpstreamFilter { enabled, transport };
            let page = upstreams::page(&mut tx, &PageRequest::default(), &filter).await.expect("reads");
            assert_eq!((page.total, page.items.len()), (expected, usize::try_from(expected).expect("few")));
        }
    }

    async fn a_limit_is_brought_into_its_range(db) {
        fill(db).await;
        let mut tx = db.store.read().await.expect("reads");
        for (limit, expected) in [(0, 1), (u32::MAX, 7)] {
            let request = PageRequest { limit, ..PageRequest::default() };
            let page = upstreams::page(&mut tx, &request, &UpstreamFilter::default()).await.expect("reads");
            assert_eq!(page.items.len(), expected);
        }
    }

    async fn strange_cursors_and_sorts_are_refused(db) {
        fill(db).await;
        let mut tx = db.store.read().await.expect("reads");
        let first = PageRequest { limit: 1, sort: Some("name".into()), ..PageRequest::default() };
        let of_name = upstreams::page(&mut tx, &first, &UpstreamFilter::default()).await.expect("reads").next_cursor;
        // `["sortOrder","x","y"]`, `["sortOrder",1]`, `["sortOrder",null,null]`, and no JSON at all.
        let forged = ["WyJzb3J0T3JkZXIiLCJ4IiwieSJd", "WyJzb3J0T3JkZXIiLDFd", "WyJzb3J0T3JkZXIiLG51bGwsbnVsbF0", "bm8", "!"];
        for cursor in forged.into_iter().map(|cursor| Some(cursor.to_owned())).chain([of_name]) {
            let request = PageRequest { cursor, ..PageRequest::default() };
            let refused = upstreams::page(&mut tx, &request, &UpstreamFilter::default()).await;
            assert!(matches!(refused, Err(StoreError::InvalidCursor)), "{refused:?}");
        }
        for sort in ["", "-", "id; DROP TABLE upstreams", "Name"] {
            let request = PageRequest { sort: Some(sort.into()), ..PageRequest::default() };
            let refused = upstreams::page(&mut tx, &request, &UpstreamFilter::default()).await;
            assert!(matches!(refused, Err(StoreError::InvalidSort)), "{refused:?}");
        }
    }
}
