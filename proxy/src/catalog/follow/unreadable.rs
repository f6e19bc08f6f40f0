//! Which stored rows can't be read: they are passed over, and shown until they can.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sql::model::{ApiKeyId, UpstreamId};
use sql::{StoreError, UnreadableRow};
use uuid::Uuid;

/// What is read at one time: what it had that can't be read gives way when it is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// All keys.
    Keys,
    /// One key.
    Key(ApiKeyId),
    /// All upstreams, and the states of their lists.
    Upstreams,
    /// One upstream with its lists.
    Upstream(UpstreamId),
    /// Bodies of definitions, seen when they are rendered.
    Definitions,
    /// The rules of an owner of this id; nil: those of all.
    Rules(Uuid),
    /// Rules of which even the owner can't be read.
    StrayRules,
    /// The settings.
    Settings,
    /// All that authorises the gateway.
    Grants,
    /// What authorises it at one upstream.
    Grant(UpstreamId),
}

impl Part {
    fn is_of_keys(&self) -> bool {
        matches!(self, Self::Keys | Self::Key(_))
    }
}

/// The rows that can't be read, by the part they were found in.
#[derive(Default)]
pub(super) struct Unreadable(Mutex<BTreeMap<Part, Vec<UnreadableRow>>>);

impl Unreadable {
    /// Every row once.
    pub(super) fn all(&self) -> Vec<UnreadableRow> {
        let mut all: Vec<_> = self.lock().values().flatten().cloned().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// A part was read, and had these.
    pub(super) fn set(&self, part: Part, rows: Vec<UnreadableRow>) {
        let mut parts = self.lock();
        // It was among all of its kind when those were read.
        let id = match part {
            Part::Key(id) => Some((Part::Keys, id.to_string())),
            Part::Upstream(id) => Some((Part::Upstreams, id.to_string())),
            Part::Grant(id) => Some((Part::Grants, id.to_string())),
            _ => None,
        };
        if let Some((all, id)) = id
            && let Some(of_all) = parts.get_mut(&all)
        {
            of_all.retain(|bad| bad.row != id);
        }
        if rows.is_empty() {
            parts.remove(&part);
        } else {
            parts.insert(part, rows);
        }
    }

    /// All keys were read.
    pub(super) fn replace_keys(&self, rows: Vec<UnreadableRow>) {
        let mut parts = self.lock();
        parts.retain(|part, _| !part.is_of_keys());
        parts.insert(Part::Keys, rows);
    }

    /// Everything else was read.
    pub(super) fn replace_all_but_keys(&self, found: Vec<(Part, Vec<UnreadableRow>)>) {
        let mut parts = self.lock();
        parts.retain(|part, _| part.is_of_keys());
        parts.extend(found.into_iter().filter(|(_, rows)| !rows.is_empty()));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Part, Vec<UnreadableRow>>> {
        // Every change is one insertion or removal, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a row that can't be read, which is passed over, from a store that can't be read, which is not.
pub(super) fn unless_unreadable<T>(
    read: Result<T, StoreError>,
) -> Result<Result<T, UnreadableRow>, StoreError> {
    match read {
        Ok(found) => Ok(Ok(found)),
        Err(error) => match UnreadableRow::of(&error) {
            Some(bad) => {
                tracing::error!(
                    table = bad.table,
                    row = bad.row,
                    column = bad.column,
                    "a stored row can't be read and is passed over"
                );
                Ok(Err(bad))
            }
            None => Err(error),
        },
    }
}
