//! Importing files of clients: what is made, what is refused, and that nothing is saved in vain.

use serde_json::{Value, json};

use crate::testing::{Answer, Scene};

const PATH: &str = "/api/admin/upstreams/import";

const CLAUDE: &str = r#"{"mcpServers": {
  "github": {"command": "npx", "args": ["-y", "@scope/github@1.2.3"], "env": {"GITHUB_TOKEN": "CANARY-ghp", "MODE": "x"}},
  "docs": {"type": "http", "url": "https://docs.example/mcp", "headers": {"Authorization": "Bearer CANARY-bearer", "X-Org": "a"}},
  "old": {"type": "sse", "url": "https://old.example/sse?api_key=CANARY-query&page=2"},
  "mine": {"type": "stdio", "command": "/usr/bin/mine", "args": ["--token", "CANARY-arg", "two words"], "timeout": 5}
}}"#;

pub(super) async fn import(scene: &Scene, query: &str, kind: &str, file: &str) -> Answer {
    scene.send_raw("POST", &format!("{PATH}{query}"), file, &[("content-type", kind)]).await
}

pub(super) fn item<'a>(answer: &'a Answer, name: &str) -> &'a Value {
    let items = answer.json["items"].as_array().unwrap_or_else(|| panic!("{}", answer.json));
    items.iter().find(|item| item["name"] == name).unwrap()
}

fn actions(answer: &Answer) -> Vec<(String, String)> {
    let items = answer.json["items"].as_array().unwrap_or_else(|| panic!("{}", answer.json));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    items.iter().map(|item| (text(&item["name"]), text(&item["action"]))).collect()
}

pub(super) async fn stored(scene: &Scene, name: &str) -> Value {
    let list = scene.get(&format!("/api/admin/upstreams?search={name}")).await;
    let id = list.json["items"][0]["id"].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned();
    scene.get(&format!("/api/admin/upstreams/{id}")).await.json
}

#[tokio::test]
async fn a_dry_run_shows_what_would_run_and_what_would_be_sealed_and_saves_nothing() {
    let scene = Scene::logged_in().await;
    let answer = import(&scene, "?dryRun=true", "application/json", CLAUDE).await;
    assert_eq!((answer.status, &answer.json["dryRun"]), (200, &json!(true)), "{}", answer.json);
    let github = item(&answer, "github");
    assert_eq!(github["command"], "GITHUB_TOKEN=[secret] MODE=x npx -y @scope/github@1.2.3");
    assert_eq!(
        (&github["action"], &github["secrets"]),
        (&json!("create"), &json!(["/connParams/env/GITHUB_TOKEN"]))
    );
    let docs = item(&answer, "docs");
    assert_eq!(
        (&docs["command"], &docs["secrets"]),
        (&json!("https://docs.example/mcp"), &json!(["/credential"]))
    );
    assert_eq!(item(&answer, "old")["secrets"], json!(["/credential"]));
    assert_eq!(item(&answer, "mine")["command"], "/usr/bin/mine --token [secret] 'two words'");
    assert_eq!(item(&answer, "mine")["warnings"].as_array().unwrap().len(), 1);
    assert!(!answer.text.contains("CANARY"), "{}", answer.text);
    assert_eq!(scene.get("/api/admin/upstreams").await.json["total"], 0);
    assert_eq!(scene.audited("upstream.create").await.len(), 0);
}

#[tokio::test]
async fn the_file_of_a_client_becomes_upstreams_with_their_secrets_sealed() {
    let scene = Scene::logged_in().await;
    let answer = import(&scene, "", "application/json; charset=utf-8", CLAUDE).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert!(
        answer.json["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| item["action"] == "create" && item["id"].is_string())
    );
    let github = stored(&scene, "github").await;
    assert_eq!(github["connParams"]["env"], json!({"GITHUB_TOKEN": {"secret": true}, "MODE": "x"}));
    let docs = stored(&scene, "docs").await;
    assert_eq!(
        (&docs["credentialSet"], &docs["connParams"]["headers"]),
        (&json!(true), &json!({"X-Org": "a"}))
    );
    let old = stored(&scene, "old").await;
    assert_eq!(old["transport"], "sse");
    assert_eq!(old["connParams"]["url"], "https://old.example/sse?api_key=${credential}&page=2");
    let secret = scene.stored(old["id"].as_str().unwrap()).await.credential.unwrap();
    assert_eq!(secret.expose(), "CANARY-query");
    let events = scene.audited("upstream.create").await;
    assert_eq!(events.len(), 4);
    assert!(!format!("{events:?}").contains("CANARY"));
    let places: Vec<i64> = scene.get("/api/admin/upstreams").await.json["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|u| u["sortOrder"].as_i64().unwrap())
        .collect();
    assert_eq!(places, [0, 1, 2, 3]);
}

/// Cursor, VS Code with its inputs, Codex, the registry.
#[tokio::test]
async fn every_format_is_read() {
    let scene = Scene::logged_in().await;
    let cursor = r#"{"mcpServers": {"cursor": {"url": "https://c.example/mcp", "headers": {"Authorization": "Bearer ${env:KEY}"}}}}"#;
    let answer = import(&scene, "", "application/json", cursor).await;
    assert_eq!(item(&answer, "cursor")["missing"], json!(["KEY"]), "{}", answer.json);
    let cursor = stored(&scene, "cursor").await;
    assert_eq!(cursor["enabled"], false, "it can't work without its key");
    let path = format!("/api/admin/upstreams/{}", cursor["id"].as_str().unwrap());
    let early = scene.post(&format!("{path}/enable"), json!({})).await;
    assert_eq!((early.status, &early.json["code"]), (409, &json!("CONFLICT")));
    assert!(early.json["detail"].as_str().unwrap().contains("KEY"), "{}", early.json);
    let given = json!({"credential": "k", "enabled": true});
    assert_eq!(scene.send("PATCH", &path, Some(given), &[("if-match", "\"1\"")]).await.status, 200);

    let code = r#"{
      // comments are allowed here
      "inputs": [{"type": "promptString", "id": "db", "password": true}, {"type": "promptString", "id": "level", "default": "info"}],
      "servers": {"code": {"type": "stdio", "command": "uvx", "args": ["pg==1.0", "${input:db}"], "env": {"LEVEL": "${input:level}"}},},
    }"#;
    let answer = import(&scene, "", "application/json", code).await;
    assert_eq!(item(&answer, "code")["command"], "LEVEL=info uvx pg==1.0 [secret]", "{}", answer.json);
    assert_eq!(item(&answer, "code")["missing"], json!(["db"]));

    let codex = "[mcp_servers.codex]\ncommand = \"npx\"\nargs = [\"-y\", \"a@1.0.0\"]\nenv = { A = \"b\" }\ntool_timeout_sec = 30\n\
                 [mcp_servers.far]\nurl = \"https://f.example/mcp\"\nbearer_token_env_var = \"FAR\"\nhttp_headers = { X-A = \"b\" }\n";
    for kind in ["application/toml", "text/plain"] {
        let answer = import(&scene, "?onConflict=replace", kind, codex).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
    }
    let first = stored(&scene, "codex").await;
    assert_eq!(
        (&first["callTimeoutS"], &first["connParams"]["env"], &first["version"]),
        (&json!(30), &json!({"A": "b"}), &json!(1))
    );
    assert_eq!(stored(&scene, "far").await["connParams"]["headers"], json!({"X-A": "b"}));

    let registry = json!({
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": "io.github.owner/weather", "description": "d", "version": "1.2.0",
        "packages": [
            {"registryType": "mcpb", "identifier": "https://x/y.mcpb", "transport": {"type": "stdio"}},
            {"registryType": "npm", "identifier": "@owner/weather", "version": "1.2.0", "transport": {"type": "stdio"},
             "packageArguments": [{"type": "named", "name": "--units", "default": "metric"}, {"type": "positional", "valueHint": "city", "isRequired": true}],
             "environmentVariables": [{"name": "WEATHER_KEY", "isRequired": true, "isSecret": true}, {"name": "EXTRA"}]},
        ],
    });
    let answer = import(&scene, "", "application/json", &registry.to_string()).await;
    let weather = item(&answer, "weather");
    assert_eq!(
        weather["command"], "WEATHER_KEY=[secret] npx -y @owner/weather@1.2.0 --units metric [secret]",
        "{}",
        answer.json
    );
    assert_eq!(weather["missing"], json!(["WEATHER_KEY", "city"]));

    let remote = json!({"servers": [{"server": {"name": "com.example/remote", "version": "1", "remotes": [
        {"type": "streamable-http", "url": "https://r.example/{tenant}/mcp", "variables": {"tenant": {"default": "main"}},
         "headers": [{"name": "Authorization", "value": "Bearer {token}", "variables": {"token": {"isSecret": true}}}]}]}}]});
    let answer = import(&scene, "", "application/json", &remote.to_string()).await;
    assert_eq!(item(&answer, "remote")["command"], "https://r.example/main/mcp", "{}", answer.json);
    assert_eq!(item(&answer, "remote")["secrets"], json!(["/credential"]));
}

#[tokio::test]
async fn everything_wrong_is_said_at_once_and_nothing_is_saved() {
    let scene = Scene::logged_in().await;
    let file = json!({"mcpServers": {
        "good": {"command": "npx"},
        "both": {"command": "npx", "url": "https://h/"},
        "neither": {},
        "types": {"command": "npx", "args": [1, true], "env": {"A": [], "LD-X": "b"}},
        "scheme": {"url": "file:///etc/passwd"},
        "odd": {"url": "https://h/", "type": "carrier-pigeon", "disabled": "no"},
        " spaced": {"command": "npx"},
        "hidden": {"command": "npx", "args": ["a\u{200B}b"]},
        "none": 7,
    }});
    let answer = import(&scene, "", "application/json", &file.to_string()).await;
    assert_eq!((answer.status, &answer.json["code"]), (422, &json!("VALIDATION")), "{}", answer.json);
    let mut pointers = answer.pointers();
    pointers.sort();
    assert_eq!(
        pointers,
        [
            "/mcpServers/ spaced",
            "/mcpServers/both/url",
            "/mcpServers/hidden/args/0",
            "/mcpServers/neither",
            "/mcpServers/none",
            "/mcpServers/odd/disabled",
            "/mcpServers/odd/type",
            "/mcpServers/scheme/url",
            "/mcpServers/types/args/1",
            "/mcpServers/types/env/A",
        ]
    );
    assert_eq!(scene.get("/api/admin/upstreams").await.json["total"], 0);
    let dry = import(&scene, "?dryRun=true", "application/json", &file.to_string()).await;
    assert_eq!(dry.status, 200);
    assert_eq!(item(&dry, "good")["action"], "create");
    assert_eq!(item(&dry, "both")["action"], "error");
    assert_eq!(item(&dry, "hidden")["errors"][0]["pointer"], "/mcpServers/hidden/args/0");
    let only = import(&scene, "?only=good", "application/json", &file.to_string()).await;
    assert_eq!(actions(&only), [("good".into(), "create".into())]);
}

/// T26: the policy of every write is asked here too.
#[tokio::test]
async fn what_the_policy_forbids_is_refused() {
    let scene = Scene::logged_in().await;
    scene.plane.forbid("/connParams/command", "this command is not allowed");
    let answer = import(
        &scene,
        "",
        "application/json",
        r#"{"mcpServers": {"a": {"command": "sh", "args": ["-c", "touch pwn"]}}}"#,
    )
    .await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/mcpServers/a/command".to_owned()]));
    assert_eq!(scene.get("/api/admin/upstreams").await.json["total"], 0);
}

#[tokio::test]
async fn files_that_are_none_are_refused() {
    let scene = Scene::logged_in().await;
    let many: serde_json::Map<String, Value> =
        (0..201).map(|n| (format!("s{n}"), json!({"command": "npx"}))).collect();
    let many = json!({"mcpServers": many}).to_string();
    let deep = format!("{{\"mcpServers\": {}", "[".repeat(10_000));
    for (file, kind, status) in [
        ("{", "application/json", 400),
        ("", "application/json", 400),
        ("= 1", "application/toml", 400),
        (deep.as_str(), "application/json", 400),
        (r#"{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}"#, "application/json", 400),
        ("[]", "application/json", 422),
        ("{}", "application/json", 422),
        (r#"{"mcpServers": []}"#, "application/json", 422),
        (r#"{"mcpServers": {}}"#, "application/json", 422),
        (many.as_str(), "application/json", 422),
        ("{}", "application/xml", 415),
    ] {
        let answer = import(&scene, "", kind, file).await;
        assert_eq!((answer.status, &answer.json["code"]), (status, &json!("VALIDATION")), "{file:.60}");
    }
    for (query, pointer) in [
        ("?dryRun=yes", "/dryRun"),
        ("?onConflict=keep", "/onConflict"),
        ("?dry=1", "/dry"),
        ("?only=nobody", "/only"),
        ("?replace=nobody", "/replace"),
    ] {
        assert_eq!(import(&scene, query, "application/json", CLAUDE).await.pointers(), [pointer], "{query}");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_skipped_replaced_or_an_error_as_asked() {
    let scene = Scene::logged_in().await;
    import(&scene, "", "application/json", CLAUDE).await;
    let other = r#"{"mcpServers": {"github": {"command": "uvx", "args": ["github==2.0"]}, "docs": {"url": "https://other.example/mcp"}}}"#;
    let skipped = import(&scene, "", "application/json", other).await;
    assert_eq!(actions(&skipped), [("docs".into(), "skip".into()), ("github".into(), "skip".into())]);
    let refused = import(&scene, "?onConflict=error", "application/json", other).await;
    assert_eq!(refused.pointers(), ["/mcpServers/docs", "/mcpServers/github"]);
    assert_eq!(stored(&scene, "github").await["version"], 1);

    let before = stored(&scene, "github").await;
    let replaced = import(&scene, "?replace=github", "application/json", other).await;
    assert_eq!(actions(&replaced), [("docs".into(), "skip".into()), ("github".into(), "replace".into())]);
    let after = stored(&scene, "github").await;
    assert_eq!(
        (&after["id"], &after["version"], &after["connParams"]["command"]),
        (&before["id"], &json!(2), &json!("uvx"))
    );
    assert_eq!((&after["connParams"]["env"], &after["sortOrder"]), (&json!({}), &before["sortOrder"]));
    assert_eq!(scene.audited("upstream.update").await.len(), 1);
}

/// What an export wrote brings everything back as it is: secrets, and what no client's file can say.
#[tokio::test]
async fn an_export_imported_again_changes_nothing() {
    let scene = Scene::logged_in().await;
    for body in [
        json!({"name": "files", "transport": "stdio", "credential": "c", "isolation": "per-key", "tags": ["t"], "namePrefix": "f_",
            "connParams": {"command": "npx", "args": ["-y", {"secret": "one"}, "--x", {"secret": "two"}, "${credential}"],
                "env": {"T": {"secret": "three"}, "U": "v ${credential}", "H": "${HOME}"}, "cwd": "/tmp"}}),
        json!({"name": "web", "transport": "streamable-http", "credential": "c", "connParams": {"url": "https://h/mcp?token=abc",
            "headers": {"X-T": {"secret": "s"}, "X-O": "o"}}, "enabled": false, "callTimeoutS": 7}),
        json!({"name": "auth", "transport": "streamable-http", "credential": "c",
            "connParams": {"url": "https://h/mcp", "headers": {"Authorization": "Bearer ${credential}"}}}),
        json!({"name": "basic", "transport": "sse", "connParams": {"url": "https://h/sse", "headers": {"Authorization": {"secret": "Basic x"}}}}),
        json!({"name": "key in url", "transport": "websocket", "credential": "c", "connParams": {"url": "wss://h/ws?key=${credential}"}}),
    ] {
        let answer = scene.post("/api/admin/upstreams", body).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
    }
    let list = async || scene.get("/api/admin/upstreams").await.json;
    let before = list().await;
    for format in ["mcp", "vscode", "codex"] {
        let file = scene.text(&format!("/api/admin/upstreams/export?format={format}")).await;
        let kind = if format == "codex" { "application/toml" } else { "application/json" };
        let answer = import(&scene, "?onConflict=replace", kind, &file).await;
        assert_eq!(answer.status, 200, "{file}\n{}", answer.json);
        for item in answer.json["items"].as_array().unwrap() {
            assert_eq!(
                (&item["action"], &item["missing"]),
                (&json!("skip"), &json!([])),
                "{format} {item} {file}"
            );
        }
        assert_eq!(list().await, before, "{format}");
    }
}

/// A variable of the machine that the file is from is a secret in every format, and switches its upstream off.
#[tokio::test]
async fn a_variable_in_codex_is_sealed_and_asked_for() {
    let scene = Scene::logged_in().await;
    let codex = "[mcp_servers.git]\ncommand = \"npx\"\nargs = [\"-y\", \"a@1.0.0\", \"--org=${ORG}\"]\n\
                 env = { LEVEL = \"${TOKEN}\", PLAIN = \"x\" }\n\
                 [mcp_servers.far]\nurl = \"https://f.example/mcp\"\nhttp_headers = { X-Org = \"${ORG}\" }\n";
    let answer = import(&scene, "", "application/toml", codex).await;
    let git = item(&answer, "git");
    assert_eq!(git["missing"], json!(["ORG", "TOKEN"]), "{}", answer.json);
    assert_eq!(git["secrets"], json!(["/connParams/args/2", "/connParams/env/LEVEL"]));
    assert_eq!(item(&answer, "far")["secrets"], json!(["/connParams/headers/X-Org"]));
    for name in ["git", "far"] {
        assert_eq!(stored(&scene, name).await["enabled"], false, "{name}");
    }
}

/// A file names an upstream and another place: what is stored stays where it was meant to go.
#[tokio::test]
async fn no_stored_secret_goes_to_another_place() {
    let scene = Scene::logged_in().await;
    for body in [
        json!({"name": "socket", "transport": "websocket", "credential": "CANARY",
            "connParams": {"url": "wss://h/ws?key=${credential}"}}),
        json!({"name": "header", "transport": "streamable-http",
            "connParams": {"url": "https://h/mcp", "headers": {"Authorization": {"secret": "Basic CANARY"}}}}),
        json!({"name": "web", "transport": "streamable-http", "credential": "CANARY",
            "connParams": {"url": "https://h/mcp", "headers": {"X-T": {"secret": "CANARY"}}}}),
        json!({"name": "files", "transport": "stdio", "connParams": {"command": "npx", "args": ["-y", "pkg@1.0.0"],
            "env": {"TOKEN": {"secret": "CANARY"}}}}),
    ] {
        let answer = scene.post("/api/admin/upstreams", body).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
    }
    let bearer = json!({"Authorization": "Bearer ${WEB_CREDENTIAL}", "X-T": "${WEB_X_T}"});
    for (name, server) in [
        ("socket", json!({"type": "ws", "url": "wss://evil/ws"})),
        ("socket", json!({"type": "ws", "url": "ws://h/ws?key=${SOCKET_CREDENTIAL}"})),
        ("header", json!({"type": "http", "url": "https://evil/mcp"})),
        (
            "header",
            json!({"type": "http", "url": "https://evil/mcp", "headers": {"Authorization": "${HEADER_AUTHORIZATION}"}}),
        ),
        ("header", json!({"type": "http", "url": "https://h/mcp"})),
        ("web", json!({"type": "http", "url": "https://evil/mcp", "headers": bearer})),
        ("web", json!({"type": "http", "url": "https://h:8443/mcp", "headers": bearer})),
        ("files", json!({"command": "sh", "args": ["-y", "pkg@1.0.0"], "env": {"TOKEN": "${TOKEN}"}})),
        ("files", json!({"command": "npx", "args": ["-y", "evil@1.0.0"], "env": {"TOKEN": "${TOKEN}"}})),
        (
            "files",
            json!({"command": "npx", "args": ["-y", "pkg@1.0.0"], "cwd": "/x", "env": {"TOKEN": "${TOKEN}"}}),
        ),
    ] {
        let id = stored(&scene, name).await["id"].as_str().unwrap().to_owned();
        let before = scene.stored(&id).await;
        let file = json!({"mcpServers": {name: server}}).to_string();
        let answer = import(&scene, &format!("?replace={name}"), "application/json", &file).await;
        assert_eq!((answer.status, actions(&answer)), (200, vec![(name.into(), "replace".into())]), "{file}");
        let after = scene.stored(&id).await;
        let kept = |text: &sql::model::Value| text.is_secret() && text.expose().contains("CANARY");
        let (sql::model::ConnParams::Http { headers: values, .. }
        | sql::model::ConnParams::Stdio { env: values, .. }) = &after.conn_params;
        assert!(!values.values().any(kept), "{file}");
        assert!(after.credential.is_none_or(|text| !text.expose().contains("CANARY")), "{file}");
        let missing = item(&answer, name)["missing"].as_array().unwrap().len();
        assert_eq!(after.enabled, missing == 0, "{file} {}", answer.json);
        let mut tx = scene.store.begin().await.unwrap();
        let again = sql::model::Upstream { version: after.version, ..before };
        assert!(sql::upstreams::update(&mut tx, &again, after.version).await.unwrap());
        tx.commit().await.unwrap();
    }
    // Another path of the same place is the same place.
    let file = json!({"mcpServers": {"web": {"type": "http", "url": "https://h/v2/mcp", "headers": bearer}}});
    let answer = import(&scene, "?replace=web", "application/json", &file.to_string()).await;
    assert_eq!(item(&answer, "web")["missing"], json!([]), "{}", answer.json);
    assert_eq!(item(&answer, "web")["secrets"], json!(["/connParams/headers/X-T", "/credential"]));
    assert_eq!(stored(&scene, "web").await["enabled"], json!(true));
}
