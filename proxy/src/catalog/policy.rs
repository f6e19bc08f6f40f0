//! What decides which part of the catalog a caller sees.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use ring::digest::{Context, SHA256};
use sql::model::{ApiKey, OwnerRules, UpstreamId};

use super::rules;

/// The policy of most keys: everything.
static OPEN: LazyLock<Policy> = LazyLock::new(|| Policy::new(None, OwnerRules::default()));

/// What a key may see: which upstreams, under which rules. Keys with equal policies see the same, whatever
/// order their upstreams were written in and whatever the ids of their rules are. Cheap to clone.
#[derive(Clone)]
pub struct Policy(Arc<Inner>);

struct Inner {
    digest: [u8; 32],
    upstream_ids: Option<Box<[UpstreamId]>>,
    rules: Option<KeyRules>,
}

/// The rules of a key, as they are stored: compiling them is left until they are needed, since a gateway knows
/// many more keys than call.
pub(super) struct KeyRules {
    pub(super) digest: [u8; 32],
    pub(super) rules: OwnerRules,
}

impl Policy {
    /// The policy of a key that has these rules.
    pub fn of(key: &ApiKey, rules: OwnerRules) -> Self {
        if key.upstream_ids.is_none() && rules.aliases.is_empty() && rules.filters.is_empty() {
            return OPEN.clone();
        }
        Self::new(key.upstream_ids.clone(), rules)
    }

    /// A policy for these upstreams, or for all.
    pub(super) fn new(mut upstream_ids: Option<Vec<UpstreamId>>, rules: OwnerRules) -> Self {
        let mut hash = Context::new(&SHA256);
        if let Some(ids) = &mut upstream_ids {
            ids.sort_unstable();
            ids.dedup();
            hash.update(b"upstreams");
            for id in ids {
                hash.update(id.uuid().as_bytes());
            }
        }
        let rules = rules::digest_of(&rules).map(|digest| KeyRules { digest, rules });
        if let Some(rules) = &rules {
            hash.update(b"rules");
            hash.update(&rules.digest);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        Self(Arc::new(Inner { digest, upstream_ids: upstream_ids.map(Into::into), rules }))
    }

    /// Whether an upstream may be seen at all.
    pub(super) fn admits(&self, upstream: UpstreamId) -> bool {
        self.0.upstream_ids.as_ref().is_none_or(|ids| ids.binary_search(&upstream).is_ok())
    }

    /// Whether it shows everything.
    pub(super) fn is_open(&self) -> bool {
        self.0.upstream_ids.is_none() && self.0.rules.is_none()
    }

    /// The key's rules that are switched on, if there are any.
    pub(super) fn rules(&self) -> Option<&KeyRules> {
        self.0.rules.as_ref()
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for Policy {}

impl Hash for Policy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // A part of a digest is as good a hash as the whole.
        let (start, _) = self.0.digest.split_at(size_of::<u64>());
        state.write(start);
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.0.rules.as_ref().map(|rules| rules.rules.aliases.len() + rules.rules.filters.len());
        f.debug_struct("Policy").field("upstream_ids", &self.0.upstream_ids).field("rules", &rules).finish()
    }
}
