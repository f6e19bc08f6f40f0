//! Every template that is shipped can be built, and says all that it needs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::fill::{fill, next, pattern};
use super::{Category, Kind, Source, Template, all};
use crate::client_files::credentials;
use crate::fields::Problems;

/// The names of the placeholders of a text.
fn names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((_, name, after)) = next(rest) {
        names.push(name);
        rest = after;
    }
    names
}

fn texts(template: &Template) -> Vec<&str> {
    let args = template.args.iter().flat_map(super::Arg::texts).map(String::as_str);
    let env = template.env.values().chain(template.headers.values()).map(String::as_str);
    args.chain(env).chain(template.credential.as_deref()).collect()
}

/// A value that every check of the placeholder takes.
fn sample(kind: Kind, expected: Option<&str>) -> String {
    let candidates = [
        "x",
        "1",
        "https://h.example/",
        "bolt://h.example:1",
        "/x",
        "true",
        "a@b",
        "ghp_x",
        "cli_x",
        "xoxp-x",
        "pat.x",
        "apify_api_x",
        "pk.x",
        "rk_x",
        "hf_x",
        "postgres://u:p@h/d",
        "mongodb://h/d",
        "redis://h/0",
    ];
    let fits = |text: &&&str| {
        let matches = expected.is_none_or(|expected| pattern(expected).unwrap().is_match(text));
        let right = match kind {
            Kind::Int => text.parse::<i64>().is_ok(),
            Kind::Url => text.contains("://"),
            Kind::String | Kind::Secret => true,
        };
        matches && right
    };
    (*candidates.iter().find(fits).unwrap_or_else(|| panic!("no sample for {expected:?}"))).to_owned()
}

fn form(template: &Template, only_required: bool) -> Map<String, Value> {
    let wanted = template
        .placeholders
        .iter()
        .filter(|placeholder| !only_required || (placeholder.required && placeholder.default.is_none()));
    wanted
        .map(|placeholder| {
            let value = sample(placeholder.kind, placeholder.pattern.as_deref());
            (placeholder.name.clone(), json!(value))
        })
        .collect()
}

#[test]
fn there_are_many_of_each_category_and_each_is_there_once() {
    assert!(all().len() >= 40, "{}", all().len());
    let ids: BTreeSet<&str> = all().iter().map(|template| template.id.as_str()).collect();
    let names: BTreeSet<&str> = all().iter().map(|template| template.name.as_str()).collect();
    assert_eq!((ids.len(), names.len()), (all().len(), all().len()), "an id or a name is there twice");
    let mut of: BTreeMap<&str, usize> = BTreeMap::new();
    for template in all() {
        *of.entry(template.category.word()).or_default() += 1;
        assert!(
            template.id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
            "{}",
            template.id
        );
        let sources = [&template.npm, &template.pypi, &template.url];
        assert_eq!(sources.into_iter().flatten().count(), 1, "{}", template.id);
        assert!(template.homepage.starts_with("https://"), "{}", template.id);
        assert!(template.description.ends_with('.'), "{}", template.id);
    }
    for category in Category::ALL {
        assert!(of.get(category.word()).is_some_and(|count| *count >= 4), "{}", category.word());
        assert_eq!(json!(category), category.word());
    }
}

/// T28: what is fetched today is what is fetched tomorrow.
#[test]
fn every_package_is_pinned() {
    for template in all() {
        let Some((_, name, version)) = template.package() else {
            let Source::Url(url) = template.source() else { panic!("{} has no version", template.id) };
            assert!(url.starts_with("https://"), "{url}");
            continue;
        };
        assert!(!name.is_empty() && !name.trim_start_matches('@').contains('@'), "{}", template.id);
        let pinned = pattern(r"[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]*").unwrap();
        assert!(pinned.is_match(version), "{}: {version}", template.id);
    }
}

/// T28.
#[test]
fn nothing_is_hidden_and_nothing_is_secret() {
    assert!(!credentials::hides(super::FILE));
    for template in all() {
        for text in texts(template) {
            assert!(!credentials::is_valued(text), "{}: {text}", template.id);
        }
    }
}

/// Whoever sees the processes of a machine sees their arguments.
#[test]
fn no_secret_is_on_a_command_line() {
    for template in all() {
        let is_secret = |name: &str| {
            let mut placeholders = template.placeholders.iter();
            placeholders.any(|placeholder| placeholder.name == name && placeholder.kind == Kind::Secret)
        };
        for text in template.args.iter().flat_map(super::Arg::texts) {
            assert!(!names(text).into_iter().any(is_secret), "{}: {text}", template.id);
        }
    }
}

#[test]
fn every_placeholder_is_declared_used_and_sound() {
    for template in all() {
        let id = &template.id;
        let declared: BTreeSet<&str> = template.placeholders.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(declared.len(), template.placeholders.len(), "{id} declares one twice");
        let used: BTreeSet<&str> = texts(template).into_iter().flat_map(names).collect();
        assert_eq!(used, declared, "{id}");
        for placeholder in &template.placeholders {
            if let Some(expected) = &placeholder.pattern {
                pattern(expected).unwrap_or_else(|error| panic!("{id}: {error}"));
            }
            assert!(
                placeholder.kind != Kind::Secret || placeholder.default.is_none(),
                "{id} has the default of a secret"
            );
            // What looks like the place of a credential takes one.
            let of_env =
                template.env.iter().filter(|(_, text)| names(text).contains(&placeholder.name.as_str()));
            for (name, _) in of_env {
                assert!(!credentials::is_named(name) || placeholder.kind == Kind::Secret, "{id}: {name}");
            }
        }
    }
}

#[test]
fn every_form_becomes_an_upstream() {
    for template in all() {
        for only_required in [true, false] {
            let mut problems = Problems::default();
            let filled = fill(template, &template.name, form(template, only_required), &mut problems);
            if let Err(error) = problems.unless_any(Some(())) {
                panic!("{}: {error:?}", template.id);
            }
            let text = filled.body.to_string();
            assert!(!text.contains("{{"), "{text}");
            crate::declared::parse_upstream(filled.body)
                .unwrap_or_else(|errors| panic!("{}: {errors:?}", template.id));
        }
    }
}
