//! Editing an object leaves the rest of it byte for byte.

use proptest::prelude::*;

use super::*;
use crate::wire::tests::{json, string};

fn object(text: &str) -> Object {
    Object::parse(&Bytes::copy_from_slice(text.as_bytes())).expect("an object")
}

/// Both forms, which must be the same text.
fn written(object: Object) -> String {
    let chain = object.clone().into_chain().concat();
    let bytes = object.into_bytes();
    assert_eq!(chain, bytes);
    String::from_utf8(chain).expect("JSON is UTF-8")
}

#[test]
fn what_is_not_touched_stays_byte_for_byte() {
    let text = "{ \"a\" : 1.0 ,\n\t\"b\":[ 1e5 ],\"c\\u0064\": \"\\u00e9\" }";
    assert_eq!(written(object(text)), text);
    let mut edited = object(text);
    edited.set("b", Bytes::from_static(b"null"));
    assert_eq!(written(edited), "{ \"a\" : 1.0 ,\n\t\"b\":null,\"c\\u0064\": \"\\u00e9\" }");
    let mut edited = object(text);
    edited.set("cd", Bytes::from_static(b"0"));
    edited.set("é\"", Bytes::from_static(b"{}"));
    assert_eq!(written(edited), "{ \"a\" : 1.0 ,\n\t\"b\":[ 1e5 ],\"c\\u0064\": 0,\"é\\\"\":{} }");
}

#[test]
fn members_are_removed_with_their_comma() {
    let without = |keys: &[&str]| {
        let mut edited = object("{ \"a\":1 , \"b\":2 , \"c\":3 }");
        for key in keys {
            assert!(edited.remove(key).is_some());
        }
        written(edited)
    };
    assert_eq!(without(&["a"]), "{ \"b\":2 , \"c\":3 }");
    assert_eq!(without(&["b"]), "{ \"a\":1 , \"c\":3 }");
    assert_eq!(without(&["c"]), "{ \"a\":1 , \"b\":2 }");
    assert_eq!(without(&["a", "b"]), "{ \"c\":3 }");
    assert_eq!(without(&["a", "b", "c"]), "{ }");
}

#[test]
fn edits_see_each_other() {
    let mut edited = object("{\"a\":1}");
    assert_eq!(edited.remove("b"), None);
    edited.set("b", Bytes::from_static(b"2"));
    edited.set("b", Bytes::from_static(b"3"));
    assert_eq!(edited.get("b").as_deref(), Some(&b"3"[..]));
    assert_eq!(edited.remove("a").as_deref(), Some(&b"1"[..]));
    assert_eq!(edited.remove("a"), None);
    edited.set("a", Bytes::from_static(b"4"));
    let members: Vec<_> = edited.iter().map(|(key, value)| (key.to_owned(), value)).collect();
    assert_eq!(
        members,
        [("b".to_owned(), Bytes::from_static(b"3")), ("a".to_owned(), Bytes::from_static(b"4"))]
    );
    assert_eq!(edited.remove("b").as_deref(), Some(&b"3"[..]));
    assert_eq!(written(edited), "{\"a\":4}");
    let mut empty = Object::empty();
    assert!(empty.is_empty());
    empty.set("x", Bytes::from_static(b"1"));
    assert_eq!(written(empty), "{\"x\":1}");
}

#[test]
fn only_strict_objects_are_taken() {
    let refused = |text: &str| Object::parse(&Bytes::copy_from_slice(text.as_bytes())).expect_err("refused");
    assert_eq!(refused("[]"), ObjectError::NotAnObject);
    assert_eq!(refused("\"{}\""), ObjectError::NotAnObject);
    assert_eq!(refused("{\"a\":1,\"\\u0061\":2}"), ObjectError::RepeatedKey);
    assert!(matches!(refused("{\"a\":1} x"), ObjectError::NotJson { .. }));
    assert!(matches!(refused(""), ObjectError::NotJson { .. }));
    assert_eq!(refused(&"{\"a\":".repeat(1000)), ObjectError::TooDeep { limit: 128 });
}

#[test]
fn a_large_object_is_not_copied() {
    let raw = Bytes::from(format!("{{\"big\":\"{}\",\"x\":1}}", "y".repeat(1 << 20)));
    let mut edited = Object::parse(&raw).expect("an object");
    edited.set("x", Bytes::from_static(b"2"));
    let chain = edited.into_chain();
    assert_eq!(chain.len(), 3);
    assert_eq!(chain[0].as_ptr(), raw.as_ptr());
}

proptest! {
    #[test]
    fn any_edit_keeps_the_other_members(
        members in proptest::collection::btree_map("[a-e]{1,2}", (json(), "[ \n]{0,2}"), 0..8),
        edits in proptest::collection::vec(("[a-e]{1,2}", proptest::option::of(string())), 0..6),
    ) {
        let text: Vec<_> =
            members.iter().map(|(key, (value, gap))| format!("{gap}\"{key}\"{gap}:{gap}{value}{gap}")).collect();
        let mut edited = object(&format!("{{{}}}", text.join(",")));
        let mut expected: std::collections::BTreeMap<_, _> =
            members.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        for (key, value) in edits {
            if let Some(value) = value {
                edited.set(&key, Bytes::from(value.clone()));
                expected.insert(key, value);
            } else {
                let removed = edited.remove(&key);
                prop_assert_eq!(removed.map(|raw| raw.to_vec()), expected.remove(&key).map(String::into_bytes));
            }
        }
        let again = object(&written(edited));
        let found: std::collections::BTreeMap<_, _> = again
            .iter()
            .map(|(key, value)| (key.to_owned(), String::from_utf8(value.to_vec()).expect("JSON is UTF-8")))
            .collect();
        prop_assert_eq!(found, expected);
    }
}
