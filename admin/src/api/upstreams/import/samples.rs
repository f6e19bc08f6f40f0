//! Files as people have them, of five clients and the registry: what each would become, line by line, and becomes.

use serde_json::{Value, json};

use super::tests::{import, stored};
use crate::testing::Scene;

/// A file, how it is sent, and of each of its servers by their names: what would run or be reached, what of that is
/// sealed, and what has to be given before it can work.
struct Sample {
    file: &'static str,
    kind: &'static str,
    content: &'static str,
    servers: &'static [(&'static str, &'static str, &'static [&'static str], &'static [&'static str])],
}

const SAMPLES: [Sample; 6] = [
    Sample {
        file: "claude_desktop_config.json",
        kind: "application/json",
        content: include_str!("samples/claude_desktop_config.json"),
        servers: &[
            (
                "filesystem",
                "npx -y @modelcontextprotocol/server-filesystem@2026.7.10 /Users/ann/Documents '/Users/ann/My Notes'",
                &[],
                &[],
            ),
            (
                "github",
                "GITHUB_PERSONAL_ACCESS_TOKEN=[secret] docker run -i --rm -e GITHUB_PERSONAL_ACCESS_TOKEN \
                 ghcr.io/github/github-mcp-server:v1.4.0",
                &["/connParams/env/GITHUB_PERSONAL_ACCESS_TOKEN"],
                &[],
            ),
            (
                "postgres",
                "npx -y @modelcontextprotocol/server-postgres@0.6.2 [secret]",
                &["/connParams/args/2"],
                &[],
            ),
            (
                "search",
                "LOG_LEVEL=warn uvx search-mcp==2.1.0 --api-key [secret] --region eu",
                &["/connParams/args/2"],
                &[],
            ),
        ],
    },
    Sample {
        file: "claude_code.mcp.json",
        kind: "application/json",
        content: include_str!("samples/claude_code.mcp.json"),
        servers: &[
            ("asana", "https://mcp.asana.example/sse", &[], &[]),
            ("build", "./tools/build-mcp", &[], &[]),
            ("linear", "https://mcp.linear.example/mcp", &["/credential"], &["LINEAR_TOKEN"]),
            (
                "sentry",
                "SENTRY_HOST=sentry.example SENTRY_ORG=acme npx -y @sentry/mcp-server@0.20.0 [secret]",
                &["/connParams/args/2"],
                &[],
            ),
        ],
    },
    Sample {
        file: "cursor.mcp.json",
        kind: "application/json",
        content: include_str!("samples/cursor.mcp.json"),
        servers: &[
            ("figma", "http://127.0.0.1:3845/mcp", &[], &[]),
            ("internal", "https://tools.example/mcp", &["/connParams/headers/X-Api-Key"], &["INTERNAL_KEY"]),
            (
                "notion",
                "OPENAPI_MCP_HEADERS=[secret] npx -y @notionhq/notion-mcp-server@1.9.1",
                &["/connParams/env/OPENAPI_MCP_HEADERS"],
                &[],
            ),
        ],
    },
    Sample {
        file: "vscode.mcp.json",
        kind: "application/json",
        content: include_str!("samples/vscode.mcp.json"),
        servers: &[
            ("github", "https://api.githubcopilot.example/mcp/", &["/credential"], &["github-token"]),
            ("local", "python3 -m local_mcp", &[], &[]),
            (
                "perplexity",
                "PERPLEXITY_API_KEY=[secret] REGION=eu npx -y server-perplexity-ask@0.1.3",
                &["/connParams/env/PERPLEXITY_API_KEY"],
                &["perplexity-key"],
            ),
            ("playwright", "npx -y @playwright/mcp@0.0.60 --headless", &[], &[]),
        ],
    },
    Sample {
        file: "codex.config.toml",
        kind: "application/toml",
        content: include_str!("samples/codex.config.toml"),
        servers: &[
            (
                "context7",
                "CONTEXT7_API_KEY=[secret] npx -y @upstash/context7-mcp@1.0.30",
                &["/connParams/env/CONTEXT7_API_KEY"],
                &[],
            ),
            (
                "figma",
                "https://mcp.figma.example/mcp",
                &["/connParams/headers/X-Figma-Team", "/credential"],
                &["FIGMA_OAUTH_TOKEN", "FIGMA_TEAM"],
            ),
            (
                "legacy",
                "LEGACY_TOKEN=[secret] /opt/legacy/bin/mcp",
                &["/connParams/env/LEGACY_TOKEN"],
                &["LEGACY_TOKEN"],
            ),
        ],
    },
    Sample {
        file: "server.json",
        kind: "application/json",
        content: include_str!("samples/server.json"),
        servers: &[(
            "weather",
            "WEATHER_API_KEY=[secret] WEATHER_CACHE=on uvx weather-mcp@2.3.1 --units metric --station [secret]",
            &["/connParams/args/4", "/connParams/env/WEATHER_API_KEY"],
            &["WEATHER_API_KEY", "station"],
        )],
    },
];

/// What the files themselves switch off.
const DISABLED: [&str; 2] = ["notion", "legacy"];

#[tokio::test]
async fn each_file_is_shown_line_by_line_before_it_is_taken() {
    for Sample { file, kind, content, servers } in SAMPLES {
        let scene = Scene::logged_in().await;
        let answer = import(&scene, "?dryRun=true", kind, content).await;
        assert_eq!(answer.status, 200, "{file}: {}", answer.json);
        let line = |item: &Value| {
            json!([
                item["name"],
                item["action"],
                item["command"],
                item["secrets"],
                item["missing"],
                item["errors"]
            ])
        };
        let shown: Vec<Value> = answer.json["items"].as_array().expect("a list").iter().map(line).collect();
        let expected: Vec<Value> = servers
            .iter()
            .map(|(name, command, secrets, missing)| json!([name, "create", command, secrets, missing, []]))
            .collect();
        assert_eq!(shown, expected, "{file}");
        assert!(!answer.text.contains("CANARY"), "{file}: {}", answer.text);
        assert_eq!(scene.get("/api/admin/upstreams").await.json["total"], 0, "{file}");
    }
}

#[tokio::test]
async fn each_file_becomes_upstreams_with_nothing_secret_in_sight() {
    for Sample { file, kind, content, servers } in SAMPLES {
        let scene = Scene::logged_in().await;
        let answer = import(&scene, "", kind, content).await;
        assert_eq!(answer.status, 200, "{file}: {}", answer.json);
        for (name, command, _, missing) in servers {
            let upstream = stored(&scene, name).await;
            let works = missing.is_empty() && !DISABLED.contains(name);
            assert_eq!(upstream["enabled"], works, "{file}: {name}");
            let transport = match upstream["transport"].as_str().expect("a word") {
                "stdio" => !command.starts_with("http"),
                "sse" => command.ends_with("/sse"),
                other => other == "streamable-http" && command.starts_with("http"),
            };
            assert!(transport, "{file}: {name}: {}", upstream["transport"]);
            assert!(!upstream.to_string().contains("CANARY"), "{file}: {upstream}");
        }
        assert_eq!(scene.get("/api/admin/upstreams").await.json["total"], servers.len(), "{file}");
    }
}
