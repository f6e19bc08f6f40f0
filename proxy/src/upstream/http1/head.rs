//! The two heads: a request's as bytes, and an answer's out of bytes.

use std::mem::MaybeUninit;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use httparse::{Header, ParserConfig, Status};
use memchr::memchr_iter;

use super::Broken;
use super::framing::Length;

/// Bytes of an answer's head. Real ones have some hundred; cookies and policies of proxies in between fit.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of an answer.
const HEADERS_MAX: usize = 128;
/// What a usual request's head takes.
const REQUEST_BYTES: usize = 1024;
/// Up to here a body is copied behind its head, which costs less than a second piece for the socket.
const JOINED_BODY_BYTES_MAX: usize = 4 * 1024;

/// A request as bytes; its body with it if it is small, else `body` is to follow.
pub(super) fn request(head: &Parts, body: &mut Bytes) -> Bytes {
    let joined = if body.len() <= JOINED_BODY_BYTES_MAX { std::mem::take(body) } else { Bytes::new() };
    let length = joined.len() + body.len();
    let mut out = BytesMut::with_capacity(REQUEST_BYTES + joined.len());
    out.put_slice(head.method.as_str().as_bytes());
    out.put_u8(b' ');
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    // RFC 9112, 3.2.1: a path that is empty is written as this.
    if !target.starts_with('/') {
        out.put_u8(b'/');
    }
    out.put_slice(target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    if !head.headers.contains_key(HOST) {
        out.put_slice(b"host: ");
        out.put_slice(host(&head.uri).as_bytes());
        out.put_slice(b"\r\n");
    }
    for (name, value) in &head.headers {
        // How long the body is, is said here and nowhere else.
        if *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING {
            continue;
        }
        put_header(&mut out, name, value.as_bytes());
    }
    // RFC 9110, 8.6: where a method means a body, one of no bytes is said too.
    if length > 0 || matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
        out.put_slice(format!("content-length: {length}\r\n").as_bytes());
    }
    out.put_slice(b"\r\n");
    out.put_slice(&joined);
    out.freeze()
}

fn put_header(out: &mut BytesMut, name: &HeaderName, value: &[u8]) {
    out.put_slice(name.as_str().as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// The host, and its port unless that is the one that everybody expects.
fn host(uri: &http::Uri) -> &str {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.strip_suffix(":80").unwrap_or(host)
}

/// The head of the final answer, once it is there; what precedes it (status 1xx) is taken and thrown away.
pub(super) fn answer(read: &mut BytesMut) -> Result<Option<Response<Length>>, Broken> {
    loop {
        let Some(end) = end(read) else {
            let too_large = read.len() > HEAD_BYTES_MAX;
            return if too_large { Err(Broken::Malformed("its head is too large")) } else { Ok(None) };
        };
        let answer = parse(&read.split_to(end).freeze())?;
        match answer.status() {
            StatusCode::SWITCHING_PROTOCOLS => {
                return Err(Broken::Malformed("it changes to another protocol"));
            }
            status if status.is_informational() => {}
            _ => {
                let length = Length::of(&answer)?;
                return Ok(Some(answer.map(|()| length)));
            }
        }
    }
}

/// Where the head ends. A line may end without a carriage return (RFC 9112, 2.2).
fn end(read: &[u8]) -> Option<usize> {
    // An empty line before an answer is forgiven by many, and is none of a head.
    memchr_iter(b'\n', read).find_map(|at| match read[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

fn parse(head: &Bytes) -> Result<Response<()>, Broken> {
    let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let outcome = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, &mut headers);
    let (Ok(Status::Complete(_)), Some(code), Some(minor)) = (outcome, parsed.code, parsed.version) else {
        return Err(Broken::Malformed("its head can't be read"));
    };
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::from_u16(code).map_err(|_| Broken::Malformed("its status"))?;
    *answer.version_mut() = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    *answer.headers_mut() = copied(parsed.headers, head)?;
    Ok(answer)
}

/// The headers, whose values stay where they were read.
fn copied(parsed: &[Header<'_>], head: &Bytes) -> Result<HeaderMap, Broken> {
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(head.slice_ref(header.value));
        match (name, value) {
            (Ok(name), Ok(value)) => headers.append(name, value),
            _ => return Err(Broken::Malformed("one of its headers")),
        };
    }
    Ok(headers)
}

/// Whether the connection ends with this answer (RFC 9112, 9.3).
pub(super) fn closes<T>(answer: &Response<T>) -> bool {
    let asked_to = |value: &HeaderValue| {
        value
            .as_bytes()
            .split(|&byte| byte == b',')
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    };
    answer.version() != Version::HTTP_11 || answer.headers().get_all(CONNECTION).iter().any(asked_to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(request: http::request::Builder, body: &'static [u8]) -> (String, Bytes) {
        let mut body = Bytes::from_static(body);
        let (head, ()) = request.body(()).unwrap().into_parts();
        (String::from_utf8(request_of(&head, &mut body)).unwrap(), body)
    }

    fn request_of(head: &Parts, body: &mut Bytes) -> Vec<u8> {
        request(head, body).to_vec()
    }

    #[test]
    fn a_request_says_its_host_and_its_length_once() {
        let post = http::Request::post("http://h:80/mcp?a=1").header("x-a", "b").header(CONTENT_LENGTH, "9");
        let (text, rest) = written(post, b"hi");
        assert_eq!(text, "POST /mcp?a=1 HTTP/1.1\r\nhost: h\r\nx-a: b\r\ncontent-length: 2\r\n\r\nhi");
        assert!(rest.is_empty());
        assert_eq!(written(http::Request::get("http://h:81"), b"").0, "GET / HTTP/1.1\r\nhost: h:81\r\n\r\n");
        assert!(
            written(http::Request::post("http://[::1]:81/"), b"")
                .0
                .contains("host: [::1]:81\r\ncontent-length: 0\r\n")
        );
    }

    #[test]
    fn a_large_body_follows_its_head_uncopied() {
        static LARGE: [u8; JOINED_BODY_BYTES_MAX + 1] = [b'x'; JOINED_BODY_BYTES_MAX + 1];
        let (text, rest) = written(http::Request::post("http://h/"), &LARGE);
        assert!(text.ends_with(&format!("content-length: {}\r\n\r\n", LARGE.len())));
        assert_eq!(rest.as_ptr(), LARGE.as_ptr());
    }

    #[test]
    fn a_head_in_pieces_waits_for_its_end_and_leaves_the_body() {
        let whole = "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\nX-A:  b \r\nx-a: c\r\n\
            content-length: 2\r\n\r\nhi";
        for cut in 0..whole.len() - 2 {
            let mut read = BytesMut::from(&whole[..cut]);
            assert!(answer(&mut read).unwrap().is_none(), "{cut}");
            read.extend_from_slice(&whole.as_bytes()[cut..]);
            let answer = answer(&mut read).unwrap().unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["b", "c"]);
            assert_eq!(&read[..], b"hi");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        let endless = "x".repeat(HEAD_BYTES_MAX + 1);
        for bad in [
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
            &many,
            &endless,
        ] {
            assert!(answer(&mut BytesMut::from(bad)).is_err(), "{bad:.40}");
        }
    }

    #[test]
    fn a_connection_lasts_unless_it_is_said_to_end() {
        let closes = |head: &str| closes(&answer(&mut BytesMut::from(head)).unwrap().unwrap());
        assert!(!closes("HTTP/1.1 204 No Content\r\n\r\n"));
        assert!(closes("HTTP/1.1 204 No Content\r\nConnection: x , Close\r\n\r\n"));
        assert!(closes("HTTP/1.0 204 No Content\r\nConnection: keep-alive\r\n\r\n"));
    }
}
