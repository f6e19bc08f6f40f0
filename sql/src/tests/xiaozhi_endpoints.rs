//! XiaoZhi endpoints: what is written is read again, the address is sealed, and only a holder's word counts.

use std::time::Duration;

use uuid::Uuid;

use super::harness::{TestDatabase, on_each_database};
use crate::db::cells;
use crate::error::StoreError;
use crate::model::api_key::KeyMode;
use crate::model::ids::{ApiKeyId, XiaozhiEndpointId};
use crate::model::page::PageRequest;
use crate::model::secret::Secret;
use crate::model::xiaozhi_endpoint::{XiaozhiEndpoint, XiaozhiFault, XiaozhiReport, XiaozhiState};
use crate::xiaozhi_endpoints::{self, XiaozhiFilter, lease};
use crate::{ChangeKind, Entries, changes, leases};

const URL: &str = "wss://api.xiaozhi.me/mcp/?token=CANARY";
const TTL: Duration = Duration::from_secs(15);

fn endpoint(db: &TestDatabase, name: &str) -> XiaozhiEndpoint {
    let (id, key) = (XiaozhiEndpointId::new(&db.clock), ApiKeyId::new(&db.clock));
    XiaozhiEndpoint::create(id, name, Secret::from(URL), key, db.now())
}

pub(super) async fn inserted(db: &TestDatabase, name: &str) -> XiaozhiEndpoint {
    let endpoint = endpoint(db, name);
    let mut tx = db.store.begin().await.expect("begins");
    xiaozhi_endpoints::insert(&mut tx, &endpoint).await.expect("inserts");
    tx.commit().await.expect("commits");
    endpoint
}

fn report(endpoint: &XiaozhiEndpoint, holder: Uuid, db: &TestDatabase) -> XiaozhiReport {
    XiaozhiReport {
        endpoint_id: endpoint.id,
        holder,
        state: XiaozhiState::Unavailable,
        since: db.now(),
        fault: Some(XiaozhiFault::Refused),
        close_code: Some(1008),
        last_error: Some("the token is not taken".into()),
        next_attempt_at: Some(db.now().plus(TTL)),
        tools_shown: Some(3),
        tools_total: Some(70),
    }
}

on_each_database! {
    async fn what_is_inserted_and_changed_is_read_again(db) {
        let first = inserted(db, "a").await;
        let mut tx = db.store.begin().await.expect("begins");
        let start = changes::revision(&mut tx).await.expect("reads");
        assert_eq!(xiaozhi_endpoints::get(&mut tx, first.id).await.expect("reads"), Some(first.clone()));
        let changed = XiaozhiEndpoint {
            name: "b".into(),
            url: Secret::from("ws://host:8004/x?token=other"),
            enabled: false,
            mode: KeyMode::Smart,
            tools_max: 5,
            description_max: 77,
            deadline_s: 30,
            version: 2,
            ..first.clone()
        };
        assert!(xiaozhi_endpoints::update(&mut tx, &changed, 1).await.expect("updates"));
        assert!(!xiaozhi_endpoints::update(&mut tx, &changed, 1).await.expect("is told"), "stale");
        assert_eq!(xiaozhi_endpoints::by_name(&mut tx, "b").await.expect("reads"), Some(changed.clone()));
        assert!(xiaozhi_endpoints::reconnect(&mut tx, first.id).await.expect("asks"));
        let asked = XiaozhiEndpoint { reconnects: 1, ..changed };
        assert_eq!(xiaozhi_endpoints::list(&mut tx).await.expect("reads"), [asked]);
        tx.commit().await.expect("commits");

        let mut tx = db.store.begin().await.expect("begins");
        let since = changes::since(&mut tx, start).await.expect("reads");
        let Entries::All(entries) = since.entries else { panic!("a gap") };
        assert!(!entries.is_empty());
        assert!(entries.iter().all(|entry| (entry.kind, entry.id) == (ChangeKind::XiaozhiEndpoint, first.id.uuid())));
        assert!(xiaozhi_endpoints::delete(&mut tx, first.id).await.expect("deletes"));
        assert!(!xiaozhi_endpoints::delete(&mut tx, first.id).await.expect("is told"));
        assert!(!xiaozhi_endpoints::reconnect(&mut tx, first.id).await.expect("is told"));
    }

    async fn a_name_is_unique_and_pages_are_sorted_by_it(db) {
        inserted(db, "b").await;
        inserted(db, "a").await;
        let mut tx = db.store.begin().await.expect("begins");
        let request = PageRequest { limit: 1, ..PageRequest::default() };
        let page = xiaozhi_endpoints::page(&mut tx, &request, &XiaozhiFilter::default()).await.expect("reads");
        assert_eq!((page.total, page.items[0].name.as_str()), (2, "a"));
        let off = XiaozhiFilter { enabled: Some(false) };
        assert_eq!(xiaozhi_endpoints::page(&mut tx, &request, &off).await.expect("reads").total, 0);
        let second = xiaozhi_endpoints::insert(&mut tx, &endpoint(db, "a")).await;
        assert!(matches!(second, Err(StoreError::Conflict { constraint }) if constraint == "xiaozhi_endpoints.name"));
    }

    async fn the_address_is_sealed_for_its_row(db) {
        let (a, b) = (inserted(db, "a").await, inserted(db, "b").await);
        let mut tx = db.store.begin().await.expect("begins");
        let rows = tx.query("xiaozhi_endpoints", "SELECT url FROM xiaozhi_endpoints", cells![]).await.expect("reads");
        for row in &rows {
            assert!(!row.get::<String>("url").expect("a text").contains("CANARY"));
        }
        let moved = "UPDATE xiaozhi_endpoints SET url =
            (SELECT other.url FROM xiaozhi_endpoints AS other WHERE other.id = $1) WHERE id = $2";
        assert_eq!(tx.execute("xiaozhi_endpoints", moved, cells![a.id, b.id]).await.expect("updates"), 1);
        assert_eq!(xiaozhi_endpoints::list(&mut tx).await.expect("reads"), std::slice::from_ref(&a));
        let bad = tx.take_unreadable();
        assert_eq!((bad.len(), bad[0].column.as_str(), &bad[0].row), (1, "url", &b.id.to_string()));
    }

    async fn only_the_word_of_who_holds_it_counts(db) {
        let endpoint = inserted(db, "a").await;
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = report(&endpoint, one, db);
        let mut tx = db.store.begin().await.expect("begins");
        xiaozhi_endpoints::save_report(&mut tx, &first).await.expect("saves");
        assert_eq!(xiaozhi_endpoints::reports(&mut tx).await.expect("reads"), [], "nobody has the lease");
        assert!(leases::acquire(&mut tx, &lease(endpoint.id), one, TTL).await.expect("is answered"));
        assert_eq!(xiaozhi_endpoints::reports(&mut tx).await.expect("reads"), [first]);
        tx.commit().await.expect("commits");
        db.clock.advance(TTL);
        let mut tx = db.store.begin().await.expect("begins");
        assert_eq!(xiaozhi_endpoints::reports(&mut tx).await.expect("reads"), [], "the lease is over");
        assert!(leases::acquire(&mut tx, &lease(endpoint.id), two, TTL).await.expect("is answered"));
        assert_eq!(xiaozhi_endpoints::reports(&mut tx).await.expect("reads"), [], "another holds it now");
        let connected = XiaozhiReport {
            state: XiaozhiState::Connected,
            fault: None,
            close_code: None,
            last_error: None,
            next_attempt_at: None,
            ..report(&endpoint, two, db)
        };
        xiaozhi_endpoints::save_report(&mut tx, &connected).await.expect("saves");
        assert_eq!(xiaozhi_endpoints::reports(&mut tx).await.expect("reads"), std::slice::from_ref(&connected));
        xiaozhi_endpoints::delete(&mut tx, endpoint.id).await.expect("deletes");
        assert_eq!(xiaozhi_endpoints::reports(&mut tx).await.expect("reads"), []);
        // It may be deleted while its holder still speaks.
        xiaozhi_endpoints::save_report(&mut tx, &connected).await.expect("is passed over");
    }
}
