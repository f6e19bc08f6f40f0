//! What the documents say is so: links lead somewhere, and variables, targets and addresses exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;
use sql::model::Settings;

/// Where variables are declared; each name stands there in quotes.
const VARIABLES: &str = include_str!("../config/variables.rs");
const MAKEFILE: &str = include_str!("../../Makefile");

struct Document {
    path: PathBuf,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<Document> {
    let mut paths = vec![root().join("README.md")];
    let folder = fs::read_dir(root().join(".github")).expect("a folder");
    paths.extend(folder.map(|entry| entry.expect("an entry").path()));
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    assert!(paths.len() > 5, "{paths:?}");
    let read = |path: PathBuf| Document { text: fs::read_to_string(&path).expect("a text"), path };
    paths.into_iter().map(read).collect()
}

/// What of each document the pattern's first group finds, and doesn't hold: `FILE: what`.
fn wrong(pattern: &str, holds: impl Fn(&Document, &str) -> bool) -> Vec<String> {
    let pattern = Regex::new(pattern).expect("a pattern");
    let mut wrong = BTreeSet::new();
    let mut found = 0;
    for document in documents() {
        for captures in pattern.captures_iter(&document.text) {
            found += 1;
            if !holds(&document, &captures[1]) {
                let file = document.path.strip_prefix(root()).expect("below the root");
                wrong.insert(format!("{}: {}", file.display(), &captures[1]));
            }
        }
    }
    assert!(found > 0, "nothing is like {pattern}");
    wrong.into_iter().collect()
}

/// The anchors of a document's headings, as they are made of them where it is read.
fn anchors(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).expect("a text");
    let (mut is_code, mut seen) = (false, BTreeMap::<String, usize>::new());
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let Some(heading) = line.strip_prefix('#').filter(|_| !is_code) else { continue };
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug = kept.collect::<String>().replace(' ', "-");
        let count = seen.entry(slug.clone()).or_default();
        anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    anchors
}

#[test]
fn every_link_leads_somewhere() {
    let wrong = wrong(r"\]\(([^)\s]+)\)", |document, target| {
        if target.contains("://") {
            return true;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let folder = document.path.parent().expect("it lies in one");
        let path = if path.is_empty() { document.path.clone() } else { folder.join(path) };
        path.exists() && (anchor.is_empty() || anchors(&path).contains(anchor))
    });
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_variable_that_is_told_of_is_read() {
    let settings = Settings::default().document();
    let is_setting = |rest: &str| match rest.to_lowercase().split_once("__") {
        Some((group, key)) => settings.get(group).is_some_and(|group| group.get(key).is_some()),
        None => rest.is_empty(),
    };
    let is_declared = |name: &str| VARIABLES.contains(&format!("\"{name}\""));
    let wrong = wrong(r"\b(MPG_[A-Z0-9_]+)", |_, name| {
        if let Some(rest) = name.strip_prefix("MPG_SETTING__") {
            return is_setting(rest);
        }
        // One of tests is read there, under its own name.
        let is_of_tests = name.starts_with("MPG_TEST_") && tests_read(name);
        is_of_tests || is_declared(name) || name.strip_suffix("_FILE").is_some_and(is_declared)
    });
    assert_eq!(wrong, [""; 0]);
}

fn tests_read(name: &str) -> bool {
    fn any(folder: &Path, name: &str) -> bool {
        fs::read_dir(folder).expect("a folder").any(|entry| {
            let path = entry.expect("an entry").path();
            let is_source = path.extension().is_some_and(|ending| ending == "rs");
            (path.is_dir() && !path.ends_with("node_modules") && any(&path, name))
                || (is_source && fs::read_to_string(&path).expect("a text").contains(name))
        })
    }
    any(&root().join("src/tests"), name)
}

#[test]
fn every_variable_that_is_read_is_told_of() {
    let told: String = documents().into_iter().map(|document| document.text).collect();
    let declared = Regex::new(r#""(MPG_[A-Z0-9_]+[A-Z0-9])""#).expect("a pattern");
    let untold: Vec<&str> = declared
        .captures_iter(VARIABLES)
        .map(|captures| captures.get(1).expect("a group").as_str())
        .filter(|name| !told.contains(name))
        .collect();
    assert_eq!(untold, [""; 0]);
}

#[test]
fn every_target_of_make_exists() {
    let wrong = wrong(r"(?:`|^|\$ )make ([a-z-]+)", |_, target| {
        MAKEFILE.lines().any(|line| line.strip_prefix(target).is_some_and(|rest| rest.starts_with(':')))
    });
    assert_eq!(wrong, [""; 0]);
}

/// Each is the path of an operation, or where several begin.
#[test]
fn every_address_of_the_rest_api_exists() {
    let openapi = fs::read_to_string(root().join("admin/openapi.json")).expect("a text");
    let openapi: Value = serde_json::from_str(&openapi).expect("JSON");
    let paths: Vec<&String> = openapi["paths"].as_object().expect("paths").keys().collect();
    let is_filled_in = |part: &str| part.starts_with(['{', '$', '<']);
    let wrong = wrong(r"(/api/(?:admin|auth)/[A-Za-z0-9_{}$</-]+)", |_, address| {
        let parts: Vec<&str> = address.trim_end_matches('/').split('/').collect();
        paths.iter().any(|path| {
            let mut steps = path.split('/');
            parts.iter().all(|part| {
                steps.next().is_some_and(|step| step == *part || (is_filled_in(step) && is_filled_in(part)))
            })
        })
    });
    assert_eq!(wrong, [""; 0]);
}
