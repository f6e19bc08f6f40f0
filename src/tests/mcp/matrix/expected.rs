//! What the matrix is expected to be: where something can't work, and why.

use super::cells::Feature;
use crate::harness::MODERN;

/// What is expected of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Works,
    /// It works, but not always: see the notes.
    WorksBut(&'static [Note]),
    /// It can't: see the note.
    Impossible(&'static [Note]),
}

/// A note of the document, by what stands in the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Note {
    pub(super) mark: &'static str,
    pub(super) reason: &'static str,
}

/// Elicitation came with this revision.
const ELICITATION_SINCE: &str = "2025-06-18";

const CLIENT_IS_OLDER: Note = Note {
    mark: "client",
    reason: "The client's revision has no elicitation: what the server asks is refused in the client's name.",
};
const SERVER_IS_OLDER: Note =
    Note { mark: "server", reason: "The server's revision has no elicitation, so that it never asks." };
const A: Note = Note {
    mark: "a",
    reason: "The question ends the client's request, and the call waits in the gateway for the answers: it is \
        lost with the process, and past its time limit. It is never carried out a second time.",
};
const B: Note = Note {
    mark: "b",
    reason: "Over stdio, HTTP+SSE and WebSocket, while calls of several clients are in flight on one shared session, \
        or one was given up in the last ten seconds, a log message can't be told apart, and is dropped.",
};
const D: Note = Note {
    mark: "d",
    reason: "A server that remembers roots for its session takes those of one client for another's where they share \
        that session. Isolation avoids it: per session for legacy clients, per key for modern ones.",
};
const G: Note = Note {
    mark: "g",
    reason: "A change between two connections of the gateway to the server is told as one, once it is connected \
        again.",
};
const J: Note = Note {
    mark: "j",
    reason: "Over stdio, HTTP+SSE and WebSocket, while calls of several clients are in flight on one shared session, \
        or one was given up in the last ten seconds, a question can't be told apart, and is refused. Isolation per session avoids that.",
};
/// What is expected between a client and a server of these revisions.
pub(super) fn expected(feature: Feature, client: &str, server: &str) -> Expected {
    let (is_modern, of_modern) = (client == MODERN, server == MODERN);
    match feature {
        Feature::Elicitation if client < ELICITATION_SINCE => Expected::Impossible(&[CLIENT_IS_OLDER]),
        Feature::Elicitation if server < ELICITATION_SINCE => Expected::Impossible(&[SERVER_IS_OLDER]),
        Feature::Elicitation | Feature::Sampling if is_modern && !of_modern => Expected::WorksBut(&[A, J]),
        Feature::Elicitation | Feature::Sampling if !of_modern => Expected::WorksBut(&[J]),
        Feature::Roots if is_modern && !of_modern => Expected::WorksBut(&[A, D, J]),
        Feature::Roots if !of_modern => Expected::WorksBut(&[D, J]),
        Feature::Logging if !of_modern => Expected::WorksBut(&[B]),
        Feature::Subscription => Expected::WorksBut(&[G]),
        _ => Expected::Works,
    }
}
