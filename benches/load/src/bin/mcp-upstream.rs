//! A fast fake upstream: Streamable HTTP on loopback, or stdio.

use std::convert::Infallible;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use load::fake::{Fake, Reply};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

// As the gateway has it: what is compared shouldn't be allocators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A fast fake MCP server with the tools `echo`, `sleep` and `blob`.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How many tools it lists.
    #[arg(long, default_value_t = 3)]
    tools: usize,
    /// Answer with event streams instead of JSON.
    #[arg(long)]
    sse: bool,
    /// Threads that serve.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Serve standard input and output instead.
    #[arg(long)]
    stdio: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let fake = Arc::new(Fake::new(arguments.tools));
    if arguments.stdio {
        return stdio(&fake);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(arguments.threads).enable_all().build()?;
    runtime.block_on(serve(&arguments, fake))
}

async fn serve(arguments: &Arguments, fake: Arc<Fake>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(arguments.listen).await?;
    println!("http://{}/mcp", listener.local_addr()?);
    let sse = arguments.sse;
    // On the workers: a task on this thread would be handed over for every event.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let fake = Arc::clone(&fake);
        connections.spawn(async move {
            let service = service_fn(|request| answer(&fake, sse, request));
            // A client that breaks off ends its connection, and nothing else.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    fake: &Fake,
    sse: bool,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    match *request.method() {
        Method::POST => {}
        Method::DELETE => return Ok(empty(StatusCode::NO_CONTENT)),
        _ => return Ok(empty(StatusCode::METHOD_NOT_ALLOWED)),
    }
    let is_first = !request.headers().contains_key("mcp-protocol-version");
    let Ok(body) = request.into_body().collect().await else { return Ok(empty(StatusCode::BAD_REQUEST)) };
    let message = match fake.reply(&body.to_bytes()) {
        Reply::Message(message) => message,
        Reply::After(wait, message) => {
            tokio::time::sleep(wait).await;
            message
        }
        Reply::Nothing => return Ok(empty(StatusCode::ACCEPTED)),
        Reply::Malformed => return Ok(empty(StatusCode::BAD_REQUEST)),
    };
    let (kind, body) = if sse {
        ("text/event-stream", [&b"event: message\ndata: "[..], &message, b"\n\n"].concat().into())
    } else {
        ("application/json", message)
    };
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if is_first {
        // Only `initialize` names no version.
        response.headers_mut().insert("mcp-session-id", HeaderValue::from_static("the-only-one"));
    }
    Ok(response)
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn stdio(fake: &Fake) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        match fake.reply(line?.as_bytes()) {
            Reply::Message(message) => output.write_all(&message)?,
            Reply::After(wait, message) => {
                std::thread::sleep(wait);
                output.write_all(&message)?;
            }
            Reply::Nothing | Reply::Malformed => continue,
        }
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}
