//! Settings that the environment fixes: laid over the stored ones, and locked in the console.

use serde_json::{Map, Value};
use sql::model::{FieldError, Settings};

use super::variables::{Reader, SETTING_PREFIX, nearest};

/// What `MPG_SETTING__<GROUP>__<KEY>` variables say, as one merge patch.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingOverrides {
    patch: Map<String, Value>,
    locked: Vec<String>,
}

impl SettingOverrides {
    /// Reads and checks every overriding variable; each is told by its own name.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let defaults = Settings::default().document();
        let mut overrides = Self::default();
        for (name, text) in reader.setting_variables() {
            if let Err(message) = overrides.add(&name, &text, &defaults) {
                reader.problem(&name, message);
            }
        }
        overrides
    }

    fn add(&mut self, name: &str, text: &str, defaults: &Value) -> Result<(), String> {
        let path = name[SETTING_PREFIX.len()..].to_ascii_lowercase();
        let (group, key) = path.split_once("__").ok_or("expected MPG_SETTING__<GROUP>__<KEY>")?;
        let default = defaults
            .get(group)
            .and_then(|group| group.get(key))
            .ok_or_else(|| unknown_setting(&path, defaults))?;
        let value = value_like(default, text)?;
        let single = serde_json::json!({ group: { key: value.clone() } });
        if let Err(errors) = Settings::default().merge_patch(&single) {
            let messages: Vec<String> = errors.into_iter().map(|error| error.message).collect();
            return Err(messages.join("; "));
        }
        let group_patch = self.patch.entry(group).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(group_patch) = group_patch {
            group_patch.insert(key.to_owned(), value);
        }
        self.locked.push(format!("{group}.{key}"));
        Ok(())
    }

    /// The settings in force: the stored ones, with these laid over.
    pub(crate) fn over(&self, stored: &Settings) -> Result<Settings, Vec<FieldError>> {
        stored.merge_patch(&Value::Object(self.patch.clone()))
    }

    /// The settings that can't be changed in the console, as `group.key`.
    pub(crate) fn locked(&self) -> &[String] {
        &self.locked
    }

    /// `group.key` and value of each override.
    pub(super) fn shown(&self) -> impl Iterator<Item = (String, String)> {
        self.locked.iter().filter_map(|path| {
            let (group, key) = path.split_once('.')?;
            Some((path.clone(), plain_text(self.patch.get(group)?.get(key)?)))
        })
    }
}

/// The text as the kind of value that the setting has.
fn value_like(default: &Value, text: &str) -> Result<Value, String> {
    match default {
        Value::Bool(_) => text.parse().map(Value::Bool).map_err(|_| "not true or false".to_owned()),
        // No setting of text is unset by default.
        Value::Number(_) | Value::Null => {
            serde_json::from_str(text).ok().filter(Value::is_number).ok_or_else(|| "not a number".to_owned())
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn unknown_setting(path: &str, defaults: &Value) -> String {
    let known: Vec<String> = defaults
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(group, keys)| {
            keys.as_object().into_iter().flatten().map(move |(key, _)| format!("{group}__{key}"))
        })
        .collect();
    match nearest(path, known.iter().map(String::as_str)) {
        Some(candidate) => {
            format!("unknown setting; did you mean {SETTING_PREFIX}{}?", candidate.to_ascii_uppercase())
        }
        None => "unknown setting".to_owned(),
    }
}
