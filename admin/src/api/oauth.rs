//! What authorization servers, and the browsers that they send back, see of the gateway.

pub(crate) mod callback;
pub(crate) mod client_metadata;

use http::{HeaderMap, header};
use url::{Host, Url};

use crate::App;
use crate::error::ApiError;

/// Where authorization servers send browsers back to.
pub(crate) const CALLBACK: &str = "/api/auth/oauth/callback";

/// Where the client metadata document is.
pub(crate) const CLIENT_METADATA: &str = "/oauth/client-metadata.json";

/// The gateway's address as authorization servers may know it: over TLS, as its operator says.
pub(crate) fn public_base(app: &App) -> Option<String> {
    let url = app.public_url.as_deref().and_then(|url| Url::parse(url).ok())?;
    (url.scheme() == "https").then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// The gateway's address as this admin's browser knows it. What a request says of it was checked at the
/// gate: it is a host and an origin that the gateway serves.
pub(crate) fn browser_base(app: &App, headers: &HeaderMap) -> Result<String, ApiError> {
    if let Some(url) = app.public_url.as_deref() {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // The browser itself says with which scheme it came.
    if let Some(origin) = text(header::ORIGIN).filter(|origin| Url::parse(origin).is_ok()) {
        return Ok(origin.to_owned());
    }
    let url = text(header::HOST).and_then(|host| Url::parse(&format!("http://{host}")).ok());
    let loopback = url.filter(|url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    });
    let unknown = "set MPG_PUBLIC_URL: the authorization server must know where to send the browser back to";
    loopback
        .map(|url| url.as_str().trim_end_matches('/').to_owned())
        .ok_or_else(|| ApiError::conflict(unknown))
}
