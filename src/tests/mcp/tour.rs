//! The tour that a new user takes, over REST and MCP alone: from the first registration to a backup that brings a
//! wiped gateway back, so that its clients see no difference.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{interval, timeout};

use crate::harness::{Admin, Mcp, PATIENCE, Peer, TestGateway, plain, script, success_of};

const PASSWORD: &str = "a password of the tour";
const PASSPHRASE: &str = "a passphrase of the tour";
/// What the upstreams ask for; neither starts nor answers without.
const TOKEN: &str = "CANARY-template-token";
const BEARER: &str = "CANARY-imported-token";

/// Between two looks at what is to become something.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What a client sees at the end of the set-up, in order.
const SEEN: [&str; 2] = ["test_simple_text", "read_page"];
/// What it doesn't: the name that an alias replaced, and the tool that a filter took away.
const HIDDEN: [&str; 2] = ["get_page", "delete_page"];

#[tokio::test]
async fn a_new_user_sets_up_a_gateway_wipes_it_and_has_it_back() {
    let packages = packages();
    let web = Peer::with_tools(["get_page", "delete_page"].map(plain).to_vec()).await;

    let gateway = start(&packages).await;
    let admin = gateway.register("tourist", PASSWORD).await;
    build_from_template(&admin).await;
    import_file(&admin, &web).await;
    write_rules(&admin).await;
    let key = admin.create_key("laptop", json!({})).await.1;
    assert_works(&gateway.mcp_as(&key), &web).await;
    assert_told(&admin, &key).await;
    let backup = export(&admin, &key).await;
    drop(gateway);

    // Another folder, or database, and another key of encryption: nothing is left but the document.
    let wiped = start(&packages).await;
    wiped.mcp_as(&key).answers_with(StatusCode::UNAUTHORIZED).await;
    let admin = wiped.register("tourist", PASSWORD).await;
    restore(&admin, &backup).await;
    let mcp = wiped.mcp_as(&key);
    mcp.answers_with(StatusCode::OK).await;
    assert_works(&mcp, &web).await;
}

/// A gateway nobody has registered with.
async fn start(packages: &TempDir) -> TestGateway {
    let found = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{found}", packages.path().display());
    TestGateway::start().without_admin().with_env("PATH", &path).await
}

/// An `npx` that has one package without a network: a server of another make, which starts with its token alone.
fn packages() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let npx = folder.path().join("npx");
    let server = script();
    let text = format!(
        "#!/bin/sh\n\
         case \"$1 $2\" in '-y @zereight/mcp-gitlab@'*) ;; *) exit 64 ;; esac\n\
         [ \"$GITLAB_PERSONAL_ACCESS_TOKEN\" = {TOKEN} ] || exit 65\n\
         exec node '{server}' --transport stdio --tools test_simple_text\n"
    );
    fs::write(&npx, text).expect("the folder is writable");
    fs::set_permissions(&npx, fs::Permissions::from_mode(0o755)).expect("a file of ours");
    folder
}

async fn build_from_template(admin: &Admin) {
    let form = json!({"name": "git", "values": {"token": TOKEN, "apiUrl": "https://git.example/api/v4"}});
    let (status, built) = admin.post("templates/gitlab/build", &form).await;
    assert_eq!(status, StatusCode::OK, "{built}");
    assert!(!built["command"].as_str().expect("a command").contains(TOKEN), "{built}");
    assert_eq!(admin.get("upstreams").await.1["total"], 0, "a built form is no upstream yet");
    let (status, created) = admin.post("upstreams", &built["upstream"]).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    assert!(!created.to_string().contains(TOKEN), "{created}");
}

async fn import_file(admin: &Admin, web: &Peer) {
    let authorization = format!("Bearer {BEARER}");
    let file = json!({"mcpServers": {"web": {
        "type": "http", "url": web.url(), "headers": {"Authorization": authorization},
    }}});
    let (status, planned) = admin.post("upstreams/import?dryRun=true", &file).await;
    assert_eq!((status, &planned["items"][0]["action"]), (StatusCode::OK, &json!("create")), "{planned}");
    assert_eq!(planned["items"][0]["secrets"], json!(["/credential"]));
    assert!(!planned.to_string().contains(BEARER), "{planned}");
    assert_eq!(admin.get("upstreams").await.1["total"], 1, "a dry run imports nothing");
    let (status, imported) = admin.post("upstreams/import", &file).await;
    assert_eq!((status, &imported["items"][0]["action"]), (StatusCode::OK, &json!("create")), "{imported}");
    becomes(admin, "tools", |tools| tools["total"] == 3).await;
}

/// Asks until the answer is as it should be: what happens beside a request is told a moment later.
async fn becomes(admin: &Admin, path: &str, is_right: impl Fn(&Value) -> bool) -> Value {
    let look = async {
        let mut ticks = interval(LOOK_INTERVAL);
        loop {
            ticks.tick().await;
            let (status, told) = admin.get(path).await;
            assert_eq!(status, StatusCode::OK, "{told}");
            if is_right(&told) {
                return told;
            }
        }
    };
    timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{path} isn't what it should be"))
}

async fn write_rules(admin: &Admin) {
    let owner = json!({"type": "upstream", "id": admin.upstream_id("web").await});
    let alias = json!({"pattern": "get_(.*)", "isRegex": true, "targetName": "read_$1"});
    let deny = json!({"pattern": "delete_.*", "isRegex": true, "action": "deny"});
    let draft = json!({"owner": owner, "aliases": [alias], "filters": [deny]});
    let (status, preview) = admin.post("rules/preview", &draft).await;
    assert_eq!(status, StatusCode::OK, "{preview}");
    let promised: Vec<&Value> = preview["items"].as_array().expect("a list").iter().collect();
    let becomes = |name: &str| {
        let item = promised.iter().find(|item| item["name"] == name);
        &item.unwrap_or_else(|| panic!("{name} in {preview}"))["exposedName"]
    };
    assert_eq!((becomes("get_page"), becomes("delete_page")), (&json!("read_page"), &Value::Null));
    for (noun, mut rule) in [("aliases", alias), ("filters", deny)] {
        rule["owner"] = owner.clone();
        let (status, created) = admin.post(&format!("rules/{noun}"), &rule).await;
        assert_eq!(status, StatusCode::CREATED, "{created}");
    }
    // What was promised is what is.
    let (_, stored) = admin.post("rules/preview", &json!({})).await;
    let names = |preview: &Value| -> Vec<Value> {
        let items = preview["items"].as_array().expect("a list");
        items.iter().map(|item| item["exposedName"].clone()).collect()
    };
    assert_eq!(names(&stored), names(&preview));
}

/// Both upstreams answer by the names that they are to have, and what is hidden is neither listed nor callable.
async fn assert_works(mcp: &Mcp, web: &Peer) {
    let names = mcp.lists_become(|names| names.len() == SEEN.len()).await;
    assert_eq!(names, SEEN);
    let [text, page] = SEEN;
    success_of(&mcp.call(text, json!({})).await);
    assert_eq!(success_of(&mcp.call(page, json!({"n": 1})).await), "get_page got {\"n\":1}");
    let last = web.seen_of("tools/call").pop().expect("it was called");
    assert_eq!(last.headers["authorization"], format!("Bearer {BEARER}"));
    for name in HIDDEN {
        let refused = mcp.modern("tools/call", json!({"name": name, "arguments": {}})).await;
        assert_eq!(refused.refusal().await, (200, -32602), "{name}");
    }
}

/// The statistics have the calls, and the audit log has each change; neither has a secret.
async fn assert_told(admin: &Admin, key: &str) {
    let calls = becomes(admin, "stats/calls", |calls| calls["total"] == SEEN.len()).await;
    let rows = calls["items"].as_array().expect("a list");
    for (upstream, exposed) in [("git", SEEN[0]), ("web", SEEN[1])] {
        let row = rows.iter().find(|row| row["upstreamName"] == upstream);
        let row = row.unwrap_or_else(|| panic!("a call of {upstream} in {calls}"));
        assert_eq!((&row["name"], &row["outcome"]), (&json!(exposed), &json!("ok")), "{calls}");
    }
    let summary = becomes(admin, "stats/summary", |summary| summary["calls"] == SEEN.len()).await;
    assert_eq!(summary["errors"], 0, "{summary}");

    let log = admin.get("audit?limit=200").await.1;
    let events = log["items"].as_array().expect("a list");
    for (action, count) in [
        ("admin.register", 1),
        ("upstream.create", 2),
        ("alias_rule.create", 1),
        ("filter_rule.create", 1),
        ("key.create", 1),
    ] {
        let found = events.iter().filter(|event| event["action"] == action).count();
        assert_eq!(found, count, "{action} in {log}");
    }
    for secret in [TOKEN, BEARER, PASSWORD, key] {
        assert!(!log.to_string().contains(secret) && !calls.to_string().contains(secret));
    }
    assert_eq!(admin.get("audit/verify").await.1["intact"], true);
}

async fn export(admin: &Admin, key: &str) -> Value {
    let (status, backup) = admin.post("backup/export", &json!({"passphrase": PASSPHRASE})).await;
    assert_eq!(status, StatusCode::OK, "{backup}");
    for secret in [TOKEN, BEARER, PASSWORD, PASSPHRASE, key] {
        assert!(!backup.to_string().contains(secret), "a secret in the clear");
    }
    backup
}

/// A wrong passphrase changes nothing, a preview nothing either, and what it says is what is done then.
async fn restore(admin: &Admin, backup: &Value) {
    let body = |passphrase: &str| json!({"backup": backup, "passphrase": passphrase, "mode": "replace"});
    let (status, refused) = admin.post("backup/import", &body("another passphrase")).await;
    assert_eq!((status, &refused["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("BACKUP_INVALID")));
    let (status, preview) = admin.post("backup/preview", &body(PASSPHRASE)).await;
    assert_eq!(status, StatusCode::OK, "{preview}");
    assert_eq!(admin.get("upstreams").await.1["total"], 0, "neither changed anything");
    let (status, restored) = admin.post("backup/import", &body(PASSPHRASE)).await;
    assert_eq!((status, &restored), (StatusCode::OK, &preview));
    let kinds = |kind: &str| {
        let changes = restored["changes"].as_array().expect("a list");
        changes.iter().filter(|change| change["kind"] == kind && change["change"] == "create").count()
    };
    let counts = ["upstream", "key", "aliasRule", "filterRule"].map(kinds);
    assert_eq!(counts, [2, 1, 1, 1], "{restored}");
    assert_eq!(restored["withoutSecrets"], json!([]));
    // Nobody can take the gateway over by it: the admin is the one who registered here.
    let me = admin.request(Method::GET, "auth/me").send().await.expect("an answer");
    assert_eq!(me.status(), StatusCode::OK);
}
