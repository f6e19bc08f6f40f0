//! Mirrored headers: encoding, and agreement with the body (threat T07).

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn header(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("a header value")
}

fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in of {
        map.append(*name, header(value));
    }
    map
}

#[test]
fn values_are_encoded_as_the_specification_shows() {
    for (text, encoded) in [
        ("us-west1", "us-west1"),
        ("a\tb c~", "a\tb c~"),
        ("", ""),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ("\u{7f}", "=?base64?fw==?="),
    ] {
        assert_eq!(encode_value(text), encoded);
        assert_eq!(decode_value(&header(encoded)).expect("readable"), text);
    }
}

#[test]
fn values_that_only_resemble_encoded_ones_are_plain() {
    for plain in ["=?base64?abc", "abc?=", "=?BASE64?YQ==?=", "=?base64?="] {
        assert_eq!(decode_value(&header(plain)).expect("readable"), plain);
    }
}

#[test]
fn broken_values_are_refused() {
    for broken in ["=?base64?a?=", "=?base64?YQ?=", "=?base64?YR==?=", "=?base64?$$$$?=", "=?base64?/w==?="] {
        assert_eq!(decode_value(&header(broken)), Err(UnreadableValue), "{broken}");
    }
    let beyond_ascii = HeaderValue::from_bytes("é".as_bytes()).expect("opaque bytes are allowed");
    assert_eq!(decode_value(&beyond_ascii), Err(UnreadableValue));
}

proptest! {
    #[test]
    fn any_text_survives_a_header(text in any::<String>()) {
        let value = encode_value(&text);
        prop_assert_eq!(decode_value(&value).expect("readable"), text.as_str());
    }

    #[test]
    fn any_argument_survives_its_header(text in any::<String>(), number in -SAFE..=SAFE) {
        let schema = br#"{"properties":{"s":{"type":"string","x-mcp-header":"S"},"n":{"type":"integer","x-mcp-header":"N"}}}"#;
        let params = ParamHeaders::of_schema(schema).expect("valid");
        let arguments = Bytes::from(serde_json::json!({"s": text, "n": number}).to_string());
        let map: HeaderMap = params.extract(Some(&arguments)).into_iter().collect();
        prop_assert_eq!(map.len(), 2);
        prop_assert_eq!(params.check(&map, Some(&arguments)), Ok(()));
    }
}

const SAFE: i64 = (1 << 53) - 1;

/// T07: a mirror that says anything else than the body is refused.
#[test]
fn t07_standard_headers_must_say_what_the_body_says() {
    let good = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?c2VjcmV0?="),
    ];
    let check = |map: &HeaderMap| check_standard(map, "tools/call", Some("secret"), "2026-07-28");
    assert_eq!(check(&headers(&good)), Ok(()));
    for (index, (name, _)) in good.iter().enumerate() {
        let refused = |change: &dyn Fn(&mut HeaderMap)| {
            let mut map = headers(&good);
            change(&mut map);
            let error = check(&map).expect_err("refused");
            assert_eq!(error.header, *name);
            error.reason
        };
        assert_eq!(refused(&|map| drop(map.remove(*name))), MismatchReason::Missing);
        assert_eq!(refused(&|map| drop(map.insert(*name, header("cheap")))), MismatchReason::Different);
        assert_eq!(
            refused(&|map| assert!(map.append(*name, header(good[index].1)))),
            MismatchReason::Repeated
        );
    }
    let mut map = headers(&good);
    map.insert("mcp-name", header("=?base64?c2VjcmV0?"));
    assert_eq!(check(&map).expect_err("refused").reason, MismatchReason::Different);
    map.insert("mcp-name", header("=?base64?c2VjcmV?="));
    let error = check(&map).expect_err("refused");
    assert_eq!(error.reason, MismatchReason::Unreadable);
    assert_eq!(error.to_string(), "Header mismatch: mcp-name has invalid characters or an invalid encoding");
    // Case counts in values.
    map.insert("mcp-name", header("Secret"));
    assert!(check(&map).is_err());
    // A method about nothing has no name to mirror.
    assert_eq!(check_standard(&headers(&good[..2]), "tools/call", None, "2026-07-28"), Ok(()));
}

#[test]
fn the_name_is_taken_from_the_field_of_the_method() {
    assert_eq!(named_by("tools/call"), Some(Field::Name));
    assert_eq!(named_by("resources/read"), Some(Field::Uri));
    assert_eq!(named_by("tasks/get"), Some(Field::TaskId));
    assert_eq!(named_by("tools/list"), None);
    assert_eq!(name_of("tools/call", None), None);
}

fn of_schema(schema: &str) -> Result<ParamHeaders, InvalidParamHeader> {
    ParamHeaders::of_schema(schema.as_bytes())
}

fn one(property: &str) -> Result<ParamHeaders, InvalidParamHeader> {
    of_schema(&format!("{{\"type\":\"object\",\"properties\":{{\"a\":{property}}}}}"))
}

#[test]
fn annotations_with_a_fixed_place_are_taken() {
    for property in [
        r#"{"type":"string","x-mcp-header":"Region"}"#,
        r#"{"type":"integer","x-mcp-header":"a!#$%&'*+-.^_`|~9"}"#,
        r#"{"type":["null","boolean"],"x-mcp-header":"B"}"#,
        r#"{"type":"string","\u0078-mcp-header":"Region"}"#,
        r#"{"type":"object","properties":{"b":{"type":"string","x-mcp-header":"B"}}}"#,
    ] {
        assert!(!one(property).expect(property).is_empty(), "{property}");
    }
    // A property or a value of that name is no annotation.
    for property in [
        r#"{"type":"object","properties":{"x-mcp-header":{"type":"number"}}}"#,
        r#"{"type":"object","default":{"x-mcp-header":""}}"#,
        r#"{"type":"string","enum":["x-mcp-header"]}"#,
        r#"{"$defs":{"x-mcp-header":{"type":"string"}}}"#,
    ] {
        assert!(one(property).expect(property).is_empty(), "{property}");
    }
    assert!(of_schema("true").expect("nothing to take").is_empty());
}

#[test]
fn annotations_against_the_rules_make_the_tool_invalid() {
    use InvalidParamHeader as Invalid;
    for name in
        [r#""""#, r#""a b""#, r#""a:b""#, r#""é""#, r#""a\r\nb""#, r#""a\u0000""#, "7", "null", r#""a/b""#]
    {
        let property = format!("{{\"type\":\"string\",\"x-mcp-header\":{name}}}");
        assert!(matches!(one(&property), Err(Invalid::Name { .. })), "{property}");
    }
    for types in [
        r#""number""#,
        r#""object""#,
        r#""array""#,
        r#""null""#,
        r#"["string","integer"]"#,
        r#"["null"]"#,
        "[]",
    ] {
        let property = format!("{{\"type\":{types},\"x-mcp-header\":\"A\"}}");
        assert!(matches!(one(&property), Err(Invalid::Type { .. })), "{property}");
    }
    assert!(matches!(one(r#"{"x-mcp-header":"A"}"#), Err(Invalid::Type { .. })));
    let annotated = r#"{"type":"string","x-mcp-header":"A"}"#;
    for place in [
        "{\"items\":@}",
        "{\"items\":{\"properties\":{\"b\":@}}}",
        "{\"prefixItems\":[@]}",
        "{\"oneOf\":[@]}",
        "{\"anyOf\":[{},@]}",
        "{\"allOf\":[{\"properties\":{\"b\":@}}]}",
        "{\"not\":@}",
        "{\"if\":@}",
        "{\"then\":{\"properties\":{\"b\":@}}}",
        "{\"$defs\":{\"d\":@}}",
        "{\"definitions\":{\"d\":{\"items\":@}}}",
        "{\"patternProperties\":{\"^x\":@}}",
        "{\"additionalProperties\":@}",
    ] {
        let property = place.replace('@', annotated);
        assert!(matches!(one(&property), Err(Invalid::Place { .. })), "{property}");
    }
    assert!(matches!(of_schema(annotated), Err(Invalid::Place { path }) if path.is_empty()));
    let twice = r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b~/":{"type":"string","x-mcp-header":"a"}}}"#;
    assert!(matches!(of_schema(twice), Err(Invalid::Repeated { path }) if path == "/properties/b~0~1"));
    assert!(matches!(of_schema("{\"x-mcp-header\""), Err(Invalid::Schema(_))));
}

fn mirrored() -> ParamHeaders {
    of_schema(
        r#"{"properties":{"s":{"type":"string","x-mcp-header":"S"},"n":{"type":"integer","x-mcp-header":"N"},
            "b":{"type":"boolean","x-mcp-header":"B"},
            "o":{"type":"object","properties":{"deep":{"type":"string","x-mcp-header":"Deep"}}}}}"#,
    )
    .expect("valid")
}

#[test]
fn arguments_are_mirrored_where_they_are() {
    let extract = |arguments: &'static str| {
        let mut found: Vec<_> = mirrored()
            .extract(Some(&Bytes::from_static(arguments.as_bytes())))
            .into_iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")))
            .collect();
        found.sort();
        found
    };
    assert_eq!(
        extract(r#"{"s":"\u00e9","n":-7,"b":true,"o":{"deep":"x","s":1},"other":1}"#),
        ["mcp-param-b: true", "mcp-param-deep: x", "mcp-param-n: -7", "mcp-param-s: =?base64?w6k=?="]
    );
    assert_eq!(extract(r#"{"n":42.0}"#), ["mcp-param-n: 42"]);
    assert_eq!(extract(r#"{"n":9007199254740993}"#), ["mcp-param-n: 9007199254740993"]);
    for nothing in
        ["{}", r#"{"s":null,"o":null}"#, r#"{"s":{"a":1},"n":[1],"o":"x"}"#, "[]", r#"{"s":"a","s":"b"}"#]
    {
        assert!(extract(nothing).is_empty(), "{nothing}");
    }
    assert!(mirrored().extract(None).is_empty());
}

#[test]
fn mirrored_arguments_are_checked_against_the_body() {
    let check = |of: &[(&'static str, &str)], arguments: &'static str| {
        let result = mirrored().check(&headers(of), Some(&Bytes::from_static(arguments.as_bytes())));
        result.map_err(|mismatch| mismatch.reason)
    };
    let (s, n, b) = ("mcp-param-s", "mcp-param-n", "mcp-param-b");
    assert_eq!(check(&[], "{}"), Ok(()));
    assert_eq!(check(&[(s, "x"), (n, "42"), (b, "false")], r#"{"s":"x","n":42,"b":false}"#), Ok(()));
    assert_eq!(check(&[(s, "=?base64?eA==?=")], r#"{"s":"x"}"#), Ok(()));
    assert_eq!(check(&[("mcp-param-unknown", "x")], "{}"), Ok(()));
    for number in ["42", "42.0", "4.2e1", "420e-1"] {
        assert_eq!(check(&[(n, number)], r#"{"n":42}"#), Ok(()), "{number}");
        assert_eq!(check(&[(n, number)], r#"{"n":42.0}"#), Ok(()), "{number}");
    }
    assert_eq!(check(&[], r#"{"s":"x"}"#), Err(MismatchReason::Missing));
    assert_eq!(check(&[], r#"{"o":{"deep":"x"}}"#), Err(MismatchReason::Missing));
    assert_eq!(check(&[(s, "x")], r#"{"s":null}"#), Err(MismatchReason::Unexpected));
    assert_eq!(check(&[(s, "x")], "{}"), Err(MismatchReason::Unexpected));
    assert_eq!(check(&[(s, "x"), (s, "x")], r#"{"s":"x"}"#), Err(MismatchReason::Repeated));
    assert_eq!(check(&[(s, "=?base64?x?=")], r#"{"s":"x"}"#), Err(MismatchReason::Unreadable));
    assert_eq!(check(&[(s, "X")], r#"{"s":"x"}"#), Err(MismatchReason::Different));
    assert_eq!(check(&[(b, "True")], r#"{"b":true}"#), Err(MismatchReason::Different));
    for number in ["43", "42.5", " 42", "0x2a", "+42", "042", "inf", "9007199254740992", ""] {
        let value = HeaderValue::from_str(number).expect("a header value");
        let map = HeaderMap::from_iter([(HeaderName::from_static("mcp-param-n"), value)]);
        let result = mirrored().check(&map, Some(&Bytes::from_static(br#"{"n":42}"#)));
        assert!(result.is_err(), "{number}");
    }
    // Beyond the safe range only the same digits are the same number.
    assert_eq!(check(&[(n, "9007199254740993")], r#"{"n":9007199254740993}"#), Ok(()));
    assert_eq!(
        check(&[(n, "9007199254740992")], r#"{"n":9007199254740993}"#),
        Err(MismatchReason::Different)
    );
    assert_eq!(
        mirrored().check(&headers(&[(s, "x")]), None).map_err(|wrong| wrong.reason),
        Err(MismatchReason::Unexpected)
    );
}
