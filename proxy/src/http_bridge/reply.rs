//! An answer, onto the wire: its framing, its pieces, and what happens when nobody reads it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HeaderName, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use pingora::proxy::Session;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{AdminBody, Reply, ReplyBody, closed};
use crate::context::X_REQUEST_ID;

/// How long one piece of an answer may take to leave; who reads slower is cut off (T31).
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// The largest such piece: it leaves in time over any connection faster than 9 KB/s.
const PIECE_BYTES_MAX: usize = 256 * 1024;
/// Pieces of an answer are written together up to this size.
const JOINED_BYTES_MAX: usize = 32 * 1024;
/// How long, and how many bytes, of a body that was refused are still read and thrown away, so that
/// closing the connection doesn't destroy the answer on its way.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1024 * 1024;

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Who has been here over TLS is to come back over TLS alone (T15): for a year, and this name only, since
/// others of its domain aren't ours.
const HSTS: &str = "max-age=31536000";

/// The client left, or is too slow, before it had the whole answer.
struct Unread;

/// Writes an answer, watching for the client's close; `gone` is cancelled if it comes first. The
/// connection is fit for the next request afterwards, or marked for closing.
pub(crate) async fn write(session: &mut Session, reply: Reply, request_id: &str, gone: &CancellationToken) {
    // A request whose body wasn't read to its end can't be followed by another: where that one would
    // start is what the refused body says.
    let unread_body = !session.is_body_done();
    if unread_body {
        session.set_keepalive(None);
    }
    session.set_write_timeout(Some(WRITE_DEADLINE));
    if try_write(session, reply, request_id).await.is_err() {
        gone.cancel();
        session.set_keepalive(None);
        session.shutdown().await; // An answer that was cut short must not look complete.
    } else if unread_body {
        session.shutdown().await;
        linger(session).await;
    }
}

async fn try_write(session: &mut Session, reply: Reply, request_id: &str) -> Result<(), Unread> {
    let (mut head, body) = reply.into_parts();
    let asked = session.req_header();
    let bodiless = asked.method == Method::HEAD;
    frame(&mut head, &body, asked.version, bodiless);
    if let Ok(value) = HeaderValue::from_str(request_id) {
        head.headers.insert(X_REQUEST_ID, value);
    }
    if session.digest().is_some_and(|digest| digest.ssl_digest.is_some()) {
        head.headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
    session.write_response_header(Box::new(head.into()), false).await.map_err(|_| Unread)?;
    match body {
        _ if bodiless => {}
        ReplyBody::Empty => {}
        ReplyBody::Whole(bytes) => write_piece(session, bytes).await?,
        ReplyBody::Chain(pieces) => write_chain(session, pieces).await?,
        ReplyBody::Stream(pieces) => write_stream(session, pieces).await?,
        ReplyBody::Frames(frames) => write_frames(session, frames).await?,
        ReplyBody::Upgrade(upgrade) => {
            upgrade.hand_over(session).await;
            return Ok(());
        }
    }
    session.write_response_body(None, true).await.map_err(|_| Unread)
}

/// Writes pieces one after the other, small ones together: a list has two for each of its items, and what a write
/// costs on its way through the connection is more than copying what is to be written.
async fn write_chain(session: &mut Session, pieces: Vec<Bytes>) -> Result<(), Unread> {
    let mut joined = BytesMut::new();
    for bytes in pieces {
        if joined.len() + bytes.len() > JOINED_BYTES_MAX && !joined.is_empty() {
            write_piece(session, joined.split().freeze()).await?;
        }
        if bytes.len() >= JOINED_BYTES_MAX {
            write_piece(session, bytes).await?;
            continue;
        }
        if joined.capacity() < bytes.len() {
            joined.reserve(JOINED_BYTES_MAX);
        }
        joined.extend_from_slice(&bytes);
    }
    write_piece(session, joined.freeze()).await
}

async fn write_piece(session: &mut Session, mut bytes: Bytes) -> Result<(), Unread> {
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES_MAX));
        session.write_response_body(Some(piece), false).await.map_err(|_| Unread)?;
    }
    Ok(())
}

async fn write_stream(session: &mut Session, mut pieces: mpsc::Receiver<Bytes>) -> Result<(), Unread> {
    loop {
        tokio::select! {
            biased; // What is there already is written before a client that half-closed counts as gone.
            piece = pieces.recv() => match piece {
                Some(bytes) => write_piece(session, bytes).await?,
                None => return Ok(()),
            },
            () = closed(session) => return Err(Unread),
        }
    }
}

async fn write_frames(session: &mut Session, mut frames: AdminBody) -> Result<(), Unread> {
    loop {
        tokio::select! {
            biased;
            frame = frames.frame() => match frame {
                None => return Ok(()),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        write_piece(session, bytes).await?;
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(error = %error, "an answer of the control plane broke off");
                    return Err(Unread);
                }
            },
            () = closed(session) => return Err(Unread),
        }
    }
}

/// Says how the body is delimited, which is nobody's business but ours.
fn frame(head: &mut http::response::Parts, body: &ReplyBody, version: Version, bodiless: bool) {
    let headers = &mut head.headers;
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    if matches!(body, ReplyBody::Stream(_)) {
        // A proxy in between must neither keep the stream nor collect it.
        default_header(headers, CACHE_CONTROL, "no-cache");
        default_header(headers, X_ACCEL_BUFFERING, "no");
    }
    let without_body = head.status.is_informational()
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match body {
        ReplyBody::Upgrade(_) => {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        _ if version == Version::HTTP_2 => {
            headers.remove(UPGRADE); // Means nothing there, and makes the answer malformed.
        }
        _ => {}
    }
    match length(body) {
        _ if without_body => {
            headers.remove(CONTENT_LENGTH);
        }
        // The answer to HEAD says the length that the answer to GET would have.
        _ if bodiless && headers.contains_key(CONTENT_LENGTH) => {}
        Some(length) => {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        None => {
            headers.remove(CONTENT_LENGTH);
            if version == Version::HTTP_11 {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
    }
}

fn length(body: &ReplyBody) -> Option<u64> {
    match body {
        ReplyBody::Empty | ReplyBody::Upgrade(_) => Some(0),
        ReplyBody::Whole(bytes) => Some(bytes.len() as u64),
        ReplyBody::Chain(pieces) => Some(pieces.iter().map(|bytes| bytes.len() as u64).sum()),
        ReplyBody::Stream(_) => None,
        ReplyBody::Frames(frames) => frames.size_hint().exact(),
    }
}

fn default_header(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.entry(name).or_insert(HeaderValue::from_static(value));
}

/// Reads on for a moment what the client is still sending.
async fn linger(session: &mut Session) {
    let throw_away = async {
        let mut left = LINGER_BYTES_MAX;
        while let Ok(Some(bytes)) = session.read_request_body().await {
            match left.checked_sub(bytes.len()) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    // At the end of the time the connection closes, read or not.
    let _ = timeout(LINGER, throw_away).await;
}

/// A whole answer as bytes, for a connection that closes after it and has no session yet; `secure` says
/// whether it is one over TLS.
pub(crate) fn closing_answer(reply: &Reply, request_id: &str, secure: bool) -> Bytes {
    let body: &[u8] = match reply.body() {
        ReplyBody::Whole(bytes) => bytes,
        _ => &[],
    };
    let status = reply.status();
    let mut answer = BytesMut::new();
    let reason = status.canonical_reason().unwrap_or_default();
    answer.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
    for (name, value) in reply.headers() {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    if secure {
        answer.extend_from_slice(format!("{STRICT_TRANSPORT_SECURITY}: {HSTS}\r\n").as_bytes());
    }
    let rest = format!(
        "{X_REQUEST_ID}: {request_id}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    answer.extend_from_slice(rest.as_bytes());
    answer.extend_from_slice(body);
    answer.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(mut reply: Reply, version: Version, bodiless: bool) -> HeaderMap {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        let (mut head, body) = reply.into_parts();
        frame(&mut head, &body, version, bodiless);
        assert!(!head.headers.contains_key(CONNECTION));
        head.headers
    }

    #[test]
    fn a_known_body_has_a_length() {
        let chain = ReplyBody::Chain(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        let headers = framed(Reply::new(chain), Version::HTTP_11, false);
        assert_eq!(headers[CONTENT_LENGTH], "3");
        assert!(!headers.contains_key(TRANSFER_ENCODING));
        let headers = framed(Reply::new(ReplyBody::Empty), Version::HTTP_10, false);
        assert_eq!(headers[CONTENT_LENGTH], "0");
    }

    #[test]
    fn a_stream_is_chunked_where_that_exists_and_never_kept() {
        let stream = || ReplyBody::Stream(mpsc::channel(1).1);
        let headers = framed(Reply::new(stream()), Version::HTTP_11, false);
        assert_eq!(headers[TRANSFER_ENCODING], "chunked");
        assert_eq!(headers[CACHE_CONTROL], "no-cache");
        assert_eq!(headers[X_ACCEL_BUFFERING], "no");
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let headers = framed(Reply::new(stream()), version, false);
            assert!(!headers.contains_key(TRANSFER_ENCODING));
            assert!(!headers.contains_key(CONTENT_LENGTH));
        }
    }

    #[test]
    fn an_answer_without_a_body_has_no_length() {
        let mut reply = Reply::new(ReplyBody::Empty);
        *reply.status_mut() = StatusCode::NO_CONTENT;
        assert!(!framed(reply, Version::HTTP_11, false).contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn the_answer_to_head_keeps_the_length_of_the_answer_to_get() {
        let mut reply = Reply::new(ReplyBody::Empty);
        reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("120"));
        assert_eq!(framed(reply, Version::HTTP_11, true)[CONTENT_LENGTH], "120");
    }
}
