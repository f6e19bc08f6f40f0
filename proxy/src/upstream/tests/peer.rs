//! A scripted MCP server over raw TCP: one request a connection, written to the byte.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::tasks;

/// A request that the peer saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) verb: String,
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn message(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The JSON-RPC method; the verb of HTTP where there is no message.
    pub(super) fn method(&self) -> String {
        self.message()["method"].as_str().unwrap_or(&self.verb).to_owned()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// One request and the way to answer it.
pub(super) struct Talk {
    pub(super) seen: Seen,
    stream: TcpStream,
}

impl Talk {
    /// Bytes as they are; a client that left is no matter here.
    pub(super) async fn raw(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    pub(super) async fn answer(&mut self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        self.raw(&format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        ))
        .await;
    }

    pub(super) async fn json(&mut self, status: &str, body: &str) {
        self.answer(status, "content-type: application/json\r\n", body).await;
    }

    /// A good answer to the request, with this result.
    pub(super) async fn result(&mut self, result: &str) {
        let body = self.result_text(result);
        self.json("200 OK", &body).await;
    }

    pub(super) fn result_text(&self, result: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, self.seen.message()["id"])
    }

    pub(super) async fn start_events(&mut self) {
        self.raw("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n").await;
    }

    pub(super) async fn event(&mut self, data: &str) {
        self.raw(&format!("data: {data}\n\n")).await;
    }

    /// The next request on the same connection.
    pub(super) async fn next(self) -> Option<Self> {
        read(self.stream).await
    }

    /// Waits until the client closed the connection.
    pub(super) async fn gone(&mut self) {
        let mut rest = [0; 64];
        while matches!(self.stream.read(&mut rest).await, Ok(count) if count > 0) {}
    }

    /// The answers of a legacy server that a test has no opinion on.
    pub(super) async fn legacy(mut self) {
        match self.seen.method().as_str() {
            "initialize" => {
                let body = self.result_text(
                    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"peer","version":"1"}}"#,
                );
                self.answer("200 OK", "content-type: application/json\r\nmcp-session-id: s1\r\n", &body)
                    .await;
            }
            "ping" => self.result("{}").await,
            "tools/list" => self.result(r#"{"tools":[{"name":"a"},{"name":"b"}]}"#).await,
            "server/discover" => self.answer("400 Bad Request", "", "").await,
            "GET" | "DELETE" => self.answer("405 Method Not Allowed", "", "").await,
            _ => self.answer("202 Accepted", "", "").await,
        }
    }
}

/// The server. Dropping it leaves its tasks to the end of the test's runtime.
pub(super) struct Peer {
    pub(super) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    count: watch::Receiver<usize>,
}

impl Peer {
    /// Serves each request with `script`.
    pub(super) async fn start<F>(script: F) -> Self
    where
        F: Fn(Talk) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("it is bound"));
        let (seen, (counter, count)) = (Arc::new(Mutex::new(Vec::new())), watch::channel(0));
        let (tasks, written, script) = (tasks(), Arc::clone(&seen), Arc::new(script));
        let counter = Arc::new(counter);
        tasks.clone().spawn("peer", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, written, counter) =
                    (Arc::clone(&script), Arc::clone(&written), Arc::clone(&counter));
                tasks.spawn("peer request", async move {
                    if let Some(talk) = read(stream).await {
                        written.lock().expect("whole").push(talk.seen.clone());
                        counter.send_modify(|count| *count += 1);
                        script(talk).await;
                    }
                });
            }
        });
        Self { url, seen, count }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("whole").clone()
    }

    pub(super) fn methods(&self) -> Vec<String> {
        self.seen().iter().map(Seen::method).collect()
    }

    /// Waits until a request with this method was seen.
    pub(super) async fn until(&self, method: &str) -> Seen {
        self.until_some(1, |seen| seen.method() == method).await.remove(0)
    }

    /// Waits until so many requests of a kind were seen.
    pub(super) async fn until_some(&self, enough: usize, kind: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let mut count = self.count.clone();
        loop {
            count.borrow_and_update();
            let seen: Vec<_> = self.seen().into_iter().filter(&kind).collect();
            if seen.len() >= enough {
                return seen;
            }
            count.changed().await.expect("the peer lives");
        }
    }
}

async fn read(mut stream: TcpStream) -> Option<Talk> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ').map(str::to_owned);
    let (verb, path) = (words.next()?, words.next()?);
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < head_end + 4 + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    let body = String::from_utf8_lossy(&bytes[head_end + 4..]).into_owned();
    Some(Talk { seen: Seen { verb, path, headers, body }, stream })
}
