//! What no bridge can carry from one era to the other: named, counted, and said on the results it touched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use bytes::Bytes;
use dashmap::DashMap;
use serde::Serialize;
use sql::model::UpstreamId;

use crate::wire::edit::Object;
use crate::wire::meta;

/// Why something got lost or can't be had, as a letter that documents, metrics and answers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Reason {
    /// A call that waited for its client is gone: its time was up, or its process ended.
    #[serde(rename = "a")]
    ParkedCallGone,
    /// A log message came while calls of several clients shared the session.
    #[serde(rename = "b")]
    LogOfSeveral,
    /// The upstream asked for something while no call of a client was in flight.
    #[serde(rename = "c")]
    AskedOutsideCalls,
    /// What the upstream remembers in its session is shared by its callers.
    #[serde(rename = "d")]
    StateShared,
    /// A modern client that loses its stream loses its call.
    #[serde(rename = "e")]
    NotResumable,
    /// Tasks of 2025-11-25 and the tasks extension are not the same thing.
    #[serde(rename = "f")]
    TasksDiffer,
    /// An update of a resource may have been missed while a subscription was opened anew.
    #[serde(rename = "g")]
    UpdateMissed,
    /// The transport has no status codes: errors are JSON-RPC errors alone.
    #[serde(rename = "h")]
    NoStatusCodes,
    /// The client doesn't listen to changed lists and requests.
    #[serde(rename = "i")]
    DeafClient,
    /// A request came while calls of several clients shared the session.
    #[serde(rename = "j")]
    AskOfSeveral,
}

impl Reason {
    /// All of them, in the order of their letters.
    pub const ALL: [Self; 10] = [
        Self::ParkedCallGone,
        Self::LogOfSeveral,
        Self::AskedOutsideCalls,
        Self::StateShared,
        Self::NotResumable,
        Self::TasksDiffer,
        Self::UpdateMissed,
        Self::NoStatusCodes,
        Self::DeafClient,
        Self::AskOfSeveral,
    ];

    /// Its letter, as it is serialised and as a metric labels it.
    pub fn letter(self) -> &'static str {
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"][self.index()]
    }

    /// In words, for who reads an answer.
    pub fn text(self) -> &'static str {
        match self {
            Self::ParkedCallGone => "the call that waited for this answer is gone",
            Self::LogOfSeveral => "a log message could not be attributed to one client",
            Self::AskedOutsideCalls => "the upstream asked outside any call, where no client can answer",
            Self::StateShared => "what the upstream remembers is shared by its callers",
            Self::NotResumable => "a lost stream loses its call",
            Self::TasksDiffer => "the two eras mean different things by tasks",
            Self::UpdateMissed => "an update may have been missed while a subscription was opened anew",
            Self::NoStatusCodes => "the transport has no status codes",
            Self::DeafClient => "the client does not listen to changes and requests",
            Self::AskOfSeveral => "a request of the upstream could not be attributed to one client",
        }
    }

    fn index(self) -> usize {
        self as usize
    }

    fn bit(self) -> u16 {
        1 << self.index()
    }
}

/// How often each reason struck, by upstream. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Degradations(Arc<DashMap<UpstreamId, [u64; Reason::ALL.len()]>>);

impl Degradations {
    /// Counts one.
    pub fn count(&self, upstream: UpstreamId, reason: Reason) {
        self.0.entry(upstream).or_default()[reason.index()] += 1;
    }

    /// What struck an upstream; reasons that didn't are absent.
    pub fn of(&self, upstream: UpstreamId) -> BTreeMap<Reason, u64> {
        let counts = self.0.get(&upstream).map(|counts| *counts).unwrap_or_default();
        named(counts)
    }

    /// What struck all upstreams together.
    pub fn totals(&self) -> BTreeMap<Reason, u64> {
        let mut totals = [0; Reason::ALL.len()];
        for counts in self.0.iter() {
            for (total, count) in totals.iter_mut().zip(counts.iter()) {
                *total += count;
            }
        }
        named(totals)
    }

    /// Forgets the upstreams that are gone.
    pub fn retain(&self, exists: impl Fn(UpstreamId) -> bool) {
        self.0.retain(|id, _| exists(*id));
    }
}

fn named(counts: [u64; Reason::ALL.len()]) -> BTreeMap<Reason, u64> {
    Reason::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
}

/// What struck one call while it ran, and whether it waits for its client. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Marks(Arc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    reasons: AtomicU16,
    is_parked: AtomicBool,
}

impl Marks {
    /// Notes a reason.
    pub fn set(&self, reason: Reason) {
        self.0.reasons.fetch_or(reason.bit(), Ordering::Relaxed);
    }

    /// Notes that the call waits for its client to come back with answers, or no longer does.
    pub fn set_parked(&self, is_parked: bool) {
        self.0.is_parked.store(is_parked, Ordering::Relaxed);
    }

    /// Whether the call waits for its client to come back.
    pub fn is_parked(&self) -> bool {
        self.0.is_parked.load(Ordering::Relaxed)
    }

    /// The reasons so far.
    pub fn reasons(&self) -> Vec<Reason> {
        let bits = self.0.reasons.load(Ordering::Relaxed);
        Reason::ALL.into_iter().filter(|reason| bits & reason.bit() != 0).collect()
    }
}

/// The reasons as an answer says them.
pub fn said(reasons: &[Reason]) -> serde_json::Value {
    let one = |reason: &Reason| serde_json::json!({ "reason": reason.letter(), "message": reason.text() });
    reasons.iter().map(one).collect()
}

/// A result that says what got lost on the way to it; untouched if nothing did.
pub fn annotate(result: Bytes, reasons: &[Reason]) -> Bytes {
    if reasons.is_empty() {
        return result;
    }
    let Ok(mut object) = Object::parse(&result) else { return result };
    let mut own = object.get("_meta").and_then(|raw| Object::parse(&raw).ok()).unwrap_or_else(Object::empty);
    own.set(meta::GATEWAY_DEGRADED, Bytes::from(said(reasons).to_string()));
    object.set("_meta", own.into_bytes());
    object.into_bytes()
}

#[cfg(test)]
mod tests {
    use sql::clock::Clock;

    use super::*;

    #[test]
    fn every_reason_has_the_letter_it_is_serialised_as() {
        for (reason, letter) in Reason::ALL.into_iter().zip('a'..='j') {
            assert_eq!(reason.letter(), letter.to_string());
            assert_eq!(serde_json::to_value(reason).unwrap(), letter.to_string());
        }
    }

    #[test]
    fn counts_by_upstream_and_in_all() {
        let counts = Degradations::default();
        let (a, b) = (UpstreamId::new(&Clock::system()), UpstreamId::new(&Clock::system()));
        counts.count(a, Reason::AskOfSeveral);
        counts.count(a, Reason::AskOfSeveral);
        counts.count(b, Reason::ParkedCallGone);
        assert_eq!(counts.of(a), BTreeMap::from([(Reason::AskOfSeveral, 2)]));
        assert_eq!(counts.totals(), BTreeMap::from([(Reason::ParkedCallGone, 1), (Reason::AskOfSeveral, 2)]));
        counts.retain(|id| id == a);
        assert!(counts.of(b).is_empty());
    }

    #[test]
    fn a_result_says_what_struck_its_call() {
        let marks = Marks::default();
        let result = Bytes::from_static(br#"{"content":[],"_meta":{"a":1}}"#);
        assert_eq!(annotate(result.clone(), &marks.reasons()), result);
        marks.set(Reason::AskOfSeveral);
        marks.set(Reason::LogOfSeveral);
        let said: serde_json::Value = serde_json::from_slice(&annotate(result, &marks.reasons())).unwrap();
        assert_eq!(said["_meta"]["a"], 1);
        let reasons: Vec<_> = said["_meta"][meta::GATEWAY_DEGRADED]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["reason"])
            .collect();
        assert_eq!(reasons, ["b", "j"]);
    }
}
