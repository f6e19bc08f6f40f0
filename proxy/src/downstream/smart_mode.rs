//! Smart mode: four tools that find and call all the others.
//!
//! A model with thousands of tools in its context finds none of them. In smart mode its list has four:
//! `list_tools`, `search_tools` and `get_tool` tell of the tools of the caller's view, and `call_tool`
//! calls one. That one is rewritten here into a call of the tool itself before anything else looks at
//! it, so that every rule, limit, record and bridge meets the same request as in full mode, whatever the
//! transport and the era; the tool's own answer goes back as it came. Nothing but the list of tools and
//! their calls differs between the modes.

mod arguments;
mod definitions;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use sql::model::Kind;

use self::arguments::Arguments;
pub(super) use self::definitions::USE;
use super::dispatch::{Asked, Dispatch, Outcome, done_error, done_result, own_result, unknown};
use super::tasks;
use super::verbs;
use crate::catalog::search::Index;
use crate::catalog::{Item, lists};
use crate::upstream::call::Answer;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::envelope::{Field, Params};

const INVALID_PARAMS: i64 = -32602;
const INTERNAL_ERROR: i64 = -32603;

const LIST_TOOLS: &str = "list_tools";
const SEARCH_TOOLS: &str = "search_tools";
const GET_TOOL: &str = "get_tool";
const CALL_TOOL: &str = "call_tool";

/// Tools that one `get_tool` tells of: a definition can be long, and a model compares a few.
const NAMES_MAX: usize = 20;
/// Characters of a description in a list: enough to choose by. `get_tool` has the rest.
const SUMMARY_CHARS_MAX: usize = 300;

impl Dispatch {
    /// The answer to `tools/list`. The four tools never change; which mode is in force may.
    pub(super) fn smart_list(&self, asked: &Asked) -> Outcome {
        // Before the client asks, which it is about to.
        self.indexes.begin(&asked.view);
        let params = asked.request.params.as_ref();
        if params.and_then(|params| params.get(Field::Cursor)).is_some_and(|raw| raw[..] != b"null"[..]) {
            return done_error(asked, INVALID_PARAMS, &lists::BadCursor.to_string());
        }
        let runs_tasks = tasks::may_call_as_task(asked);
        done_result(asked, definitions::list(asked.client.is_modern(), runs_tasks))
    }

    /// Answers `tools/call`.
    pub(super) fn smart_call(self: &Arc<Self>, mut asked: Asked) -> Outcome {
        let params = asked.request.params.as_ref();
        let Some(subject) = params.and_then(verbs::CALL_TOOL.subject) else {
            return done_error(&asked, INVALID_PARAMS, verbs::CALL_TOOL.needs);
        };
        if subject.name == CALL_TOOL {
            return match params.map(inner) {
                Some(Ok(params)) => {
                    asked.request.params = Some(params);
                    self.call(asked, &verbs::CALL_TOOL)
                }
                Some(Err(reason)) => failure(&asked, &reason),
                None => done_error(&asked, INVALID_PARAMS, verbs::CALL_TOOL.needs),
            };
        }
        let Some(arguments) = params.and_then(|params| Arguments::read(params.arguments().as_deref())) else {
            return done_error(&asked, INVALID_PARAMS, "params.arguments must be an object");
        };
        match subject.name.as_str() {
            LIST_TOOLS => told(&asked, list_tools(&asked, arguments)),
            GET_TOOL => told(&asked, get_tool(&asked, arguments)),
            SEARCH_TOOLS => self.search_tools(asked, arguments),
            _ => Outcome::Done(unknown(&asked, &subject)),
        }
    }

    fn search_tools(self: &Arc<Self>, asked: Asked, arguments: Arguments) -> Outcome {
        let search = match Search::read(&asked, arguments) {
            Ok(search) => search,
            Err(reason) => return failure(&asked, &reason),
        };
        if let Some(index) = self.indexes.ready(&asked.view) {
            return done_result(&asked, search.result(&asked, &index));
        }
        // The first question of a changed list waits for its index, among the calls of its key.
        self.begin(asked, move |dispatch, asked, _, _| async move {
            let answer = match dispatch.indexes.of(&asked.view).await {
                Some(index) => own_result(&asked, search.result(&asked, &index)),
                None => Answer::Error(compose::error_object(INTERNAL_ERROR, "the search failed", None)),
            };
            (asked, answer)
        })
    }
}

/// The result of `tools/list` for a legacy client that runs no tasks.
pub(super) fn own_tools() -> Bytes {
    definitions::list(false, false)
}

/// The params of the call that a call in smart mode stands for, if it is one of another tool.
pub(super) fn wrapped(params: &Params) -> Option<Params> {
    let is_wrapped = (verbs::CALL_TOOL.subject)(params).is_some_and(|subject| subject.name == CALL_TOOL);
    is_wrapped.then(|| inner(params).ok()).flatten()
}

/// The params of the call that `call_tool` stands for: the tool's name and arguments in the place of its
/// own, and all else as it came, above all what carries progress, tasks and answers to questions.
fn inner(params: &Params) -> Result<Params, String> {
    const NEEDS: &str =
        "call_tool needs {\"name\": the tool's name, \"arguments\": the tool's own arguments}";
    let given = params.arguments().and_then(|raw| Object::parse(&raw).ok()).ok_or(NEEDS)?;
    if let Some((other, _)) = given.iter().find(|(key, _)| !["name", "arguments"].contains(key)) {
        return Err(format!("{NEEDS}; put {other:?} into \"arguments\""));
    }
    let name = given.get("name").filter(|name| name.starts_with(b"\"")).ok_or(NEEDS)?;
    let arguments = given.get("arguments").filter(|raw| raw[..] != b"null"[..]);
    let raw = match &arguments {
        Some(arguments) if arguments.starts_with(b"{") => {
            params.with(&[(Field::Name, &name), (Field::Arguments, arguments)])
        }
        Some(_) => return Err("\"arguments\" of call_tool must be an object".to_owned()),
        // A call without arguments has none at its upstream, either.
        None => {
            let mut object = params.object().map_err(|bad| bad.to_string())?;
            object.set("name", name);
            object.remove("arguments");
            object.into_bytes()
        }
    };
    // What was taken from a strict message is one; the error has no way to happen.
    Params::read(&raw).ok_or_else(|| NEEDS.to_owned())
}

/// A tool in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    upstream: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found<'a> {
    tools: Vec<Summary<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl<'a> Summary<'a> {
    fn of(item: &'a Item, rendered: &Bytes) -> Self {
        #[derive(Default, Deserialize)]
        struct Said {
            title: Option<String>,
            description: Option<String>,
        }
        let said: Said = serde_json::from_slice(rendered).unwrap_or_default();
        let description = said.description.map(|mut text| {
            if let Some((end, _)) = text.char_indices().nth(SUMMARY_CHARS_MAX) {
                text.truncate(end);
                text.push('…');
            }
            text
        });
        Self { name: &item.exposed_name, title: said.title, description, upstream: &item.upstream.name }
    }
}

fn list_tools(asked: &Asked, mut arguments: Arguments) -> Result<Bytes, String> {
    let cursor = arguments.text("cursor")?;
    let limit = arguments.limit(asked.view.settings().mcp_api.smart_discovery_limit)?;
    arguments.end(LIST_TOOLS)?;
    let audience = tasks::audience(&asked.client);
    let page = lists::some(&asked.view, Kind::Tool, audience, cursor.as_deref(), limit);
    let page = page.map_err(|bad| bad.to_string())?;
    let tools = page.items.into_iter().map(|(item, rendered)| Summary::of(item, rendered)).collect();
    Ok(content(asked, &json(&Found { tools, next_cursor: page.next_cursor })))
}

fn get_tool(asked: &Asked, mut arguments: Arguments) -> Result<Bytes, String> {
    let (name, names) = (arguments.text("name")?, arguments.texts("names")?);
    arguments.end(GET_TOOL)?;
    let names = match (name, names) {
        (Some(name), None) => vec![name],
        (None, Some(names)) if names.is_empty() => return Err("\"names\" must not be empty".to_owned()),
        (None, Some(names)) if names.len() > NAMES_MAX => {
            return Err(format!("\"names\" may have at most {NAMES_MAX} elements, not {}", names.len()));
        }
        (None, Some(names)) => names,
        _ => return Err("get_tool needs either \"name\" or \"names\"".to_owned()),
    };
    let audience = tasks::audience(&asked.client);
    let mut tools = BytesMut::new();
    let mut unknown = Vec::new();
    for (n, name) in names.iter().enumerate() {
        if names[..n].contains(name) {
            continue;
        }
        let item = asked.view.route(Kind::Tool, name);
        let Some(rendered) = item.as_ref().and_then(|item| item.rendered_for(audience)) else {
            unknown.push(name.as_str());
            continue;
        };
        if !tools.is_empty() {
            tools.extend_from_slice(b",");
        }
        tools.extend_from_slice(rendered);
    }
    if tools.is_empty() {
        return Err(format!("Unknown tool: {}", unknown.join(", ")));
    }
    let tools = String::from_utf8_lossy(&tools);
    let missing =
        if unknown.is_empty() { String::new() } else { format!(r#","unknown":{}"#, json(&unknown)) };
    Ok(content(asked, &format!(r#"{{"tools":[{tools}]{missing}}}"#)))
}

/// A question that was understood.
struct Search {
    query: String,
    limit: usize,
}

impl Search {
    fn read(asked: &Asked, mut arguments: Arguments) -> Result<Self, String> {
        let query = arguments.text("query")?.filter(|query| !query.trim().is_empty());
        let query = query.ok_or("search_tools needs \"query\": what the tool is to do, in words")?;
        let limit = arguments.limit(asked.view.settings().mcp_api.smart_discovery_limit)?;
        arguments.end(SEARCH_TOOLS)?;
        Ok(Self { query, limit })
    }

    fn result(&self, asked: &Asked, index: &Index) -> Bytes {
        let audience = tasks::audience(&asked.client);
        let found = index.search(&self.query, self.limit);
        let items = found.into_iter().filter_map(|name| asked.view.route(Kind::Tool, name));
        let items: Vec<_> = items.collect();
        let shown = items.iter().filter_map(|item| Some(Summary::of(item, item.rendered_for(audience)?)));
        content(asked, &json(&Found { tools: shown.collect(), next_cursor: None }))
    }
}

/// A result of ours: the same as text, for models, and as data, for programs.
fn content(asked: &Asked, structured: &str) -> Bytes {
    let text = compose::string(structured);
    let text = std::str::from_utf8(&text).expect("JSON is UTF-8");
    let kind = result_type(asked);
    let result = format!(
        r#"{{"content":[{{"type":"text","text":{text}}}],"structuredContent":{structured},"isError":false{kind}}}"#
    );
    Bytes::from(result)
}

fn told(asked: &Asked, told: Result<Bytes, String>) -> Outcome {
    match told {
        Ok(result) => done_result(asked, result),
        Err(reason) => failure(asked, &reason),
    }
}

/// Arguments that a tool of ours can't use. A result and no error of the protocol, so that the model
/// reads it and can mend its call (2025-11-25 and 2026-07-28, tools, error handling); older revisions let a
/// server choose.
fn failure(asked: &Asked, reason: &str) -> Outcome {
    let text = compose::string(reason);
    let text = std::str::from_utf8(&text).expect("JSON is UTF-8");
    let kind = result_type(asked);
    let result = format!(r#"{{"content":[{{"type":"text","text":{text}}}],"isError":true{kind}}}"#);
    done_result(asked, Bytes::from(result))
}

/// What a result of 2026-07-28 must say of itself.
fn result_type(asked: &Asked) -> &'static str {
    if asked.client.is_modern() { r#","resultType":"complete""# } else { "" }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and lists of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(text: &str) -> Params {
        Params::read(&Bytes::copy_from_slice(text.as_bytes())).expect("an object")
    }

    #[test]
    fn a_wrapped_call_is_the_call_itself_with_every_byte_of_its_arguments() {
        let outer = r#"{"_meta":{"progressToken":1},"name":"call_tool","arguments":{"arguments":{ "x" : 1.0,"name":"y"},"name":"\u0061dd"},"requestState":"s"}"#;
        let inner = inner(&params(outer)).expect("it is well formed");
        let expected = r#"{"_meta":{"progressToken":1},"name":"\u0061dd","arguments":{ "x" : 1.0,"name":"y"},"requestState":"s"}"#;
        assert_eq!(inner.raw(), expected);
        assert_eq!(inner.name().expect("it has one").as_str(), "add");
        assert_eq!(inner.arguments().expect("it has some"), r#"{ "x" : 1.0,"name":"y"}"#);
    }

    #[test]
    fn whose_call_it_is_is_told_by_the_tool_that_is_called() {
        let outer = params(r#"{"name":"call_tool","arguments":{"name":"add"}}"#);
        let name = wrapped(&outer).and_then(|inner| inner.name().map(|name| name.as_str().to_owned()));
        assert_eq!(name.as_deref(), Some("add"));
        for none in [r#"{"name":"list_tools"}"#, r#"{"name":"add","arguments":{"name":"b"}}"#] {
            assert!(wrapped(&params(none)).is_none(), "{none}");
        }
    }

    #[test]
    fn a_wrapped_call_without_arguments_has_none() {
        for none in ["", r#","arguments":null"#] {
            let outer = format!(r#"{{"name":"call_tool","arguments":{{"name":"a"{none}}},"_meta":{{}}}}"#);
            let inner = inner(&params(&outer)).expect("it is well formed");
            assert_eq!(inner.raw(), r#"{"name":"a","_meta":{}}"#);
        }
    }

    #[test]
    fn a_call_that_wraps_none_is_told_what_is_missing() {
        for (bad, says) in [
            ("{}", "needs"),
            (r#"{"name":1}"#, "needs"),
            (r#"{"name":"a","arguments":"{}"}"#, "must be an object"),
            (r#"{"name":"a","message":"b"}"#, r#"put "message" into "arguments""#),
            (r#"{"name":"a","name":"b"}"#, "needs"),
            ("[]", "needs"),
        ] {
            let outer = format!(r#"{{"name":"call_tool","arguments":{bad}}}"#);
            let reason = inner(&params(&outer)).expect_err("it is refused");
            assert!(reason.contains(says), "{bad}: {reason}");
        }
    }
}
