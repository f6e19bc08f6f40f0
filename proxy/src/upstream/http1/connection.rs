//! One socket: a request out, the head of its answer in.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::Response;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use super::framing::Length;
use super::{Broken, head};

/// Read at once of a head: usual answers fit, with their bodies.
const READ_BYTES: usize = 4 * 1024;
/// Read at once of a body that is known to be larger, so that a long one costs few reads.
const READ_BYTES_MAX: usize = 64 * 1024;

/// A buffer is read into until less than this part of the room for one read is left.
const ROOM_LEFT_SHARE: usize = 4;

/// A connection. Dropped, it is closed, whatever is on its way.
pub(super) struct Connection {
    stream: TcpStream,
    /// What was read and isn't taken yet.
    pub(super) read: BytesMut,
    /// Of a request whose answer has begun; boxed, since hardly any has one.
    late: Option<Box<Rest>>,
    sent_nothing: bool,
}

/// What of a request has yet to leave.
struct Rest {
    head: Bytes,
    body: Bytes,
}

impl Rest {
    fn is_empty(&self) -> bool {
        self.head.is_empty() && self.body.is_empty()
    }

    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.head.len());
        self.head.advance(of_head);
        self.body.advance(written - of_head);
    }
}

impl Connection {
    /// A new one.
    pub(super) fn over(stream: TcpStream) -> Self {
        Self { stream, read: BytesMut::new(), late: None, sent_nothing: true }
    }

    /// Sends a request and waits for the head of the final answer (RFC 9110, 15.2: others may precede it).
    pub(super) async fn ask(&mut self, head: Bytes, body: Bytes) -> Result<Response<Length>, Broken> {
        self.sent_nothing = true;
        let mut rest = Rest { head, body };
        let answer = poll_fn(|cx| self.poll_ask(cx, &mut rest)).await?;
        if answer.status().is_success() && !rest.is_empty() {
            self.late = Some(Box::new(rest));
        }
        Ok(answer)
    }

    /// Whether no byte of the last request left.
    pub(super) fn has_sent_nothing(&self) -> bool {
        self.sent_nothing
    }

    /// Writes and reads at once: an upstream that doesn't want a body may answer before it is written, and close.
    /// One that begins to answer well may still be reading, and is given the rest while its answer is read.
    fn poll_ask(&mut self, cx: &mut Context<'_>, rest: &mut Rest) -> Poll<Result<Response<Length>, Broken>> {
        let written = self.poll_write(cx, rest);
        loop {
            if let Some(mut answer) = head::answer(&mut self.read)? {
                if !rest.is_empty() {
                    // What it would take for the next request is the end of this one.
                    answer.body_mut().forbid_reuse();
                }
                return Poll::Ready(Ok(answer));
            }
            match self.poll_read(cx, READ_BYTES) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Broken::Ended)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                // It can't be written to any more, and said nothing.
                Poll::Pending => {
                    return match written {
                        Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, rest: &mut Rest) -> Poll<io::Result<()>> {
        while !rest.is_empty() {
            let slices = [IoSlice::new(&rest.head), IoSlice::new(&rest.body)];
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent_nothing = false;
            rest.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what there is, about so many bytes of it; 0 is the end. Writes on what is left of the request.
    pub(super) fn poll_read_on(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        if let Some(mut rest) = self.late.take()
            // Where it can't be written, reading tells whether the answer goes on without it.
            && self.poll_write(cx, &mut rest).is_pending()
        {
            self.late = Some(rest);
        }
        self.poll_read(cx, wanted)
    }

    /// What was read stays where it is as long as somebody has a piece of it: a buffer serves many reads, however
    /// small they are.
    fn poll_read(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let room = wanted.clamp(READ_BYTES, READ_BYTES_MAX);
        if self.read.capacity() - self.read.len() < room / ROOM_LEFT_SHARE {
            self.read.reserve(room);
        }
        poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.read)
    }

    /// Whether nothing came and it wasn't closed since its last answer ended, as far as the runtime has heard.
    pub(super) fn is_quiet(&self) -> bool {
        let nothing = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.stream.try_read(&mut [0]).is_err_and(nothing)
    }

    /// The same, asked of the socket itself.
    pub(super) fn is_quiet_for_sure(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        rustix::net::recv(&self.stream, &mut [0], flags).is_err_and(|error| error == Errno::WOULDBLOCK)
    }

    /// Gives its memory back while it waits.
    pub(super) fn rest(&mut self) {
        self.read = BytesMut::new();
    }
}
