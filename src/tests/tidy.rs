//! Rules of the house that no compiler checks: directions, sizes, where things may stand, licences.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Where our own sources lie.
const SOURCE_FOLDERS: [&str; 6] = ["src", "sql", "proxy", "admin", "web", "benches"];

/// Folders that hold what is built or fetched.
const FOREIGN_FOLDERS: [&str; 4] = ["target", "node_modules", "dist", "corpus"];

/// Generated, and therefore of any length.
const GENERATED: &str = "web/src/api/schema.ts";

/// A file past this has more than one subject.
const LINES_MAX: usize = 700;

/// The only file that may start a task.
const SPAWNER: &str = "proxy/src/tasks.rs";

/// What each crate must not depend on, so that the arrows stay `sql <- proxy <- admin <- src`.
/// Development dependencies count too: a test that reaches across is a dependency as well.
const FORBIDDEN_DEPENDENCIES: [(&str, &[&str]); 4] = [
    (
        "sql",
        &[
            "proxy",
            "admin",
            "http",
            "hyper",
            "pingora",
            "rmcp",
            "axum",
            "redis",
            "reqwest",
            "rust-embed",
            "jsonwebtoken",
        ],
    ),
    (
        "proxy",
        &[
            "admin",
            "axum",
            "rust-embed",
            "jsonwebtoken",
            "bcrypt",
            "rusqlite",
            "tokio-postgres",
            "deadpool-postgres",
        ],
    ),
    (
        "admin",
        &[
            "pingora",
            "rmcp",
            "redis",
            "governor",
            "rusqlite",
            "tokio-postgres",
            "deadpool-postgres",
            "hyper-rustls",
        ],
    ),
    (
        "mcp-proxy-gateway",
        &["rusqlite", "tokio-postgres", "deadpool-postgres", "axum", "bcrypt", "jsonwebtoken"],
    ),
];

/// Words that `sql::model` must not know: it is values, and values have no driver.
const FORBIDDEN_IN_MODEL: [&str; 7] =
    ["rusqlite", "tokio", "tokio_postgres", "deadpool_postgres", "http::", "hyper", "axum"];

/// Licences that ask for no more than to be named.
const PERMISSIVE_LICENCES: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[test]
fn dependencies_point_in_one_direction() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for (name, forbidden) in FORBIDDEN_DEPENDENCIES {
        let package = packages(&metadata).find(|package| package["name"] == name);
        let package = package.unwrap_or_else(|| panic!("the workspace has no package {name}"));
        let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
        for dependency in dependencies.iter().filter_map(|dependency| dependency["name"].as_str()) {
            if forbidden.contains(&dependency) {
                wrong.push(format!("{name} depends on {dependency}"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_dependency_has_a_permissive_licence() {
    let metadata = metadata();
    let wrong: Vec<String> = packages(&metadata)
        .filter(|package| !package["license"].as_str().is_some_and(is_permissive))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert_none(&wrong);
}

#[test]
fn licence_expressions_are_understood() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR GPL-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_permissive(good), "{good}");
    }
    for bad in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR ISC) AND (AGPL-3.0 OR SSPL-1.0)",
        "MPL-2.0",
        "Apache-2.0 WITH Other",
        "",
    ] {
        assert!(!is_permissive(bad), "{bad}");
    }
}

#[test]
fn no_file_is_too_long() {
    let wrong: Vec<String> = sources(&["rs", "ts", "vue"])
        .filter(|source| source.path != GENERATED)
        .map(|source| (source.text.lines().count(), source.path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{path} has {lines} lines, more than {LINES_MAX}"))
        .collect();
    assert_none(&wrong);
}

#[test]
fn every_file_says_its_subject_first() {
    let wrong: Vec<String> = sources(&["rs"])
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("{} doesn't begin with //!", source.path))
        .collect();
    assert_none(&wrong);
}

#[test]
fn the_model_knows_nothing_but_values() {
    let mut wrong = Vec::new();
    for source in sources(&["rs"]) {
        if !source.path.starts_with("sql/src/model/") && source.path != "sql/src/model.rs" {
            continue;
        }
        for (number, line) in code_lines(&source.text) {
            let foreign_words = FORBIDDEN_IN_MODEL.iter().filter(|word| contains_word(line, word));
            let outer_paths =
                line.match_indices("crate::").filter(|(at, _)| !line[*at..].starts_with("crate::model"));
            let found = foreign_words.count() + outer_paths.count();
            if found > 0 {
                wrong.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn tasks_are_started_in_one_place() {
    let needle = concat!("tokio::", "spawn");
    let wrong: Vec<String> = sources(&["rs"])
        .filter(|source| source.path != SPAWNER)
        .flat_map(|source| found(&source, &source.text, needle))
        .collect();
    assert_none(&wrong);
}

#[test]
fn no_test_is_ignored_or_sleeps() {
    let needles = [concat!("#[", "ignore"), concat!("thread::", "sleep"), concat!("time::", "sleep(")];
    let mut wrong = Vec::new();
    for source in sources(&["rs"]) {
        let tests = test_part(&source);
        wrong.extend(needles.iter().flat_map(|needle| found(&source, tests, needle)));
    }
    assert_none(&wrong);
}

/// The gate runs with servers what meets one, and finds it by its name.
#[test]
fn tests_that_meet_a_server_are_found_by_their_names() {
    let wrong: Vec<String> = sources(&["rs"])
        .filter(|source| source.path.starts_with("proxy/") || source.path.starts_with("admin/"))
        .filter(|source| source.text.contains("\"MPG_TEST_"))
        .filter(|source| !source.path.contains("redis") && !source.path.contains("/shared/"))
        .map(|source| format!("{}: neither in a module `redis` nor in one `shared`", source.path))
        .collect();
    assert_none(&wrong);
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |folder: &str| -> BTreeSet<String> {
        let entries =
            fs::read_dir(root().join("sql/migrations").join(folder)).expect("a folder of migrations");
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
    };
    let postgres = names("postgres");
    assert!(!postgres.is_empty());
    assert_eq!(postgres, names("sqlite"));
}

/// A file of ours; its path is relative to the root.
struct Source {
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(extensions: &'static [&'static str]) -> impl Iterator<Item = Source> {
    let mut paths = Vec::new();
    for folder in SOURCE_FOLDERS {
        collect(&root().join(folder), &mut paths);
    }
    paths.sort();
    let has_extension = |path: &PathBuf| {
        path.extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted))
    };
    let wanted: Vec<PathBuf> = paths.into_iter().filter(has_extension).collect();
    wanted.into_iter().map(|path| Source {
        text: fs::read_to_string(&path).expect("our sources are UTF-8"),
        path: path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned(),
    })
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || FOREIGN_FOLDERS.contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

/// The part that is tests: the whole file, or what follows the inline `mod tests`.
fn test_part(source: &Source) -> &str {
    let is_test_file = source.path.contains("/tests/") || source.path.ends_with("/tests.rs");
    if is_test_file {
        return &source.text;
    }
    let starts = source.text.find("#[cfg(test)]\nmod tests {");
    starts.map_or("", |start| &source.text[start..])
}

/// Lines that aren't comments, with their numbers, up to the inline tests.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end]
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !is_comment(line))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Where a needle stands in a part of a file, outside comments.
fn found(source: &Source, part: &str, needle: &str) -> Vec<String> {
    let first = source.text[..source.text.len() - part.len()].lines().count();
    part.lines()
        .enumerate()
        .filter(|(_, line)| line.contains(needle) && !is_comment(line))
        .map(|(index, line)| format!("{}:{}: {}", source.path, first + index + 1, line.trim()))
        .collect()
}

fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_part(before) && (word.ends_with(':') || !is_part(after))
    })
}

/// What cargo knows of all packages that are built on this machine.
fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let host = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let host = String::from_utf8_lossy(&host.stdout);
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc knows its host");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().expect("a list of packages").iter()
}

/// Whether an SPDX expression leaves us a permissive choice. The old `/` means OR.
fn is_permissive(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = expression.split_whitespace().peekable();
    let allowed = alternatives(&mut words);
    allowed && words.next().is_none()
}

type Words<'a, 'b> = &'a mut std::iter::Peekable<std::str::SplitWhitespace<'b>>;

fn alternatives(words: Words<'_, '_>) -> bool {
    let mut allowed = requirements(words);
    while words.next_if_eq(&"OR").is_some() {
        allowed |= requirements(words);
    }
    allowed
}

fn requirements(words: Words<'_, '_>) -> bool {
    let mut allowed = licence(words);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= licence(words);
    }
    allowed
}

fn licence(words: Words<'_, '_>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let allowed = alternatives(words);
        return words.next_if_eq(&")").is_some() && allowed;
    }
    let Some(name) = words.next() else { return false };
    if words.next_if_eq(&"WITH").is_some() {
        let exception = words.next().unwrap_or_default();
        return PERMISSIVE_LICENCES.contains(&format!("{name} WITH {exception}").as_str());
    }
    PERMISSIVE_LICENCES.contains(&name)
}

#[track_caller]
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
