//! Reading `_meta`, and the order in which an era is decided.

use http::HeaderValue;

use super::*;
use crate::wire::envelope::parse;

#[test]
fn versions_and_levels_are_ordered_and_named() {
    for version in LEGACY_VERSIONS.into_iter().chain([MODERN_VERSION]) {
        assert_eq!(Version::parse(version.as_str()), Some(version));
        assert_eq!(version.is_modern(), version == MODERN_VERSION);
    }
    assert!(LEGACY_VERSIONS.is_sorted() && LEGACY_LATEST < MODERN_VERSION);
    assert_eq!(Version::parse("2024-10-07"), None);
    for level in LogLevel::ALL {
        assert_eq!(LogLevel::parse(level.as_str()), Some(level));
    }
    assert!(LogLevel::ALL.is_sorted());
    assert_eq!(LogLevel::parse("Info"), None);
}

#[test]
fn the_reserved_keys_are_read_as_they_came() {
    let raw = Bytes::from_static(
        b"{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"progressToken\":\"t\\u0031\",\
          \"io.modelcontextprotocol/clientCapabilities\":{ \"roots\":{} },\"com.example/x\":1,\
          \"io.modelcontextprotocol/clientInfo\":{\"name\":\"c\"},\"io.modelcontextprotocol/logLevel\":\"notice\"}",
    );
    let meta = RequestMeta::read(&raw).expect("valid");
    assert_eq!(meta.protocol_version.as_deref(), Some("2026-07-28"));
    assert_eq!(meta.client_capabilities.expect("given"), "{ \"roots\":{} }");
    assert_eq!(meta.client_info.expect("given"), "{\"name\":\"c\"}");
    assert_eq!(meta.log_level, Some(LogLevel::Notice));
    assert_eq!(meta.progress_token.expect("given").to_string(), "\"t\\u0031\"");
    assert_eq!(RequestMeta::of(None).expect("nothing to refuse"), RequestMeta::default());
}

#[test]
fn a_reserved_key_of_the_wrong_type_is_refused() {
    for (text, key) in [
        ("{\"io.modelcontextprotocol/protocolVersion\":20260728}", PROTOCOL_VERSION),
        ("{\"io.modelcontextprotocol/protocolVersion\":null}", PROTOCOL_VERSION),
        ("{\"io.modelcontextprotocol/clientCapabilities\":[]}", CLIENT_CAPABILITIES),
        ("{\"io.modelcontextprotocol/clientInfo\":\"me\"}", CLIENT_INFO),
        ("{\"io.modelcontextprotocol/logLevel\":\"loud\"}", LOG_LEVEL),
        ("{\"progressToken\":1.5}", PROGRESS_TOKEN),
        ("{\"progressToken\":null}", PROGRESS_TOKEN),
    ] {
        match RequestMeta::read(&Bytes::from_static(text.as_bytes())) {
            Err(MetaError::WrongType { key: found, .. }) => assert_eq!(found, key),
            other => panic!("{text}: {other:?}"),
        }
    }
    for (text, error) in [
        ("[]", ObjectError::NotAnObject),
        ("{\"progressToken\":1,\"progressToken\":2}", ObjectError::RepeatedKey),
    ] {
        assert_eq!(RequestMeta::read(&Bytes::from_static(text.as_bytes())), Err(MetaError::Unusable(error)));
    }
}

type Headers<'a> = &'a [(&'static str, &'a str)];

#[test]
fn the_era_follows_the_body_first_and_the_headers_then() {
    use EraDecision::Modern;
    let legacy = |version| EraDecision::Legacy { version };
    let modern_body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"METHOD\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":VALUE}}}";
    let versioned =
        |method: &str, version: &str| modern_body.replace("METHOD", method).replace("VALUE", version);
    let plain = |method: &str| format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\"}}");
    let version = "mcp-protocol-version";
    let session = ("mcp-session-id", "s");
    let table: [(String, Headers, EraDecision); 22] = [
        // The body names a version, whatever the headers say and whether or not it is a good one.
        (versioned("tools/list", "\"2026-07-28\""), &[], Modern),
        (versioned("tools/list", "\"2025-06-18\""), &[(version, "2025-06-18"), session], Modern),
        (versioned("tools/list", "null"), &[], Modern),
        (versioned("initialize", "\"2026-07-28\""), &[], Modern),
        (versioned("tools/list", "\"x\",\"io.modelcontextprotocol/protocolVersion\":1"), &[session], Modern),
        // The handshake.
        (plain("initialize"), &[], legacy(None)),
        (plain("initialize"), &[(version, "2026-07-28")], legacy(None)),
        // A method of the modern era alone.
        (plain("server/discover"), &[], Modern),
        (plain("server/discover"), &[session], Modern),
        // The headers.
        (plain("tools/list"), &[(version, "2025-06-18")], legacy(Some(Version::V2025_06_18))),
        (plain("tools/list"), &[(version, "2025-11-25"), session], legacy(Some(Version::V2025_11_25))),
        (plain("tools/list"), &[session], legacy(None)),
        (plain("tools/list"), &[(version, "2026-07-28"), session], legacy(None)),
        (plain("tools/list"), &[(version, "2026-07-28")], Modern),
        (plain("tools/list"), &[(version, "1900-01-01")], Modern),
        (plain("tools/list"), &[(version, "2025-06-18"), (version, "2025-06-18")], Modern),
        (plain("tools/list"), &[("mcp-method", "tools/list")], Modern),
        (
            plain("tools/list"),
            &[("mcp-method", "tools/list"), (version, "2025-03-26")],
            legacy(Some(Version::V2025_03_26)),
        ),
        (plain("tools/list"), &[], legacy(None)),
        // Messages without a method.
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}".into(), &[session], legacy(None)),
        ("[1]".into(), &[(version, "2025-03-26"), session], legacy(Some(Version::V2025_03_26))),
        ("[1]".into(), &[(version, "2026-07-28")], Modern),
    ];
    for (body, headers, expected) in table {
        let message = parse(Bytes::from(body.clone())).expect("a message");
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("plain"));
        }
        assert_eq!(detect_era(&map, &message), expected, "{body} with {headers:?}");
    }
}
