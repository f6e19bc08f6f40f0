//! One HTTP/1.1 connection of a client that makes load: as little work as a request can be.
//!
//! A request is one write; an answer is read until it is whole, whether its length is said or it comes
//! in chunks. Nothing is forgiven: what isn't understood ends the connection.

use std::io::{self, Error, ErrorKind};
use std::net::SocketAddr;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Read at once: a small answer comes whole, a large one in few pieces.
const READ_BYTES: usize = 64 * 1024;
/// A server that sends more header than this is not one of ours.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// An open connection.
pub struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    read: Vec<u8>,
    body: Vec<u8>,
}

/// What stands in an answer's head.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// `Mcp-Session-Id`, where there is one.
    pub session: Option<String>,
    /// Whether the server closes the connection.
    pub closes: bool,
    length: Option<usize>,
    chunked: bool,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: Vec::new(), read: Vec::with_capacity(READ_BYTES), body: Vec::new() })
    }

    /// Sends a request (its head without `Content-Length` and the empty line) and reads the answer.
    pub async fn exchange(&mut self, head: &str, body: &[u8]) -> io::Result<Head> {
        self.request.clear();
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(b"Content-Length: ");
        self.request.extend_from_slice(body.len().to_string().as_bytes());
        self.request.extend_from_slice(b"\r\n\r\n");
        self.request.extend_from_slice(body);
        self.stream.write_all(&self.request).await?;
        self.answer().await
    }

    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    async fn answer(&mut self) -> io::Result<Head> {
        self.read.clear();
        self.body.clear();
        let end = loop {
            let seen = self.read.len().saturating_sub(3);
            self.more().await?;
            if let Some(at) = memmem::find(&self.read[seen..], b"\r\n\r\n") {
                break seen + at + 4;
            }
            if self.read.len() > HEAD_BYTES_MAX {
                return Err(unreadable("the head has no end"));
            }
        };
        let head = parse(&self.read[..end - 2])?;
        let mut rest = end;
        match head.length {
            Some(length) => {
                while self.read.len() < end + length {
                    self.more().await?;
                }
                self.body.extend_from_slice(&self.read[end..end + length]);
            }
            None if head.chunked => while self.chunk(&mut rest).await? {},
            None => {} // 202, 204: there is none.
        }
        Ok(head)
    }

    /// Takes one chunk, that begins at `rest`; whether it wasn't the last.
    async fn chunk(&mut self, rest: &mut usize) -> io::Result<bool> {
        let line_end = loop {
            if let Some(at) = memmem::find(&self.read[*rest..], b"\r\n") {
                break *rest + at;
            }
            self.more().await?;
        };
        let size = std::str::from_utf8(&self.read[*rest..line_end]).ok();
        let size = size.and_then(|line| usize::from_str_radix(line.split(';').next()?.trim(), 16).ok());
        let size = size.ok_or_else(|| unreadable("the size of a chunk"))?;
        let start = line_end + 2;
        while self.read.len() < start + size + 2 {
            self.more().await?;
        }
        self.body.extend_from_slice(&self.read[start..start + size]);
        *rest = start + size + 2;
        Ok(size > 0)
    }

    async fn more(&mut self) -> io::Result<()> {
        self.read.reserve(READ_BYTES / 4);
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn parse(head: &[u8]) -> io::Result<Head> {
    let head = std::str::from_utf8(head).map_err(|_| unreadable("the head isn't text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|line| line.get(..3));
    let status = status.and_then(|digits| digits.parse().ok()).ok_or_else(|| unreadable("the status"))?;
    let mut parsed = Head { status, ..Head::default() };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            parsed.length = Some(value.parse().map_err(|_| unreadable("the length"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            parsed.chunked = value.eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("mcp-session-id") {
            parsed.session = Some(value.to_owned());
        } else if name.eq_ignore_ascii_case("connection") {
            parsed.closes = value.eq_ignore_ascii_case("close");
        }
    }
    Ok(parsed)
}

fn unreadable(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answered(pieces: &'static [&'static str]) -> (io::Result<Head>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let client = async {
            let mut connection = Connection::open(address).await.unwrap();
            let head = connection.exchange("POST / HTTP/1.1\r\nHost: h\r\n", b"{}").await;
            (head, connection.body().to_vec())
        };
        tokio::join!(server, client).1
    }

    #[tokio::test]
    async fn an_answer_of_known_length_is_read() {
        let (head, body) =
            answered(&["HTTP/1.1 200 OK\r\nMcp-Session-Id: s\r\nContent-Le", "ngth: 4\r\n\r\nab", "cd"])
                .await;
        let head = head.unwrap();
        assert_eq!((head.status, head.session.as_deref()), (200, Some("s")));
        assert_eq!(body, b"abcd");
    }

    #[tokio::test]
    async fn an_answer_in_chunks_is_put_together() {
        let pieces = &[
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r",
            "\n0",
            "3;x\r\ncde\r\n0\r\n\r\n",
        ];
        let (head, body) = answered(pieces).await;
        assert!(head.is_ok());
        assert_eq!(body, b"abcde");
    }

    #[tokio::test]
    async fn what_breaks_off_is_an_error() {
        let (head, _) = answered(&["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"]).await;
        assert!(head.is_err());
        let (head, _) = answered(&["nonsense\r\n\r\n"]).await;
        assert!(head.is_err());
    }
}
