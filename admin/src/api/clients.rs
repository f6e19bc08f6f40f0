//! `GET /api/admin/clients`: how each client is told of this gateway, ready to paste.
//!
//! A key is never in a snippet: each names the place where that client takes it from.

mod snippets;

use axum::extract::State;
use axum::{Extension, Json};
use http::uri::Authority;
use http::{HeaderMap, Uri, header};
use proxy::context::ReachedByTls;
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::api::oauth::browser_base;
use crate::error::ApiError;
use crate::extract::{Admin, Query};

/// The longest name of a server in a client's file: some clients put it in front of every tool's name.
const NAME_CHARS_MAX: usize = 32;

/// How the gateway is to be called.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ClientsQuery {
    /// Its name in the client's file, of letters, digits, _ and -; `gateway` if not said.
    name: Option<String>,
    /// `smart` or `full` for that mode whatever the key says.
    mode: Option<String>,
}

/// Where the gateway is, and how clients are told.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClientsView {
    /// The gateway's address.
    url: String,
    /// Its endpoints, the best first.
    endpoints: Vec<Endpoint>,
    /// What to paste where.
    clients: Vec<Snippet>,
}

/// One endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    /// `streamable-http`, `sse` or `websocket`.
    transport: &'static str,
    /// Where it is.
    url: String,
    /// The eras that can be spoken there: `legacy`, `modern`.
    eras: Vec<&'static str>,
}

/// What one client is told.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Snippet {
    /// Which client, for a program.
    client: &'static str,
    /// Which client, for a person.
    name: &'static str,
    /// How it reaches the gateway: as an endpoint, or `stdio` for a command that it starts.
    transport: &'static str,
    /// The eras that it can speak there.
    eras: Vec<&'static str>,
    /// The file it belongs in; null for a command.
    file: Option<&'static str>,
    /// `json`, `toml` or `shell`.
    language: &'static str,
    /// What to paste.
    text: String,
    /// A link that has the client install it, where there is one.
    deep_link: Option<String>,
    /// What is easily missed.
    note: &'static str,
}

/// Ready-made snippets
#[utoipa::path(get, path = "/api/admin/clients", tag = "clients", params(ClientsQuery),
    responses((status = 200, body = ClientsView)))]
pub(crate) async fn clients(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<ClientsQuery>,
    by_tls: Option<Extension<ReachedByTls>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<ClientsView>, ApiError> {
    let name = name(query.name)?;
    let mode = mode(query.mode.as_deref())?;
    let by_tls = by_tls.is_some_and(|Extension(ReachedByTls(by_tls))| by_tls);
    let url = base(&app, &headers, &uri, if by_tls { "https" } else { "http" });
    let at = |end: &str| format!("{url}/mcp{mode}/{end}");
    let socket = at("ws").replacen("http", "ws", 1);
    let both = || vec!["legacy", "modern"];
    let endpoints = vec![
        Endpoint { transport: "streamable-http", url: at("http"), eras: both() },
        Endpoint { transport: "websocket", url: socket.clone(), eras: both() },
        Endpoint { transport: "sse", url: at("sse"), eras: vec!["legacy"] },
    ];
    let places = snippets::Places { name: &name, http: &at("http"), sse: &at("sse"), websocket: &socket };
    Ok(Json(ClientsView { clients: snippets::all(&places), endpoints, url }))
}

fn name(name: Option<String>) -> Result<String, ApiError> {
    let name = name.unwrap_or_else(|| "gateway".into());
    let fits = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let message = format!("must have 1 to {NAME_CHARS_MAX} letters, digits, _ and -");
    if fits { Ok(name) } else { Err(ApiError::field("/name", message)) }
}

fn mode(mode: Option<&str>) -> Result<&'static str, ApiError> {
    match mode {
        None => Ok(""),
        Some("smart") => Ok("/smart"),
        Some("full") => Ok("/full"),
        Some(_) => Err(ApiError::field("/mode", "must be smart or full")),
    }
}

/// As the operator says, else as this admin's browser found it: that much works from where it is. A browser says its
/// scheme only where it sends an origin; else it is the one by which the listener, or a trusted proxy, was reached.
fn base(app: &App, headers: &HeaderMap, uri: &Uri, scheme: &str) -> String {
    let says_itself = app.public_url.is_some() || headers.contains_key(header::ORIGIN);
    if let Some(base) = browser_base(app, headers).ok().filter(|_| says_itself) {
        return base;
    }
    // HTTP/2 has the host in the address.
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let host = host.or_else(|| uri.authority().map(Authority::as_str));
    let url = host.and_then(|host| Url::parse(&format!("{scheme}://{host}")).ok());
    url.map_or_else(|| "http://127.0.0.1:8080".into(), |url| url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use serde_json::{Value, json};
    use sql::model::Transport;

    use crate::client_files::{self, Language, Reach};
    use crate::testing::Scene;

    const PATH: &str = "/api/admin/clients";

    async fn registered(scene: Scene) -> Scene {
        scene.register().await;
        scene.logged_in_again().await
    }

    fn of<'a>(answer: &'a Value, client: &str, transport: &str) -> &'a Value {
        let all = answer["clients"].as_array().unwrap();
        all.iter().find(|one| one["client"] == client && one["transport"] == transport).unwrap()
    }

    /// What a client would make of its file is exactly this gateway, with the key from its own place.
    #[tokio::test]
    async fn each_file_says_the_endpoint_and_the_place_of_the_key() {
        let scene = registered(Scene::at("https://gateway.example/base/").await).await;
        let answer = scene.get(&format!("{PATH}?name=gw")).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        assert_eq!(answer.json["url"], "https://gateway.example/base");
        assert_eq!(answer.json["endpoints"][1]["url"], "wss://gateway.example/base/mcp/ws");
        let mut files = 0;
        for one in answer.json["clients"].as_array().unwrap() {
            let text = one["text"].as_str().unwrap();
            let language = match one["language"].as_str().unwrap() {
                "json" => Language::Json,
                "toml" => Language::Toml,
                language => {
                    assert_eq!((language, one["file"].is_null()), ("shell", true));
                    assert!(text.contains("gateway.example/base/mcp/"), "{text}");
                    continue;
                }
            };
            files += 1;
            let servers = client_files::read(text.as_bytes(), language).unwrap();
            let [server] = servers.as_slice() else { panic!("{text}") };
            assert_eq!(
                (server.name.as_str(), &server.problems, &server.warnings),
                ("gw", &vec![], &vec![]),
                "{text}"
            );
            match server.reach.as_ref().unwrap() {
                Reach::Address { transport, url, headers, bearer } => {
                    let path = if *transport == Transport::Sse { "sse" } else { "http" };
                    assert_eq!(url.text, format!("https://gateway.example/base/mcp/{path}"));
                    assert_eq!(one["transport"], transport.to_string());
                    assert!(headers.is_empty());
                    assert!(bearer.as_ref().unwrap().whole_variable().is_some(), "{text}");
                }
                Reach::Command { command, args, env, .. } => {
                    assert_eq!(command, "mcp-proxy-gateway");
                    assert_eq!(args[2].text, "https://gateway.example/base/mcp/http");
                    assert_eq!(env.keys().collect::<Vec<_>>(), ["MPG_KEY"]);
                }
            }
        }
        assert!(files >= 7, "{files}");
    }

    #[tokio::test]
    async fn the_details_that_break_a_client_are_right() {
        let scene = registered(Scene::at("https://g.example").await).await;
        let answer = scene.get(&format!("{PATH}?mode=smart")).await.json;
        let parsed = |client: &str, transport: &str| -> Value {
            serde_json::from_str(of(&answer, client, transport)["text"].as_str().unwrap()).unwrap()
        };
        let url = "https://g.example/mcp/smart/http";
        assert_eq!(
            parsed("claude-code", "streamable-http")["mcpServers"]["gateway"],
            json!({"type": "http", "url": url, "headers": {"Authorization": "Bearer ${MPG_KEY}"}})
        );
        assert_eq!(parsed("claude-code", "sse")["mcpServers"]["gateway"]["type"], "sse");
        assert_eq!(
            parsed("cursor", "streamable-http")["mcpServers"]["gateway"],
            json!({"url": url, "headers": {"Authorization": "Bearer ${env:MPG_KEY}"}})
        );
        let code = parsed("vscode", "streamable-http");
        assert_eq!(code["servers"]["gateway"]["headers"]["Authorization"], "Bearer ${input:mpg-key}");
        assert_eq!(
            (&code["inputs"][0]["id"], &code["inputs"][0]["password"]),
            (&json!("mpg-key"), &json!(true))
        );
        let desktop = &parsed("claude-desktop", "stdio")["mcpServers"]["gateway"];
        assert_eq!((desktop["url"].is_null(), &desktop["args"]), (true, &json!(["connect", "--url", url])));
        let codex = of(&answer, "codex", "streamable-http");
        assert!(codex["text"].as_str().unwrap().contains("bearer_token_env_var = \"MPG_KEY\""));
        assert!(!codex["text"].as_str().unwrap().contains("bearer_token ="));
        assert_eq!(of(&answer, "claude-code", "sse")["eras"], json!(["legacy"]));
        assert!(of(&answer, "websocket", "websocket")["text"].as_str().unwrap().starts_with("websocat"));
    }

    /// The console has them in its reader's language; in English they are these.
    #[tokio::test]
    async fn each_note_is_that_of_the_console() {
        let scene = registered(Scene::at("https://gateway.example").await).await;
        let answer = scene.get(PATH).await.json;
        let mut said = json!({});
        for one in answer["clients"].as_array().expect("a list") {
            let [client, transport] =
                ["client", "transport"].map(|member| one[member].as_str().expect("a text"));
            said[client][transport] = one["note"].clone();
        }
        let words = include_str!("../../../web/src/connect/locales/en.json");
        let words: Value = serde_json::from_str(words).expect("JSON");
        assert_eq!(words["connect"]["note"], said);
    }

    /// Every word of them was looked at, file by file. Rewritten by `UPDATE_SNIPPETS=1 cargo test -p admin`.
    #[tokio::test]
    async fn each_snippet_is_as_it_was_looked_at() {
        let scene = registered(Scene::at("https://gateway.example").await).await;
        let answer = scene.get(PATH).await.json;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/clients/snapshots");
        let mut expected = BTreeMap::new();
        for one in answer["clients"].as_array().expect("a list") {
            let text = |member: &str| one[member].as_str().unwrap_or_default();
            let ending = if text("language") == "shell" { "sh" } else { text("language") };
            let name = format!("{}.{}.{ending}", text("client"), text("transport"));
            let link = one["deepLink"].as_str().map(|link| format!("\n{link}\n")).unwrap_or_default();
            let content = format!("{}\n{link}", text("text"));
            assert!(expected.insert(name, content).is_none(), "two of {}", text("client"));
        }
        if std::env::var_os("UPDATE_SNIPPETS").is_some() {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).expect("a folder");
            for (name, content) in &expected {
                fs::write(folder.join(name), content).expect("a file");
            }
        }
        let files = fs::read_dir(&folder).expect("the snapshots").map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
            (name, fs::read_to_string(path).expect("a text"))
        });
        assert_eq!(files.collect::<BTreeMap<_, _>>(), expected, "run with UPDATE_SNIPPETS=1, and look");
    }

    #[tokio::test]
    async fn without_a_public_address_it_is_the_one_that_was_asked() {
        let scene = Scene::logged_in().await;
        for (headers, url) in [
            (&[("host", "10.0.0.5:8080")][..], "http://10.0.0.5:8080"),
            (
                &[("host", "localhost:8080"), ("origin", "https://console.example")][..],
                "https://console.example",
            ),
            (&[][..], "http://127.0.0.1:8080"),
        ] {
            assert_eq!(scene.send("GET", PATH, None, headers).await.json["url"], url);
        }
    }

    #[tokio::test]
    async fn a_name_that_breaks_a_file_is_refused() {
        let scene = Scene::logged_in().await;
        for name in ["", "a%20b", "a%22%5D", "..", &"x".repeat(33)] {
            assert_eq!(scene.get(&format!("{PATH}?name={name}")).await.pointers(), ["/name"], "{name}");
        }
        assert_eq!(scene.get(&format!("{PATH}?mode=fast")).await.pointers(), ["/mode"]);
    }
}
