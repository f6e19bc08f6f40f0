//! What the envelope takes, what it refuses, and what it says of it (threat T08).

use super::*;

fn read(text: &str) -> Result<Message, EnvelopeError> {
    parse(Bytes::copy_from_slice(text.as_bytes()))
}

fn request(text: &str) -> Request {
    match read(text) {
        Ok(Message::Request(request)) => request,
        other => panic!("{text} is a request, not {other:?}"),
    }
}

fn refused(body: &[u8]) -> EnvelopeError {
    match parse(Bytes::copy_from_slice(body)) {
        Err(error) => error,
        Ok(message) => panic!("{:?} is not {message:?}", String::from_utf8_lossy(body)),
    }
}

#[test]
fn a_request_keeps_its_parts_as_they_came() {
    let text = " {\"jsonrpc\" : \"2.0\", \"id\":\"a\\u0031\",\n\"method\":\"tools/call\",\"params\":{\"name\":\"sea\\u0072ch\",\
                \"arguments\": {\"n\": 1e999, \"x\": 1.0}, \"_meta\":{ }}} ";
    let request = request(text);
    assert_eq!(request.id.to_string(), "\"a\\u0031\"");
    assert_eq!(request.method, "tools/call");
    assert_eq!(request.raw, text);
    let params = request.params.expect("it has some");
    assert_eq!(params.name().expect("a string"), "search");
    assert_eq!(params.arguments().expect("given"), "{\"n\": 1e999, \"x\": 1.0}");
    assert_eq!(params.meta().expect("given"), "{ }");
    assert_eq!(params.uri(), None);
}

#[test]
fn parts_share_the_body() {
    let body =
        Bytes::from_static(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"name\":\"n\"}}");
    let Ok(Message::Request(request)) = parse(body.clone()) else { panic!("a request") };
    let within = |part: &[u8]| body.as_ptr_range().contains(&part.as_ptr());
    assert!(within(request.id.raw()) && within(request.method.as_bytes()) && within(&request.raw));
    let params = request.params.expect("it has some");
    assert!(within(params.raw()) && within(params.name().expect("a string").as_bytes()));
}

#[test]
fn other_kinds_of_messages() {
    let Ok(Message::Notification(notification)) =
        read("{\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":7},\"jsonrpc\":\"2.0\"}")
    else {
        panic!("a notification");
    };
    assert_eq!(notification.params.and_then(|params| params.id(Field::RequestId)), Some(Id::number(7)));

    let Ok(Message::Response(result)) = read("{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{\"a\": 1}}") else {
        panic!("a response");
    };
    assert_eq!(result.id.and_then(|id| id.as_u64()), Some(3));
    assert_eq!(result.body, ResponseBody::Result(Bytes::from_static(b"{\"a\": 1}")));

    for id in ["", "\"id\":null,"] {
        let Ok(Message::Response(error)) = read(&format!("{{\"jsonrpc\":\"2.0\",{id}\"error\":{{}}}}"))
        else {
            panic!("a response");
        };
        assert_eq!((error.id, error.body), (None, ResponseBody::Error(Bytes::from_static(b"{}"))));
    }
}

#[test]
fn ids_of_different_types_differ_and_large_ones_stay_exact() {
    let id = |token: &str| request(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{token},\"method\":\"m\"}}")).id;
    assert_ne!(id("1"), id("\"1\""));
    assert_eq!(id("1").as_u64(), Some(1));
    assert_eq!(id("\"1\"").as_u64(), None);
    assert_eq!(id("-1").as_u64(), None);
    assert_eq!(id("0").as_u64(), Some(0));
    for token in ["0", "-0", "-7", "9007199254740993", "123456789012345678901234567890", "\"\"", "\"é\\n\""]
    {
        assert_eq!(id(token).to_string(), token);
    }
    assert_eq!(id("18446744073709551615").as_u64(), Some(u64::MAX));
    assert_eq!(id("18446744073709551616").as_u64(), None);
}

/// T08: whatever two parsers could read differently is refused, with the code that names the reason.
#[test]
fn t08_what_parsers_could_read_differently_is_refused() {
    let not_json: &[&[u8]] = &[
        b"",
        b" ",
        b"{",
        b"nul",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}x",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}{}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}\0",
        b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}",
        b"\xff\xfe{\0}\0",
        b"{\0\"\0",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xed\xa0\x80\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\\ud800\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\\udc00\\ud800\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\\ud800\\u0041\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\\x41\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\\u+123\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\nb\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1e999,\"method\":\"m\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":-1.5e400,\"method\":\"m\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"n\":NaN}}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"n\":Infinity}}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"n\":01}}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"n\":1.}}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"n\":.5}}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"n\":+1}}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"n\":1e}}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"n\":-}}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":[1,]}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1 \"method\":\"m\"}",
        b"{'jsonrpc':\"2.0\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"} // so",
        b"[1,2",
        b"[1 2]",
        b"[,]",
        b"{,}",
        b"[}",
        b"{\"a\":[}]",
    ];
    for body in not_json {
        let error = refused(body);
        assert_eq!((error.code(), error.id()), (-32700, None), "{}", String::from_utf8_lossy(body));
    }

    let with_id = |rest: &str| format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{rest}}}");
    let not_messages = [
        with_id("\"method\":\"tools/list\",\"method\":\"tools/call\""),
        with_id("\"method\":\"tools/list\",\"m\\u0065thod\":\"tools/call\""),
        with_id("\"method\":\"tools/list\",\"Method\":\"tools/call\""),
        with_id("\"method\":\"tools/list\",\"PARAMS\":{}"),
        with_id("\"method\":\"tools/list\",\"param\u{17f}\":{}"),
        with_id("\"method\":\"tools/list\",\"x\":1,\"x\":2"),
        with_id("\"method\":\"tools/call\",\"params\":{\"name\":\"ok\",\"Name\":\"evil\"}"),
        with_id("\"method\":\"tools/call\",\"params\":{\"Name\":\"evil\"}"),
        with_id("\"method\":\"tools/call\",\"params\":{\"name\":\"ok\",\"name\":\"evil\"}"),
        with_id("\"method\":\"tools/call\",\"params\":{\"name\":\"ok\",\"\\u006eame\":\"evil\"}"),
        with_id("\"method\":\"tools/call\",\"params\":{\"progressTo\u{212a}en\":1}"),
        with_id("\"method\":\"tools/call\",\"params\":{\"x\":1,\"x\":1}"),
        with_id("\"method\":\"tools/call\",\"params\":{},\"params\":{}"),
        with_id("\"method\":\"tools/call\",\"params\":[]"),
        with_id("\"method\":\"tools/call\",\"params\":null"),
        with_id("\"method\":7"),
        with_id("\"method\":null"),
        with_id("\"method\":\"m\",\"result\":{}"),
        with_id("\"result\":{},\"error\":{}"),
        with_id("\"error\":\"no\""),
        with_id("\"params\":{}"),
        "{\"id\":1,\"method\":\"m\"}".to_owned(),
        "{\"jsonrpc\":\"2.1\",\"id\":1,\"method\":\"m\"}".to_owned(),
        "{\"jsonrpc\":2.0,\"id\":1,\"method\":\"m\"}".to_owned(),
        "{\"method\":\"m\",\"method\":\"m\",\"jsonrpc\":\"2.0\",\"id\":1}".to_owned(),
    ];
    for body in not_messages {
        let error = refused(body.as_bytes());
        assert_eq!((error.code(), error.id()), (-32600, Some(&Id::number(1))), "{body}");
    }

    let without_id = [
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"m\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"m\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1e2,\"method\":\"m\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"m\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"m\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"m\"}",
        "{\"jsonrpc\":\"2.0\",\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":[],\"error\":{}}",
        "{}",
        "[]",
        "7",
        "\"text\"",
        "null",
    ];
    for body in without_id {
        let error = refused(body.as_bytes());
        assert_eq!((error.code(), error.id()), (-32600, None), "{body}");
    }
}

#[test]
fn what_only_looks_odd_is_accepted() {
    for body in [
        "{\"jsonrpc\":\"2\\u002e0\",\"id\":1,\"method\":\"m\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"more\":[1,{\"a\":1,\"a\":2}]}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"arguments\":{\"a\":1,\"a\":2,\"A\":3,\"n\":1e999}}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"serialNumber\":null}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\\ud83d\\ude00\"}",
    ] {
        request(body);
    }
}

#[test]
fn many_unknown_keys_are_told_apart() {
    let keys: Vec<_> = (0..1000).map(|key| format!("\"k{key}\":{key}")).collect();
    let body = |keys: &[String]| {
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{{{}}}}}", keys.join(","))
    };
    request(&body(&keys));
    let repeated = [&keys[..], &keys[500..501]].concat();
    assert_eq!(refused(body(&repeated).as_bytes()).code(), -32600);
}

#[test]
fn nesting_has_a_limit_and_costs_no_stack() {
    let nested = |depth: usize| {
        // The envelope and `params` are two of the levels.
        let (open, close) = ("[".repeat(depth - 2), "]".repeat(depth - 2));
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{{\"a\":{open}{close}}}}}")
    };
    request(&nested(128));
    assert_eq!(refused(nested(129).as_bytes()), EnvelopeError::TooDeep { limit: 128 });
    for open in ["[", "{\"a\":", "[{\"a\":"] {
        assert_eq!(refused(open.repeat(100_000).as_bytes()), EnvelopeError::TooDeep { limit: 128 });
    }
}

#[test]
fn a_batch_is_cut_into_its_messages() {
    let Ok(Message::Batch(messages)) = read(" [ {\"a\": 1} , 2,[3]] ") else { panic!("a batch") };
    assert_eq!(messages, ["{\"a\": 1}", "2", "[3]"]);
    let batch = |len: usize| format!("[{}]", vec!["1"; len].join(","));
    assert!(read(&batch(100)).is_ok());
    assert_eq!(refused(batch(101).as_bytes()).code(), -32600);
}

#[test]
fn fields_are_replaced_in_place_and_added_at_the_end() {
    let params = |text: &str| {
        let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{text}}}");
        request(&body).params.expect("it has some")
    };
    let call = params("{ \"_meta\":{} , \"name\" : \"a\",\"arguments\":{\"x\" : 1.0} }");
    assert_eq!(
        call.with(&[(Field::Name, b"\"longer\""), (Field::Meta, b"{\"p\":1}")]),
        "{ \"_meta\":{\"p\":1} , \"name\" : \"longer\",\"arguments\":{\"x\" : 1.0} }"
    );
    assert_eq!(
        params("{ \"name\":\"a\" }").with(&[(Field::Meta, b"{}"), (Field::Name, b"\"b\"")]),
        "{ \"name\":\"b\" ,\"_meta\":{}}"
    );
    assert_eq!(
        params("{ }").with(&[(Field::Meta, b"{}"), (Field::Uri, b"\"u\"")]),
        "{ \"_meta\":{},\"uri\":\"u\"}"
    );
}

#[test]
fn texts_and_ids_can_outlive_their_message() {
    let request = request("{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"m\"}");
    assert_eq!(request.id.detached(), request.id);
    assert_eq!(request.method.detached(), request.method);
    assert_ne!(request.method.detached().as_ptr(), request.method.as_ptr());
}
