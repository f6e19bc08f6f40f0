//! The files in which MCP clients and the registry name servers: read into, and written from, one neutral form.
//!
//! Reading order: `server` is the neutral form; `text` turns a body into a strict value; `mcp_json` (Claude,
//! Cursor and, under `servers`, VS Code), `codex` and `server_json` are the readers; `write` is the way back,
//! with the names of `variables` in the place of secrets;
//! `credentials` says what must not be kept in the clear, `line` how a person is shown what will run.
//!
//! A file is data from a stranger: nothing in it is expanded, fetched or run here, and whatever is read goes
//! through the parser and the policy of every other write (threats T26 to T28).

pub(crate) mod credentials;
pub(crate) mod line;
pub(crate) mod server;
pub(crate) mod write;

mod codex;
mod mcp_json;
mod server_json;
mod text;
mod variables;

use serde_json::Value;
use sql::model::FieldError;

pub(crate) use self::server::{Given, Reach, Server};

/// Servers in one file: the longest real ones have some thirty.
pub(crate) const SERVERS_MAX: usize = 200;

/// Why a file can't be read at all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is no JSON or TOML; says where, never what.
    Syntax(String),
    /// It is none of the files that are known, or has too much in it.
    Shape(Vec<FieldError>),
}

/// What the body says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// JSON; comments and commas before a closing bracket are passed over, as VS Code does.
    Json,
    /// TOML.
    Toml,
    /// JSON if it begins with a brace or bracket, else TOML.
    Guess,
}

/// Reads every server of a file, each with what is wrong with it.
pub(crate) fn read(bytes: &[u8], language: Language) -> Result<Vec<Server>, Unreadable> {
    let value = text::parse(bytes, language)?;
    let Value::Object(file) = value else {
        return Err(shape("", "must be an object with mcpServers, servers, mcp_servers or packages"));
    };
    let servers = if let Some(servers) = file.get("mcpServers") {
        mcp_json::read(servers, "/mcpServers", &mcp_json::Inputs::default())
    } else if let Some(servers) = file.get("mcp_servers") {
        codex::read(servers)
    } else if let Some(Value::Array(list)) = file.get("servers") {
        Ok(server_json::read_list(list))
    } else if let Some(servers) = file.get("servers") {
        mcp_json::read(servers, "/servers", &mcp_json::Inputs::of(file.get("inputs")))
    } else if let Some(inner) =
        file.get("mcp").and_then(|mcp| mcp.get("servers").map(|servers| (mcp, servers)))
    {
        // The settings.json of older VS Code.
        mcp_json::read(inner.1, "/mcp/servers", &mcp_json::Inputs::of(inner.0.get("inputs")))
    } else if file.contains_key("packages") || file.contains_key("remotes") {
        Ok(vec![server_json::read_one(&file, "")])
    } else {
        return Err(shape("", "must have mcpServers, servers, mcp_servers, packages or remotes"));
    }?;
    if servers.is_empty() {
        return Err(shape("", "names no server"));
    }
    if servers.len() > SERVERS_MAX {
        return Err(shape("", &format!("must name at most {SERVERS_MAX} servers")));
    }
    Ok(servers)
}

fn shape(pointer: &str, message: &str) -> Unreadable {
    Unreadable::Shape(vec![FieldError::new(pointer, message)])
}

/// The members of what must be an object of servers.
fn members<'a>(value: &'a Value, pointer: &str) -> Result<&'a serde_json::Map<String, Value>, Unreadable> {
    value.as_object().ok_or_else(|| shape(pointer, "must be an object, a member for each server"))
}

#[cfg(test)]
mod tests;
