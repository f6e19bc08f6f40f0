//! A tool's result as a robot takes it: one text, in `content[0].text`.
//!
//! Nothing else of a result is read by it, and nothing at all of one that says `isError`: so what failed is
//! told in the text. What can't be spoken is named. The text is cut well below what closes the connection.

use bytes::Bytes;
use serde_json::{Value, json};

/// A text as JSON, in bytes: with what is around it below the 64 KiB that every part on the way takes.
const TEXT_BYTES_MAX: usize = 60 * 1024;

/// The result that a robot is given for a tool's own.
pub(super) fn result(own: &Value) -> Bytes {
    let mut text = spoken(own);
    if own.get("isError").and_then(Value::as_bool) == Some(true) {
        text = format!("Error: {text}");
    }
    said(&text)
}

/// A result that is this text.
pub(super) fn said(text: &str) -> Bytes {
    let content = json!({ "type": "text", "text": cut(text) });
    Bytes::from(json!({ "content": [content], "isError": false }).to_string())
}

fn spoken(own: &Value) -> String {
    let content = own.get("content").and_then(Value::as_array);
    let parts: Vec<String> = content.into_iter().flatten().map(part).collect();
    let has_text = parts.iter().any(|part| !part.trim().is_empty());
    match own.get("structuredContent") {
        Some(structured) if !has_text => structured.to_string(),
        _ if has_text => parts.join("\n"),
        _ => "The tool is done and gave nothing back.".to_owned(),
    }
}

/// One part of the content in words.
fn part(part: &Value) -> String {
    let text = |name: &str| part.get(name).and_then(Value::as_str).unwrap_or_default();
    match text("type") {
        "text" => text("text").to_owned(),
        kind @ ("image" | "audio") => format!("[{kind} {}: can't be shown here]", text("mimeType")),
        "resource_link" => format!("{}: {}", text("name"), text("uri")),
        "resource" => {
            let resource = part.get("resource").unwrap_or(&Value::Null);
            let text = |name: &str| resource.get(name).and_then(Value::as_str);
            match (text("text"), text("uri")) {
                (Some(text), _) => text.to_owned(),
                (None, uri) => format!("[resource {}: can't be shown here]", uri.unwrap_or_default()),
            }
        }
        _ => "[something that can't be shown here]".to_owned(),
    }
}

/// `text`, cut where it would be too long, which it then says.
fn cut(text: &str) -> String {
    let mut bytes = 0;
    let end = text.char_indices().find_map(|(at, character)| {
        bytes += escaped_bytes(character);
        (bytes > TEXT_BYTES_MAX).then_some(at)
    });
    match end {
        None => text.to_owned(),
        Some(end) => {
            let kept = &text[..end];
            let (shown, of) = (kept.chars().count(), text.chars().count());
            format!("{kept}\n[cut: the first {shown} of {of} characters]")
        }
    }
}

/// What a character takes at most as JSON, whether or not it is written as ASCII on its further way.
fn escaped_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        ' '..='~' => 1,
        _ => 6 * character.len_utf16(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(own: &Value) -> String {
        let given: Value = serde_json::from_slice(&result(own)).unwrap();
        assert_eq!((given["content"].as_array().unwrap().len(), &given["isError"]), (1, &json!(false)));
        given["content"][0]["text"].as_str().unwrap().to_owned()
    }

    #[test]
    fn all_of_a_result_is_one_text() {
        let own = json!({"content": [
            {"type": "text", "text": "one"},
            {"type": "image", "data": "AAAA", "mimeType": "image/png"},
            {"type": "resource_link", "name": "a file", "uri": "file:///a"},
            {"type": "resource", "resource": {"uri": "file:///b", "text": "inside b"}},
            {"type": "resource", "resource": {"uri": "file:///c", "blob": "AAAA"}},
            {"type": "hologram"},
        ]});
        let expected = "one\n[image image/png: can't be shown here]\na file: file:///a\ninside b\n\
            [resource file:///c: can't be shown here]\n[something that can't be shown here]";
        assert_eq!(text_of(&own), expected);
    }

    #[test]
    fn what_failed_is_told_where_it_is_read() {
        let own = json!({"content": [{"type": "text", "text": "no such city"}], "isError": true});
        assert_eq!(text_of(&own), "Error: no such city");
    }

    #[test]
    fn a_result_without_text_still_says_something() {
        assert_eq!(text_of(&json!({"content": [], "structuredContent": {"a": 1}})), r#"{"a":1}"#);
        assert!(text_of(&json!({"content": []})).contains("nothing"));
        assert!(text_of(&json!({})).contains("nothing"));
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        for unit in ["a", "\"", "好", "😀", "\u{1}"] {
            let long = unit.repeat(100_000);
            let given = said(&long);
            assert!(given.len() < 64 * 1024, "{unit}: {}", given.len());
            let text = serde_json::from_slice::<Value>(&given).unwrap()["content"][0]["text"].clone();
            assert!(text.as_str().unwrap().ends_with("of 100000 characters]"), "{unit}");
        }
        let short = "好".repeat(100);
        assert_eq!(text_of(&json!({"content": [{"type": "text", "text": short}]})), short);
    }
}
