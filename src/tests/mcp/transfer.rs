//! `export` and `import` beside gateways: what one was told is carried over to another, whatever database each has,
//! while they serve or before they start.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{CommandOutput, Peer, Postgres, Scene, TestGateway, plain, success_of};

const PASSPHRASE: &str = "CANARY-passphrase";
const TOKEN: &str = "CANARY-token";

/// A gateway with an upstream that wants a token, an alias and a key; and that key.
async fn source(scene: Scene, peer: &Peer) -> (TestGateway, String) {
    let gateway = scene.with_upstream(upstream(peer)).await;
    let admin = gateway.admin().await;
    let owner = json!({"type": "upstream", "id": admin.upstream_id("web").await});
    let alias = json!({"owner": owner, "pattern": "get_page", "targetName": "read_page"});
    assert_eq!(admin.post("rules/aliases", &alias).await.0, StatusCode::CREATED);
    let (mcp, _) = gateway.mcp_with("laptop", json!({})).await;
    mcp.lists(&["read_page"]).await;
    let key = mcp.key().to_owned();
    (gateway, key)
}

fn upstream(peer: &Peer) -> Value {
    json!({"name": "web", "transport": "streamable-http", "credential": TOKEN, "connParams": {"url": peer.url()}})
}

/// It ended well, and said nothing of what is secret.
#[track_caller]
fn good(output: &CommandOutput) -> &str {
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    assert!(!output.stdout.contains("CANARY") && !output.stderr.contains("CANARY"), "{}", output.stderr);
    &output.stdout
}

/// What a backup says, but for when it was made.
fn said(backup: &str) -> Value {
    let mut backup: Value = serde_json::from_str(backup).expect("JSON");
    for member in ["createdAt", "sha256", "secrets"] {
        assert!(backup.as_object_mut().expect("an object").remove(member).is_some(), "{member}");
    }
    backup
}

async fn carried_over(from: Scene, to: Scene) {
    let peer = Peer::with_tools(vec![plain("get_page")]).await;
    let (source, key) = source(from, &peer).await;
    let mut export = source.command(&["export"]).env("MPG_BACKUP_PASSPHRASE", PASSPHRASE);
    let backup = good(&export.run()).to_owned();
    drop(source);

    let target = to.await;
    let admin = target.admin().await;
    let import = |more: &[&str]| {
        let words = [&["import", "backup.json", "--passphrase-file", "passphrase"], more].concat();
        let command = target.command(&words).file("backup.json", &backup);
        command.file("passphrase", &format!("{PASSPHRASE}\n")).run()
    };
    let planned = import(&["--dry-run"]);
    let told = good(&planned);
    for line in
        ["upstreams: 1 created, 0 changed, 0 deleted\n  + web\n", "keys: 1 created,", "\n  + laptop\n"]
    {
        assert!(told.contains(line), "{told}");
    }
    assert!(told.contains("alias rules: 1 created") && told.ends_with("this was a dry run\n"), "{told}");
    assert_eq!(admin.get("upstreams").await.1["total"], 0, "a dry run changes nothing");

    assert!(good(&import(&[])).ends_with("restored\n"));
    // The gateway serves all the while, and follows.
    let mcp = target.mcp_as(&key);
    mcp.answers_with(StatusCode::OK).await;
    assert_eq!(mcp.lists(&["read_page"]).await, ["read_page"]);
    success_of(&mcp.call("read_page", json!({})).await);
    let last = peer.seen_of("tools/call").pop().expect("it was called");
    assert_eq!(last.headers["authorization"], format!("Bearer {TOKEN}"));

    let log = admin.get("audit?action=backup.import").await.1;
    let event = &log["items"][0];
    assert_eq!((&log["total"], &event["userAgent"]), (&json!(1), &json!("cli")), "{log}");
    assert_eq!(event["actor"]["type"], "system", "{log}");
    assert_eq!(admin.get("audit/verify").await.1["intact"], true);
    assert!(good(&import(&[])).contains("everything is so already\n"));
    let mut export = target.command(&["export"]).env("MPG_BACKUP_PASSPHRASE", PASSPHRASE);
    assert_eq!(said(good(&export.run())), said(&backup));
}

#[tokio::test]
async fn what_is_configured_is_carried_over_to_a_gateway_that_serves() {
    carried_over(TestGateway::start(), TestGateway::start()).await;
}

#[tokio::test]
async fn what_is_configured_moves_from_sqlite_to_postgres() {
    let Some(postgres) = Postgres::create() else {
        eprintln!("MPG_TEST_PG_DSN isn't set: nothing was tested; `.ci/run test-replicas` sets it");
        return;
    };
    carried_over(TestGateway::start().on_sqlite(), TestGateway::start().on(&postgres)).await;
}

#[tokio::test]
async fn a_gateway_that_stands_still_is_restored_and_replaced() {
    let peer = Peer::with_tools(vec![plain("get_page")]).await;
    let (mut source, key) = source(TestGateway::start(), &peer).await;
    assert!(source.terminate().await.status.success());
    let mut export =
        source.command(&["export", "--out", "backup.json"]).env("MPG_BACKUP_PASSPHRASE", PASSPHRASE);
    assert!(good(&export.run()).ends_with("1 upstreams, 1 keys, with secrets\n"));
    crate::harness::assert_private(&export.path("backup.json"));
    let backup = std::fs::read_to_string(export.path("backup.json")).expect("it was written");

    let mut target = TestGateway::start().with_http_upstream("old", &peer.url()).with_key().await;
    let old = target.mcp();
    old.lists(&["get_page"]).await;
    assert!(target.terminate().await.status.success());
    let import = |more: &[&str]| {
        let command = target.command(&[&["import", "backup.json", "--mode", "replace"], more].concat());
        command.file("backup.json", &backup).env("MPG_BACKUP_PASSPHRASE", PASSPHRASE).run()
    };
    let refused = import(&[]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    assert!(good(&import(&["--yes"])).contains("upstreams: 1 created, 0 changed, 1 deleted\n"));
    // What the bootstrap file of the scene says is there again, and what was restored beside it.
    target.start_again().await;
    let mcp = target.mcp_as(&key);
    mcp.lists(&["read_page"]).await;
    success_of(&mcp.call("read_page", json!({})).await);
}
