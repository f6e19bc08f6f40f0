//! What rules make of a name: whether it is shown, and what it is called instead.
//!
//! Everything here is pure: the same rules and names give the same answer, on every replica. Rules stand with
//! an owner. Those of an upstream and of all upstreams decide what the catalog has, for every caller; those of a
//! key decide what one view shows of it. The order is that of `Names` in the documentation:
//!
//! 1. *filters* of the upstream, then of all: each owner by itself must let the item pass, so no owner can undo
//!    what another hides;
//! 2. the *alias* of the upstream, or where none of its rules matches, of all: what is said for one upstream is
//!    meant more exactly than what is said for every one;
//! 3. the exposed name, which is claimed;
//! 4. filters of the key, then its alias, which changes the name in that key's view and claims nothing.
//!
//! Within an owner rules are tried in their order. The first alias that matches decides alone, even where it
//! changes the description only. A filter rule that denies wins over every one that allows, and an owner with a
//! rule that allows hides what none of these matches. Aliases come after filters, which match the upstream's own
//! names, so an alias can't bring back what a filter took away. A rule that is switched off is as if it weren't
//! there, and one is of no effect on kinds that it isn't for.

pub mod explain;
mod pattern;
mod target;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use ring::digest::{Context, SHA256};
use sql::model::{AliasRule, FilterAction, FilterRule, Kind, MatchOn, OwnerRules, RuleId, RuleKinds};

pub use self::pattern::{BadPattern, PATTERN_BYTES_MAX, Pattern};
pub use self::target::{BadTarget, TARGET_BYTES_MAX, Target};

/// An item, as rules are shown it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Of which list.
    pub kind: Kind,
    /// Its name, or URI, at its upstream.
    pub upstream_name: &'a str,
    /// The name it is exposed under, before any rule of a key; the upstream's own while it has none yet.
    pub exposed_name: &'a str,
}

impl<'a> Subject<'a> {
    /// An item that has no exposed name yet: what rules of upstreams are shown.
    pub fn upstream(kind: Kind, name: &'a str) -> Self {
        Self { kind, upstream_name: name, exposed_name: name }
    }

    fn name(&self, matched: MatchOn) -> &'a str {
        match matched {
            MatchOn::Upstream => self.upstream_name,
            MatchOn::Exposed => self.exposed_name,
        }
    }
}

/// What the filters of one owner say of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Shown,
    /// This rule denies it.
    Denied(RuleId),
    /// There are rules that allow, and none of them matches.
    NotAllowed,
}

/// What the aliases of one owner make of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The rule that matched.
    pub rule: RuleId,
    /// The name instead, groups filled in; not fitted yet.
    pub name: Option<String>,
    /// The description instead.
    pub description: Option<Arc<str>>,
}

/// A stored rule that can't be used, and is left out: the row was damaged, or an older release took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRule {
    /// Which.
    pub rule: RuleId,
    /// Why, for a person.
    pub reason: String,
}

/// The rules of one owner, ready to be used.
#[derive(Debug, Clone, Default)]
pub struct CompiledRules {
    aliases: Vec<CompiledAlias>,
    filters: Vec<CompiledFilter>,
    bad: Vec<BadRule>,
}

#[derive(Debug, Clone)]
struct CompiledAlias {
    rule: RuleId,
    matcher: Matcher,
    target: Option<Target>,
    description: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
struct CompiledFilter {
    rule: RuleId,
    matcher: Matcher,
    action: FilterAction,
}

#[derive(Debug, Clone)]
struct Matcher {
    /// `None`: it can't be read, and matches nothing.
    pattern: Option<Pattern>,
    kinds: RuleKinds,
    match_on: MatchOn,
}

impl Matcher {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let pattern = self.pattern.as_ref().filter(|_| self.kinds.has(subject.kind));
        pattern.is_some_and(|pattern| pattern.matches(subject.name(self.match_on)))
    }
}

impl CompiledRules {
    /// Compiles the rules that are switched on. Takes up to a second for the largest that can be saved: it
    /// belongs on the blocking pool.
    ///
    /// A rule that can't be read is left out and stands among [`Self::bad`]. One that allows still counts as
    /// one that matches nothing: without it, everything that it kept away would be shown.
    pub fn of(rules: &OwnerRules) -> Self {
        let mut compiled = Self::default();
        for rule in rules.aliases.iter().filter(|rule| rule.enabled) {
            match compiled_alias(rule) {
                Ok(alias) => compiled.aliases.push(alias),
                Err(reason) => compiled.bad.push(BadRule { rule: rule.id, reason }),
            }
        }
        for rule in rules.filters.iter().filter(|rule| rule.enabled) {
            let filter = compiled_filter(rule);
            match filter {
                Ok(filter) => compiled.filters.push(filter),
                Err(reason) => {
                    compiled.bad.push(BadRule { rule: rule.id, reason: reason.to_string() });
                    let matcher = Matcher { pattern: None, kinds: rule.kinds, match_on: rule.match_on };
                    compiled.filters.push(CompiledFilter { rule: rule.id, matcher, action: rule.action });
                }
            }
        }
        compiled
    }

    /// What the first alias that matches makes of an item.
    pub fn alias(&self, subject: &Subject<'_>) -> Option<Alias> {
        let alias = self.aliases.iter().find(|alias| alias.matcher.matches(subject))?;
        let pattern = alias.matcher.pattern.as_ref()?;
        let name = subject.name(alias.matcher.match_on);
        let target = alias.target.as_ref();
        Some(Alias {
            rule: alias.rule,
            name: target.and_then(|target| target.expand(pattern, name)),
            description: alias.description.clone(),
        })
    }

    /// What the filters say of an item.
    pub fn verdict(&self, subject: &Subject<'_>) -> Verdict {
        let mut is_allowed = None;
        for filter in self.filters.iter().filter(|filter| filter.matcher.kinds.has(subject.kind)) {
            match filter.action {
                FilterAction::Deny if filter.matcher.matches(subject) => return Verdict::Denied(filter.rule),
                FilterAction::Deny => {}
                FilterAction::Allow if is_allowed == Some(true) => {}
                FilterAction::Allow => is_allowed = Some(filter.matcher.matches(subject)),
            }
        }
        if is_allowed == Some(false) { Verdict::NotAllowed } else { Verdict::Shown }
    }

    /// Whether any filter can hide something.
    pub fn has_filters(&self) -> bool {
        !self.filters.is_empty()
    }

    /// Whether any alias can change something.
    pub fn has_aliases(&self) -> bool {
        !self.aliases.is_empty()
    }

    /// The stored rules that are left out, and why.
    pub fn bad(&self) -> &[BadRule] {
        &self.bad
    }
}

/// Whether a rule can be used as it is: what is refused when it is saved.
pub fn check_alias(pattern: &str, is_regex: bool, target: Option<&str>) -> Result<(), BadAlias> {
    let pattern = Pattern::compile(pattern, is_regex).map_err(BadAlias::Pattern)?;
    target.map_or(Ok(()), |target| Target::compile(target, &pattern).map(drop).map_err(BadAlias::Target))
}

/// Which field of an alias rule can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAlias {
    /// Its pattern.
    #[error(transparent)]
    Pattern(BadPattern),
    /// Its target name.
    #[error(transparent)]
    Target(BadTarget),
}

fn compiled_alias(rule: &AliasRule) -> Result<CompiledAlias, String> {
    let pattern = Pattern::compile(&rule.pattern, rule.is_regex).map_err(|bad| bad.to_string())?;
    let target = rule.target_name.as_deref().map(|target| Target::compile(target, &pattern)).transpose();
    Ok(CompiledAlias {
        rule: rule.id,
        target: target.map_err(|bad| bad.to_string())?,
        matcher: Matcher { pattern: Some(pattern), kinds: rule.kinds, match_on: rule.match_on },
        description: rule.target_description.as_deref().map(Into::into),
    })
}

fn compiled_filter(rule: &FilterRule) -> Result<CompiledFilter, BadPattern> {
    let pattern = Pattern::compile(&rule.pattern, rule.is_regex)?;
    let matcher = Matcher { pattern: Some(pattern), kinds: rule.kinds, match_on: rule.match_on };
    Ok(CompiledFilter { rule: rule.id, matcher, action: rule.action })
}

/// The rules that decide for every caller what the catalog has of one upstream: its own, and those of all.
#[derive(Debug, Clone, Default)]
pub struct SharedRules {
    /// Those of the upstream.
    pub own: Arc<CompiledRules>,
    /// Those of all upstreams.
    pub all: Arc<CompiledRules>,
}

impl SharedRules {
    /// What the filters say: the upstream's own first. The first that hides an item decides.
    pub fn verdict(&self, kind: Kind, upstream_name: &str) -> Verdict {
        let subject = Subject::upstream(kind, upstream_name);
        match self.own.verdict(&subject) {
            Verdict::Shown => self.all.verdict(&subject),
            hidden => hidden,
        }
    }

    /// What the aliases make of an item: the upstream's own first.
    pub fn alias(&self, kind: Kind, upstream_name: &str) -> Option<Alias> {
        let subject = Subject::upstream(kind, upstream_name);
        self.own.alias(&subject).or_else(|| self.all.alias(&subject))
    }
}

/// Tells rules apart by what they do: those of two keys with the same effect have the same digest. Rules that
/// are switched off don't count, and neither does whose they are.
pub(super) fn digest_of(rules: &OwnerRules) -> Option<[u8; 32]> {
    let mut hash = Context::new(&SHA256);
    let mut text = |text: Option<&str>| {
        let length = text.map_or(u64::MAX, |text| text.len() as u64);
        hash.update(&length.to_le_bytes());
        hash.update(text.unwrap_or_default().as_bytes());
    };
    let kinds = |kinds: RuleKinds| -> String {
        Kind::ALL.iter().map(|kind| if kinds.has(*kind) { 'y' } else { 'n' }).collect()
    };
    let mut any = false;
    for rule in rules.aliases.iter().filter(|rule| rule.enabled) {
        any = true;
        text(Some(if rule.is_regex { "alias regex" } else { "alias exact" }));
        text(Some(&rule.pattern));
        text(Some(rule.match_on.as_str()));
        text(Some(&kinds(rule.kinds)));
        text(rule.target_name.as_deref());
        text(rule.target_description.as_deref());
    }
    for rule in rules.filters.iter().filter(|rule| rule.enabled) {
        any = true;
        text(Some(if rule.is_regex { "filter regex" } else { "filter exact" }));
        text(Some(&rule.pattern));
        text(Some(rule.match_on.as_str()));
        text(Some(&kinds(rule.kinds)));
        text(Some(rule.action.as_str()));
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    any.then_some(digest)
}
