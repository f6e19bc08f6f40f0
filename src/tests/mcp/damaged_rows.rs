//! Rows of the database that somebody damaged: each is named and passed over, and the rest is served.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Peer, Postgres, TestGateway, sqlite, success_of};

/// Between two looks at the health.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What is done to the rows; each leaves its table otherwise as it was.
const DAMAGE: [&str; 5] = [
    "UPDATE upstreams SET isolation = 'solitary' WHERE name = 'bad'",
    "UPDATE api_keys SET allowed_cidrs = 'CANARY' WHERE name = 'bad'",
    "UPDATE definitions SET enabled = 7 WHERE upstream_name = 'second'",
    "UPDATE definitions SET body = CAST('CANARY' AS BLOB) WHERE upstream_name = 'third'",
    "UPDATE settings SET document = 'CANARY'",
];

/// The rows that a gateway names, as `table.column`.
async fn unreadable(gateway: &TestGateway) -> Vec<String> {
    let (status, health) = gateway.admin().await.get("health").await;
    assert_eq!(status, StatusCode::OK);
    let text = |row: &Value, field: &str| row[field].as_str().expect("a text").to_owned();
    let rows = health["unreadable"].as_array().expect("a list");
    assert_eq!(health["status"] == "degraded", !rows.is_empty(), "{health}");
    let mut named: Vec<_> =
        rows.iter().map(|row| format!("{}.{}", text(row, "table"), text(row, "column"))).collect();
    // Rows of one table come by their ids, which the test doesn't choose.
    named.sort_unstable();
    named
}

async fn unreadable_become(gateway: &TestGateway, expected: &[&str]) {
    let become_so = async {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        while unreadable(gateway).await != expected {
            ticks.tick().await;
        }
    };
    let so = tokio::time::timeout(PATIENCE, become_so).await;
    assert!(so.is_ok(), "{:?} instead of {expected:?}", unreadable(gateway).await);
}

async fn damaged_rows_cost_nothing_else(mut gateway: TestGateway, damage: impl Fn(&TestGateway, &str)) {
    let peer = Peer::named(["first", "second", "third"].map(Into::into)).await;
    let other = Peer::named(["other".to_owned()]).await;
    let admin = gateway.admin().await;
    let mut ids = Vec::new();
    for (name, url) in [("good", peer.url()), ("bad", other.url())] {
        let body = json!({"name": name, "transport": "streamable-http", "connParams": {"url": url}});
        let (status, created) = admin.post("upstreams", &body).await;
        assert_eq!(status, StatusCode::CREATED, "{created}");
        ids.push(created["id"].as_str().expect("an id").to_owned());
    }
    gateway.mcp().lists(&["first", "second", "third", "other"]).await;
    let (bad_key, bad_key_id) = gateway.mcp_with("bad", json!({})).await;
    gateway.terminate().await;
    for sql in DAMAGE {
        damage(&gateway, sql);
    }
    // Its server is away, so that no sync mends its list.
    drop(peer);
    gateway.start_again().await;

    let expected = [
        "api_keys.allowed_cidrs",
        "definitions.body",
        "definitions.enabled",
        "settings.document",
        "upstreams.isolation",
    ];
    unreadable_become(&gateway, &expected).await;
    gateway.mcp().lists_become(|names| names == ["first"]).await;
    bad_key.answers_with(StatusCode::UNAUTHORIZED).await;
    let log = gateway.log();
    assert!(log.contains(&ids[1]) && log.contains(&bad_key_id), "{log}");
    assert!(!log.contains("CANARY"), "{log}");

    // Each can be got rid of, or mended.
    let admin = gateway.admin().await;
    let (status, listed) = admin.get("upstreams").await;
    assert_eq!((status, listed["items"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)));
    assert_eq!(admin.delete(&format!("upstreams/{}", ids[1])).await.0, StatusCode::NO_CONTENT);
    assert_eq!(admin.delete(&format!("keys/{bad_key_id}")).await.0, StatusCode::NO_CONTENT);
    unreadable_become(&gateway, &["definitions.body", "definitions.enabled", "settings.document"]).await;
    let other_body =
        json!({"name": "new", "transport": "streamable-http", "connParams": {"url": other.url()}});
    assert_eq!(admin.post("upstreams", &other_body).await.0, StatusCode::CREATED);
    gateway.mcp().lists(&["other"]).await;
    success_of(&gateway.mcp().call("other", json!({})).await);
}

#[tokio::test]
async fn damaged_rows_of_sqlite_are_named_and_the_rest_is_served() {
    let gateway = TestGateway::start().on_sqlite().with_key().with_setting("sync", "timeout_s", 29).await;
    let damage = |gateway: &TestGateway, sql: &str| {
        assert_eq!(sqlite::execute(&gateway.data("gateway.db"), sql), 1, "{sql}");
    };
    damaged_rows_cost_nothing_else(gateway, damage).await;
}

#[tokio::test]
async fn damaged_rows_of_postgres_are_named_and_the_rest_is_served() {
    let Some(postgres) = Postgres::create() else { return };
    let gateway = TestGateway::start().on(&postgres).with_key().with_setting("sync", "timeout_s", 29).await;
    let damage = |_: &TestGateway, sql: &str| {
        postgres.run(&sql.replace("CAST('CANARY' AS BLOB)", "CAST('CANARY' AS BYTEA)"));
    };
    damaged_rows_cost_nothing_else(gateway, damage).await;
}
