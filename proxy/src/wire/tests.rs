//! The fuzz corpus and generated messages, through the same checks as the fuzz targets.

use std::path::PathBuf;

use proptest::prelude::*;

// The checks name the module they check as their includer does.
use crate::wire;

#[path = "../../fuzz/checks/envelope.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzz targets")]
mod envelope_checks;
#[path = "../../fuzz/checks/sse.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzz targets")]
pub(super) mod sse_checks;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(folder).expect("the corpus is checked in").collect();
    assert!(files.len() >= 10);
    for file in files {
        let path = file.expect("readable").path();
        let data = std::fs::read(&path).expect("readable");
        println!("{}", path.display());
        check(&data);
    }
}

#[test]
fn the_corpus_of_envelopes_holds() {
    replay("envelope", envelope_checks::check);
}

#[test]
fn the_corpus_of_event_streams_holds() {
    replay("sse", sse_checks::check);
}

/// Whitespace as JSON allows it.
fn gap() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,2}"
}

/// The raw text of a string: plain, escaped, beyond ASCII, beyond the basic plane.
pub(super) fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z0-9_/. -]{0,12}",
        1 => "[äß世界😀\u{17f}\u{2028}\u{7f}]{1,4}",
        1 => r#"\\["\\/bfnrt]"#,
        1 => r"\\u00[0-9a-fA-F]{2}",
        1 => r"\\u[1-9][0-9a-f]{3}",
        1 => r"\\ud8[0-9a-f]{2}\\udc[0-9A-F]{2}",
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn number() -> impl Strategy<Value = String> {
    r"-?(0|[1-9][0-9]{0,22})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?"
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let members = proptest::collection::vec((gap(), string(), gap(), gap(), value, gap()), 0..6);
    members.prop_map(|members| {
        let members: Vec<_> = members
            .into_iter()
            .map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

/// The raw text of any JSON value.
pub(super) fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        number(),
        string(),
    ];
    leaf.prop_recursive(5, 40, 6, |value| {
        let array = proptest::collection::vec((gap(), value.clone(), gap()), 0..6).prop_map(|elements| {
            let elements: Vec<_> =
                elements.into_iter().map(|(a, value, b)| format!("{a}{value}{b}")).collect();
            format!("[{}]", elements.join(","))
        });
        prop_oneof![array, object(value)]
    })
}

fn params() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        3 => prop::sample::select(vec![
            "\"name\"", "\"uri\"", "\"arguments\"", "\"_meta\"", "\"cursor\"", "\"Name\"", "\"na\\u006de\"", "\"ref\"",
        ]).prop_map(str::to_owned),
        1 => string(),
    ];
    let meta_key = prop::sample::select(vec![
        "\"io.modelcontextprotocol/protocolVersion\"",
        "\"progressToken\"",
        "\"io.modelcontextprotocol/logLevel\"",
    ]);
    let meta =
        (meta_key, prop_oneof![string(), number()]).prop_map(|(key, value)| format!("{{{key}:{value}}}"));
    let value = prop_oneof![json(), string(), meta];
    proptest::collection::vec((key, gap(), value), 0..6).prop_map(|members| {
        let members: Vec<_> =
            members.into_iter().map(|(key, gap, value)| format!("{key}{gap}:{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// Envelopes, most of them valid.
fn envelope() -> impl Strategy<Value = String> {
    let id =
        prop_oneof![4 => "[0-9]{1,25}".prop_map(|digits| format!("1{digits}")), 3 => string(), 1 => json()];
    let method = prop_oneof![4 => Just("\"tools/call\"".to_owned()), 1 => string()];
    let request = (id.clone(), method.clone(), params(), gap()).prop_map(|(id, method, params, gap)| {
        format!("{gap}{{\"jsonrpc\":\"2.0\",\"id\":{id},{gap}\"method\":{method},\"params\":{params}}}{gap}")
    });
    let notification = (method, params()).prop_map(|(method, params)| {
        format!("{{\"params\":{params},\"method\":{method},\"jsonrpc\":\"2.0\"}}")
    });
    let member = prop::sample::select(vec!["result", "error"]);
    let response = (id, member, json())
        .prop_map(|(id, member, value)| format!("{{\"jsonrpc\":\"2.0\",\"{member}\":{value},\"id\":{id}}}"));
    let message = prop_oneof![3 => request, 1 => notification, 1 => response];
    let batch = proptest::collection::vec(message.clone(), 0..4)
        .prop_map(|messages| format!("[{}]", messages.join(",")));
    prop_oneof![4 => message, 1 => batch, 1 => json()]
}

proptest! {
    #[test]
    fn an_envelope_means_the_same_to_a_second_parser(text in envelope()) {
        envelope_checks::check(text.as_bytes());
    }

    #[test]
    fn a_damaged_envelope_is_judged_as_by_a_second_parser(
        text in envelope(),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\u0eE.-+ dDnt".to_vec())],
        kind in 0..3,
    ) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len() + 1);
        match kind {
            0 => bytes.insert(at, byte),
            1 => bytes.truncate(at),
            _ => if let Some(damaged) = bytes.get_mut(at) { *damaged = byte },
        }
        envelope_checks::check(&bytes);
    }

    #[test]
    fn bytes_of_any_kind_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        envelope_checks::check(&bytes);
        sse_checks::check(&bytes);
    }
}
