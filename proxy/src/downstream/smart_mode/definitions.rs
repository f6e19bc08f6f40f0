//! What the four tools say of themselves.

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{CALL_TOOL, GET_TOOL, LIST_TOOLS, NAMES_MAX, SEARCH_TOOLS};

/// How the four are used, for the instructions of a server.
pub(in crate::downstream) const USE: &str = "The tools of this server are found with search_tools (or list_tools), described by \
    get_tool, and called with call_tool.";

/// How long a modern client may keep the list: it changes with the mode alone, and then those who
/// listen are told.
const TTL_MS: u32 = 60_000;

/// The result of `tools/list`, complete but for what every modern result carries.
pub(super) fn list(is_modern: bool, runs_tasks: bool) -> Bytes {
    static LISTS: LazyLock<[Bytes; 4]> = LazyLock::new(|| {
        [(false, false), (false, true), (true, false), (true, true)].map(|(is_modern, runs_tasks)| {
            let mut list = json!({ "tools": tools(runs_tasks) });
            if is_modern {
                list["resultType"] = "complete".into();
                list["ttlMs"] = TTL_MS.into();
                // Another key may have another mode.
                list["cacheScope"] = "private".into();
            }
            Bytes::from(list.to_string())
        })
    });
    LISTS[2 * usize::from(is_modern) + usize::from(runs_tasks)].clone()
}

fn tools(runs_tasks: bool) -> Value {
    let limit = json!({
        "type": "integer", "minimum": 1,
        "description": "How many tools are wanted at most. The server has a limit of its own, which is the default.",
    });
    let reads = json!({ "readOnlyHint": true, "idempotentHint": true, "openWorldHint": false });
    let found = |also: Value| {
        let mut properties = json!({ "tools": { "type": "array", "items": {
            "type": "object",
            "properties": {
                "name": { "type": "string" },
                "title": { "type": "string" },
                "description": { "type": "string", "description": "Its beginning, if it is long." },
                "upstream": { "type": "string", "description": "The server that has the tool." },
            },
            "required": ["name", "upstream"],
        } } });
        if let (Value::Object(properties), Value::Object(also)) = (&mut properties, also) {
            properties.extend(also);
        }
        json!({ "type": "object", "properties": properties, "required": ["tools"] })
    };
    let cursor = "Where the next page begins; absent on the last page.";
    let mut call_tool = json!({
        "name": CALL_TOOL,
        "title": "Call a tool",
        "description": "Call a tool by its name. The answer is the tool's own. Ask get_tool for the arguments it takes.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "name": { "type": "string", "description": "The tool's name, as it was found." },
                "arguments": { "type": "object", "description": "The tool's own arguments, as its inputSchema says." },
            },
            "required": ["name"],
            "additionalProperties": false,
        },
    });
    if runs_tasks {
        call_tool["execution"] = json!({ "taskSupport": "optional" });
    }
    json!([
        {
            "name": LIST_TOOLS,
            "title": "List tools",
            "description": "List all tools that can be called with call_tool, page by page. Where there are many, search_tools is quicker.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "cursor": { "type": "string", "description": "nextCursor of the page before. Absent for the first page." },
                    "limit": limit,
                },
                "additionalProperties": false,
            },
            "outputSchema": found(json!({ "nextCursor": { "type": "string", "description": cursor } })),
            "annotations": reads,
        },
        {
            "name": SEARCH_TOOLS,
            "title": "Search tools",
            "description": "Find tools by what they do, the best first. Ask in a few words of English or Chinese, such as \"send an email\" or \"查天气\"; then get_tool tells the arguments, and call_tool calls.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "query": { "type": "string", "description": "What the tool is to do, in words." },
                    "limit": limit,
                },
                "required": ["query"],
                "additionalProperties": false,
            },
            "outputSchema": found(json!({})),
            "annotations": reads,
        },
        {
            "name": GET_TOOL,
            "title": "Describe tools",
            "description": "Get the whole definition of a tool, or of several at once: what it does and the arguments it takes.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "name": { "type": "string", "description": "The name of one tool." },
                    "names": {
                        "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": NAMES_MAX,
                        "description": "The names of several tools, instead of `name`.",
                    },
                },
                "additionalProperties": false,
            },
            "outputSchema": {
                "type": "object",
                "properties": {
                    "tools": { "type": "array", "items": { "type": "object" }, "description": "Definitions, as tools/list would have them." },
                    "unknown": { "type": "array", "items": { "type": "string" }, "description": "Names that no tool has." },
                },
                "required": ["tools"],
            },
            "annotations": reads,
        },
        call_tool,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_four_and_one_may_run_as_a_task() {
        for (is_modern, runs_tasks) in [(false, false), (false, true), (true, false), (true, true)] {
            let list: Value = serde_json::from_slice(&list(is_modern, runs_tasks)).expect("JSON");
            let tools = list["tools"].as_array().expect("a list");
            let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().expect("a name")).collect();
            assert_eq!(names, [LIST_TOOLS, SEARCH_TOOLS, GET_TOOL, CALL_TOOL]);
            assert_eq!(list["resultType"] == "complete", is_modern);
            assert_eq!(tools[3]["execution"]["taskSupport"] == "optional", runs_tasks);
            assert!(tools[..3].iter().all(|tool| tool["outputSchema"]["type"] == "object"));
        }
    }
}
