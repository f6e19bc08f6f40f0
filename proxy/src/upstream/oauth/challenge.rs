//! What an upstream says when it refuses us (RFC 6750, section 3; RFC 9728, section 5.1).

use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};
use rmcp::transport::auth::WWWAuthenticateParams;
use url::Url;

use super::{Denial, Pass};
use crate::upstream::call::CallError;

/// A challenge is read up to here; what is longer is none.
const CHALLENGE_BYTES_MAX: usize = 4096;
/// What is shown of a scope: they are short words.
const SCOPE_CHARS_MAX: usize = 256;

/// What the record of an upstream has that may have been refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A credential or headers of its own: a challenge may be about those.
    Own,
    /// Nothing: whoever challenges us wants OAuth, and may say where only in its well-known place.
    Nothing,
}

/// What an error status means. A challenge that OAuth can answer is kept with the pass, for when an admin
/// authorises; without one, the status is told as it is.
pub(crate) fn refusal(
    status: StatusCode,
    headers: &HeaderMap,
    pass: &Pass,
    credentials: Credentials,
) -> CallError {
    let refused = CallError::Refused { status: status.as_u16() };
    if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return refused;
    }
    let Some(challenge) = bearer(headers) else {
        // A token that isn't taken any longer, though the upstream doesn't say so in words.
        let unsaid = status == StatusCode::UNAUTHORIZED && pass.is_held();
        return if unsaid { CallError::Denied(Denial::Unauthorized) } else { refused };
    };
    // What it is relative to plays no part in what is read here.
    let base = Url::parse("http://localhost/").expect("a URL");
    let params = WWWAuthenticateParams::parse(challenge, &base);
    let scope_wanted = params.is_insufficient_scope();
    let is_oauth = challenge.to_ascii_lowercase().contains("resource_metadata")
        || pass.is_held()
        || credentials == Credentials::Nothing;
    let denial = match status {
        StatusCode::UNAUTHORIZED if is_oauth => Denial::Unauthorized,
        StatusCode::FORBIDDEN if scope_wanted => {
            Denial::InsufficientScope(params.scope.as_deref().map_or_else(|| "-".into(), shown))
        }
        _ => return refused,
    };
    pass.challenge.store(Some(Arc::new(challenge.to_owned())));
    CallError::Denied(denial)
}

/// The one challenge of the scheme `Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
    challenges.filter_map(|value| value.to_str().ok()).find(|text| {
        let scheme = text.trim_start().get(.."bearer".len());
        text.len() <= CHALLENGE_BYTES_MAX && scheme.is_some_and(|word| word.eq_ignore_ascii_case("bearer"))
    })
}

fn shown(scope: &str) -> String {
    scope.chars().filter(|character| !character.is_control()).take(SCOPE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(status: u16, challenge: &'static str, pass: &Pass) -> String {
        let mut headers = HeaderMap::new();
        if !challenge.is_empty() {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        told(&refusal(StatusCode::from_u16(status).expect("a status"), &headers, pass, Credentials::Own))
    }

    fn told(error: &CallError) -> String {
        match error {
            CallError::Denied(denial) => format!("{denial:?}"),
            error => format!("{error:?}"),
        }
    }

    #[test]
    fn whoever_challenges_us_without_a_credential_wants_oauth() {
        let (status, pass) = (StatusCode::UNAUTHORIZED, Pass::default());
        let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))]);
        assert_eq!(told(&refusal(status, &headers, &pass, Credentials::Nothing)), "Unauthorized");
        let silent = refusal(status, &HeaderMap::new(), &pass, Credentials::Nothing);
        assert_eq!(told(&silent), "Refused { status: 401 }");
    }

    #[test]
    fn only_what_oauth_can_answer_is_a_denial() {
        let pass = Pass::default();
        for (status, challenge, meaning) in [
            (401, r#"Bearer resource_metadata="https://h/.well-known/x""#, "Unauthorized"),
            (401, r#"bearer error="invalid_token", resource_metadata="/x""#, "Unauthorized"),
            (401, "Bearer", "Refused { status: 401 }"),
            (401, "Basic realm=\"a\"", "Refused { status: 401 }"),
            (401, "", "Refused { status: 401 }"),
            (403, r#"Bearer error="insufficient_scope", scope="a b""#, r#"InsufficientScope("a b")"#),
            (403, r#"Bearer error="insufficient_scope""#, r#"InsufficientScope("-")"#),
            (403, r#"Bearer error="invalid_token""#, "Refused { status: 403 }"),
            (404, r#"Bearer resource_metadata="/x""#, "Refused { status: 404 }"),
        ] {
            assert_eq!(read(status, challenge, &pass), meaning, "{status} {challenge}");
        }
        let kept = pass.challenge.load_full().expect("the last one that counts");
        assert_eq!(*kept, r#"Bearer error="insufficient_scope""#);
    }
}
