//! A client on a transport with one channel for everything: HTTP+SSE or WebSocket, message by message.
//!
//! Like the other client it does nothing that the test doesn't say.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use proxy::wire::sse::{Event, Reader};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::exchange::PATIENCE;
use super::gateway::TestGateway;
use super::mcp::{META, MODERN};

/// Both transports.
pub(crate) const TRANSPORTS: [&str; 2] = ["sse", "ws"];

/// An event larger than any message of a test.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An open connection. Dropped, it is closed.
pub(crate) enum Line {
    Sse(Box<Sse>),
    Ws(Box<Ws>),
}

/// HTTP+SSE.
pub(crate) struct Sse {
    http: Client,
    key: String,
    stream: Response,
    reader: Reader,
    /// Where posts go, as the first event said.
    pub(crate) endpoint: String,
    url: String,
}

/// WebSocket.
pub(crate) struct Ws {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Line {
    /// `sse` or `ws`, with the key of the scene.
    pub(crate) async fn open(transport: &str, gateway: &TestGateway) -> Self {
        Self::open_as(transport, gateway, gateway.key()).await
    }

    /// The same with any key.
    pub(crate) async fn open_as(transport: &str, gateway: &TestGateway, key: &str) -> Self {
        match transport {
            "sse" => Self::Sse(Box::new(Sse::open(gateway, key).await)),
            _ => Self::Ws(Box::new(Ws::open(gateway, key).await)),
        }
    }

    /// Sends a message, which is accepted.
    pub(crate) async fn send(&mut self, message: &Value) {
        match self {
            Self::Sse(sse) => assert_eq!(sse.post(message.to_string()).await.0, StatusCode::ACCEPTED),
            Self::Ws(ws) => ws.socket.send(Message::text(message.to_string())).await.expect("it is open"),
        }
    }

    /// The next message; none when the connection is over.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let text = tokio::time::timeout(PATIENCE, async {
            match self {
                Self::Sse(sse) => {
                    let event = sse.next_event().await?;
                    assert_eq!(event.event.as_deref(), Some("message"));
                    Some(String::from_utf8(event.data.to_vec()).expect("UTF-8"))
                }
                Self::Ws(ws) => ws.next_text().await,
            }
        });
        let text = text.await.expect("the connection has said nothing for too long")?;
        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}")))
    }

    /// The next message, which must come.
    pub(crate) async fn expect(&mut self) -> Value {
        self.next().await.expect("one more message before the end")
    }

    /// Sends a request of a session.
    pub(crate) async fn request(&mut self, id: impl Into<Value>, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params})).await;
    }

    /// Sends a request of 2026-07-28.
    pub(crate) async fn modern(&mut self, id: impl Into<Value>, method: &str, mut params: Value) {
        let mut meta = params["_meta"].take();
        if meta.is_null() {
            meta = json!({});
        }
        meta[format!("{META}protocolVersion")] = json!(MODERN);
        let declared = format!("{META}clientCapabilities");
        if meta.get(&declared).is_none() {
            meta[declared] = json!({});
        }
        params["_meta"] = meta;
        self.request(id, method, params).await;
    }

    /// Sends a notification.
    pub(crate) async fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params})).await;
    }

    /// Begins a session; what `initialize` answered.
    pub(crate) async fn initialize(&mut self, version: &str, capabilities: Value) -> Value {
        let params = json!({
            "protocolVersion": version, "capabilities": capabilities,
            "clientInfo": {"name": "harness", "version": "1"},
        });
        self.request("initialize", "initialize", params).await;
        let answer = self.expect().await;
        assert_eq!(answer["id"], "initialize", "{answer}");
        self.notify("notifications/initialized", json!({})).await;
        answer["result"].clone()
    }

    /// The answer to a request, and the messages before it.
    pub(crate) async fn answer(&mut self, id: impl Into<Value>) -> (Vec<Value>, Value) {
        let id = id.into();
        let mut before = Vec::new();
        loop {
            let message = self.expect().await;
            if message["id"] == id && message.get("method").is_none() {
                return (before, message);
            }
            before.push(message);
        }
    }

    /// A request of a session and its result.
    pub(crate) async fn result(&mut self, method: &str, params: Value) -> Value {
        self.request("asked", method, params).await;
        let answer = self.answer("asked").await.1;
        answer.get("result").unwrap_or_else(|| panic!("no result in {answer}")).clone()
    }

    /// The end, which must come within this time: the code that it has on WebSocket.
    pub(crate) async fn end_within(&mut self, patience: Duration) -> Option<u16> {
        let end = async {
            match self {
                Self::Sse(sse) => {
                    while sse.next_event().await.is_some() {}
                    None
                }
                Self::Ws(ws) => loop {
                    match ws.socket.next().await {
                        Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                        Some(Ok(_)) => {}
                        None | Some(Err(_)) => return None,
                    }
                },
            }
        };
        tokio::time::timeout(patience, end).await.expect("the connection ends")
    }
}

impl Sse {
    /// Opens a stream and takes its first event.
    pub(crate) async fn open(gateway: &TestGateway, key: &str) -> Self {
        Self::open_at(gateway, key, "/mcp/sse").await
    }

    pub(crate) async fn open_at(gateway: &TestGateway, key: &str, path: &str) -> Self {
        Self::open_by(gateway.url(), key, path).await
    }

    /// The same at any URL.
    pub(crate) async fn open_by(url: String, key: &str, path: &str) -> Self {
        let http = super::mcp::client();
        let request = http.get(format!("{url}{path}")).bearer_auth(key);
        let stream = request.header(ACCEPT, "text/event-stream").send().await.expect("an answer");
        assert_eq!(stream.status(), StatusCode::OK);
        assert_eq!(stream.headers()[CONTENT_TYPE], "text/event-stream");
        let reader = Reader::new(EVENT_BYTES_MAX);
        let mut sse = Self { http, key: key.to_owned(), stream, reader, endpoint: String::new(), url };
        let first = sse.next_event().await.expect("an event");
        assert_eq!(first.event.as_deref(), Some("endpoint"));
        sse.endpoint = String::from_utf8(first.data.to_vec()).expect("UTF-8");
        sse
    }

    /// Posts a body as it is: status and body of the answer.
    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>) -> (StatusCode, String) {
        self.post_as(&self.key, body).await
    }

    /// Posts to another gateway than the one that has the stream.
    pub(crate) async fn post_at(&self, url: &str, body: impl Into<reqwest::Body>) -> StatusCode {
        let request = self.http.post(format!("{url}{}", self.endpoint)).bearer_auth(&self.key);
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        request.send().await.expect("an answer").status()
    }

    /// The same with another key.
    pub(crate) async fn post_as(&self, key: &str, body: impl Into<reqwest::Body>) -> (StatusCode, String) {
        let answer = self.post_request().bearer_auth(key).body(body).send().await.expect("an answer");
        (answer.status(), answer.text().await.expect("a whole body"))
    }

    /// A post without a key.
    pub(crate) fn post_request(&self) -> RequestBuilder {
        self.http.post(format!("{}{}", self.url, self.endpoint)).header(CONTENT_TYPE, "application/json")
    }

    /// The next message; none when the stream is over.
    pub(crate) async fn next_text(&mut self) -> Option<String> {
        let event = tokio::time::timeout(PATIENCE, self.next_event()).await.expect("it says something")?;
        Some(String::from_utf8(event.data.to_vec()).expect("UTF-8"))
    }

    async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.reader.next_event().expect("events of a sane size") {
                return Some(event);
            }
            // A stream that was cut has ended as well.
            self.reader.push(self.stream.chunk().await.ok().flatten()?);
        }
    }
}

impl Ws {
    /// Opens a connection with the subprotocol that the SDKs offer.
    pub(crate) async fn open(gateway: &TestGateway, key: &str) -> Self {
        Self::connect(
            gateway,
            "/mcp/ws",
            &[("authorization", &format!("Bearer {key}")), ("sec-websocket-protocol", "mcp")],
        )
        .await
        .unwrap_or_else(|status| panic!("refused with {status}"))
    }

    /// A handshake with these headers; the status of a refusal.
    pub(crate) async fn connect(
        gateway: &TestGateway,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, u16> {
        let address = gateway.url().trim_start_matches("http://").to_owned();
        let mut request = format!("ws://{address}{path}").into_client_request().expect("a URL");
        for (name, value) in headers {
            let name = tokio_tungstenite::tungstenite::http::HeaderName::from_bytes(name.as_bytes());
            request
                .headers_mut()
                .append(name.expect("a name"), HeaderValue::from_str(value).expect("a value"));
        }
        let stream = TcpStream::connect(&address).await.expect("it listens");
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("no handshake: {error}"),
        }
    }

    async fn next_text(&mut self) -> Option<String> {
        loop {
            match self.socket.next().await? {
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The close frame, which must be the next thing but pings.
    pub(crate) async fn close_frame(&mut self) -> CloseFrame {
        let closed = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => return frame,
                    Some(Ok(Message::Ping(_))) => {}
                    other => panic!("not a reason to close: {other:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, closed).await.expect("it is closed")
    }
}
