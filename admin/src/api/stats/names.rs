//! What upstreams and keys are called that calls know by their ids. Those that are gone have no name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sql::model::{ApiKeyId, UpstreamId};
use sql::{StoreError, Tx, api_keys, upstreams};

/// Names of the upstreams and keys that there are.
pub(super) struct Names {
    upstreams: HashMap<UpstreamId, Option<String>>,
    keys: HashMap<ApiKeyId, Option<String>>,
}

impl Names {
    /// Reads those of some ids, each once.
    pub(super) async fn load(
        tx: &mut Tx,
        upstream_ids: impl IntoIterator<Item = UpstreamId>,
        key_ids: impl IntoIterator<Item = ApiKeyId>,
    ) -> Result<Self, StoreError> {
        let mut names = Self { upstreams: HashMap::new(), keys: HashMap::new() };
        for id in upstream_ids {
            if let Entry::Vacant(place) = names.upstreams.entry(id) {
                place.insert(readable(upstreams::get(tx, id).await)?.map(|upstream| upstream.name));
            }
        }
        for id in key_ids {
            if let Entry::Vacant(place) = names.keys.entry(id) {
                place.insert(readable(api_keys::get(tx, id).await)?.map(|key| key.name));
            }
        }
        Ok(names)
    }

    /// What an upstream is called.
    pub(super) fn upstream(&self, id: UpstreamId) -> Option<String> {
        self.upstreams.get(&id).cloned().flatten()
    }

    /// What a key is called.
    pub(super) fn key(&self, id: ApiKeyId) -> Option<String> {
        self.keys.get(&id).cloned().flatten()
    }
}

/// A row that can't be read has no name either: it must not cost the statistics of the others.
fn readable<T>(read: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(StoreError::Corrupt { .. }) => Ok(None),
        read => read,
    }
}
