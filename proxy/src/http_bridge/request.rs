//! A request's body: as large, as fast, and of the kind that is allowed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, Version};
use pingora::proxy::Session;
use tokio::time::timeout;

use crate::refusal::Refusal;

/// Reserved at once for a body that says it is large; it grows as the bytes really come.
const RESERVE_BYTES_MAX: usize = 256 * 1024;

const BOTH_FORMS: &[u8] = b"application/json, text/event-stream";

/// Reads the whole body: at most `limit` bytes, within `deadline` in all.
pub(crate) async fn read_body(
    session: &mut Session,
    limit: usize,
    deadline: Duration,
) -> Result<Bytes, Refusal> {
    let announced = check_announced(&session.req_header().headers, limit)?;
    invite(session).await?;
    match timeout(deadline, collect(session, announced, limit)).await {
        Ok(body) => body,
        Err(_) => Err(Refusal::BodyTooSlow { deadline }),
    }
}

/// The length that the header says, unless it is too large already.
pub(super) fn check_announced(headers: &HeaderMap, limit: usize) -> Result<Option<usize>, Refusal> {
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
    // The guard let only digits pass, so what doesn't parse is beyond any limit.
    let length = length.to_str().ok().and_then(|digits| digits.parse().ok());
    match length {
        Some(length) if length <= limit => Ok(Some(length)),
        _ => Err(Refusal::BodyTooLarge { limit }),
    }
}

/// Tells a client that waits for it to send its body.
pub(super) async fn invite(session: &mut Session) -> Result<(), Refusal> {
    let header = session.req_header();
    let waits = header.version == Version::HTTP_11
        && header
            .headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits && !session.is_body_done() {
        // Pingora takes this for the answer, and would close the connection after an answer that comes
        // before the body's end.
        session.set_close_on_response_before_downstream_finish(false);
        session.write_continue_response().await.map_err(|_| Refusal::BodyUnreadable)?;
        session.set_close_on_response_before_downstream_finish(true);
    }
    Ok(())
}

async fn collect(session: &mut Session, announced: Option<usize>, limit: usize) -> Result<Bytes, Refusal> {
    let Some(first) = next(session).await? else { return Ok(Bytes::new()) };
    if first.len() <= limit && session.is_body_done() {
        return Ok(first); // The usual case, without a second copy.
    }
    let mut body = BytesMut::with_capacity(announced.unwrap_or_default().min(RESERVE_BYTES_MAX));
    let mut piece = Some(first);
    while let Some(bytes) = piece {
        if body.len() + bytes.len() > limit {
            return Err(Refusal::BodyTooLarge { limit });
        }
        body.extend_from_slice(&bytes);
        piece = next(session).await?;
    }
    Ok(body.freeze())
}

async fn next(session: &mut Session) -> Result<Option<Bytes>, Refusal> {
    session.read_request_body().await.map_err(|_| Refusal::BodyUnreadable)
}

/// Lets a message pass that is JSON as it is, from a client that takes JSON and event streams.
pub(crate) fn check_media_types(headers: &HeaderMap) -> Result<(), Refusal> {
    check_json(headers)?;
    // As clients made with the official SDKs say it.
    if headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes() == BOTH_FORMS) {
        return Ok(());
    }
    if accepts(headers, "application", "json") && accepts(headers, "text", "event-stream") {
        return Ok(());
    }
    Err(Refusal::NotAcceptable)
}

/// Lets a client pass that takes event streams.
pub(crate) fn check_event_stream(headers: &HeaderMap) -> Result<(), Refusal> {
    if accepts(headers, "text", "event-stream") { Ok(()) } else { Err(Refusal::NotAcceptable) }
}

/// Lets a message pass that is JSON as it is.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (Some(only), None) if is_json(only.as_bytes()) => {}
        _ => return Err(Refusal::UnsupportedMediaType),
    }
    let encoded = |value: &http::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().any(encoded) {
        return Err(Refusal::UnsupportedEncoding);
    }
    Ok(())
}

fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// Whether the `Accept` header allows a media type. A client of the protocol must send one.
fn accepts(headers: &HeaderMap, kind: &str, subtype: &str) -> bool {
    headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).any(
        |range| {
            let mut parts = range.split(';').map(str::trim);
            let essence = parts.next().unwrap_or_default();
            let Some((range_kind, range_subtype)) = essence.split_once('/') else { return false };
            let covers = range_kind == "*" && range_subtype == "*"
                || range_kind.eq_ignore_ascii_case(kind)
                    && (range_subtype == "*" || range_subtype.eq_ignore_ascii_case(subtype));
            covers && !parts.any(is_refused)
        },
    )
}

/// Whether a parameter is a weight of zero, which means "not this".
fn is_refused(parameter: &str) -> bool {
    let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="));
    weight.is_some_and(|weight| weight.trim().parse() == Ok(0.0_f32))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(content_type: &str, accept: &[&str]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        for line in accept {
            headers.append(ACCEPT, HeaderValue::from_str(line).unwrap());
        }
        check_media_types(&headers)
    }

    #[test]
    fn json_in_and_both_forms_out() {
        for accept in [
            &["application/json, text/event-stream"][..],
            &["application/json", "text/event-stream"],
            &["*/*"],
            &["text/*;q=0.5, APPLICATION/*"],
            &["text/html, */*;q=0.1"],
        ] {
            assert_eq!(check("application/json", accept), Ok(()), "{accept:?}");
        }
        assert_eq!(check("Application/JSON ; charset=utf-8", &["*/*"]), Ok(()));
    }

    #[test]
    fn one_form_alone_is_not_enough() {
        for accept in [
            &[][..],
            &[""],
            &["application/json"],
            &["text/event-stream"],
            &["application/json, text/event-stream;q=0"],
            &["application/*"],
            &["*"],
            &["application/jsonx, text/event-stream"],
        ] {
            assert_eq!(check("application/json", accept), Err(Refusal::NotAcceptable), "{accept:?}");
        }
    }

    #[test]
    fn other_bodies_are_not_read() {
        for content_type in ["text/plain", "application/jsonx", "application/x-www-form-urlencoded", ""] {
            assert_eq!(check(content_type, &["*/*"]), Err(Refusal::UnsupportedMediaType), "{content_type}");
        }
        assert_eq!(check_media_types(&HeaderMap::new()), Err(Refusal::UnsupportedMediaType));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(check_media_types(&headers), Err(Refusal::UnsupportedEncoding));
    }

    #[test]
    fn an_announced_length_is_checked_before_the_first_byte() {
        let announced = |length: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_LENGTH, HeaderValue::from_str(length).unwrap());
            check_announced(&headers, 10)
        };
        assert_eq!(announced("10"), Ok(Some(10)));
        assert_eq!(announced("11"), Err(Refusal::BodyTooLarge { limit: 10 }));
        assert_eq!(announced("99999999999999999999999"), Err(Refusal::BodyTooLarge { limit: 10 }));
    }
}
