//! What holds for every route, by going through the list.

use serde_json::{Value, json};

use super::{Access, groups, operations};
use crate::testing::{Answer, Scene, token_of};

/// (method, path with ids that nothing has, whether it has an id) of every route of a class.
pub(super) fn routes_of(wanted: Access) -> Vec<(&'static str, String, bool)> {
    let mut routes = Vec::new();
    for (access, _, group) in groups() {
        for (path, mut item) in group.into_openapi().paths.paths {
            assert_eq!(
                path.starts_with("/api/admin/"),
                access == Access::Admin,
                "{path} is in the wrong class"
            );
            let methods = [
                ("GET", item.get.is_some()),
                ("POST", item.post.is_some()),
                ("PATCH", item.patch.is_some()),
                ("DELETE", item.delete.is_some()),
            ];
            assert_eq!(
                operations(&mut item).count(),
                methods.iter().filter(|(_, there)| *there).count(),
                "{path} has a method that these tests don't know"
            );
            for (method, _) in methods.into_iter().filter(|(_, there)| *there && access == wanted) {
                let id = "01890000-0000-7000-8000-000000000000";
                let at = path.replace("{id}", id).replace("{sid}", id);
                routes.push((method, at, path.contains("{id}")));
            }
        }
    }
    routes
}

fn assert_refused(answer: &Answer, what: &str) {
    assert_eq!((answer.status, &answer.json["code"]), (401, &json!("UNAUTHORIZED")), "{what}");
    assert_eq!(answer.headers["www-authenticate"], "Bearer", "{what}");
    assert!(answer.headers.get("set-cookie").is_none(), "{what}");
}

/// Which of the two would count is nothing to guess at.
#[tokio::test]
async fn what_is_asked_twice_is_refused_with_its_name() {
    let scene = Scene::logged_in().await;
    let document: Value = serde_json::from_str(&super::openapi()).expect("is JSON");
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().expect("has paths") {
        let parameters = item["get"]["parameters"].as_array().cloned().unwrap_or_default();
        let Some(parameter) = parameters.iter().find(|parameter| parameter["in"] == "query") else {
            continue;
        };
        let name = parameter["name"].as_str().expect("has a name");
        let at = path.replace("{id}", "01890000-0000-7000-8000-000000000000");
        let answer = scene.get(&format!("{at}?{name}=1&{name}=1")).await;
        let said = (answer.status, &answer.json["errors"][0]["pointer"]);
        // The browser that comes back from an authorization server is told what it is told in every case.
        if path != "/api/auth/oauth/callback" {
            assert_eq!(said, (422, &json!(format!("/{name}"))), "{path}: {}", answer.json);
            asked += 1;
        }
    }
    assert!(asked >= 20, "{asked}");
}

/// T16, T21: by no way in but a token of our own, and all refusals look alike.
#[tokio::test]
async fn admin_routes_refuse_whoever_is_no_admin() {
    let scene = Scene::logged_in().await;
    let (_, key) = scene.key("k").await;
    let stranger = scene.clone().logged_out();
    let routes = routes_of(Access::Admin);
    assert!(routes.len() >= 30, "{}", routes.len());
    let reference = stranger.get("/api/admin/auth/me").await.without_request_id();
    for (method, path, _) in routes {
        let bearer = format!("Bearer {key}");
        let cookie = format!("token={}", token_of(&scene));
        for header in [
            ("x-nothing", ""),
            ("authorization", bearer.as_str()),
            ("authorization", "Bearer"),
            ("authorization", "Basic cm9vdDpyb290"),
            ("x-api-key", key.as_str()),
            ("cookie", cookie.as_str()),
        ] {
            let answer = stranger.send(method, &path, Some(json!({})), &[header]).await;
            assert_refused(&answer, &format!("{method} {path} with {header:?}"));
            assert_eq!(answer.without_request_id(), reference);
        }
    }
}

#[tokio::test]
async fn a_cross_site_form_changes_nothing() {
    let scene = Scene::logged_in().await;
    for (method, path, _) in routes_of(Access::Admin) {
        let form =
            [("content-type", "application/x-www-form-urlencoded"), ("origin", "https://evil.example")];
        let answer = scene.clone().logged_out().send_raw(method, &path, "name=a", &form).await;
        assert_refused(&answer, &path);
        assert!(answer.headers.get("access-control-allow-origin").is_none());
    }
}

#[tokio::test]
async fn what_an_id_names_must_exist() {
    let scene = Scene::logged_in().await;
    let mut tried = 0;
    for (method, path, _) in routes_of(Access::Admin).into_iter().filter(|(_, _, has_id)| *has_id) {
        for path in [path.clone(), path.replace("01890000-0000-7000-8000-000000000000", "not-an-id")] {
            let answer = scene.send(method, &path, Some(json!({})), &[]).await;
            assert_eq!(answer.status, 404, "{method} {path}: {}", answer.json);
            assert_eq!(answer.json["status"], 404);
            tried += 1;
        }
    }
    assert!(tried > 20);
}

#[tokio::test]
async fn every_answer_is_dressed() {
    let scene = Scene::new().await;
    for path in ["/", "/api/auth/status", "/api/admin/upstreams", "/api/nothing", "/api/openapi.json"] {
        let headers = scene.get(path).await.headers;
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(!policy.contains("unsafe"), "{policy}");
        for part in ["default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        // What a tool answers may be seen and heard; nothing else stands in the page itself.
        let inline = policy.split("; ").filter(|part| part.contains("data:") || part.contains("blob:"));
        assert_eq!(inline.collect::<Vec<_>>(), ["img-src 'self' data:", "media-src 'self' data:"]);
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert_eq!(headers["cross-origin-opener-policy"], "same-origin");
        assert!(headers.contains_key("cache-control"), "{path}");
    }
}

#[tokio::test]
async fn what_is_no_route_is_a_problem() {
    let scene = Scene::logged_in().await;
    for (method, path, status) in [
        ("GET", "/api/nothing", 404),
        ("GET", "/api", 404),
        ("GET", "/api/admin", 404),
        ("GET", "/api/admin/upstreams/", 404),
        ("PUT", "/api/admin/upstreams", 405),
        ("POST", "/", 405),
        ("POST", "/api/nothing", 404),
    ] {
        let answer = scene.send(method, path, None, &[]).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.json["requestId"], "request-1");
    }
}

#[tokio::test]
async fn bodies_that_are_none_are_refused() {
    let scene = Scene::logged_in().await;
    let path = "/api/admin/upstreams";
    let json = [("content-type", "application/json")];
    for (body, headers, status) in [
        ("{", &json[..], 400),
        ("", &json[..], 400),
        ("[]", &json[..], 422),
        ("{}", &[("content-type", "text/plain")][..], 415),
        ("{}", &[][..], 415),
    ] {
        let answer = scene.send_raw("POST", path, body, headers).await;
        assert_eq!((answer.status, &answer.json["code"]), (status, &json!("VALIDATION")), "{body:?}");
    }
    let huge = "x".repeat(crate::extract::BODY_BYTES_MAX + 1);
    assert_eq!(scene.send_raw("POST", path, &huge, &json).await.status, 413);
    let deep = "[".repeat(100_000);
    assert_eq!(scene.send_raw("POST", path, &deep, &json).await.status, 400);
}

/// F28.
#[tokio::test]
async fn a_panic_is_one_answer() {
    let scene = Scene::logged_in().await;
    scene.plane.break_down();
    let answer = scene.get("/api/admin/health").await;
    assert_eq!((answer.status, &answer.json["code"]), (500, &json!("INTERNAL")));
    assert!(!answer.json.to_string().contains("CANARY"));
    assert_eq!(scene.get("/api/admin/health").await.status, 200);
}

/// F10, T33: while the store is away the admin is told so, and nothing else.
#[tokio::test]
async fn without_its_store_everything_is_unavailable() {
    let scene = Scene::logged_in().await;
    scene.store.close().await;
    for (method, path) in
        [("GET", "/api/auth/status"), ("GET", "/api/admin/keys"), ("POST", "/api/admin/keys")]
    {
        let answer = scene.send(method, path, Some(json!({"name": "k"})), &[]).await;
        assert_eq!((answer.status, &answer.json["code"]), (503, &json!("SERVICE_UNAVAILABLE")), "{path}");
        assert_eq!(answer.headers["retry-after"], "5");
        let text = answer.json.to_string().to_lowercase();
        for word in ["select", "sqlite", "postgres", "panicked", "/home"] {
            assert!(!text.contains(word), "{text}");
        }
    }
}

#[test]
fn every_operation_has_an_id_of_its_own() {
    let document: serde_json::Value = serde_json::from_str(&super::openapi()).unwrap();
    let mut seen = std::collections::HashSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(seen.insert(id.to_owned()), "{id} is there twice");
        }
    }
}

/// Rewritten by `UPDATE_OPENAPI=1 cargo test -p admin`.
#[test]
fn the_checked_in_document_is_the_generated_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let generated = super::openapi();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(checked_in == generated, "admin/openapi.json is out of date: run with UPDATE_OPENAPI=1");
}
