//! The tools that a broker is shown: as many, as long and named as its robots can take them.

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use sql::model::XiaozhiEndpoint;

use super::schema;

/// Characters of a function's name that models take.
const NAME_CHARS_MAX: usize = 64;
/// Hex digits that keep apart what fitting made equal.
const HASH_CHARS: usize = 8;
/// One tool, in bytes: a larger one would take the place of all others.
const TOOL_BYTES_MAX: usize = 32 * 1024;
/// All of the list, in bytes: robots close the connection at 1 MiB.
const LIST_BYTES_MAX: usize = 512 * 1024;

/// What one connection is shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// The result of `tools/list`.
    pub(super) list: Bytes,
    /// The exposed names, by the names that are shown.
    names: HashMap<String, String>,
    /// Tools that the key sees.
    pub(super) total: usize,
}

impl Shown {
    /// Makes it of definitions in their order, of which there are `total`.
    pub(super) fn of<'a>(
        definitions: impl Iterator<Item = &'a [u8]>,
        total: usize,
        endpoint: &XiaozhiEndpoint,
    ) -> Self {
        let (tools_max, description_max) = (endpoint.tools_max as usize, endpoint.description_max as usize);
        let (mut tools, mut names, mut bytes) = (Vec::new(), HashMap::new(), 0);
        for definition in definitions {
            if tools.len() == tools_max {
                break;
            }
            let Ok(definition) = serde_json::from_slice::<Value>(definition) else { continue };
            let Some(name) = definition.get("name").and_then(Value::as_str) else { continue };
            let fitted = fitted(name);
            let Some(tool) = tool(&definition, &fitted, description_max) else { continue };
            let size = tool.to_string().len();
            if names.contains_key(&fitted) || size > TOOL_BYTES_MAX || bytes + size > LIST_BYTES_MAX {
                continue;
            }
            bytes += size;
            names.insert(fitted, name.to_owned());
            tools.push(tool);
        }
        Self { list: Bytes::from(json!({ "tools": tools }).to_string()), names, total }
    }

    /// The exposed name behind a name that is shown.
    pub(super) fn exposed(&self, shown: &str) -> Option<&str> {
        self.names.get(shown).map(String::as_str)
    }

    /// How many tools are shown.
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }
}

fn tool(definition: &Value, name: &str, description_max: usize) -> Option<Value> {
    let said = |field: &str| definition.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    // A model chooses by it, so any word is better than none.
    let description = said("description").or_else(|| said("title")).unwrap_or(name);
    let schema = schema::reduced(definition.get("inputSchema").unwrap_or(&Value::Null))?;
    Some(
        json!({ "name": name, "description": shortened(description, description_max), "inputSchema": schema }),
    )
}

/// At most so many characters, the last of which shows that there were more.
fn shortened(text: &str, chars_max: usize) -> String {
    if text.chars().nth(chars_max).is_none() {
        return text.to_owned();
    }
    let kept: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    format!("{}\u{2026}", kept.trim_end())
}

/// The name as a function's: letters, digits, `_` and `-`, at most 64 of them. What would be changed on its
/// way is changed here, so that it comes back as it was shown; what fitting changed ends in a hash.
fn fitted(name: &str) -> String {
    let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    if name.chars().all(fits) && name.len() <= NAME_CHARS_MAX {
        return name.to_owned();
    }
    let plain = name.chars().map(|character| if fits(character) { character } else { '_' });
    let plain: String = plain.take(NAME_CHARS_MAX - HASH_CHARS - 1).collect();
    let hash = digest(&SHA256, name.as_bytes());
    let mut fitted = format!("{plain}-");
    for byte in &hash.as_ref()[..HASH_CHARS / 2] {
        // Writing into a text can't fail.
        let _ = write!(fitted, "{byte:02x}");
    }
    fitted
}

#[cfg(test)]
mod tests {
    use sql::model::{ApiKeyId, Secret, Timestamp, XiaozhiEndpointId};
    use uuid::Uuid;

    use super::*;

    fn endpoint(tools_max: u32, description_max: u32) -> XiaozhiEndpoint {
        let (id, key) = (XiaozhiEndpointId::from_uuid(Uuid::nil()), ApiKeyId::from_uuid(Uuid::nil()));
        let url = Secret::from("ws://localhost/");
        let endpoint = XiaozhiEndpoint::create(id, "a", url, key, Timestamp::from_millis(0));
        XiaozhiEndpoint { tools_max, description_max, ..endpoint }
    }

    fn shown(definitions: &[Value], endpoint: &XiaozhiEndpoint) -> (Shown, Vec<Value>) {
        let texts: Vec<String> = definitions.iter().map(Value::to_string).collect();
        let shown = Shown::of(texts.iter().map(String::as_bytes), texts.len(), endpoint);
        let list: Value = serde_json::from_slice(&shown.list).unwrap();
        assert!(list.get("nextCursor").is_none());
        let tools = list["tools"].as_array().unwrap().clone();
        (shown, tools)
    }

    fn named(name: &str) -> Value {
        json!({"name": name, "description": "d", "inputSchema": {"type": "object"}})
    }

    #[test]
    fn names_are_those_of_functions_and_lead_back() {
        let long = "x".repeat(80);
        let names = ["plain-1_A", "with.dot", "with dot", "天气", long.as_str(), "with_dot"];
        let (shown, tools) = shown(&names.map(named), &endpoint(32, 512));
        assert_eq!(tools.len(), names.len());
        for (tool, exposed) in tools.iter().zip(names) {
            let name = tool["name"].as_str().unwrap();
            assert!(
                name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
            );
            assert_eq!(shown.exposed(name), Some(exposed));
        }
        assert_eq!(tools[0]["name"], "plain-1_A");
        assert_eq!(shown.exposed("with.dot"), None);
    }

    #[test]
    fn there_are_no_more_and_no_longer_ones_than_is_said() {
        let many: Vec<Value> = (0..40).map(|number| named(&format!("t{number}"))).collect();
        let (shown_all, tools) = shown(&many, &endpoint(32, 512));
        assert_eq!((tools.len(), shown_all.count(), shown_all.total), (32, 32, 40));
        assert_eq!(shown_all.exposed("t32"), None, "what isn't listed can't be called");
        let long = json!({"name": "a", "description": "好".repeat(50), "inputSchema": {}});
        let (_, tools) = shown(&[long], &endpoint(1, 10));
        assert_eq!(tools[0]["description"], format!("{}…", "好".repeat(9)));
        let exact = json!({"name": "a", "description": "好".repeat(10)});
        let (_, tools) = shown(&[exact], &endpoint(1, 10));
        assert_eq!(tools[0]["description"], "好".repeat(10));
    }

    #[test]
    fn a_tool_that_is_too_large_is_left_out_and_costs_no_other() {
        let large: Value = (0..3000).map(|n| (format!("property_{n}"), json!({"type": "string"}))).collect();
        let large = json!({"name": "large", "inputSchema": {"properties": large}});
        let wordy = json!({"name": "wordy", "inputSchema": {"properties": {"a": {"description": "x".repeat(40_000)}}}});
        let (shown, tools) = shown(&[large, wordy, named("small")], &endpoint(32, 512));
        assert_eq!((tools.len(), tools[0]["name"].as_str(), shown.total), (1, Some("small"), 3));
    }

    #[test]
    fn a_tool_without_words_is_described_by_its_name() {
        let (_, tools) =
            shown(&[json!({"name": "a", "title": "A title"}), json!({"name": "b"})], &endpoint(9, 99));
        assert_eq!((&tools[0]["description"], &tools[1]["description"]), (&json!("A title"), &json!("b")));
    }
}
