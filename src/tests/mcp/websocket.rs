//! WebSocket: the handshake, frames that are none of ours, and the codes that a connection closes with.

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::harness::{Line, PATIENCE, TestGateway, Ws};

const MIB: usize = 1024 * 1024;

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// A ping of that many bytes.
fn padded(bytes: usize) -> String {
    let empty = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"pad": ""}}).to_string();
    empty.replace(r#""pad":"""#, &format!(r#""pad":"{}""#, "x".repeat(bytes - empty.len())))
}

/// A message in frames of at most so many bytes.
async fn send_in_frames(ws: &mut Ws, message: &str, bytes: usize) {
    let pieces: Vec<_> = message.as_bytes().chunks(bytes).collect();
    for (i, piece) in pieces.iter().enumerate() {
        let kind = if i == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(piece.to_vec(), OpCode::Data(kind), i + 1 == pieces.len());
        // One that is too much may be refused before it is written whole.
        let _ = ws.socket.send(Message::Frame(frame)).await;
    }
}

#[tokio::test]
async fn a_client_may_offer_the_subprotocol_or_not_and_show_its_key_in_any_place() {
    let gateway = TestGateway::start().with_key().await;
    let (key, bearer) = (gateway.key(), bearer(gateway.key()));
    for (path, headers) in [
        ("/mcp/ws".to_owned(), vec![("authorization", bearer.as_str())]),
        ("/mcp/ws".to_owned(), vec![("x-api-key", key), ("sec-websocket-protocol", "mcp")]),
        (format!("/mcp/ws?api_key={key}"), vec![("sec-websocket-protocol", "other, mcp")]),
        (format!("/mcp/full/ws?api_key={key}"), vec![]),
    ] {
        let ws =
            Ws::connect(&gateway, &path, &headers).await.unwrap_or_else(|status| panic!("{path}: {status}"));
        let mut line = Line::Ws(Box::new(ws));
        line.request(1, "ping", json!({})).await;
        assert_eq!(line.expect().await["id"], 1, "{path}");
    }
    assert!(!gateway.log().contains("mpg_"), "a key in a URL isn't logged");
}

#[tokio::test]
async fn what_is_refused_is_refused_before_the_change_of_protocol_t01() {
    let gateway = TestGateway::start().with_key().await;
    let bearer = bearer(gateway.key());
    for (path, headers, status) in [
        ("/mcp/ws", vec![], 401),
        ("/mcp/ws", vec![("authorization", "Bearer mpg_unknown")], 401),
        ("/mcp/clever/ws", vec![("authorization", bearer.as_str())], 404),
        ("/mcp/ws", vec![("authorization", &bearer), ("origin", "http://evil.example.com")], 403),
        ("/mcp/ws", vec![("authorization", &bearer), ("origin", "null")], 403),
        ("/mcp/ws", vec![("authorization", &bearer), ("origin", "http://localhost:8080@evil.com")], 403),
    ] {
        assert_eq!(Ws::connect(&gateway, path, &headers).await.err(), Some(status), "{path} {headers:?}");
    }
    let own = gateway.url();
    let allowed = [("authorization", bearer.as_str()), ("origin", own.as_str())];
    assert!(Ws::connect(&gateway, "/mcp/ws", &allowed).await.is_ok());
    let twice = [("authorization", bearer.as_str()), ("origin", own.as_str()), ("origin", own.as_str())];
    assert_eq!(Ws::connect(&gateway, "/mcp/ws", &twice).await.err(), Some(403));
    // Without a handshake there is nothing to see.
    let plain = reqwest::Client::new().get(format!("{own}/mcp/ws")).bearer_auth(gateway.key());
    let plain = plain.send().await.unwrap();
    assert_eq!(
        (plain.status().as_u16(), &plain.headers()["sec-websocket-version"]),
        (426, &"13".parse().unwrap())
    );
}

#[tokio::test]
async fn frames_that_come_glued_to_the_handshake_are_read() {
    let gateway = TestGateway::start().with_key().await;
    let address = gateway.url().trim_start_matches("http://").to_owned();
    let request = format!(
        "GET /mcp/ws HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        gateway.key()
    );
    let mut bytes = request.into_bytes();
    // Masked with zeros, each as long as it says; the second one is cut in two.
    for id in [1, 2] {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": "ping"}).to_string();
        bytes.extend([0x81, 0x80 | u8::try_from(message.len()).unwrap(), 0, 0, 0, 0]);
        bytes.extend(message.as_bytes());
    }
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let (first, rest) = bytes.split_at(bytes.len() - 10);
    stream.write_all(first).await.unwrap();
    let mut read = async |until: &str| {
        let mut seen = String::new();
        while !seen.contains(until) {
            let mut buffer = [0; 1024];
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("only {seen}")).unwrap();
            assert_ne!(read, 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        stream.write_all(rest).await.unwrap();
        seen
    };
    let seen = read(r#""id":1,"#).await;
    assert!(seen.starts_with("HTTP/1.1 101"), "{seen}");
    assert!(
        seen.to_ascii_lowercase()
            .contains("sec-websocket-accept: s3ppLMBiTxaQ9kYGzzhZRbK+xOo=".to_ascii_lowercase().as_str())
    );
    read(r#""id":2,"#).await;
}

#[tokio::test]
async fn what_is_no_message_closes_with_the_code_for_it_t30() {
    let gateway = TestGateway::start().with_key().await;
    let open = async || Ws::open(&gateway, gateway.key()).await;

    let mut ws = open().await;
    ws.socket.send(Message::binary(padded(100))).await.unwrap();
    assert_eq!(u16::from(ws.close_frame().await.code), 1003);

    let mut ws = open().await;
    let frame = Frame::message(vec![b'"', 0xff, b'"'], OpCode::Data(Data::Text), true);
    ws.socket.send(Message::Frame(frame)).await.unwrap();
    assert_eq!(u16::from(ws.close_frame().await.code), 1007);

    // One frame of more than 1 MiB; then as much in frames that are each allowed, up to 4 MiB.
    let mut ws = open().await;
    send_in_frames(&mut ws, &padded(MIB + 1), usize::MAX).await;
    assert_eq!(u16::from(ws.close_frame().await.code), 1009);
    let mut ws = open().await;
    send_in_frames(&mut ws, &padded(4 * MIB + 1), MIB).await;
    assert_eq!(u16::from(ws.close_frame().await.code), 1009);

    let mut ws = open().await;
    send_in_frames(&mut ws, &padded(4 * MIB), MIB).await;
    let mut line = Line::Ws(Box::new(ws));
    assert_eq!(line.expect().await, json!({"jsonrpc": "2.0", "id": 1, "result": {}}));

    // What isn't JSON-RPC is an error and no reason to close.
    let Line::Ws(mut ws) = line else { unreachable!() };
    for text in ["}{", "", &"[".repeat(100_000)] {
        ws.socket.send(Message::text(text)).await.unwrap();
    }
    let mut line = Line::Ws(ws);
    for _ in 0..3 {
        assert_eq!(line.expect().await["error"]["code"], -32700);
    }
}

#[tokio::test]
async fn the_limit_of_a_message_is_that_of_the_settings() {
    let scene = TestGateway::start().with_setting("mcp_api", "request_body_max_mib", 1);
    let gateway = scene.with_key().await;
    let mut ws = Ws::open(&gateway, gateway.key()).await;
    send_in_frames(&mut ws, &padded(MIB + 1), MIB / 2).await;
    assert_eq!(u16::from(ws.close_frame().await.code), 1009);
}

#[tokio::test]
async fn a_client_that_closes_is_told_goodbye_and_one_that_pings_is_answered() {
    let gateway = TestGateway::start().with_key().await;
    let mut ws = Ws::open(&gateway, gateway.key()).await;
    ws.socket.send(Message::Ping("are you there".into())).await.unwrap();
    let pong = tokio::time::timeout(PATIENCE, ws.socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(pong, Message::Pong("are you there".into()));
    ws.socket.close(None).await.unwrap();
    let echoed = tokio::time::timeout(PATIENCE, ws.socket.next()).await.unwrap();
    assert!(matches!(echoed, Some(Ok(Message::Close(_)))), "{echoed:?}");
    assert!(ws.socket.next().await.is_none());
}

#[tokio::test]
async fn a_request_is_logged_with_its_path_when_its_connection_is_over() {
    let gateway = TestGateway::start().with_key().await;
    let mut ws = Ws::open(&gateway, gateway.key()).await;
    ws.socket.close(None).await.unwrap();
    let logged = async {
        loop {
            let log = gateway.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let path = |line: &Value| {
                line["http.path"].as_str().or(line["fields"]["http.path"].as_str()).map(str::to_owned)
            };
            if lines.into_iter().any(|line| path(&line).as_deref() == Some("/mcp/ws")) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, logged).await.expect("the log has it");
}
