//! `GET /api/admin/upstreams/export`: the upstreams as a client's file, with a variable in the place of each secret.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};
use serde::Deserialize;
use serde_json::json;
use sql::upstreams;
use utoipa::IntoParams;

use crate::App;
use crate::audit::{self, Act};
use crate::client_files::Server;
use crate::client_files::write::{self, Format};
use crate::error::ApiError;
use crate::extract::{Admin, Query};

/// Names the servers that the format can't say.
const LEFT_OUT: HeaderName = HeaderName::from_static("mpg-left-out");

/// Which file.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// `mcp` (Claude, Cursor; if not said), `vscode`, `codex` or `registry` (`server.json`).
    format: Option<String>,
}

/// Export the upstreams as a client's file
///
/// No secret is in it: `${NAME}` stands in its place. Imported again, what stands there as this wrote it keeps
/// what is stored. `mpg-left-out` has the names, percent-encoded and with commas between them, of those that
/// the format can't say.
#[utoipa::path(get, path = "/api/admin/upstreams/export", tag = "upstreams", params(ExportQuery),
    responses((status = 200, description = "The file", content((Object = "application/json"), (String = "application/toml")),
        headers(("Content-Disposition" = String), ("mpg-left-out" = Option<String>)))))]
pub(crate) async fn export(
    admin: Admin,
    State(app): State<App>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    let word = query.format.as_deref().unwrap_or("mcp");
    let known = Format::WORDS.iter().find(|(name, _)| *name == word);
    let (_, format) =
        *known.ok_or_else(|| ApiError::field("/format", "must be mcp, vscode, codex or registry"))?;
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let servers = Server::all(&upstreams::list(&mut tx).await?);
    let (text, left_out) = write::file(format, &servers);
    let diff = json!({"format": word, "upstreams": servers.len() - left_out.len()});
    audit::record(&mut tx, now, &admin, Act::on("upstream.export", "", "", diff)).await?;
    tx.commit().await?;
    let disposition = format!("attachment; filename=\"{}\"", format.file_name());
    let headers =
        [(header::CONTENT_TYPE, format.media_type().to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    let mut response = (headers, text).into_response();
    let names: Vec<String> = left_out.iter().map(|name| percent_encoded(name)).collect();
    if let Ok(value) = HeaderValue::from_str(&names.join(","))
        && !names.is_empty()
    {
        response.headers_mut().insert(LEFT_OUT, value);
    }
    Ok(response)
}

/// A name of which a header takes every character.
fn percent_encoded(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/upstreams/export";

    async fn scene() -> Scene {
        let scene = Scene::logged_in().await;
        for body in [
            json!({"name": "files", "transport": "stdio", "connParams": {"command": "npx",
                "args": ["-y", "pkg@1.0.0", {"secret": "CANARY-arg"}], "env": {"TOKEN": {"secret": "CANARY-env"}, "M": "x"}}}),
            json!({"name": "web", "transport": "streamable-http", "credential": "CANARY-credential", "enabled": false,
                "connParams": {"url": "https://h/mcp?api_key=CANARY-query&page=2", "headers": {"X-T": {"secret": "CANARY-header"}}}}),
            json!({"name": "old", "transport": "sse", "connParams": {"url": "https://h/sse"}}),
            json!({"name": "söckel, two", "transport": "websocket", "connParams": {"url": "wss://h/ws"}}),
        ] {
            let answer = scene.post("/api/admin/upstreams", body).await;
            assert_eq!(answer.status, 201, "{}", answer.json);
        }
        scene
    }

    /// T19: a variable stands in the place of each secret, in every format.
    #[tokio::test]
    async fn no_secret_is_in_a_file() {
        let scene = scene().await;
        let file = scene.get(PATH).await;
        assert_eq!(file.json["mcpServers"]["files"]["args"], json!(["-y", "pkg@1.0.0", "${FILES_ARG_3}"]));
        assert_eq!(file.json["mcpServers"]["files"]["env"], json!({"M": "x", "TOKEN": "${TOKEN}"}));
        assert_eq!(
            file.json["mcpServers"]["web"],
            json!({"type": "http", "disabled": true, "url": "https://h/mcp?api_key=${WEB_API_KEY}&page=2",
                "headers": {"Authorization": "Bearer ${WEB_CREDENTIAL}", "X-T": "${WEB_X_T}"}})
        );
        assert_eq!(file.headers["content-disposition"], "attachment; filename=\"mcp.json\"");
        for format in ["mcp", "vscode", "codex", "registry"] {
            let text = scene.text(&format!("{PATH}?format={format}")).await;
            assert!(text.contains("files") && !text.contains("CANARY"), "{text}");
        }
        assert_eq!(scene.audited("upstream.export").await.len(), 5);
    }

    #[tokio::test]
    async fn what_a_client_cannot_use_is_left_out_and_named() {
        let scene = scene().await;
        let names = |answer: &crate::testing::Answer| {
            answer.headers.get("mpg-left-out").map(|v| v.to_str().unwrap().to_owned())
        };
        assert_eq!(names(&scene.get(PATH).await), None);
        let vs_code = scene.get(&format!("{PATH}?format=vscode")).await;
        assert_eq!(
            names(&vs_code).as_deref(),
            Some("web,s%C3%B6ckel%2C%20two"),
            "switched off, or no transport of its"
        );
        assert_eq!(vs_code.json["servers"]["files"]["args"][2], "${input:FILES_ARG_3}");
        assert_eq!(vs_code.json["inputs"][0]["password"], true);
        let codex = scene.get(&format!("{PATH}?format=codex")).await;
        assert_eq!(names(&codex).as_deref(), Some("old,s%C3%B6ckel%2C%20two"));
        assert_eq!(codex.headers["content-type"], "application/toml");
    }

    /// Two secrets are two inputs, and what is written is read again as the same servers.
    #[tokio::test]
    async fn the_registrys_form_asks_for_each_secret_and_can_be_imported() {
        let scene = Scene::logged_in().await;
        for body in [
            json!({"name": "files", "transport": "stdio", "connParams": {"command": "npx",
                "args": ["-y", "@a/pkg@1.0.0", "/data", {"secret": "CANARY-arg"}], "env": {"TOKEN": {"secret": "CANARY-1"}, "M": "x"}}}),
            json!({"name": "other", "transport": "stdio", "connParams": {"command": "uvx", "args": ["pkg@2.0"],
                "env": {"TOKEN": {"secret": "CANARY-2"}}}}),
            json!({"name": "web", "transport": "streamable-http", "credential": "CANARY-3",
                "connParams": {"url": "https://h/mcp?api_key=CANARY-4&page=2"}}),
            json!({"name": "script", "transport": "stdio", "connParams": {"command": "node", "args": ["x.mjs"]}}),
            json!({"name": "loose", "transport": "stdio", "connParams": {"command": "npx", "args": ["-y", "pkg"]}}),
            json!({"name": "socket", "transport": "websocket", "connParams": {"url": "wss://h/ws"}}),
        ] {
            assert_eq!(scene.post("/api/admin/upstreams", body).await.status, 201);
        }
        let file = scene.get(&format!("{PATH}?format=registry")).await;
        assert_eq!(file.headers["mpg-left-out"], "script,loose,socket");
        assert!(!file.text.contains("CANARY"), "{}", file.text);
        let servers = &file.json["servers"];
        let asked = json!({"isRequired": true, "isSecret": true});
        let package = &servers[0]["packages"][0];
        assert_eq!(
            (&package["registryType"], &package["identifier"], &package["version"]),
            (&json!("npm"), &json!("@a/pkg"), &json!("1.0.0"))
        );
        assert_eq!(package["packageArguments"][1]["variables"], json!({ "FILES_ARG_4": asked }));
        let token = |server: usize, at: usize| {
            servers[server]["packages"][0]["environmentVariables"][at]["value"].as_str().unwrap().to_owned()
        };
        let tokens = [token(0, 1), token(1, 0)];
        assert!(tokens.iter().all(|token| token.starts_with("{TOKEN")), "{tokens:?}");
        assert_ne!(tokens[0], tokens[1], "two secrets never share a name");
        assert_eq!(servers[2]["remotes"][0]["url"], "https://h/mcp?api_key={WEB_API_KEY}&page=2");
        assert_eq!(servers[2]["remotes"][0]["headers"][0]["value"], "Bearer {WEB_CREDENTIAL}");

        let read = Scene::logged_in().await.post("/api/admin/upstreams/import?dryRun=true", file.json).await;
        assert_eq!(read.status, 200, "{}", read.json);
        let items = read.json["items"].as_array().unwrap();
        let missing = |index: usize| items[index]["missing"].as_array().unwrap().len();
        assert_eq!([missing(0), missing(1), missing(2)], [2, 1, 2], "{}", read.json);
        assert!(
            items.iter().all(|item| item["action"] == "create" && item["errors"] == json!([])),
            "{}",
            read.json
        );
        assert_eq!(items[0]["secrets"], json!(["/connParams/args/3", "/connParams/env/TOKEN"]));
    }

    #[tokio::test]
    async fn an_unknown_format_is_refused() {
        let scene = Scene::logged_in().await;
        assert_eq!(scene.get(&format!("{PATH}?format=ini")).await.pointers(), ["/format"]);
    }
}
