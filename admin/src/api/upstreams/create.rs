//! `POST /api/admin/upstreams`: a new upstream. Doesn't wait for its connection.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use sql::model::{Upstream, UpstreamId};
use sql::upstreams;

use super::input::{self, Input, UpstreamBody};
use super::name_taken;
use super::wire::{self, UpstreamView};
use crate::App;
use crate::audit::{self, Act};
use crate::error::ApiError;
use crate::extract::{self, Admin, etag};
use crate::idempotency::Created;

/// Create an upstream
///
/// With an `Idempotency-Key` the same request again answers the same, for ten minutes.
#[utoipa::path(post, path = "/api/admin/upstreams", tag = "upstreams", request_body = UpstreamBody,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = UpstreamView, headers(("Location" = String), ("ETag" = String)))))]
pub(crate) async fn create(
    admin: Admin,
    State(app): State<App>,
    headers: HeaderMap,
    body: extract::Json,
) -> Result<Response, ApiError> {
    let input = input::parse(&app, body.value, None)?;
    app.idempotency.once(admin.id, "upstream.create", &headers, &body.bytes, act(&app, &admin, input)).await
}

async fn act(app: &App, admin: &Admin, input: Input) -> Created {
    let now = app.store.clock().now();
    let mut tx = app.store.begin().await?;
    let mut upstream = Upstream::create(input.new, UpstreamId::at(now), now);
    if !input.placed {
        let last = upstreams::list(&mut tx).await?.into_iter().map(|other| other.sort_order).max();
        upstream.sort_order = last.map_or(0, |last| last.saturating_add(1));
    }
    upstreams::insert(&mut tx, &upstream).await.map_err(name_taken)?;
    let diff = audit::diff(None, Some(&wire::audited(&upstream, &app.fingerprint)));
    let act = Act::on("upstream.create", upstream.id, upstream.name.as_str(), diff);
    audit::record(&mut tx, now, admin, act).await?;
    let location = format!("/api/admin/upstreams/{}", upstream.id);
    let view = wire::view(&upstream, app.control.status(upstream.id));
    let mut response = (StatusCode::CREATED, [(header::LOCATION, location)], Json(view)).into_response();
    response.headers_mut().insert(header::ETAG, etag(upstream.version));
    Ok((tx, response))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::Scene;

    const PATH: &str = "/api/admin/upstreams";

    fn http() -> Value {
        json!({
            "name": "github",
            "transport": "streamable-http",
            "connParams": {
                "url": "https://host.example/mcp",
                "headers": {"X-Org": "a", "X-Token": {"secret": "CANARY-header"}},
            },
            "credential": "CANARY-credential",
        })
    }

    fn stdio() -> Value {
        json!({
            "name": "files",
            "transport": "stdio",
            "connParams": {
                "command": "npx",
                "args": ["-y", "@scope/server@1.2.3", {"secret": "CANARY-arg"}],
                "env": {"TOKEN": {"secret": "CANARY-env"}, "MODE": "x"},
                "cwd": null,
            },
        })
    }

    #[tokio::test]
    async fn a_new_upstream_has_a_place_a_version_and_no_visible_secret() {
        let scene = Scene::logged_in().await;
        let first = scene.post(PATH, http()).await;
        assert_eq!(first.status, 201, "{:?}", first.json);
        let id = first.json["id"].as_str().unwrap();
        assert_eq!(first.headers["location"], format!("{PATH}/{id}"));
        assert_eq!(first.headers["etag"], "\"1\"");
        assert_eq!(first.json["connParams"]["headers"], json!({"X-Org": "a", "X-Token": {"secret": true}}));
        assert_eq!(first.json["credentialSet"], true);
        assert_eq!((&first.json["state"], &first.json["sortOrder"]), (&json!("connecting"), &json!(0)));

        let second = scene.post(PATH, stdio()).await;
        assert_eq!(second.json["sortOrder"], 1);
        assert_eq!(second.json["connParams"]["args"][2], json!({"secret": true}));
        assert_eq!(scene.get(&format!("{PATH}/{id}")).await.json, first.json);
    }

    /// T19.
    #[tokio::test]
    async fn secrets_are_in_no_answer_and_no_audit_event() {
        let scene = Scene::logged_in().await;
        for body in [http(), stdio()] {
            let created = scene.post(PATH, body).await;
            let id = created.json["id"].as_str().unwrap().to_owned();
            let read = scene.get(&format!("{PATH}/{id}")).await;
            for answer in [created, read, scene.get(PATH).await] {
                assert!(!answer.json.to_string().contains("CANARY"), "{}", answer.json);
            }
        }
        let events = scene.audited("upstream.create").await;
        assert_eq!(events.len(), 2);
        for event in events {
            assert!(!format!("{event:?}").contains("CANARY"), "{event:?}");
            assert_eq!(event.diff["/transport"]["after"].as_str().map(str::is_empty), Some(false));
        }
    }

    #[tokio::test]
    async fn everything_wrong_is_said_at_once() {
        let scene = Scene::logged_in().await;
        let body = json!({
            "name": " x",
            "transport": "streamable-http",
            "connParams": {
                "url": "http://good@127.0.0.1/",
                "headers": {"Host": "a", "b c": "d", "E": 1, "F": {"secret": true}},
                "command": "npx",
            },
            "enabled": "yes",
            "callTimeoutS": 0,
            "isolation": "per-user",
            "tags": ["a", "a"],
            "sync": {"toolz": true},
            "namePrefix": "a b",
            "onToolChange": "ask",
            "surprise": 1,
        });
        let answer = scene.post(PATH, body).await;
        assert_eq!((answer.status, &answer.json["code"]), (422, &json!("VALIDATION")));
        let mut pointers = answer.pointers();
        pointers.sort();
        assert_eq!(
            pointers,
            [
                "/callTimeoutS",
                "/connParams/command",
                "/connParams/headers/E",
                "/connParams/headers/F",
                "/connParams/headers/Host",
                "/connParams/headers/b c",
                "/connParams/url",
                "/enabled",
                "/isolation",
                "/name",
                "/namePrefix",
                "/onToolChange",
                "/surprise",
                "/sync/toolz",
                "/tags/1",
            ]
        );
        assert_eq!(scene.get(PATH).await.json["total"], 0);
    }

    /// T27, as far as the body shows it.
    #[tokio::test]
    async fn addresses_that_are_none_are_refused() {
        let scene = Scene::logged_in().await;
        for url in [
            "file:///etc/passwd",
            "gopher://h/",
            "unix:/x",
            "http://a@h/",
            "h/mcp",
            "https://h/#f",
            "ws://h/",
        ] {
            let mut body = http();
            body["connParams"]["url"] = json!(url);
            let answer = scene.post(PATH, body).await;
            assert_eq!(
                (answer.status, answer.pointers()),
                (422, vec!["/connParams/url".to_owned()]),
                "{url}"
            );
        }
    }

    /// T26 and T27: the data plane's policy is asked at every write.
    #[tokio::test]
    async fn what_the_policy_forbids_is_refused_with_the_rest() {
        let scene = Scene::logged_in().await;
        scene.plane.forbid("/connParams/command", "this command is not allowed");
        let mut body = stdio();
        body["name"] = json!("");
        let answer = scene.post(PATH, body).await;
        assert_eq!(answer.pointers(), ["/name", "/connParams/command"]);
    }

    #[tokio::test]
    async fn every_transport_and_isolation_is_taken_with_its_schemes() {
        let scene = Scene::logged_in().await;
        for (transport, scheme, isolation) in [
            ("sse", "https", "shared"),
            ("websocket", "ws", "per-session"),
            ("websocket", "wss", "per-key"),
            ("websocket", "https", "per-key"),
            ("streamable-http", "http", "per-session"),
        ] {
            let mut body = http();
            body["name"] = json!(format!("{transport} {scheme}"));
            body["transport"] = json!(transport);
            body["isolation"] = json!(isolation);
            body["connParams"]["url"] = json!(format!("{scheme}://mcp.example.com/"));
            let answer = scene.post(PATH, body).await;
            assert_eq!(answer.status, 201, "{:?}", answer.json);
            assert_eq!(
                (&answer.json["transport"], &answer.json["isolation"]),
                (&json!(transport), &json!(isolation))
            );
        }
        for (transport, scheme) in
            [("sse", "ws"), ("streamable-http", "wss"), ("websocket", "ftp"), ("carrier-pigeon", "https")]
        {
            let mut body = http();
            body["transport"] = json!(transport);
            body["connParams"]["url"] = json!(format!("{scheme}://mcp.example.com/"));
            assert_eq!(scene.post(PATH, body).await.status, 422, "{transport} {scheme}");
        }
    }

    #[tokio::test]
    async fn headers_of_the_upgrade_are_the_transports_own() {
        let scene = Scene::logged_in().await;
        let mut body = http();
        body["transport"] = json!("websocket");
        body["connParams"]["headers"] = json!({"Sec-WebSocket-Protocol": "other"});
        assert_eq!(scene.post(PATH, body).await.pointers(), ["/connParams/headers/Sec-WebSocket-Protocol"]);
    }

    #[tokio::test]
    async fn a_name_is_unique() {
        let scene = Scene::logged_in().await;
        scene.post(PATH, http()).await;
        let answer = scene.post(PATH, http()).await;
        assert_eq!((answer.status, &answer.json["code"]), (409, &json!("CONFLICT")));
        assert_eq!(answer.pointers(), ["/name"]);
    }

    #[tokio::test]
    async fn the_same_request_again_creates_nothing() {
        let scene = Scene::logged_in().await;
        let key = [("idempotency-key", "one")];
        let first = scene.send("POST", PATH, Some(http()), &key).await;
        let again = scene.send("POST", PATH, Some(http()), &key).await;
        assert_eq!((first.status, again.status), (201, 201));
        assert_eq!(first.json, again.json);
        assert_eq!(first.headers["etag"], again.headers["etag"]);
        assert_eq!(scene.get(PATH).await.json["total"], 1);
        assert_eq!(scene.send("POST", PATH, Some(stdio()), &key).await.status, 409, "another body");
    }

    #[tokio::test]
    async fn a_failure_may_be_tried_again_under_its_key() {
        let scene = Scene::logged_in().await;
        scene.post(PATH, http()).await;
        let key = [("idempotency-key", "one")];
        assert_eq!(scene.send("POST", PATH, Some(http()), &key).await.status, 409);
        let mut renamed = http();
        renamed["name"] = json!("other");
        assert_eq!(scene.send("POST", PATH, Some(renamed), &key).await.status, 201);
    }
}
