//! Where an upstream lives and what every request to it carries.
//!
//! All headers come from the upstream's own record, and from what an admin authorised there: nothing of a
//! client's request reaches an upstream but the message itself (T09).

use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::request::Builder;
use http::{Method, Request, StatusCode, Uri};
use sql::model::{ConnParams, Upstream};

use super::call::CallError;
use super::egress::Egress;
use super::link::{Negotiated, OpenError, Stage};
use super::oauth::{self, Credentials, Pass};
use crate::wire::headers::{MCP_PROTOCOL_VERSION, MCP_SESSION_ID};

/// What stands for the upstream's credential in a URL or a header value.
const CREDENTIAL: &str = "${credential}";

/// Headers that belong to HTTP or to the protocol: what a record says about them is passed over.
pub(crate) const OURS: [&str; 15] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "accept",
    "accept-encoding",
    "last-event-id",
    "user-agent",
];

/// Whole families of them.
const OUR_PREFIXES: [&str; 2] = ["mcp-", "sec-websocket-"];

/// Headers that a request has besides those of its upstream, `Host` and the length included.
const OWN_HEADERS: usize = 10;

/// An upstream's address and its own headers.
pub(crate) struct Target {
    uri: Uri,
    headers: HeaderMap,
    /// Where `pass` is shown.
    origin: String,
    pass: Arc<Pass>,
    /// The record has an `Authorization` header of its own.
    is_authorized_by_itself: bool,
    credentials: Credentials,
}

impl Target {
    /// Reads the record of an upstream. The address of a WebSocket becomes that of the HTTP request it begins
    /// with.
    pub(crate) fn of(spec: &Upstream, egress: Egress, pass: &Arc<Pass>) -> Result<Self, OpenError> {
        let refused = |reason: String| OpenError::new(Stage::Resolve, reason);
        let ConnParams::Http { url, headers } = &spec.conn_params else {
            return Err(refused("the upstream has no URL".into()));
        };
        let credential = spec.credential.as_ref().map(|credential| credential.expose().as_str());
        let encoded: String =
            url::form_urlencoded::byte_serialize(credential.unwrap_or_default().as_bytes()).collect();
        let mut url = egress
            .check_url_for(spec.transport, &url.replace(CREDENTIAL, &encoded))
            .map_err(|error| refused(error.to_string()))?;
        url.set_fragment(None);
        let uri = url.as_str().parse().map_err(|_| refused("not a valid URL".into()))?;

        let mut map = HeaderMap::new();
        map.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("mcp-proxy-gateway/", env!("CARGO_PKG_VERSION"))),
        );
        for (name, value) in headers {
            let invalid = || refused(format!("the header {name} is not valid"));
            let key: HeaderName = name.parse().map_err(|_| invalid())?;
            if OURS.contains(&key.as_str()) || OUR_PREFIXES.iter().any(|ours| key.as_str().starts_with(ours))
            {
                continue;
            }
            let text = value.expose().replace(CREDENTIAL, credential.unwrap_or_default());
            map.insert(key, sensitive(&text).ok_or_else(invalid)?);
        }
        let is_authorized_by_itself = map.contains_key(AUTHORIZATION);
        let placed = || uses_credential(&spec.conn_params);
        if let Some(credential) = credential
            && !placed()
            && !is_authorized_by_itself
        {
            let bearer = sensitive(&format!("Bearer {credential}"));
            map.insert(
                AUTHORIZATION,
                bearer.ok_or_else(|| refused("the credential can't stand in a header".into()))?,
            );
        }
        let origin = url.origin().ascii_serialization();
        let credentials = match (credential, headers.is_empty()) {
            (None, true) => Credentials::Nothing,
            _ => Credentials::Own,
        };
        Ok(Self { uri, headers: map, origin, pass: Arc::clone(pass), is_authorized_by_itself, credentials })
    }

    /// What an error status of the upstream means.
    pub(crate) fn refusal(&self, status: StatusCode, headers: &HeaderMap) -> CallError {
        oauth::refusal(status, headers, &self.pass, self.credentials)
    }

    /// What authorises us there.
    pub(crate) fn pass(&self) -> &Pass {
        &self.pass
    }

    /// The address.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The head of a request: its own headers, and those of what is spoken and of the session.
    pub(crate) fn head(
        &self,
        method: Method,
        spoken: Option<&Negotiated>,
        session: Option<&HeaderValue>,
    ) -> Builder {
        let accept =
            if method == Method::POST { "application/json, text/event-stream" } else { "text/event-stream" };
        let posts = method == Method::POST;
        let mut builder = Request::builder().method(method).uri(self.uri.clone());
        if let Some(headers) = builder.headers_mut() {
            headers.reserve(self.headers.len() + OWN_HEADERS);
            headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
            // An admin who authorised an upstream wants that, rather than the credential from before.
            if !self.is_authorized_by_itself
                && let Some(token) = self.pass.header(&self.origin)
            {
                headers.insert(AUTHORIZATION, token);
            }
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            if posts {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            if let Some(spoken) = spoken {
                headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static(spoken.version.as_str()));
            }
            if let Some(session) = session {
                headers.insert(MCP_SESSION_ID, session.clone());
            }
        }
        builder
    }
}

fn uses_credential(params: &ConnParams) -> bool {
    match params {
        ConnParams::Http { url, headers } => {
            url.contains(CREDENTIAL) || headers.values().any(|value| value.expose().contains(CREDENTIAL))
        }
        ConnParams::Stdio { .. } => false,
    }
}

/// A header value that no log shows.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sql::model::{NewUpstream, Secret, Timestamp, Transport, UpstreamId, Value};

    use super::*;

    fn target(url: &str, headers: &[(&str, &str)], credential: Option<&str>) -> Result<Target, OpenError> {
        let headers: BTreeMap<_, _> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::Plain((*value).to_owned())))
            .collect();
        let mut new =
            NewUpstream::named("u", Transport::StreamableHttp, ConnParams::Http { url: url.into(), headers });
        new.credential = credential.map(Secret::from);
        let now = Timestamp::from_millis(0);
        Target::of(&Upstream::create(new, UpstreamId::at(now), now), Egress::Private, &Arc::default())
    }

    #[test]
    fn the_credential_is_a_bearer_token_unless_it_has_a_place() {
        let bearer = target("http://h/mcp", &[], Some("s")).expect("good");
        assert_eq!(bearer.headers[AUTHORIZATION], "Bearer s");
        assert!(bearer.headers[AUTHORIZATION].is_sensitive());
        let placed = target("http://h/mcp", &[("X-Key", "k ${credential}")], Some("s")).expect("good");
        assert_eq!(
            (&placed.headers["x-key"], placed.headers.get(AUTHORIZATION)),
            (&HeaderValue::from_static("k s"), None)
        );
        let own = target("http://h/mcp", &[("Authorization", "Basic x")], Some("s")).expect("good");
        assert_eq!(own.headers[AUTHORIZATION], "Basic x");
        let in_url = target("http://h/mcp?k=${credential}#f", &[], Some("a&b")).expect("good");
        assert_eq!((in_url.uri.to_string().as_str(), in_url.headers.len()), ("http://h/mcp?k=a%26b", 1));
    }

    #[test]
    fn a_record_can_not_set_the_headers_of_the_protocol() {
        let target = target("http://h/", &[("Host", "evil"), ("Mcp-Session-Id", "x"), ("Accept", "x")], None);
        assert_eq!(target.expect("they are passed over").headers.len(), 1);
    }

    #[test]
    fn what_can_not_be_sent_is_named_without_its_value() {
        let error = target("http://h/", &[("X-A", "line\nbreak")], None).err().expect("not a header value");
        assert_eq!(error.reason, "the header X-A is not valid");
        assert!(target("http://169.254.169.254/", &[], None).is_err());
    }
}
