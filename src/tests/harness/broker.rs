//! A scripted XiaoZhi broker: it is dialled, speaks first, and closes as a test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use super::exchange::PATIENCE;

/// What the address of an endpoint has that nobody is to see.
pub(crate) const TOKEN: &str = "eyJCANARYxiaozhi.a-b_c";

/// The broker. Dropped, all of its connections end.
pub(crate) struct Broker {
    port: u16,
    shared: Arc<Shared>,
    accepted: mpsc::UnboundedReceiver<Robot>,
    _served: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    /// Connections that are open now, and at most at one time so far.
    open: AtomicUsize,
    most_open: AtomicUsize,
    /// The status that handshakes are refused with; 0: they are taken.
    refusal: AtomicU16,
}

/// One connection, as its robots use it.
pub(crate) struct Robot {
    /// The handshake that it began with.
    pub(crate) handshake: Request,
    said: mpsc::UnboundedSender<Message>,
    heard: mpsc::UnboundedReceiver<Message>,
}

impl Broker {
    /// One that takes every connection.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (shared, (robots, accepted)) = (Arc::new(Shared::default()), mpsc::unbounded_channel());
        let mut served = JoinSet::new();
        let state = Arc::clone(&shared);
        served.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&state), robots.clone()));
            }
        });
        Self { port, shared, accepted, _served: served }
    }

    /// The address that an admin pastes.
    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/mcp_endpoint/mcp/?token={TOKEN}", self.port)
    }

    /// The next connection, which must come.
    pub(crate) async fn robot(&mut self) -> Robot {
        let robot = tokio::time::timeout(PATIENCE, self.accepted.recv()).await;
        robot.expect("a connection in time").expect("the broker runs")
    }

    /// Refuses handshakes with a status from now on; takes them again with 0.
    pub(crate) fn refuse(&self, status: u16) {
        self.shared.refusal.store(status, Ordering::SeqCst);
    }

    /// Most connections that were ever open at one time.
    pub(crate) fn most_open(&self) -> usize {
        self.shared.most_open.load(Ordering::SeqCst)
    }
}

impl Robot {
    /// Says something, whatever it is.
    pub(crate) fn say(&self, message: impl std::fmt::Display) {
        // To one that left nothing can be said; what the test expects next tells.
        let _ = self.said.send(Message::text(message.to_string()));
    }

    /// Says it as a request.
    pub(crate) fn ask(&self, id: impl Into<Value>, method: &str, params: &Value) {
        let id: Value = id.into();
        self.say(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
    }

    /// Closes with a code.
    pub(crate) fn close(&self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: format!("because of {TOKEN}").into() };
        let _ = self.said.send(Message::Close(Some(frame)));
    }

    /// The next message, which must come.
    pub(crate) async fn hear(&mut self) -> Value {
        match self.next().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("a message, not {other:?}"),
        }
    }

    /// Asks, and hears the answer.
    pub(crate) async fn asked(&mut self, id: impl Into<Value>, method: &str, params: &Value) -> Value {
        self.ask(id, method, params);
        self.hear().await
    }

    /// Calls a tool, and hears the text of its result.
    pub(crate) async fn called(&mut self, name: &str, arguments: Value) -> String {
        let answer = self.asked(7, "tools/call", &json!({"name": name, "arguments": arguments})).await;
        assert_eq!(answer["id"], 7, "{answer}");
        let text = answer["result"]["content"][0]["text"].as_str();
        text.unwrap_or_else(|| panic!("no text in {answer}")).to_owned()
    }

    /// The names of the tools that it is shown.
    pub(crate) async fn tool_names(&mut self) -> Vec<String> {
        let list = self.asked(2, "tools/list", &json!({})).await;
        let tools = list["result"]["tools"].as_array().unwrap_or_else(|| panic!("no tools in {list}"));
        tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// The code that the gateway closes with, whatever it says before; `None` if it just breaks off.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            match self.next().await {
                Some(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Some(_) => {}
                None => return None,
            }
        }
    }

    async fn next(&mut self) -> Option<Message> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.heard.recv()).await.expect("something in time")?;
            if !matches!(next, Message::Ping(_) | Message::Pong(_)) {
                return Some(next);
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, robots: mpsc::UnboundedSender<Robot>) {
    let (mut handshake, refusal) = (None, shared.refusal.load(Ordering::SeqCst));
    #[expect(clippy::result_large_err, reason = "the library's own callback")]
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        handshake = Some(request.clone());
        if refusal == 0 {
            return Ok(response);
        }
        let mut refused = ErrorResponse::new(Some(format!("no {TOKEN}")));
        *refused.status_mut() = refusal.try_into().expect("a status");
        Err(refused)
    };
    let Ok(socket) = accept_hdr_async(stream, check).await else { return };
    let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most_open.fetch_max(open, Ordering::SeqCst);
    let (said, to_say) = mpsc::unbounded_channel();
    let (hear, heard) = mpsc::unbounded_channel();
    let robot = Robot { handshake: handshake.expect("the callback was asked"), said, heard };
    if robots.send(robot).is_ok() {
        carry(socket, to_say, hear).await;
    }
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

/// Carries both ways until either side ends it; a robot that is dropped leaves its connection open.
async fn carry(
    mut socket: WebSocketStream<TcpStream>,
    mut to_say: mpsc::UnboundedReceiver<Message>,
    hear: mpsc::UnboundedSender<Message>,
) {
    let mut is_held = true;
    loop {
        tokio::select! {
            message = to_say.recv(), if is_held => match message {
                Some(message) => {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                None => is_held = false,
            },
            message = socket.next() => match message {
                Some(Ok(message)) => {
                    let _ = hear.send(message);
                }
                Some(Err(_)) | None => return,
            },
        }
    }
}
