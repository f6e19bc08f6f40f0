//! A filled-in form as the body of an upstream.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value, json};
use sql::model::Transport;
use url::Url;

use super::{Kind, Placeholder, Source, Template};
use crate::client_files::credentials;
use crate::fields::{Problems, pointer_to};

/// The longest value of a form.
const VALUE_CHARS_MAX: usize = 4_096;

/// What comes of a form.
pub(crate) struct Filled {
    /// As `POST /api/admin/upstreams` takes it.
    pub(crate) body: Value,
    /// What will run, or be dialled; without secrets.
    pub(crate) command: String,
}

/// The values of a form, each as it was checked.
struct Values<'a> {
    given: BTreeMap<&'a str, String>,
    secret: Vec<&'a str>,
}

/// Fills `template` with the members of `values`, or says everything that is wrong with them.
pub(crate) fn fill(
    template: &Template,
    name: &str,
    mut values: Map<String, Value>,
    problems: &mut Problems,
) -> Filled {
    let mut given = BTreeMap::new();
    for placeholder in &template.placeholders {
        let pointer = pointer_to("/values", &placeholder.name);
        match checked(placeholder, values.remove(&placeholder.name)) {
            Ok(Some(value)) => drop(given.insert(placeholder.name.as_str(), value)),
            Ok(None) => {}
            Err(message) => problems.add(pointer, message),
        }
    }
    for unknown in values.keys() {
        problems.add(pointer_to("/values", unknown), "is not a placeholder of this template");
    }
    let secret = template.placeholders.iter().filter(|placeholder| placeholder.kind == Kind::Secret);
    let values = Values { given, secret: secret.map(|placeholder| placeholder.name.as_str()).collect() };
    let mut body = json!({"name": name, "tags": ["template"]});
    if let Some(isolation) = template.isolation {
        body["isolation"] = json!(isolation);
    }
    let command = match template.source() {
        Source::Npm(package) => {
            started(&mut body, template, &values, "npx", vec!["-y".into(), package.to_owned()])
        }
        Source::Pypi(package) => {
            let args = match &template.program {
                Some(program) => vec!["--from".into(), package.replacen('@', "==", 1), program.clone()],
                None => vec![package.to_owned()],
            };
            started(&mut body, template, &values, "uvx", args)
        }
        Source::Url(url) => {
            let headers = named(&template.headers, &values);
            body["transport"] = json!(template.transport.unwrap_or(Transport::StreamableHttp));
            body["connParams"] = json!({"url": url, "headers": headers});
            body["credential"] =
                json!(template.credential.as_deref().and_then(|text| values.put(text)).map(|(text, _)| text));
            url.to_owned()
        }
    };
    Filled { body, command }
}

fn started(
    body: &mut Value,
    template: &Template,
    values: &Values<'_>,
    command: &str,
    first: Vec<String>,
) -> String {
    let mut args: Vec<Value> = first.into_iter().map(Value::from).collect();
    for arg in &template.args {
        let put: Option<Vec<Value>> = arg
            .texts()
            .iter()
            .map(|text| values.put(text).map(|(text, secret)| as_value(text, secret)))
            .collect();
        args.extend(put.into_iter().flatten());
    }
    let env = named(&template.env, values);
    let words = env.iter().map(|(name, value)| format!("{name}={}", shown(value)));
    let line: Vec<String> =
        words.chain(std::iter::once(command.to_owned())).chain(args.iter().map(shown)).collect();
    body["transport"] = json!(Transport::Stdio);
    body["connParams"] = json!({"command": command, "args": args, "env": env});
    line.join(" ")
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| "[secret]".to_owned(), crate::client_files::line::quoted)
}

fn named(texts: &BTreeMap<String, String>, values: &Values<'_>) -> Map<String, Value> {
    texts
        .iter()
        .filter_map(|(name, text)| {
            let (text, secret) = values.put(text)?;
            Some((name.clone(), as_value(text, secret)))
        })
        .collect()
}

fn as_value(text: String, secret: bool) -> Value {
    if secret { json!({"secret": text}) } else { Value::from(text) }
}

impl Values<'_> {
    /// The text with its placeholders filled, and whether a secret is in it; nothing if one isn't filled in.
    fn put(&self, text: &str) -> Option<(String, bool)> {
        let mut out = String::new();
        let mut is_secret = false;
        let mut rest = text;
        while let Some((before, name, after)) = next(rest) {
            out.push_str(before);
            out.push_str(self.given.get(name)?);
            is_secret |= self.secret.contains(&name);
            rest = after;
        }
        out.push_str(rest);
        Some((out, is_secret))
    }
}

/// The text before a placeholder, its name, and what follows.
pub(super) fn next(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (name, after) = rest.split_once("}}")?;
    Some((before, name, after))
}

/// The whole of a pattern, as it is matched.
pub(super) fn pattern(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!(r"\A(?:{pattern})\z"))
}

/// The value that is used, if there is one; or what is expected, and never what came.
fn checked(placeholder: &Placeholder, value: Option<Value>) -> Result<Option<String>, String> {
    let text = match value {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(Value::Number(number)) if placeholder.kind == Kind::Int => Some(number.to_string()),
        Some(_) => return Err("must be a text".into()),
    };
    // An empty field of a form is one that wasn't filled in.
    let Some(text) = text.filter(|text| !text.is_empty()).or_else(|| placeholder.default.clone()) else {
        return if placeholder.required { Err("is required".into()) } else { Ok(None) };
    };
    if text.chars().count() > VALUE_CHARS_MAX {
        return Err(format!("must have at most {VALUE_CHARS_MAX} characters"));
    }
    if text.chars().any(char::is_control) || credentials::hides(&text) {
        return Err("must not hold control or invisible characters".into());
    }
    // What begins with a dash would be an option of the program, and of no form.
    if text.starts_with('-') && placeholder.kind != Kind::Secret {
        return Err("must not begin with a dash".into());
    }
    match placeholder.kind {
        Kind::Int if text.parse::<i64>().is_err() => return Err("must be a whole number".into()),
        Kind::Url if !Url::parse(&text).is_ok_and(|url| url.has_host()) => {
            return Err("must be a whole address like https://host/".into());
        }
        _ => {}
    }
    if let Some(expected) = &placeholder.pattern
        && !pattern(expected).is_ok_and(|pattern| pattern.is_match(&text))
    {
        return Err(format!("must match {expected}"));
    }
    Ok(Some(text))
}
