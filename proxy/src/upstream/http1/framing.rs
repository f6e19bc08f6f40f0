//! Where the body of an answer ends (RFC 9112, 6 and 7).

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Response, StatusCode, Version};
use memchr::memchr;

use super::{Broken, head};

/// Bytes of the line before a chunk: 16 hex digits, and extensions that nobody uses.
const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// Bytes of the fields behind the last chunk, which nobody reads.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// How the rest of a body is delimited, and whether the connection can be used after it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Length {
    rest: Rest,
    is_reusable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// So many bytes.
    Bytes(u64),
    /// As many as its chunks say.
    Chunks(Chunk),
    /// All until the connection ends.
    UntilClose,
    /// Nothing.
    Nothing,
}

/// What of a chunked body comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// A line that says how long the next chunk is.
    Line,
    /// So many bytes of data.
    Data(u64),
    /// The end of the line behind the data.
    DataEnd,
    /// Fields, up to an empty line; so many bytes of them came.
    Trailer(usize),
}

/// What the bytes that are there amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Data of the body.
    Data(Bytes),
    /// More bytes are needed; about so many.
    Wants(usize),
    /// The body is over.
    End,
}

impl Length {
    /// What the head of an answer to a request other than HEAD or CONNECT says.
    pub(super) fn of<T>(answer: &Response<T>) -> Result<Self, Broken> {
        let headers = answer.headers();
        let mut is_reusable = !head::closes(answer);
        let rest = if matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            Rest::Nothing
        } else if headers.contains_key(TRANSFER_ENCODING) {
            // Who says both may be two programs that don't agree: nothing after this answer can be trusted.
            is_reusable &= !headers.contains_key(CONTENT_LENGTH);
            if answer.version() != Version::HTTP_11 {
                return Err(Broken::Malformed("a transfer coding in HTTP/1.0"));
            }
            coded(headers)?
        } else {
            match content_length(headers)? {
                Some(0) => Rest::Nothing,
                Some(length) => Rest::Bytes(length),
                None => Rest::UntilClose,
            }
        };
        is_reusable &= rest != Rest::UntilClose;
        Ok(Self { rest, is_reusable })
    }

    /// The connection is of no use after this answer, whatever the head says.
    pub(super) fn forbid_reuse(&mut self) {
        self.is_reusable = false;
    }

    /// Whether the connection can be used again once the body is over.
    pub(super) fn is_reusable(&self) -> bool {
        self.is_reusable
    }

    /// Whether nothing of the body is left.
    pub(super) fn is_over(&self) -> bool {
        self.rest == Rest::Nothing
    }

    /// Bytes that are left, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self.rest {
            Rest::Bytes(left) => Some(left),
            Rest::Nothing => Some(0),
            Rest::Chunks(_) | Rest::UntilClose => None,
        }
    }

    /// Takes what it can of the bytes that were read.
    pub(super) fn take(&mut self, read: &mut BytesMut) -> Result<Taken, Broken> {
        loop {
            match &mut self.rest {
                Rest::Nothing => return Ok(Taken::End),
                Rest::UntilClose if read.is_empty() => return Ok(Taken::Wants(0)),
                Rest::UntilClose => return Ok(Taken::Data(read.split().freeze())),
                Rest::Bytes(left) | Rest::Chunks(Chunk::Data(left)) if read.is_empty() => {
                    return Ok(Taken::Wants(usize::try_from(*left).unwrap_or(usize::MAX)));
                }
                Rest::Bytes(left) => {
                    let data = some_of(read, left);
                    if *left == 0 {
                        self.rest = Rest::Nothing;
                    }
                    return Ok(Taken::Data(data));
                }
                Rest::Chunks(Chunk::Data(left)) => {
                    let data = some_of(read, left);
                    if *left == 0 {
                        self.rest = Rest::Chunks(Chunk::DataEnd);
                    }
                    return Ok(Taken::Data(data));
                }
                Rest::Chunks(between) => match between.after(read)? {
                    Some(next) => self.rest = next,
                    None => return Ok(Taken::Wants(0)),
                },
            }
        }
    }

    /// The connection ended: whether the body did, too.
    pub(super) fn ends_with_connection(&self) -> bool {
        matches!(self.rest, Rest::UntilClose | Rest::Nothing)
    }
}

impl Chunk {
    /// What follows a line that isn't data, once it is there.
    fn after(self, read: &mut BytesMut) -> Result<Option<Rest>, Broken> {
        let Some(end) = memchr(b'\n', read) else {
            let max = if matches!(self, Self::Trailer(_)) { TRAILER_BYTES_MAX } else { CHUNK_LINE_BYTES_MAX };
            let too_long = read.len() > max;
            return if too_long {
                Err(Broken::Malformed("a line between chunks is too long"))
            } else {
                Ok(None)
            };
        };
        let line = &read[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let next = match self {
            Self::DataEnd if line.is_empty() => Rest::Chunks(Self::Line),
            Self::DataEnd | Self::Data(_) => return Err(Broken::Malformed("a chunk is longer than it says")),
            Self::Line => match size(line)? {
                0 => Rest::Chunks(Self::Trailer(0)),
                size => Rest::Chunks(Self::Data(size)),
            },
            Self::Trailer(_) if line.is_empty() => Rest::Nothing,
            Self::Trailer(bytes) if bytes + end >= TRAILER_BYTES_MAX => {
                return Err(Broken::Malformed("its trailer is too large"));
            }
            Self::Trailer(bytes) => Rest::Chunks(Self::Trailer(bytes + end + 1)),
        };
        read.advance(end + 1);
        Ok(Some(next))
    }
}

/// As much as there is, and no more than is left.
fn some_of(read: &mut BytesMut, left: &mut u64) -> Bytes {
    let len = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
    *left -= len as u64;
    read.split_to(len).freeze()
}

/// The only coding there is beside compressions, which we never say that we could read.
fn coded(headers: &HeaderMap) -> Result<Rest, Broken> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok(Rest::Chunks(Chunk::Line))
        }
        _ => Err(Broken::Malformed("a transfer coding other than chunked")),
    }
}

/// RFC 9110, 8.6: several that say the same are one.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Broken> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for one in value.as_bytes().split(|&byte| byte == b',') {
            let this = digits(one.trim_ascii()).ok_or(Broken::Malformed("its Content-Length"))?;
            if length.is_some_and(|other| other != this) {
                return Err(Broken::Malformed("two lengths that differ"));
            }
            length = Some(this);
        }
    }
    Ok(length)
}

fn digits(text: &[u8]) -> Option<u64> {
    // No sign and no space, which parsing alone would let pass.
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if is_number { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

fn size(line: &[u8]) -> Result<u64, Broken> {
    let bad = Broken::Malformed("the size of a chunk");
    let size = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
    let is_hex = !size.is_empty() && size.len() <= 16 && size.iter().all(u8::is_ascii_hexdigit);
    match std::str::from_utf8(size) {
        Ok(hex) if is_hex => u64::from_str_radix(hex, 16).map_err(|_| bad),
        _ => Err(bad),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn length(head: &str) -> Result<Length, Broken> {
        let whole = format!("HTTP/1.1 200 OK\r\n{head}\r\n");
        head::answer(&mut BytesMut::from(&whole[..])).map(|answer| answer.expect("it is whole").into_body())
    }

    /// The body of these bytes, in pieces as they are cut; whether it ended, and what is left of the bytes.
    fn read(head: &str, pieces: &[&[u8]]) -> Result<(Vec<u8>, bool, Vec<u8>), Broken> {
        let (mut length, mut read, mut body) = (length(head)?, BytesMut::new(), Vec::new());
        for piece in pieces {
            read.extend_from_slice(piece);
            loop {
                match length.take(&mut read)? {
                    Taken::Data(data) => body.extend_from_slice(&data),
                    Taken::Wants(_) => break,
                    Taken::End => return Ok((body, true, read.to_vec())),
                }
            }
        }
        Ok((body, false, read.to_vec()))
    }

    #[test]
    fn a_length_says_it() {
        let read = |head, bytes: &[u8]| read(head, &[bytes]).unwrap();
        assert_eq!(read("content-length: 2\r\n", b"hi!"), (b"hi".to_vec(), true, b"!".to_vec()));
        assert_eq!(read("content-length: 3\r\n", b"hi"), (b"hi".to_vec(), false, vec![]));
        assert_eq!(read("content-length: 2, 2\r\ncontent-length: 2\r\n", b"hi").0, b"hi");
        assert!(length("content-length: 0\r\n").unwrap().is_over());
        assert!(length("content-length: 2\r\n").unwrap().is_reusable());
    }

    #[test]
    fn without_one_the_connection_does() {
        let length = length("").unwrap();
        assert!(!length.is_reusable() && length.ends_with_connection());
        assert_eq!(read("", &[b"a", b"b"]).unwrap(), (b"ab".to_vec(), false, vec![]));
    }

    #[test]
    fn chunks_end_with_an_empty_one_and_their_trailer() {
        let body = b"2;x=y\r\nhi\r\nA\r\n0123456789\r\n0\r\nx-t: 1\r\n\r\n!";
        let (read, is_over, left) = read("transfer-encoding: Chunked\r\n", &[body]).unwrap();
        assert_eq!((&read[..], is_over, &left[..]), (&b"hi0123456789"[..], true, &b"!"[..]));
    }

    #[test]
    fn what_two_programs_could_read_differently_is_refused_or_the_last_of_its_connection() {
        for bad in [
            "content-length: 1\r\ncontent-length: 2\r\n",
            "content-length: +1\r\n",
            "content-length: \r\n",
            "content-length: 99999999999999999999\r\n",
            "transfer-encoding: gzip\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        ] {
            assert!(length(bad).is_err(), "{bad}");
        }
        assert!(!length("content-length: 1\r\ntransfer-encoding: chunked\r\n").unwrap().is_reusable());
        for bad in ["g\r\n", "\r\n", "-1\r\n", "11111111111111111\r\n", "1\r\nab\r\n", " 1\r\n"] {
            assert!(read("transfer-encoding: chunked\r\n", &[bad.as_bytes()]).is_err(), "{bad:?}");
        }
        let endless = vec![b'1'; CHUNK_LINE_BYTES_MAX + 1];
        assert!(read("transfer-encoding: chunked\r\n", &[&endless]).is_err());
        let trailer = format!("0\r\n{}", "a: b\r\n".repeat(TRAILER_BYTES_MAX / 5));
        assert!(read("transfer-encoding: chunked\r\n", &[trailer.as_bytes()]).is_err());
    }

    proptest! {
        #[test]
        fn chunks_are_the_same_in_pieces_of_any_size(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            cuts in prop::collection::vec(1usize..20, 1..200),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\nnext");
            let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            let (body, is_over, left) = read("transfer-encoding: chunked\r\n", &pieces).unwrap();
            prop_assert_eq!(body, chunks.concat());
            prop_assert!(is_over);
            prop_assert!(b"next".starts_with(&left));
        }
    }
}
