//! The listener for Prometheus: one page, on an address of its own and never the public one.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use super::page::{CONTENT_TYPE, Page};
use crate::tasks::Tasks;

/// Connections at once: a scraper or two, and whoever looks.
const CONNECTIONS_MAX: usize = 16;
/// How long a request's head may take.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection may be open, whatever it does: a scraper connects again.
const CONNECTION_TIME_MAX: Duration = Duration::from_hours(1);

/// Makes the page.
pub type Pages = Arc<dyn Fn() -> BoxFuture<'static, Page> + Send + Sync>;

/// Between two attempts to take a connection while that fails, as it does without a free descriptor: at once, each
/// time.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves the page until the tasks stop.
pub async fn serve(socket: TcpListener, pages: Pages, tasks: Tasks) {
    let listening = socket.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(socket));
    let socket = match listening {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(error = %error, "the metrics listener could not be started");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let stopping = tasks.stopping().clone();
    loop {
        // Beyond the limit connections wait in the socket's queue.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stopping.cancelled() => return,
        };
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        let (connection, _) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(error = %error, "the metrics listener could not take a connection");
                tokio::select! {
                    () = tokio::time::sleep(ACCEPT_RETRY) => continue,
                    () = stopping.cancelled() => return,
                }
            }
        };
        let (pages, stopping) = (Arc::clone(&pages), stopping.clone());
        tasks.spawn_here("metrics connection", async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&pages)));
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_DEADLINE)
                .serve_connection(TokioIo::new(connection), service);
            tokio::select! {
                served = tokio::time::timeout(CONNECTION_TIME_MAX, served) => if let Ok(Err(error)) = served {
                    tracing::debug!(error = %error, "a connection for metrics broke");
                },
                () = stopping.cancelled() => {}
            }
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>, pages: Pages) -> Result<Response<Full<Bytes>>, Infallible> {
    let status = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            let text = pages().await.render();
            let mut response = Response::new(Full::new(Bytes::from(text)));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
            return Ok(response);
        }
        (_, "/metrics") => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::NOT_FOUND,
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    Ok(response)
}
