//! Upstreams that a real server can't be: scripted on the bare socket, for faults only.
//!
//! Each shakes hands and lists one tool, `faulty`, as a legacy server without a session does. What
//! happens when the tool is called is the fault.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What becomes of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The connection closes after the request was read.
    CloseBeforeAnswer,
    /// The connection closes in the middle of a JSON body.
    CloseMidBody,
    /// The event stream ends before the answer came.
    EndOfStream,
    /// The body isn't JSON.
    Garbage,
    /// A good answer to a request that nobody made.
    WrongId,
    /// JSON, but no JSON-RPC.
    NoJsonRpc,
    /// A status instead of an answer.
    Status500,
    /// One event that never ends.
    EndlessEvent,
    /// Nothing at all.
    Silence,
}

/// The scripted upstream.
pub(crate) struct Faulty {
    port: u16,
    calls: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Faulty {
    pub(crate) async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let port = listener.local_addr().expect("bound").port();
        let calls = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let counted = Arc::clone(&calls);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("the listener lives");
                connections.spawn(converse(stream, fault, Arc::clone(&counted)));
            }
        });
        Self { port, calls, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    /// How often the tool was called.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// A port where connections are made, since the kernel makes them, but nobody ever reads.
pub(crate) struct Hanging {
    listener: std::net::TcpListener,
}

impl Hanging {
    pub(crate) fn start() -> Self {
        Self { listener: std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports") }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.listener.local_addr().expect("bound"))
    }
}

/// Where nobody listens.
pub(crate) fn dead_url() -> String {
    // Held for as long as the tests run, and never listened at: nobody else gets it.
    static HELD: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("the system has sockets");
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = SocketAddrV4::try_from(getsockname(&socket).expect("bound")).expect("what it was bound to");
    HELD.lock().expect("nobody panics with it").push(socket);
    format!("http://{address}/mcp")
}

/// Answers one connection until it breaks. None: the client left.
async fn converse(stream: TcpStream, fault: Fault, calls: Arc<AtomicUsize>) {
    let mut stream = BufReader::new(stream);
    while let Some((method, message)) = read(&mut stream).await {
        let id = &message["id"];
        let answered = match message["method"].as_str() {
            _ if method != "POST" => write(&mut stream, "405 Method Not Allowed", "text/plain", b"").await,
            Some("initialize") => {
                let result = json!({
                    "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                    "serverInfo": {"name": "faulty", "version": "1"},
                });
                json(&mut stream, id, &result).await
            }
            Some("tools/list") => {
                let tool = json!({"name": "faulty", "inputSchema": {"type": "object"}});
                json(&mut stream, id, &json!({"tools": [tool]})).await
            }
            Some("ping") => json(&mut stream, id, &json!({})).await,
            Some("tools/call") => {
                calls.fetch_add(1, Ordering::SeqCst);
                if !commit(fault, &mut stream).await {
                    return;
                }
                Some(())
            }
            Some(_) if id.is_null() => write(&mut stream, "202 Accepted", "text/plain", b"").await,
            _ => {
                let error = json!({"code": -32601, "message": "Method not found"});
                let body = json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string();
                write(&mut stream, "200 OK", "application/json", body.as_bytes()).await
            }
        };
        if answered.is_none() {
            return;
        }
    }
}

/// Does what is wrong. `false`: the connection is to be closed.
async fn commit(fault: Fault, stream: &mut BufReader<TcpStream>) -> bool {
    let as_json = "application/json";
    match fault {
        Fault::CloseBeforeAnswer => false,
        Fault::CloseMidBody => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"jsonrpc\"";
            let _ = stream.write_all(head.as_bytes()).await;
            false
        }
        Fault::EndOfStream => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: no more than this\n\n";
            let _ = stream.write_all(head.as_bytes()).await;
            false
        }
        Fault::Garbage => write(stream, "200 OK", as_json, b"}{ not json").await.is_some(),
        Fault::NoJsonRpc => write(stream, "200 OK", as_json, b"[1,2,3]").await.is_some(),
        Fault::WrongId => {
            let result = json!({"content": [{"type": "text", "text": "for somebody else"}]});
            json(stream, &json!("nobody's"), &result).await.is_some()
        }
        Fault::Status500 => write(stream, "500 Internal Server Error", "text/plain", b"oh").await.is_some(),
        Fault::EndlessEvent => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"jsonrpc\":\"2.0\",\"id\":";
            let _ = stream.write_all(head.as_bytes()).await;
            let filler = vec![b'1'; 64 * 1024];
            while stream.write_all(&filler).await.is_ok() {}
            false
        }
        Fault::Silence => std::future::pending().await,
    }
}

async fn json(stream: &mut BufReader<TcpStream>, id: &Value, result: &Value) -> Option<()> {
    let body = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
    write(stream, "200 OK", "application/json", body.as_bytes()).await
}

async fn write(stream: &mut BufReader<TcpStream>, status: &str, kind: &str, body: &[u8]) -> Option<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body).await.ok()
}

/// The method and the message of the next request.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let method = line.split(' ').next()?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((method, serde_json::from_slice(&body).unwrap_or_default()))
}
