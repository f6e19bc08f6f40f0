//! `conn_params` as the JSON of its column: a secret value stands as `{"sealed": "..."}`.
//!
//! Each is sealed for its own path, so that not even two secrets of one upstream can be exchanged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::secret::Secret;
use crate::model::upstream::{ConnParams, Value};
use crate::seal::{DoesNotOpen, Place, Sealer};

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

/// The column's text with its secrets sealed by the present key; `None` if they are.
pub(super) fn reseal(sealer: &Sealer, json: &str, row: &str) -> Result<Option<String>, DoesNotOpen> {
    let mut document: Document = serde_json::from_str(json).map_err(|_| DoesNotOpen)?;
    let mut is_changed = false;
    let mut one = |stored: &mut Stored, path: String| {
        let Stored::Sealed { sealed } = stored else { return Ok(()) };
        if let Some(anew) = sealer.reseal(sealed, place(&path, row))? {
            *sealed = anew;
            is_changed = true;
        }
        Ok(())
    };
    match &mut document {
        Document::Stdio { args, env, .. } => {
            args.iter_mut().enumerate().try_for_each(|(at, value)| one(value, path("args", at)))?;
            env.iter_mut().try_for_each(|(name, value)| one(value, path("env", name)))?;
        }
        Document::Http { headers, .. } => {
            headers.iter_mut().try_for_each(|(name, value)| one(value, path("headers", name)))?;
        }
    }
    Ok(is_changed.then(|| serde_json::to_string(&document).expect("texts and maps of texts are JSON")))
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
