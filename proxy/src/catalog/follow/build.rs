//! What was read so far, and the catalog that follows from it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sql::UnreadableRow;
use sql::model::{DefinitionId, OwnerRules, RuleOwner, Settings, Upstream, UpstreamId};

use crate::catalog::rules::{CompiledRules, SharedRules};
use crate::catalog::{Catalog, Source, UpstreamLists};

/// What was read so far. Cheap to clone: what is known of each upstream is shared.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// The revision it was read at.
    pub(super) revision: i64,
    upstreams: HashMap<UpstreamId, KnownUpstream>,
    /// The rules of upstreams that have some, also of one that can't be read yet: it must not come without them.
    own: HashMap<UpstreamId, Arc<CompiledRules>>,
    all: Arc<CompiledRules>,
}

#[derive(Clone)]
struct KnownUpstream {
    source: Arc<Source>,
    lists: Arc<UpstreamLists>,
}

/// What was read anew.
#[derive(Default)]
pub(super) struct News {
    /// Upstreams; `None`: it is gone.
    pub(super) upstreams: BTreeMap<UpstreamId, Option<Source>>,
    /// The rules of upstreams and of all. A key, which is followed elsewhere, comes as an upstream without any.
    pub(super) rules: Vec<(RuleOwner, OwnerRules)>,
}

impl Known {
    /// The same at another revision.
    pub(super) fn at(self, revision: i64) -> Self {
        Self { revision, ..self }
    }

    /// Whether something follows from the news.
    pub(super) fn is_concerned_by(&self, news: &News) -> bool {
        let concerns = |(owner, rules): &(RuleOwner, OwnerRules)| match owner {
            RuleOwner::All => true,
            RuleOwner::Upstream(id) => {
                let has_rules = !rules.aliases.is_empty() || !rules.filters.is_empty();
                has_rules || self.own.contains_key(id) || self.upstreams.contains_key(id)
            }
            RuleOwner::Key(_) => false,
        };
        !news.upstreams.is_empty() || news.rules.iter().any(concerns)
    }

    /// What is known with the news. Only what they concern is rendered anew. Takes a while for large lists and
    /// costly rules.
    pub(super) fn with(mut self, news: News) -> Self {
        let mut stale: HashSet<UpstreamId> = news.upstreams.keys().copied().collect();
        for (owner, rules) in news.rules {
            let has_rules = !rules.aliases.is_empty() || !rules.filters.is_empty();
            let compiled = Arc::new(CompiledRules::of(&rules));
            match owner {
                RuleOwner::All => {
                    self.all = compiled;
                    stale.extend(self.upstreams.keys());
                }
                RuleOwner::Upstream(id) => {
                    if has_rules {
                        self.own.insert(id, compiled);
                    } else {
                        self.own.remove(&id);
                    }
                    stale.insert(id);
                }
                RuleOwner::Key(_) => {}
            }
        }
        let mut sources: HashMap<UpstreamId, Arc<Source>> = HashMap::new();
        for (id, source) in news.upstreams {
            match source {
                Some(source) => {
                    sources.insert(id, Arc::new(source));
                }
                None => {
                    self.upstreams.remove(&id);
                }
            }
        }
        for id in stale {
            let known = || self.upstreams.get(&id).map(|known| Arc::clone(&known.source));
            let Some(source) = sources.remove(&id).or_else(known) else { continue };
            let own = self.own.get(&id).cloned().unwrap_or_default();
            let rules = SharedRules { own, all: Arc::clone(&self.all) };
            let lists = Arc::new(UpstreamLists::of(&source, &rules));
            self.upstreams.insert(id, KnownUpstream { source, lists });
        }
        self
    }

    /// The catalog of all this.
    pub(super) fn catalog(&self, settings: Arc<Settings>) -> Catalog {
        let lists = self.upstreams.values().map(|known| Arc::clone(&known.lists));
        Catalog::new(self.revision, settings, lists.collect())
    }

    /// The definitions that can't be rendered, and so are left out.
    pub(super) fn left_out(&self) -> Vec<UnreadableRow> {
        let left_out = self.upstreams.values().flat_map(|known| &known.lists.left_out);
        let row = |id: &DefinitionId| UnreadableRow {
            table: "definitions",
            row: id.to_string(),
            column: "body".to_owned(),
        };
        left_out.map(row).collect()
    }

    /// The upstreams, disabled ones included.
    pub(super) fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.upstreams.values().map(|known| Arc::clone(&known.source.upstream)).collect()
    }
}

#[cfg(test)]
mod tests;
