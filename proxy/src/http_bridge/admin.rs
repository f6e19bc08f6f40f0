//! The control plane, called in process with bodies that stream in both directions.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use pingora::proxy::Session;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use super::{closed, request};
use crate::refusal::Refusal;

/// Pieces of a body that may wait for a handler to read them: enough to read and handle in turns.
const PIECES_MAX: usize = 4;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off")]
pub struct BodyError(#[source] Box<dyn std::error::Error + Send + Sync>);
/// A body to or from the control plane.
pub type AdminBody = UnsyncBoxBody<Bytes, BodyError>;
/// The control plane.
pub type AdminService = BoxCloneSyncService<http::Request<AdminBody>, http::Response<AdminBody>, Infallible>;

/// Wraps the control plane's service, whatever its own body types are; `body` makes its request body.
pub fn admin_service<S, In, Out>(service: S, body: fn(AdminBody) -> In) -> AdminService
where
    S: tower::Service<http::Request<In>, Response = http::Response<Out>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    In: 'static,
    Out: Body<Data = Bytes> + Send + 'static,
    Out::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = service
        .map_request(move |request: http::Request<AdminBody>| request.map(body))
        .map_response(|response: http::Response<Out>| {
            response.map(|body| body.map_err(|error| BodyError(error.into())).boxed_unsync())
        });
    BoxCloneSyncService::new(service)
}

/// Puts a request to the control plane, feeding it the body as it comes: at most `limit` bytes, within
/// `deadline` in all. A handler that has the whole body is never dropped, whether the client is there
/// or not: what it began, it ends.
pub(crate) async fn ask(
    session: &mut Session,
    service: AdminService,
    head: http::request::Parts,
    limit: usize,
    deadline: Duration,
    gone: &CancellationToken,
) -> Result<http::Response<AdminBody>, Refusal> {
    request::check_announced(&head.headers, limit)?;
    request::invite(session).await?;
    let (pieces, body) = body_of_pieces();
    let mut pieces = Some(pieces);
    let mut left = limit;
    let ends = Instant::now() + deadline;
    let mut answer = std::pin::pin!(service.oneshot(http::Request::from_parts(head, body)));
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return Ok(answer.unwrap_or_else(|never| match never {})),
            event = next_event(session, pieces.as_ref(), &mut left), if !gone.is_cancelled() => match event {
                Event::Piece => {}
                Event::BodyOver => pieces = None,
                Event::BodyTooLarge => return Err(Refusal::BodyTooLarge { limit }),
                Event::Closed => gone.cancel(),
            },
            () = tokio::time::sleep_until(ends), if pieces.is_some() => {
                return Err(Refusal::BodyTooSlow { deadline });
            }
        }
    }
}

/// What the client did.
enum Event {
    /// It sent a piece of the body, which was passed on.
    Piece,
    /// It sent the last piece, or the handler wants no more.
    BodyOver,
    /// It sent more than the limit.
    BodyTooLarge,
    /// It closed its connection.
    Closed,
}

/// While there is a body to pass on, that; afterwards the connection is watched.
async fn next_event(session: &mut Session, pieces: Option<&Pieces>, left: &mut usize) -> Event {
    let Some(pieces) = pieces else {
        closed(session).await;
        return Event::Closed;
    };
    let Ok(place) = pieces.reserve().await else { return Event::BodyOver };
    match session.read_request_body().await {
        Ok(None) => Event::BodyOver,
        Ok(Some(bytes)) => match left.checked_sub(bytes.len()) {
            None => Event::BodyTooLarge,
            Some(less) => {
                *left = less;
                place.send(Ok(Frame::data(bytes)));
                Event::Piece
            }
        },
        Err(error) => {
            place.send(Err(BodyError(error)));
            Event::BodyOver
        }
    }
}

type Pieces = mpsc::Sender<Result<Frame<Bytes>, BodyError>>;

fn body_of_pieces() -> (Pieces, AdminBody) {
    let (pieces, receiver) = mpsc::channel(PIECES_MAX);
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    (pieces, StreamBody::new(stream).boxed_unsync())
}
