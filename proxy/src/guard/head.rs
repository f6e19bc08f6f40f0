//! Whether a request's header section has one reading only.
//!
//! Two programs that read one request differently let a third smuggle a second request past one of
//! them. Many servers forgive what the grammar of HTTP/1.1 (RFC 9112) forbids; here the raw bytes are
//! held to the grammar before a parser sees them, and what two parsers could read in two ways is refused.

use memchr::{memchr, memchr_iter};

use crate::refusal::Refusal;

/// Header lines of a request. Real clients send a dozen; the parser behind has room for 256.
const HEADER_LINES_MAX: usize = 100;

/// What the framing of the body hangs on.
#[derive(Default)]
struct Framing {
    hosts: usize,
    content_lengths: usize,
    transfer_encodings: usize,
}

/// Finds where the header section ends, looking at what came since `scanned` bytes were looked at.
/// A line feed that stands alone ends a line for some parsers and not for others.
pub(super) fn end(buffer: &[u8], scanned: usize) -> Result<Option<usize>, Refusal> {
    for at in memchr_iter(b'\n', &buffer[scanned..]).map(|at| scanned + at) {
        if at == 0 || buffer[at - 1] != b'\r' {
            return Err(Refusal::Malformed("a line ends without a carriage return"));
        }
        if buffer[..=at].ends_with(b"\r\n\r\n") {
            return Ok(Some(at + 1));
        }
    }
    Ok(None)
}

/// Checks a whole header section, the empty line at its end included.
pub(super) fn check(head: &[u8]) -> Result<(), Refusal> {
    let mut lines = Lines(head);
    let http_1_0 = check_request_line(lines.next().unwrap_or_default())?;
    let mut framing = Framing::default();
    for (count, line) in lines.take_while(|line| !line.is_empty()).enumerate() {
        if count == HEADER_LINES_MAX {
            return Err(Refusal::Malformed("too many header lines"));
        }
        check_header_line(line, &mut framing)?;
    }
    framing.check(http_1_0)
}

/// The lines of a header section, without their CRLF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr(b'\n', self.0)?;
        let line = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// Whether the version is 1.0.
fn check_request_line(line: &[u8]) -> Result<bool, Refusal> {
    let malformed = Refusal::Malformed("the request line");
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed);
    };
    if method.is_empty() || !is_token(method) {
        return Err(malformed);
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(malformed);
    }
    if method == b"CONNECT" {
        return Err(Refusal::MethodNotAllowed { allow: "GET, POST, DELETE" }); // We are no tunnel.
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(Refusal::Malformed("the HTTP version")),
    }
}

fn check_header_line(line: &[u8], framing: &mut Framing) -> Result<(), Refusal> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(Refusal::Malformed("a header goes on in the next line"));
    }
    let colon = memchr(b':', line).ok_or(Refusal::Malformed("a header line without a colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !is_token(name) {
        return Err(Refusal::Malformed("the name of a header"));
    }
    // To the end, whatever is found: without a way out the loop takes many bytes at once.
    if value.iter().fold(false, |found, &byte| found | (byte.is_ascii_control() && byte != b'\t')) {
        return Err(Refusal::Malformed("a control character in a header"));
    }
    framing.note(name, value.trim_ascii())
}

impl Framing {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.content_lengths += 1;
            if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                return Err(Refusal::Malformed("the Content-Length"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.transfer_encodings += 1;
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::Malformed("a Transfer-Encoding other than chunked"));
            }
        }
        Ok(())
    }

    fn check(&self, http_1_0: bool) -> Result<(), Refusal> {
        if self.content_lengths > 1 {
            return Err(Refusal::Malformed("more than one Content-Length"));
        }
        if self.transfer_encodings > 1 {
            return Err(Refusal::Malformed("more than one Transfer-Encoding"));
        }
        if self.transfer_encodings == 1 && self.content_lengths == 1 {
            return Err(Refusal::Malformed("both a Content-Length and a Transfer-Encoding"));
        }
        if self.transfer_encodings == 1 && http_1_0 {
            return Err(Refusal::Malformed("a Transfer-Encoding in HTTP/1.0"));
        }
        if self.hosts > 1 || (self.hosts == 0 && !http_1_0) {
            return Err(Refusal::Malformed("there must be one Host"));
        }
        Ok(())
    }
}

/// Whether it is made of the characters of a token (RFC 9110, 5.6.2).
fn is_token(text: &[u8]) -> bool {
    text.iter().all(|&byte| TOKEN[usize::from(byte)])
}

/// Which bytes they are: every byte of every header's name is looked up here.
const TOKEN: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0_u8);
    loop {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdict(lines: &[&str]) -> Result<(), Refusal> {
        let head = format!("{}\r\n\r\n", lines.join("\r\n"));
        assert_eq!(end(head.as_bytes(), 0), Ok(Some(head.len())));
        check(head.as_bytes())
    }

    #[test]
    fn ordinary_requests_pass() {
        for lines in [
            &["GET / HTTP/1.1", "Host: localhost"][..],
            &["GET / HTTP/1.0"],
            &["POST /mcp?x=%20 HTTP/1.1", "host:localhost", "Content-Length: 5", "X: "],
            &["POST /mcp HTTP/1.1", "Host: h", "transfer-encoding: Chunked", "X-T: a\tb \u{e9}"],
            &["GET http://h/mcp HTTP/1.1", "Host: h"],
        ] {
            assert_eq!(verdict(lines), Ok(()), "{lines:?}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused_t10() {
        let host = "Host: h";
        for lines in [
            &["POST / HTTP/1.1", host, "Content-Length: 5", "Transfer-Encoding: chunked"][..],
            &["POST / HTTP/1.1", host, "Transfer-Encoding: chunked", "Content-Length: 5"],
            &["POST / HTTP/1.1", host, "Transfer-Encoding: xchunked"],
            &["POST / HTTP/1.1", host, "Transfer-Encoding: gzip, chunked"],
            &["POST / HTTP/1.1", host, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            &["POST / HTTP/1.1", host, "Transfer-Encoding: \u{b}chunked"],
            &["POST / HTTP/1.1", host, "Transfer-Encoding : chunked"],
            &["POST / HTTP/1.1", host, "Transfer-Encoding"],
            &["POST / HTTP/1.0", host, "Transfer-Encoding: chunked"],
            &["POST / HTTP/1.1", host, "Content-Length: 5", "Content-Length: 6"],
            &["POST / HTTP/1.1", host, "Content-Length: 5", "Content-Length: 5"],
            &["POST / HTTP/1.1", host, "Content-Length: 5, 5"],
            &["POST / HTTP/1.1", host, "Content-Length: +5"],
            &["POST / HTTP/1.1", host, "Content-Length: -5"],
            &["POST / HTTP/1.1", host, "Content-Length: 0x5"],
            &["POST / HTTP/1.1", host, "Content-Length:"],
            &["POST / HTTP/1.1", host, "X: a", " folded"],
            &["POST / HTTP/1.1", " X: a", host],
            &["POST / HTTP/1.1", host, host],
            &["POST / HTTP/1.1"],
            &["POST / HTTP/1.1", host, "X: a\u{0}b"],
            &["POST / HTTP/1.1", host, "X: a\rb"],
            &["POST / HTTP/1.1", host, ": a"],
            &["POST / HTTP/1.1", host, "X Y: a"],
            &["POST  / HTTP/1.1", host],
            &["POST /\t HTTP/1.1", host],
            &["POST /\u{e9} HTTP/1.1", host],
            &["POST / HTTP/1.1 ", host],
            &["POST /", host],
            &["GET / HTTP/0.9", host],
            &["PRI * HTTP/2.0"],
            &["P(ST / HTTP/1.1", host],
        ] {
            assert!(matches!(verdict(lines), Err(Refusal::Malformed(_))), "{lines:?}");
        }
    }

    #[test]
    fn a_tunnel_is_not_offered_t10() {
        let refusal = verdict(&["CONNECT h:443 HTTP/1.1", "Host: h:443"]);
        assert!(matches!(refusal, Err(Refusal::MethodNotAllowed { .. })));
    }

    #[test]
    fn a_line_feed_that_stands_alone_is_found_at_once_t10() {
        assert!(end(b"GET / HTTP/1.1\nHost: h\n\n", 0).is_err());
        assert!(end(b"GET / HTTP/1.1\r\nHost: h\r\n\n", 0).is_err());
        assert!(end(b"\n", 0).is_err());
    }

    #[test]
    fn header_lines_are_counted() {
        let mut lines = vec!["GET / HTTP/1.1", "Host: h"];
        lines.resize(1 + HEADER_LINES_MAX, "X: y");
        assert_eq!(verdict(&lines), Ok(()));
        lines.push("X: y");
        assert!(verdict(&lines).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = end(&bytes, 0);
            let _ = check(&bytes);
        }

        #[test]
        fn the_end_is_the_same_however_the_bytes_come(cut in 0usize..27) {
            let bytes = b"GET / HTTP/1.1\r\nHost: h\r\n\r\nbody\n";
            prop_assert_eq!(end(bytes, 0), Ok(Some(27)));
            prop_assert_eq!(end(&bytes[..cut], 0), Ok(None));
            prop_assert_eq!(end(bytes, cut), Ok(Some(27)));
        }
    }
}
