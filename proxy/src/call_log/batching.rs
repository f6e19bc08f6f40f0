//! Makes a batch of calls that ended: what they have in common stands in it once.

use std::collections::HashMap;

use sql::model::{CallBatch, CallRecordId};

use super::recording::{Ended, Like};

/// Gives each of `calls` an id by `next_id`.
pub(super) fn batch_of(
    calls: impl Iterator<Item = Ended>,
    mut next_id: impl FnMut() -> CallRecordId,
) -> CallBatch {
    let (mut kinds, mut measured) = (Vec::new(), Vec::with_capacity(calls.size_hint().0));
    let mut places: HashMap<Like, usize> = HashMap::new();
    let mut last: Option<(Like, usize)> = None;
    for ended in calls {
        // Mostly a call is like the one before.
        let place = match &last {
            Some((like, place)) if ended.is_like(like) => *place,
            _ => {
                let place = *places.entry(ended.like()).or_insert_with_key(|like| {
                    kinds.push(like.kind());
                    kinds.len() - 1
                });
                last = Some((ended.like(), place));
                place
            }
        };
        measured.push(ended.measured(next_id(), place));
    }
    // Each place was made above.
    CallBatch::new(kinds, measured).unwrap_or_default()
}
