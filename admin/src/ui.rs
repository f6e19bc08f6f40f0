//! The embedded console: its files, and how long a browser may keep them.
//!
//! Vite names what lies under `assets/` by its content, so those files never change and may be kept
//! for ever. Everything else is revalidated by ETag, and `index.html` isn't stored at all: it names
//! the others. A path that is no file is a page of the console and gets `index.html`.

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::error::ApiError;

/// What the build found, see `build.rs`.
#[derive(RustEmbed)]
#[cfg_attr(console_built, folder = "../web/dist")]
#[cfg_attr(not(console_built), folder = "placeholder")]
struct Files;

const INDEX: &str = "index.html";

/// The folder of files named by their content.
const HASHED: &str = "assets/";

/// Precompressed variants, best first: the encoding, and what its file's name ends in.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// Answers everything that is not the API.
pub(crate) async fn serve(request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    if path.starts_with("api/") || path == "api" {
        return ApiError::NotFound("route").into_response();
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return ApiError::MethodNotAllowed.into_response();
    }
    match choose(path, request.headers()) {
        Some(choice) => choice.respond(request.headers()),
        None => ApiError::NotFound("file").into_response(),
    }
}

struct Choice<'a> {
    path: &'a str,
    encoding: Option<&'static str>,
    file: EmbeddedFile,
}

fn choose<'a>(path: &'a str, headers: &HeaderMap) -> Option<Choice<'a>> {
    // An asset that is gone must not come back as a page: a browser would run HTML as a script.
    let path = match Files::get(path) {
        Some(_) => path,
        None if path.starts_with(HASHED) => return None,
        None => INDEX,
    };
    for (encoding, suffix) in ENCODINGS {
        if accepts(headers, encoding)
            && let Some(file) = Files::get(&format!("{path}{suffix}"))
        {
            return Some(Choice { path, encoding: Some(encoding), file });
        }
    }
    Files::get(path).map(|file| Choice { path, encoding: None, file })
}

/// Whether `Accept-Encoding` names `encoding` without the weight 0.
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| {
            let mut parts = item.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding));
            let refused = parts
                .filter_map(|part| part.strip_prefix("q="))
                .any(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0));
            named && !refused
        })
}

impl Choice<'_> {
    fn respond(self, asked: &HeaderMap) -> Response {
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(self.file.metadata.sha256_hash()));
        let unchanged = asked
            .get(header::IF_NONE_MATCH)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag));
        let body = match self.file.data {
            _ if unchanged => Body::empty(),
            Cow::Borrowed(bytes) => Body::from(bytes),
            Cow::Owned(bytes) => Body::from(bytes),
        };
        let mut response = Response::new(body);
        if unchanged {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep(self.path)));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            headers.insert(header::ETAG, etag);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(self.path)));
        if let Some(encoding) = self.encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        response
    }
}

fn keep(path: &str) -> &'static str {
    if path == INDEX {
        "no-store"
    } else if path.starts_with(HASHED) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    }
}

/// By the name, since a precompressed file's own would say `application/gzip`.
fn content_type(path: &str) -> &'static str {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scene;

    #[tokio::test]
    async fn a_page_of_the_console_is_its_index() {
        let scene = Scene::new().await;
        for path in ["/", "/upstreams", "/keys/some-id?tab=limits"] {
            let answer = scene.get(path).await;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
            assert_eq!(answer.headers["cache-control"], "no-store");
        }
    }

    #[tokio::test]
    async fn a_missing_asset_is_not_a_page() {
        let scene = Scene::new().await;
        assert_eq!(scene.get("/assets/gone-abc123.js").await.status, 404);
    }

    #[tokio::test]
    async fn what_a_browser_has_is_not_sent_again() {
        let scene = Scene::new().await;
        let etag = scene.get("/").await.headers["etag"].to_str().unwrap().to_owned();
        let again = scene.send("GET", "/", None, &[("if-none-match", &etag)]).await;
        assert_eq!(again.status, 304);
        let other = scene.send("GET", "/", None, &[("if-none-match", "\"x\"")]).await;
        assert_eq!(other.status, 200);
    }

    #[test]
    fn only_what_is_named_by_its_content_is_kept() {
        assert_eq!(keep("index.html"), "no-store");
        assert_eq!(keep("assets/app-abc123.js"), "public, max-age=31536000, immutable");
        assert_eq!(keep("favicon.svg"), "no-cache");
    }

    #[test]
    fn an_encoding_of_weight_0_is_refused() {
        let headers =
            |value| HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]);
        assert!(accepts(&headers("gzip, br"), "br"));
        assert!(accepts(&headers("gzip;q=0.5,BR;q=1.0"), "br"));
        assert!(!accepts(&headers("gzip, br;q=0"), "br"));
        assert!(!accepts(&headers("gzip"), "br"));
        assert!(!accepts(&HeaderMap::new(), "gzip"));
    }
}
