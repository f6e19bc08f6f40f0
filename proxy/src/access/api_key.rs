//! Who calls.
//!
//! A key comes as `Authorization: Bearer`, as `X-API-Key`, or as `?api_key=` for clients that can't set
//! headers. It is looked up by its SHA-256, so nothing secret is compared byte by byte, and every way
//! in which it can be wrong gets the same answer.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, Uri};
use sql::model::{ApiKey, PlaintextKey, Timestamp};

use super::{Caller, Keys};
use crate::refusal::Refusal;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const QUERY_PARAMETER: &str = "api_key";

/// The caller whose key a request shows.
pub fn authenticate(uri: &Uri, headers: &HeaderMap, keys: &Keys, now: Timestamp) -> Result<Caller, Refusal> {
    let shown = shown_key(uri, headers)?;
    let key = PlaintextKey::parse(&shown).ok_or(Refusal::UnknownKey)?;
    keys.caller(&key, now)
}

/// The key that a request shows, if it is one of ours, valid or not: for whoever notes who was turned away.
pub(crate) fn shown(uri: &Uri, headers: &HeaderMap, keys: &Keys) -> Option<Arc<ApiKey>> {
    let key = PlaintextKey::parse(&shown_key(uri, headers).ok()?)?;
    keys.owner(&key)
}

/// The one key that a request shows. The same key in two places is one key; a header that stands twice
/// is none, because which of the two a proxy in front looked at isn't known.
fn shown_key<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Cow<'a, str>, Refusal> {
    let mut shown: Option<Cow<'_, str>> = None;
    let in_query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .filter(|(name, _)| name == QUERY_PARAMETER)
        .map(|(_, value)| value);
    let in_headers = bearer(headers)?.into_iter().chain(single(headers, &X_API_KEY)?).map(Cow::Borrowed);
    for key in in_headers.chain(in_query) {
        match &shown {
            Some(other) if *other != key => return Err(Refusal::AmbiguousKey),
            _ => shown = Some(key),
        }
    }
    shown.ok_or(Refusal::MissingKey)
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let Some(value) = single(headers, &AUTHORIZATION)? else { return Ok(None) };
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        // Another scheme is for somebody else, such as a proxy in front of us.
        Some(_) => Ok(None),
        None => Err(Refusal::UnknownKey),
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(only), None) => only.to_str().map(Some).map_err(|_| Refusal::UnknownKey),
        (Some(_), Some(_)) => Err(Refusal::AmbiguousKey),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::access::keys::tests::{NOW, key, policy_of};

    struct Scene {
        keys: Keys,
        secret: String,
    }

    fn scene() -> Scene {
        let (key, secret) = key();
        let keys = Keys::default();
        let policy = policy_of(&key);
        keys.upsert(key, policy);
        Scene { keys, secret: secret.expose().clone() }
    }

    impl Scene {
        fn authenticate(&self, uri: &str, headers: &[(&'static str, String)]) -> Result<(), Refusal> {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_str(value).unwrap());
            }
            authenticate(&uri.parse().unwrap(), &map, &self.keys, NOW).map(drop)
        }

        fn bearer(&self) -> (&'static str, String) {
            ("authorization", format!("Bearer {}", self.secret))
        }

        fn x_api_key(&self) -> (&'static str, String) {
            ("x-api-key", self.secret.clone())
        }
    }

    #[test]
    fn a_key_is_taken_from_three_places() {
        let scene = scene();
        assert_eq!(scene.authenticate("/mcp", &[scene.bearer()]), Ok(()));
        assert_eq!(scene.authenticate("/mcp", &[scene.x_api_key()]), Ok(()));
        let uri = format!("/mcp?a=b&api_key={}", scene.secret);
        assert_eq!(scene.authenticate(&uri, &[]), Ok(()));
        assert_eq!(scene.authenticate(&uri, &[scene.bearer(), scene.x_api_key()]), Ok(()));
        let lower = ("authorization", format!("bearer {}", scene.secret));
        assert_eq!(scene.authenticate("/mcp", &[lower]), Ok(()));
        let for_a_proxy = ("authorization", "Basic dXNlcjpwYXNz".to_owned());
        assert_eq!(scene.authenticate("/mcp", &[for_a_proxy, scene.x_api_key()]), Ok(()));
    }

    #[test]
    fn no_key_and_wrong_keys_are_refused_t04() {
        let scene = scene();
        let other = PlaintextKey::generate().expose().to_owned();
        let authorization = |value: &str| [("authorization", value.to_owned())];
        assert_eq!(scene.authenticate("/mcp", &[]), Err(Refusal::MissingKey));
        assert_eq!(scene.authenticate("/mcp?api_keys=x", &[]), Err(Refusal::MissingKey));
        assert_eq!(scene.authenticate("/mcp?api_key=", &[]), Err(Refusal::UnknownKey));
        for value in ["", "Bearer", "Bearer ", "Bearer garbage", &format!("Bearer {other}")] {
            assert_eq!(
                scene.authenticate("/mcp", &authorization(value)),
                Err(Refusal::UnknownKey),
                "{value}"
            );
        }
        let cut = format!("Bearer {}", &scene.secret[..40]);
        assert_eq!(scene.authenticate("/mcp", &authorization(&cut)), Err(Refusal::UnknownKey));
    }

    #[test]
    fn two_keys_are_no_key_t04() {
        let scene = scene();
        let other = PlaintextKey::generate().expose().to_owned();
        let twice = [scene.bearer(), scene.bearer()];
        assert_eq!(scene.authenticate("/mcp", &twice), Err(Refusal::AmbiguousKey));
        let twice = [scene.x_api_key(), scene.x_api_key()];
        assert_eq!(scene.authenticate("/mcp", &twice), Err(Refusal::AmbiguousKey));
        let different = [scene.bearer(), ("x-api-key", other.clone())];
        assert_eq!(scene.authenticate("/mcp", &different), Err(Refusal::AmbiguousKey));
        let uri = format!("/mcp?api_key={other}");
        assert_eq!(scene.authenticate(&uri, &[scene.bearer()]), Err(Refusal::AmbiguousKey));
        let uri = format!("/mcp?api_key={other}&api_key={}", scene.secret);
        assert_eq!(scene.authenticate(&uri, &[]), Err(Refusal::AmbiguousKey));
    }
}
