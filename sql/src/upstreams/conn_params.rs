//! `conn_params` as the JSON of its column: a secret value stands as `{"sealed": "..."}`.
//!
//! Each is sealed for its own path, so that not even two secrets of one upstream can be exchanged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::secret::Secret;
use crate::model::upstream::{ConnParams, Value};
use crate::seal::{Place, Sealer};

/// The stored form of a value.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Plain(String),
    Sealed { sealed: String },
}

/// The stored form of the whole.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Document {
    Stdio { command: String, args: Vec<Stored>, env: BTreeMap<String, Stored>, cwd: Option<String> },
    Http { url: String, headers: BTreeMap<String, Stored> },
}

/// The column's text.
pub(super) fn write(sealer: &Sealer, params: &ConnParams, row: &str) -> String {
    let seal = |value: &Value, path: String| match value {
        Value::Plain(text) => Stored::Plain(text.clone()),
        Value::Secret(secret) => {
            let sealed = sealer.seal(secret.expose().as_bytes(), place(&path, row));
            Stored::Sealed { sealed }
        }
    };
    let seal_map = |values: &BTreeMap<String, Value>, within: &str| {
        let entry = |(name, value): (&String, &Value)| (name.clone(), seal(value, path(within, name)));
        values.iter().map(entry).collect()
    };
    let document = match params {
        ConnParams::Stdio { command, args, env, cwd } => Document::Stdio {
            command: command.clone(),
            args: args.iter().enumerate().map(|(at, value)| seal(value, path("args", at))).collect(),
            env: seal_map(env, "env"),
            cwd: cwd.clone(),
        },
        ConnParams::Http { url, headers } => {
            Document::Http { url: url.clone(), headers: seal_map(headers, "headers") }
        }
    };
    serde_json::to_string(&document).expect("texts and maps of texts are JSON")
}

/// Reads the column's text; `None` if it isn't one of ours, or a secret doesn't open.
pub(super) fn read(sealer: &Sealer, json: &str, row: &str) -> Option<ConnParams> {
    let open = |stored: Stored, path: String| match stored {
        Stored::Plain(text) => Some(Value::Plain(text)),
        Stored::Sealed { sealed } => {
            sealer.unseal(&sealed, place(&path, row)).ok().as_ref().and_then(text).map(Value::Secret)
        }
    };
    let open_map = |values: BTreeMap<String, Stored>, within: &str| {
        values
            .into_iter()
            .map(|(name, stored)| {
                let path = path(within, &name);
                Some((name, open(stored, path)?))
            })
            .collect::<Option<BTreeMap<_, _>>>()
    };
    Some(match serde_json::from_str(json).ok()? {
        Document::Stdio { command, args, env, cwd } => ConnParams::Stdio {
            command,
            args: (0_usize..)
                .zip(args)
                .map(|(at, stored)| open(stored, path("args", at)))
                .collect::<Option<_>>()?,
            env: open_map(env, "env")?,
            cwd,
        },
        Document::Http { url, headers } => ConnParams::Http { url, headers: open_map(headers, "headers")? },
    })
}

/// The text of what was opened.
pub(super) fn text(opened: &Secret<Vec<u8>>) -> Option<Secret<String>> {
    std::str::from_utf8(opened.expose()).ok().map(Secret::from)
}

fn path(within: &str, name: impl std::fmt::Display) -> String {
    format!("conn_params/{within}/{name}")
}

fn place<'a>(path: &'a str, row: &'a str) -> Place<'a> {
    Place { table: super::TABLE, column: path, row }
}
