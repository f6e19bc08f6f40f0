//! What clients of each era get of one upstream, feature by feature.
//!
//! A pure function of what is known of the upstream: its era and version, its transport, who shares a
//! session with it, and what it says it can do. A feature that the upstream doesn't have isn't listed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use sql::model::{Era, Isolation, Transport};

use super::degraded::Reason;

/// What is known of an upstream.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its era.
    pub era: Era,
    /// The version that is spoken with it.
    pub protocol_version: &'a str,
    /// How it is spoken to.
    pub transport: Transport,
    /// Who shares a session with it.
    pub isolation: Isolation,
    /// What it says it can do.
    pub capabilities: &'a Value,
}

/// Something of the protocol that a client may want of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Feature {
    /// Lists of tools, and calls of them.
    Tools,
    /// Prompts.
    Prompts,
    /// Resources and their templates.
    Resources,
    /// Completion of arguments.
    Completions,
    /// Word of changed lists.
    ListChanged,
    /// Word of changed resources.
    Subscriptions,
    /// Progress of a call.
    Progress,
    /// The end of a call that is no longer wanted.
    Cancellation,
    /// Log messages of a call.
    Logging,
    /// Questions to the user in the middle of a call.
    Elicitation,
    /// Questions to the user's model in the middle of a call.
    Sampling,
    /// The folders of the client.
    Roots,
    /// State that the upstream keeps for one client.
    SessionState,
    /// Going on after a lost connection.
    Resumption,
    /// Calls that outlive their request.
    Tasks,
}

/// How much of a feature a client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As if it spoke to the upstream itself.
    Full,
    /// All of it, translated between the eras.
    Bridged,
    /// Not, or not always: the letter says why.
    Impossible,
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Support {
    /// How much.
    pub level: Level,
    /// Why not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// The cells of one era of clients.
pub type Row = BTreeMap<Feature, Support>;

/// What clients of both eras get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CapabilityMatrix {
    /// Clients of 2024-11-05 to 2025-11-25.
    pub legacy: Row,
    /// Clients of 2026-07-28.
    pub modern: Row,
}

/// Works the matrix out.
pub fn matrix(facts: Facts<'_>) -> CapabilityMatrix {
    CapabilityMatrix { legacy: row(facts, Era::Legacy), modern: row(facts, Era::Modern) }
}

const FULL: Support = Support { level: Level::Full, reason: None };
const BRIDGED: Support = Support { level: Level::Bridged, reason: None };

fn impossible(reason: Reason) -> Support {
    Support { level: Level::Impossible, reason: Some(reason) }
}

fn row(facts: Facts<'_>, client: Era) -> Row {
    let same = if client == facts.era { FULL } else { BRIDGED };
    let mut row: Row = offered(facts).map(|feature| (feature, same)).collect();
    row.extend([Feature::Progress, Feature::Cancellation].map(|feature| (feature, same)));
    let attributed = |reason| if attributes(facts, client) { same } else { impossible(reason) };
    row.extend(asked(facts).into_iter().map(|feature| (feature, attributed(Reason::AskOfSeveral))));
    if has(facts, &["logging"]) {
        row.insert(Feature::Logging, attributed(Reason::LogOfSeveral));
    }
    if facts.era == Era::Legacy {
        let shared = facts.isolation == Isolation::Shared;
        row.insert(Feature::SessionState, if shared { impossible(Reason::StateShared) } else { same });
    }
    if client == Era::Modern {
        row.insert(Feature::Resumption, impossible(Reason::NotResumable));
    }
    if has_tasks(facts) {
        let same_tasks = client == facts.era;
        row.insert(Feature::Tasks, if same_tasks { FULL } else { impossible(Reason::TasksDiffer) });
    }
    row
}

/// What the upstream declares, as far as both eras have it.
fn offered(facts: Facts<'_>) -> impl Iterator<Item = Feature> {
    let list_changed =
        ["tools", "prompts", "resources"].iter().any(|kind| has(facts, &[kind, "listChanged"]));
    let declared = [
        (Feature::Tools, has(facts, &["tools"])),
        (Feature::Prompts, has(facts, &["prompts"])),
        (Feature::Resources, has(facts, &["resources"])),
        (Feature::Completions, has(facts, &["completions"])),
        (Feature::ListChanged, list_changed),
        (Feature::Subscriptions, has(facts, &["resources", "subscribe"])),
    ];
    declared.into_iter().filter(|(_, declared)| *declared).map(|(feature, _)| feature)
}

/// What the upstream may ask clients, by its version.
fn asked(facts: Facts<'_>) -> Vec<Feature> {
    let mut asked = vec![Feature::Sampling, Feature::Roots];
    if facts.protocol_version >= "2025-06-18" {
        asked.push(Feature::Elicitation);
    }
    asked
}

/// Whether what comes in the middle of a call can be told to belong to it: the transport says it, or
/// the session is one client's. That of a key may be several clients', and a modern client has no other.
fn attributes(facts: Facts<'_>, client: Era) -> bool {
    facts.era == Era::Modern
        || facts.transport == Transport::StreamableHttp
        || (facts.isolation == Isolation::PerSession && client == Era::Legacy)
}

fn has_tasks(facts: Facts<'_>) -> bool {
    match facts.era {
        Era::Legacy => has(facts, &["tasks"]),
        Era::Modern => has(facts, &["extensions", "io.modelcontextprotocol/tasks"]),
    }
}

/// Whether a capability is declared: an object, or a flag that is set.
fn has(facts: Facts<'_>, path: &[&str]) -> bool {
    let found = path.iter().try_fold(facts.capabilities, |value, member| value.get(member));
    found.is_some_and(|value| value.is_object() || *value == Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(capabilities: &Value, era: Era, transport: Transport, isolation: Isolation) -> Facts<'_> {
        let protocol_version = if era == Era::Modern { "2026-07-28" } else { "2025-11-25" };
        Facts { era, protocol_version, transport, isolation, capabilities }
    }

    #[test]
    fn clients_of_its_own_era_get_a_modern_upstream_whole() {
        let declared = json!({
            "tools": {"listChanged": true}, "prompts": {}, "resources": {"subscribe": true}, "completions": {},
            "logging": {}, "extensions": {"io.modelcontextprotocol/tasks": {}},
        });
        let matrix = matrix(facts(&declared, Era::Modern, Transport::Stdio, Isolation::Shared));
        let not_full: Vec<_> = matrix.modern.iter().filter(|(_, support)| **support != FULL).collect();
        assert_eq!(not_full, [(&Feature::Resumption, &impossible(Reason::NotResumable))]);
        let not_bridged: Vec<_> = matrix.legacy.iter().filter(|(_, support)| **support != BRIDGED).collect();
        assert_eq!(not_bridged, [(&Feature::Tasks, &impossible(Reason::TasksDiffer))]);
        assert_eq!(matrix.legacy.len(), 13);
    }

    #[test]
    fn a_shared_pipe_cannot_tell_whose_message_it_is() {
        let declared = json!({"tools": {}, "logging": {}});
        let of = |transport, isolation| matrix(facts(&declared, Era::Legacy, transport, isolation));
        let shared = of(Transport::Stdio, Isolation::Shared);
        for row in [&shared.legacy, &shared.modern] {
            assert_eq!(row[&Feature::Elicitation], impossible(Reason::AskOfSeveral));
            assert_eq!(row[&Feature::Sampling], impossible(Reason::AskOfSeveral));
            assert_eq!(row[&Feature::Roots], impossible(Reason::AskOfSeveral));
            assert_eq!(row[&Feature::Logging], impossible(Reason::LogOfSeveral));
            assert_eq!(row[&Feature::SessionState], impossible(Reason::StateShared));
        }
        let whole = of(Transport::StreamableHttp, Isolation::Shared);
        assert_eq!(whole.legacy[&Feature::Elicitation], FULL);
        assert_eq!(whole.modern[&Feature::Elicitation], BRIDGED);
        assert_eq!(whole.modern[&Feature::Logging], BRIDGED);
        assert!(!shared.legacy.contains_key(&Feature::Resumption));
    }

    #[test]
    fn the_pipe_of_a_key_is_shared_by_its_clients() {
        let declared = json!({"tools": {}, "logging": {}});
        let of = |isolation| matrix(facts(&declared, Era::Legacy, Transport::Stdio, isolation));
        let (per_key, per_session) = (of(Isolation::PerKey), of(Isolation::PerSession));
        // A modern client has no session: its key stands for it.
        for row in [&per_key.legacy, &per_key.modern, &per_session.modern] {
            assert_eq!(row[&Feature::Elicitation], impossible(Reason::AskOfSeveral));
            assert_eq!(row[&Feature::Logging], impossible(Reason::LogOfSeveral));
        }
        assert_eq!(per_session.legacy[&Feature::Elicitation], FULL);
        assert_eq!(per_session.legacy[&Feature::Logging], FULL);
    }

    #[test]
    fn a_session_of_ones_own_brings_its_state_and_roots() {
        let declared = json!({});
        let of = |isolation| matrix(facts(&declared, Era::Legacy, Transport::Stdio, isolation));
        let own = of(Isolation::PerSession);
        assert_eq!(own.legacy[&Feature::Roots], FULL);
        assert_eq!(own.legacy[&Feature::SessionState], FULL);
        assert_eq!(own.modern[&Feature::SessionState], BRIDGED);
        assert_eq!(of(Isolation::PerKey).modern[&Feature::SessionState], BRIDGED);
        assert_eq!(of(Isolation::Shared).legacy[&Feature::SessionState], impossible(Reason::StateShared));
    }

    #[test]
    fn what_an_upstream_does_not_have_is_not_listed() {
        let declared = json!({"tools": {"listChanged": false}, "resources": {"subscribe": false}});
        let mut old = facts(&declared, Era::Legacy, Transport::StreamableHttp, Isolation::Shared);
        old.protocol_version = "2024-11-05";
        let row = matrix(old).modern;
        for absent in [
            Feature::Prompts,
            Feature::Completions,
            Feature::ListChanged,
            Feature::Subscriptions,
            Feature::Logging,
            Feature::Elicitation,
            Feature::Tasks,
        ] {
            assert!(!row.contains_key(&absent), "{absent:?}");
        }
        assert_eq!(row[&Feature::Tools], BRIDGED);
    }

    #[test]
    fn is_written_with_words_and_letters() {
        let declared = json!({"tools": {}});
        let matrix = matrix(facts(&declared, Era::Legacy, Transport::Stdio, Isolation::Shared));
        let written = serde_json::to_value(&matrix).unwrap();
        assert_eq!(written["modern"]["tools"], json!({"level": "bridged"}));
        assert_eq!(written["modern"]["elicitation"], json!({"level": "impossible", "reason": "j"}));
        assert_eq!(written["legacy"]["tools"], json!({"level": "full"}));
    }
}
