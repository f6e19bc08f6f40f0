//! The indexes that were built, by what they hold.
//!
//! An index is of a list of tools as one view shows it, and two views that show the same share one. It is
//! built by the first who needs it, away from the threads that serve, and all others wait for that one.
//! A list that changed is another list: its index is built anew, and the one that nobody asks for any
//! more goes when there is need for room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::digest::{Context, SHA256};
use serde::Deserialize;
use serde_json::Value;
use sql::model::Kind;
use tokio::sync::watch;

use super::{Document, Index};
use crate::catalog::{Item, View};

/// Memory for indexes, in bytes: that of 5,000 tools has about 3 MB.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Indexes that are kept, whatever their size: each has a cost of its own.
const INDEXES_MAX: usize = 256;

/// What tells one list of tools from another.
type Fingerprint = [u8; 32];

/// Where an index comes out once it is built. It closes without one if that failed.
type Built = watch::Receiver<Option<Arc<Index>>>;

/// Builds indexes and keeps them. Clones share them.
#[derive(Clone, Default)]
pub struct Indexes {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    by_list: HashMap<Fingerprint, Entry>,
    /// Counts uses, to know the oldest.
    uses: u64,
}

struct Entry {
    built: Built,
    used: u64,
}

impl Indexes {
    /// The index of a view's tools. `None` if it couldn't be built, which is a bug and in the log.
    pub async fn of(&self, view: &Arc<View>) -> Option<Arc<Index>> {
        let mut built = self.begin(view);
        let index = built.wait_for(Option::is_some).await.ok()?.clone();
        self.make_room();
        index
    }

    /// The index, if it is built already.
    pub fn ready(&self, view: &View) -> Option<Arc<Index>> {
        let mut kept = self.kept();
        let uses = kept.next_use();
        let entry = kept.by_list.get_mut(&fingerprint(view))?;
        entry.used = uses;
        entry.built.borrow().clone()
    }

    /// Has the index built, unless it is or is about to be. Needs a runtime.
    pub fn begin(&self, view: &Arc<View>) -> Built {
        let list = fingerprint(view);
        let mut kept = self.kept();
        let used = kept.next_use();
        // One that ended without an index is tried again.
        let known = kept
            .by_list
            .get_mut(&list)
            .filter(|entry| entry.built.has_changed().is_ok() || entry.built.borrow().is_some());
        if let Some(entry) = known {
            entry.used = used;
            return entry.built.clone();
        }
        let (done, built) = watch::channel(None);
        kept.by_list.insert(list, Entry { built: built.clone(), used });
        drop(kept);
        let (view, indexes) = (Arc::clone(view), self.clone());
        tokio::task::spawn_blocking(move || {
            done.send_replace(Some(Arc::new(index_of(&view))));
            indexes.make_room();
        });
        built
    }

    /// Drops what was used the longest ago until the rest has room.
    fn make_room(&self) {
        let mut kept = self.kept();
        let size = |entry: &Entry| entry.built.borrow().as_ref().map_or(0, |index| index.bytes());
        let mut bytes: usize = kept.by_list.values().map(size).sum();
        // The last one stays, however large.
        while kept.by_list.len() > 1 && (bytes > BYTES_MAX || kept.by_list.len() > INDEXES_MAX) {
            let oldest = kept.by_list.iter().min_by_key(|(_, entry)| entry.used).map(|(list, _)| *list);
            let gone = oldest.and_then(|list| kept.by_list.remove(&list));
            bytes -= gone.as_ref().map_or(0, size);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Every change is one map operation, so a panic elsewhere can't leave it half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }
}

/// The list as its view shows it, and what is searched beside: the names and tags of its upstreams.
fn fingerprint(view: &View) -> Fingerprint {
    let mut hash = Context::new(&SHA256);
    hash.update(&view.fingerprint(Kind::Tool));
    for lists in view.upstreams() {
        let upstream = &lists.upstream;
        hash.update(upstream.id.uuid().as_bytes());
        for text in std::iter::once(&upstream.name).chain(&upstream.tags) {
            hash.update(text.as_bytes());
            hash.update(b"\0");
        }
    }
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(hash.finish().as_ref());
    fingerprint
}

fn index_of(view: &View) -> Index {
    let tools: Vec<(&Arc<Item>, Said)> =
        view.items(Kind::Tool).map(|item| (item, Said::of(&item.rendered))).collect();
    Index::of(tools.iter().map(|(item, said)| Document {
        name: &item.exposed_name,
        title: &said.title,
        description: &said.description,
        parameters: &said.parameters,
        upstream: &item.upstream.name,
        tags: &item.upstream.tags,
    }))
}

/// What a definition says of its tool, as far as it is searched.
#[derive(Default)]
struct Said {
    title: String,
    description: String,
    parameters: Vec<String>,
}

impl Said {
    /// A member of another type than it should be is as good as absent.
    fn of(definition: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Tool {
            title: Option<Value>,
            description: Option<Value>,
            annotations: Option<Value>,
            #[serde(rename = "inputSchema")]
            input_schema: Option<Value>,
        }
        let Ok(tool) = serde_json::from_slice::<Tool>(definition) else { return Self::default() };
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        // Before `title` there was one among the hints (2025-03-26, tool annotations).
        let hinted = tool.annotations.and_then(|mut hints| hints.get_mut("title").map(Value::take));
        let properties =
            tool.input_schema.and_then(|mut schema| schema.get_mut("properties").map(Value::take));
        let parameters = match properties {
            Some(Value::Object(properties)) => properties.into_iter().map(|(name, _)| name).collect(),
            _ => Vec::new(),
        };
        Self { title: text(tool.title.or(hinted)), description: text(tool.description), parameters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::keys::tests::key;
    use crate::catalog::testing::{NOW, catalog, upstream_with};
    use crate::catalog::{Policy, Snapshot};

    fn view(tools: &[&str]) -> Arc<View> {
        let tools: Vec<String> = tools.iter().map(|name| (*name).to_owned()).collect();
        Snapshot::new(catalog(&[upstream_with(&tools)]), NOW)
            .view(&Policy::of(&key().0, sql::model::OwnerRules::default()))
    }

    #[tokio::test]
    async fn an_index_is_built_once_for_a_list_and_anew_for_another() {
        let indexes = Indexes::default();
        let view_of_one = view(&["read_file"]);
        assert!(indexes.ready(&view_of_one).is_none());
        let (first, second) = tokio::join!(indexes.of(&view_of_one), indexes.of(&view_of_one));
        let first = first.expect("built");
        assert!(Arc::ptr_eq(&first, &second.expect("built")));
        assert!(Arc::ptr_eq(&first, &indexes.ready(&view_of_one).expect("kept")));
        let changed = indexes.of(&view(&["read_file", "send_mail"])).await.expect("built");
        assert_eq!(first.search("send a mail", 5).len(), 0);
        assert_eq!(changed.search("send a mail", 5).len(), 1);
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let indexes = Indexes::default();
        let names: Vec<String> = (0..=INDEXES_MAX).map(|n| format!("tool_{n}")).collect();
        let views: Vec<_> = names.iter().map(|name| view(&[name])).collect();
        for view in &views {
            assert!(indexes.of(view).await.is_some());
        }
        assert_eq!(indexes.kept().by_list.len(), INDEXES_MAX);
        assert!(indexes.ready(&views[0]).is_none(), "the oldest went");
        assert!(indexes.ready(&views[INDEXES_MAX]).is_some());
    }

    #[test]
    fn a_definition_may_say_nonsense() {
        let said =
            Said::of(br#"{"title":1,"description":[],"annotations":7,"inputSchema":{"properties":3}}"#);
        assert!(said.title.is_empty() && said.description.is_empty() && said.parameters.is_empty());
        let said = Said::of(
            br#"{"description":"d","annotations":{"title":"t"},"inputSchema":{"properties":{"a":{}}}}"#,
        );
        assert_eq!((said.title.as_str(), said.description.as_str()), ("t", "d"));
        assert_eq!(said.parameters, ["a"]);
        assert!(Said::of(b"no JSON").title.is_empty());
    }
}
