//! Events come out the same however their bytes are cut.

use proptest::prelude::*;

use super::*;
use crate::wire::tests::sse_checks;

fn read(stream: &[u8]) -> Vec<Event> {
    let (events, end) = sse_checks::read(stream, 1 << 20, std::iter::once(stream.len()));
    assert_eq!(end, Ok(()));
    events
}

fn data(text: &'static str) -> Event {
    Event { data: Bytes::from_static(text.as_bytes()), ..Event::default() }
}

#[test]
fn events_are_read_as_the_standard_says() {
    assert_eq!(read(b"data: a\n\n"), [data("a")]);
    assert_eq!(read(b"data:a\rdata:  b\r\ndata\r\n\r\n"), [data("a\n b\n")]);
    assert_eq!(read(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n"), [data("a")]);
    assert_eq!(read(b": comment\n\ndata: a\n:x\n\n"), [data("a")]);
    assert_eq!(read(b"data: a"), []);
    assert_eq!(read(b"data: a\n"), []);
    assert_eq!(read(b"event: x\n\ndata: a\n\n"), [data("a")]);
    assert_eq!(read(b"data\n\n"), [data("")]);
    assert_eq!(read(b"Data: x\n data: x\nunknown: x\n\n"), []);
    let event = Event {
        event: Some("end".into()),
        id: Some("7".into()),
        retry: Some(50),
        data: Bytes::from_static(b"x"),
    };
    assert_eq!(read(b"id: 7\nretry: 50\nevent: end\ndata: x\n\n"), [event]);
    assert_eq!(read(b"event:\nid\ndata: x\n\n"), [Event { id: Some(String::new()), ..data("x") }]);
    assert_eq!(read(b"id: a\0b\nretry: 1s\nretry: -1\nretry:\ndata: x\n\n"), [data("x")]);
    assert_eq!(read(b"retry: 5\nretry: x\ndata: x\n\n"), [Event { retry: Some(5), ..data("x") }]);
}

#[test]
fn ids_and_delays_last_without_data() {
    let mut reader = Reader::new(100);
    reader.push(Bytes::from_static(b"id: 1\nretry: 10\n\n: x\n\ndata: a\n\nid: 2\n"));
    assert_eq!(reader.next_event(), Ok(Some(data("a"))));
    assert_eq!((reader.last_event_id(), reader.retry()), (Some("1"), Some(10)));
    assert_eq!(reader.next_event(), Ok(None));
    // Only the end of an event makes its id count.
    assert_eq!(reader.last_event_id(), Some("1"));
    reader.push(Bytes::from_static(b"\nid\n\n"));
    assert_eq!(reader.next_event(), Ok(None));
    assert_eq!(reader.last_event_id(), Some(""));
}

#[test]
fn one_line_in_one_chunk_is_not_copied() {
    let chunk = Bytes::from_static(b"event: message\ndata: {\"jsonrpc\":\"2.0\"}\n\n");
    let mut reader = Reader::new(100);
    reader.push(chunk.clone());
    let event = reader.next_event().expect("small").expect("complete");
    assert_eq!(event.data.as_ptr(), chunk[21..].as_ptr());
}

#[test]
fn chunks_pushed_early_are_kept() {
    let mut reader = Reader::new(100);
    reader.push(Bytes::from_static(b"data: a\n\ndata: b"));
    reader.push(Bytes::from_static(b"c\n\n"));
    assert_eq!(reader.next_event(), Ok(Some(data("a"))));
    assert_eq!(reader.next_event(), Ok(Some(data("bc"))));
    assert_eq!(reader.next_event(), Ok(None));
}

/// T30: what a peer can make us hold is bounded, however it withholds the end.
#[test]
fn t30_an_event_past_its_limit_ends_the_stream() {
    let endless: [&[u8]; 5] =
        [b"x", b"data: xxxxxxx\n", b"event: xxxxxxxx\ndata:x\n", b"data\n", b"id: x\ndata:\n"];
    for piece in endless {
        let mut reader = Reader::new(1000);
        let mut pushed = 0;
        let error = loop {
            reader.push(Bytes::from_static(piece));
            pushed += piece.len();
            assert!(pushed < 100_000, "no limit for {piece:?}");
            match reader.next_event() {
                Ok(event) => assert_eq!(event, None),
                Err(error) => break error,
            }
        };
        assert_eq!(error, SseError::TooLarge { limit: 1000 });
        reader.push(Bytes::from_static(b"\n\ndata: x\n\n"));
        assert_eq!(reader.next_event(), Err(error));
    }
    let mut reader = Reader::new(1000);
    reader.push(Bytes::from(format!("data: {}\n\n", "x".repeat(994))));
    assert!(matches!(reader.next_event(), Ok(Some(event)) if event.data.len() == 994));
    // Comments, fields without effect and finished events hold nothing.
    for _ in 0..1000 {
        reader.push(Bytes::from_static(b": ping\nunknown: x\ndata: x\n\n"));
        assert_eq!(reader.next_event(), Ok(Some(data("x"))));
    }
    reader.push(Bytes::from(": ping\n".repeat(1000)));
    assert_eq!(reader.next_event(), Ok(None));
}

#[test]
fn events_are_written_so_that_they_read_the_same() {
    let mut out = BytesMut::new();
    write_event(&mut out, Some("message"), Some("s1-7"), Some(500), b"{\"a\":\n1}");
    write_comment(&mut out, "pi\nng");
    write_event(&mut out, None, Some(""), None, b"");
    write_event(&mut out, Some("a\r\nb"), None, None, b"x\r\ny\rz\n");
    assert_eq!(
        out,
        "event: message\nid: s1-7\nretry: 500\ndata: {\"a\":\ndata: 1}\n\n: ping\n\nid: \ndata: \n\n\
         event: ab\ndata: x\ndata: y\ndata: z\ndata: \n\n"
    );
    let datas: Vec<_> = read(&out).into_iter().map(|event| event.data).collect();
    assert_eq!(datas, ["{\"a\":\n1}", "", "x\ny\nz\n"]);
}

#[test]
fn large_data_is_written_in_parts() {
    let big = Bytes::from(vec![b'x'; 1 << 19]);
    let chain = event_chain(
        Some("message"),
        None,
        None,
        [Bytes::from_static(b"["), big.clone(), Bytes::from_static(b"]")],
    );
    assert_eq!(chain.len(), 5);
    assert_eq!(chain[2].as_ptr(), big.as_ptr());
    assert_eq!(read(&chain.concat())[0].data.len(), big.len() + 2);
    let lines = event_chain(None, None, None, [Bytes::from_static(b"a\n"), Bytes::from_static(b"b")]);
    assert_eq!(lines, ["data: a\ndata: b\n\n"]);
}

/// The standard's algorithm on a whole stream, written without regard for cost.
fn model(stream: &[u8]) -> Vec<Event> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let text = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<_> = text.split('\n').collect();
    lines.pop();
    let mut events = Vec::new();
    let mut event = Event::default();
    let mut data: Option<Vec<&str>> = None;
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" if line.is_empty() => {
                let finished = std::mem::take(&mut event);
                if let Some(lines) = data.take() {
                    events.push(Event { data: Bytes::from(lines.join("\n")), ..finished });
                }
            }
            "data" => data.get_or_insert_default().push(value),
            "event" => event.event = Some(value.to_owned()).filter(|value| !value.is_empty()),
            "id" if !value.contains('\0') => event.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                event.retry = value.parse().ok().or(event.retry);
            }
            _ => {}
        }
    }
    events
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        3 => "data:? ?[a-z世\u{0}:]{0,5}",
        1 => "(event|id|retry):? ?[0-9a\u{0}]{0,3}",
        1 => ":[a-z]{0,3}",
        2 => "",
        1 => "[a-z: ]{0,4}",
    ];
    let end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    (any::<bool>(), proptest::collection::vec((line, end), 0..16)).prop_map(|(mark, lines)| {
        let start = if mark { "\u{feff}" } else { "" };
        let lines: String = lines.into_iter().map(|(line, end)| line + end).collect();
        [start.as_bytes(), lines.as_bytes()].concat()
    })
}

proptest! {
    #[test]
    fn a_stream_reads_the_same_in_any_chunks_and_by_the_model(
        stream in stream(),
        sizes in proptest::collection::vec(0_usize..9, 1..64),
    ) {
        let whole = read(&stream);
        prop_assert_eq!(&whole, &model(&stream));
        let rest = std::iter::repeat(stream.len());
        prop_assert_eq!(&sse_checks::read(&stream, 1 << 20, sizes.into_iter().chain(rest)).0, &whole);
        sse_checks::check(&stream);
    }
}
