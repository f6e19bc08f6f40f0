//! No setting is accepted and then ignored: each is read somewhere in what is shipped.

use std::fs;
use std::path::Path;

use sql::model::Settings;

/// Where settings are acted on; not where they are declared and checked.
const SHIPPED: [&str; 4] = ["proxy/src", "admin/src", "src", "sql/src/call_records"];

#[test]
fn every_setting_is_acted_on() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for folder in SHIPPED {
        read(&root.join(folder), &mut text);
    }
    let document = Settings::default().document();
    for (group, keys) in document.as_object().expect("groups") {
        for key in keys.as_object().expect("keys").keys() {
            let read = format!(".{key}");
            let ends = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_');
            let is_read = text.match_indices(&read).any(|(at, _)| ends(&text[at + read.len()..]));
            assert!(is_read, "nothing acts on {group}.{key}");
        }
    }
}

/// The sources below a folder, but for tests.
fn read(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        if path.is_dir() && name != "tests" {
            read(&path, text);
        } else if path.extension().is_some_and(|kind| kind == "rs") && name != "tests.rs" {
            text.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}
