//! The matrix as a document: what was measured, in the words of what was expected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::cells::{FEATURES, Feature};
use super::client::Outcome;
use super::expected::{Expected, Note, expected};
use super::servers::{self, Server};

/// One cell on one pair of transports.
pub(super) struct Measured {
    pub(super) feature: Feature,
    pub(super) client: &'static str,
    /// The transport of the client.
    pub(super) over: &'static str,
    pub(super) server: Server,
    pub(super) outcome: Outcome<()>,
}

/// What is written before the tables.
const HEAD: &str = "\
# Which client can do what with which server

Written by the test `mcp::matrix`, which runs every cell through the gateway and fails if one is other than it
stands here. `UPDATE_MATRIX=1 cargo nextest run --test gateway matrix` writes it anew.

A row is the revision of the client, a column that of the server. A cell stands for all clients over Streamable
HTTP, HTTP+SSE and WebSocket, and for all transports that the server's revision has: stdio and WebSocket for all,
Streamable HTTP since 2025-03-26, HTTP+SSE up to 2025-11-25. A letter names a note at the end.
";

/// What isn't as expected, in words.
pub(super) fn surprises(cells: &[Measured]) -> Vec<String> {
    let surprise = |cell: &Measured| {
        let cannot =
            matches!(expected(cell.feature, cell.client, cell.server.revision), Expected::Impossible(_));
        let seen = match &cell.outcome {
            Ok(()) if cannot => "works, though it can't",
            Err(why) if !cannot => why,
            _ => return None,
        };
        let Server { revision, transport } = &cell.server;
        let (feature, client, over) = (cell.feature, cell.client, cell.over);
        Some(format!("{feature:?}, {client} over {over}, server {revision} over {transport}: {seen}"))
    };
    cells.iter().filter_map(surprise).collect()
}

/// The document.
pub(super) fn render(cells: &[Measured]) -> String {
    let mut text = format!("{HEAD}\n{} combinations of features, revisions and transports.\n", cells.len());
    let mut notes = BTreeSet::new();
    for feature in FEATURES {
        let of_feature: Vec<_> = cells.iter().filter(|cell| cell.feature == feature).collect();
        render_feature(&mut text, feature, &of_feature, &mut notes);
    }
    text.push_str("\n## Notes\n\n");
    for Note { mark, reason } in notes {
        let _ = writeln!(text, "- **{mark}**: {reason}");
    }
    text
}

fn render_feature(text: &mut String, feature: Feature, cells: &[&Measured], notes: &mut BTreeSet<Note>) {
    let (title, seen) = feature.words();
    let columns: Vec<_> = servers::revisions().collect();
    let _ = writeln!(text, "\n## {title}\n\n{seen}\n\n| | {} |", columns.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(columns.len()));
    for client in servers::revisions() {
        let words = columns.iter().map(|server| {
            let of_pair =
                cells.iter().filter(|cell| (cell.client, cell.server.revision) == (client, *server));
            let word = word(of_pair.copied());
            match expected(feature, client, server) {
                Expected::Works => word,
                Expected::WorksBut(named) | Expected::Impossible(named) => {
                    notes.extend(named);
                    let marks: Vec<_> = named.iter().map(|note| note.mark).collect();
                    format!("{word} ({})", marks.join(", "))
                }
            }
        });
        let _ = writeln!(text, "| {client} | {} |", words.collect::<Vec<_>>().join(" | "));
    }
}

/// What was measured between two revisions: one word, unless the transports differ.
fn word<'a>(cells: impl Iterator<Item = &'a Measured>) -> String {
    let mut by_outcome: BTreeMap<bool, Vec<String>> = BTreeMap::new();
    for cell in cells {
        let pair = format!("{}-{}", cell.over, cell.server.transport);
        by_outcome.entry(cell.outcome.is_ok()).or_default().push(pair);
    }
    match (by_outcome.get(&true), by_outcome.get(&false)) {
        (Some(_), None) => "yes".to_owned(),
        (Some(_), Some(failed)) => format!("not {}", failed.join(", ")),
        (None, _) => "no".to_owned(),
    }
}
