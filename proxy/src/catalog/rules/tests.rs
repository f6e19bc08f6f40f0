//! The engine against a second model, written to be obviously right and nothing else.

use proptest::prelude::*;
use sql::model::{ApiKeyId, RuleKind, RuleOwner, Timestamp, UpstreamId};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// An expression, as a tree.
#[derive(Debug, Clone)]
enum Node {
    Text(String),
    Any,
    /// Any number of one character.
    Many(char),
    AnyNumberOfAny,
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Group(Box<Node>),
}

impl Node {
    fn written(&self) -> String {
        let all =
            |nodes: &[Self], between: &str| nodes.iter().map(Self::written).collect::<Vec<_>>().join(between);
        match self {
            Self::Text(text) => text.clone(),
            Self::Any => ".".into(),
            Self::Many(c) => format!("{c}*"),
            Self::AnyNumberOfAny => ".*".into(),
            Self::Sequence(nodes) => all(nodes, ""),
            Self::Either(nodes) => format!("(?:{})", all(nodes, "|")),
            Self::Group(node) => format!("({})", node.written()),
        }
    }

    fn groups(&self) -> usize {
        match self {
            Self::Sequence(nodes) | Self::Either(nodes) => nodes.iter().map(Self::groups).sum(),
            Self::Group(node) => 1 + node.groups(),
            Self::Text(_) | Self::Any | Self::Many(_) | Self::AnyNumberOfAny => 0,
        }
    }

    /// Every way in which the node matches the beginning of `text`, in order of preference: how much of it, and
    /// what its groups (numbered from `first`) have.
    fn ways(&self, text: &str, first: usize) -> Vec<(usize, Vec<(usize, String)>)> {
        let longest_first = |fits: fn(char, char) -> bool, c: char| {
            let most = text.chars().take_while(|other| fits(*other, c)).count();
            (0..=most).rev().map(|length| (length, Vec::new())).collect()
        };
        match self {
            Self::Text(own) if text.starts_with(own.as_str()) => vec![(own.len(), Vec::new())],
            Self::Text(_) => Vec::new(),
            Self::Any => text.chars().next().map(|_| (1, Vec::new())).into_iter().collect(),
            Self::Many(c) => longest_first(|other, c| other == c, *c),
            Self::AnyNumberOfAny => longest_first(|_, _| true, ' '),
            Self::Either(nodes) => {
                let mut number = first;
                let mut ways = Vec::new();
                for node in nodes {
                    ways.extend(node.ways(text, number));
                    number += node.groups();
                }
                ways
            }
            Self::Group(node) => {
                let mut ways = node.ways(text, first + 1);
                for (length, captured) in &mut ways {
                    captured.push((first, text[..*length].to_owned()));
                }
                ways
            }
            Self::Sequence(nodes) => {
                let Some((head, tail)) = nodes.split_first() else { return vec![(0, Vec::new())] };
                let rest = Self::Sequence(tail.to_vec());
                let mut ways = Vec::new();
                for (length, captured) in head.ways(text, first) {
                    for (more, also) in rest.ways(&text[length..], first + head.groups()) {
                        ways.push((length + more, [captured.clone(), also].concat()));
                    }
                }
                ways
            }
        }
    }

    /// What the groups have where it matches the whole text.
    fn whole(&self, text: &str) -> Option<Vec<(usize, String)>> {
        self.ways(text, 1).into_iter().find(|(length, _)| *length == text.len()).map(|(_, captured)| captured)
    }
}

/// A rule of either kind, before it is written down.
#[derive(Debug, Clone)]
struct Draft {
    /// Exact, or an expression.
    pattern: Result<String, Node>,
    kinds: RuleKinds,
    on_exposed: bool,
    enabled: bool,
    does: Does,
}

#[derive(Debug, Clone)]
enum Does {
    Deny,
    Allow,
    /// The name as pieces: text, or the number of a group.
    Alias(Option<Vec<Result<String, usize>>>, Option<String>),
}

impl Draft {
    /// What its groups have, if it matches.
    fn matches(&self, subject: &Subject<'_>) -> Option<Vec<(usize, String)>> {
        let name = if self.on_exposed { subject.exposed_name } else { subject.upstream_name };
        if !self.enabled || !self.kinds.has(subject.kind) {
            return None;
        }
        match &self.pattern {
            Ok(exact) => (exact == name).then(Vec::new),
            Err(node) => node.whole(name),
        }
    }

    fn target(&self) -> Option<String> {
        let Does::Alias(Some(pieces), _) = &self.does else { return None };
        Some(
            pieces
                .iter()
                .map(|piece| match piece {
                    Ok(text) => text.clone(),
                    Err(group) => format!("${group}"),
                })
                .collect(),
        )
    }
}

fn stored(owner: RuleOwner, drafts: &[Draft]) -> OwnerRules {
    let mut rules = OwnerRules::default();
    for (sort_order, draft) in (0..).zip(drafts) {
        let (pattern, is_regex) = match &draft.pattern {
            Ok(exact) => (exact.clone(), false),
            Err(node) => (node.written(), true),
        };
        let match_on = if draft.on_exposed { MatchOn::Exposed } else { MatchOn::Upstream };
        let (id, kinds, enabled) = (id_of(sort_order), draft.kinds, draft.enabled);
        let (version, created_at, updated_at) = (1, NOW, NOW);
        let action = match &draft.does {
            Does::Deny => FilterAction::Deny,
            Does::Allow => FilterAction::Allow,
            Does::Alias(_, target_description) => {
                rules.aliases.push(AliasRule {
                    id,
                    owner,
                    pattern,
                    is_regex,
                    match_on,
                    target_name: draft.target(),
                    target_description: target_description.clone(),
                    enabled,
                    sort_order,
                    kinds,
                    version,
                    created_at,
                    updated_at,
                });
                continue;
            }
        };
        rules.filters.push(FilterRule {
            id,
            owner,
            pattern,
            is_regex,
            match_on,
            action,
            enabled,
            sort_order,
            kinds,
            version,
            created_at,
            updated_at,
        });
    }
    rules
}

fn id_of(sort_order: i64) -> RuleId {
    RuleId::from_uuid(uuid::Uuid::from_u128(u128::from(sort_order.unsigned_abs()) + 1))
}

fn naive_verdict(drafts: &[Draft], subject: &Subject<'_>) -> Verdict {
    let is = |draft: &Draft, wanted: fn(&Does) -> bool| {
        wanted(&draft.does) && draft.enabled && draft.kinds.has(subject.kind)
    };
    for (number, draft) in (0..).zip(drafts) {
        if is(draft, |does| matches!(does, Does::Deny)) && draft.matches(subject).is_some() {
            return Verdict::Denied(id_of(number));
        }
    }
    let allows: Vec<&Draft> =
        drafts.iter().filter(|draft| is(draft, |does| matches!(does, Does::Allow))).collect();
    if allows.is_empty() || allows.iter().any(|draft| draft.matches(subject).is_some()) {
        return Verdict::Shown;
    }
    Verdict::NotAllowed
}

fn naive_alias(drafts: &[Draft], subject: &Subject<'_>) -> Option<Alias> {
    for (number, draft) in (0..).zip(drafts) {
        let Does::Alias(name, description) = &draft.does else { continue };
        let Some(captured) = draft.matches(subject) else { continue };
        let piece = |piece: &Result<String, usize>| match piece {
            Ok(text) => text.clone(),
            Err(group) => {
                let of = captured.iter().find(|(number, _)| number == group);
                of.map_or_else(String::new, |(_, text)| text.clone())
            }
        };
        let name = name.as_ref().map(|pieces| pieces.iter().map(piece).collect::<String>());
        return Some(Alias {
            rule: id_of(number),
            name: name.filter(|name| !name.is_empty()),
            description: description.as_deref().map(Into::into),
        });
    }
    None
}

fn name() -> impl Strategy<Value = String> {
    "[ab_]{1,5}"
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        "[ab_]{1,2}".prop_map(Node::Text),
        Just(Node::Any),
        prop_oneof![Just('a'), Just('b'), Just('_')].prop_map(Node::Many),
        Just(Node::AnyNumberOfAny),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Node::Sequence),
            prop::collection::vec(inner.clone(), 1..3).prop_map(Node::Either),
            inner.prop_map(|node| Node::Group(Box::new(node))),
        ]
    })
}

fn kinds() -> impl Strategy<Value = RuleKinds> {
    prop_oneof![
        3 => Just(RuleKinds::ALL),
        1 => prop::sample::subsequence(RuleKind::ALL.to_vec(), 1..=3)
            .prop_map(|kinds| RuleKinds::of(kinds).expect("one at least")),
    ]
}

fn draft(of_key: bool) -> impl Strategy<Value = Draft> {
    let pattern = prop_oneof![name().prop_map(Ok), node().prop_map(Err)];
    let piece = prop_oneof!["[xy_9]{1,2}".prop_map(Ok), (1usize..=4).prop_map(Err)];
    let target = prop::option::of(prop::collection::vec(piece, 1..3));
    let does = prop_oneof![
        Just(Does::Deny),
        Just(Does::Allow),
        (target, prop::option::of("[a-z]{1,3}".prop_map(String::from)))
            .prop_map(|(name, text)| Does::Alias(name, text)),
    ];
    (pattern, kinds(), any::<bool>(), prop::bool::weighted(0.8), does).prop_map(
        move |(pattern, kinds, on_exposed, enabled, mut does)| {
            let groups = pattern.as_ref().map_or_else(|node: &Node| node.groups(), |_: &String| 0).min(9);
            // What refers to a group that isn't there can't be saved.
            if let Does::Alias(Some(pieces), _) = &mut does {
                pieces.retain(|piece| piece.as_ref().map_or_else(|group| *group <= groups, |_| true));
            }
            if matches!(&does, Does::Alias(Some(pieces), _) if pieces.is_empty()) {
                does = Does::Alias(None, Some("d".into()));
            }
            Draft { pattern, kinds, on_exposed: of_key && on_exposed, enabled, does }
        },
    )
}

pub(crate) fn owner_rules(owner: RuleOwner) -> impl Strategy<Value = OwnerRules> {
    let of_key = matches!(owner, RuleOwner::Key(_));
    prop::collection::vec(draft(of_key), 0..5).prop_map(move |drafts| stored(owner, &drafts))
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_engine_decides_as_the_model_does(
        drafts in prop::collection::vec(draft(true), 0..6),
        kind in kind(),
        upstream_name in name(),
        exposed_name in name(),
    ) {
        let owner = RuleOwner::Key(ApiKeyId::at(NOW));
        let subject = Subject { kind, upstream_name: &upstream_name, exposed_name: &exposed_name };
        let rules = CompiledRules::of(&stored(owner, &drafts));
        prop_assert_eq!(rules.bad(), &[]);
        prop_assert_eq!(rules.verdict(&subject), naive_verdict(&drafts, &subject));
        prop_assert_eq!(rules.alias(&subject), naive_alias(&drafts, &subject));
    }

    #[test]
    fn a_rule_that_is_switched_off_is_as_if_it_was_not_there(
        drafts in prop::collection::vec(draft(false), 0..6),
        kind in kind(),
        name in name(),
    ) {
        let stored = stored(RuleOwner::All, &drafts);
        let mut without = stored.clone();
        without.aliases.retain(|rule| rule.enabled);
        without.filters.retain(|rule| rule.enabled);
        let subject = Subject::upstream(kind, &name);
        prop_assert_eq!(digest_of(&stored), digest_of(&without));
        let (with, without) = (CompiledRules::of(&stored), CompiledRules::of(&without));
        prop_assert_eq!(with.verdict(&subject), without.verdict(&subject));
        prop_assert_eq!(with.alias(&subject), without.alias(&subject));
    }

    #[test]
    fn no_rule_of_whatever_kind_brings_back_what_one_denies(
        own in prop::collection::vec(draft(false), 0..5),
        all in prop::collection::vec(draft(false), 0..5),
        more in prop::collection::vec(draft(false), 0..5),
        kind in kind(),
        name in name(),
    ) {
        let upstream = RuleOwner::Upstream(UpstreamId::at(NOW));
        let shared = |own: &[Draft], all: &[Draft]| SharedRules {
            own: Arc::new(CompiledRules::of(&stored(upstream, own))),
            all: Arc::new(CompiledRules::of(&stored(RuleOwner::All, all))),
        };
        if matches!(shared(&own, &all).verdict(kind, &name), Verdict::Denied(_)) {
            let (more_own, more_all) = ([more.clone(), own.clone()].concat(), [all.clone(), more].concat());
            for rules in [shared(&more_own, &all), shared(&own, &more_all)] {
                prop_assert_ne!(rules.verdict(kind, &name), Verdict::Shown);
            }
        }
    }
}

#[test]
fn what_is_said_for_one_upstream_goes_before_what_is_said_for_all() {
    let alias = |owner, name: &str, description: Option<&str>| {
        let name = (!name.is_empty()).then(|| vec![Ok(name.to_owned())]);
        let does = Does::Alias(name, description.map(str::to_owned));
        let draft =
            Draft { pattern: Ok("a".into()), kinds: RuleKinds::ALL, on_exposed: false, enabled: true, does };
        Arc::new(CompiledRules::of(&stored(owner, &[draft])))
    };
    let upstream = RuleOwner::Upstream(UpstreamId::at(NOW));
    let both = SharedRules { own: alias(upstream, "own", None), all: alias(RuleOwner::All, "all", None) };
    assert_eq!(both.alias(Kind::Tool, "a").and_then(|alias| alias.name).as_deref(), Some("own"));
    let described = SharedRules { own: alias(upstream, "", Some("d")), ..both };
    assert_eq!(
        described.alias(Kind::Tool, "a").and_then(|alias| alias.name),
        None,
        "one alias decides alone"
    );
    let other = SharedRules { own: Arc::default(), ..described };
    assert_eq!(other.alias(Kind::Tool, "a").and_then(|alias| alias.name).as_deref(), Some("all"));
}

#[test]
fn a_damaged_rule_is_left_out_and_named_and_opens_nothing() {
    let draft = |pattern: &str, does| Draft {
        pattern: Ok(pattern.into()),
        kinds: RuleKinds::ALL,
        on_exposed: false,
        enabled: true,
        does,
    };
    let mut rules = stored(
        RuleOwner::All,
        &[
            draft("a", Does::Allow),
            draft("b", Does::Alias(Some(vec![Ok("x".into())]), None)),
            draft("b", Does::Alias(Some(vec![Ok("y".into())]), None)),
        ],
    );
    rules.filters[0].pattern = "(".into();
    rules.filters[0].is_regex = true;
    rules.aliases[0].target_name = Some("$7".into());
    let compiled = CompiledRules::of(&rules);
    assert_eq!(compiled.bad().len(), 2, "{:?}", compiled.bad());
    let subject = Subject::upstream(Kind::Tool, "b");
    assert_eq!(compiled.alias(&subject).and_then(|alias| alias.name).as_deref(), Some("y"));
    assert_eq!(compiled.verdict(&subject), Verdict::NotAllowed);
}

#[test]
fn many_names_and_rules_take_bounded_time() {
    let node = |n: usize| {
        Node::Sequence(vec![Node::Text(format!("get_{n}_")), Node::Group(Box::new(Node::AnyNumberOfAny))])
    };
    let drafts: Vec<Draft> = (0..sql::model::rule::RULES_PER_OWNER_MAX)
        .map(|n| Draft {
            pattern: if n % 2 == 0 { Err(node(n)) } else { Ok(format!("set_{n}")) },
            kinds: RuleKinds::ALL,
            on_exposed: false,
            enabled: true,
            does: Does::Deny,
        })
        .collect();
    let rules = CompiledRules::of(&stored(RuleOwner::All, &drafts));
    let names: Vec<String> = (0..10_000).map(|n| format!("get_{}_{n}", n % 400)).collect();
    let started = std::time::Instant::now();
    let hidden =
        names.iter().filter(|name| rules.verdict(&Subject::upstream(Kind::Tool, name)) != Verdict::Shown);
    assert_eq!(hidden.count(), 2_500, "every second rule, of twice as many names");
    let took = started.elapsed();
    println!("10,000 names against 200 rules: {took:?}");
    // A tenth of a second when optimised; the rest is for a slow machine and a debug build.
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
}
