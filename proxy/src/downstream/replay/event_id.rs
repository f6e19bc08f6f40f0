//! The id of an event on a stream of ours: which stream it is on, and its place there.
//!
//! A client hands it back in `Last-Event-ID` to go on where it was cut off (Streamable HTTP, resumability
//! and redelivery). It is unique among all streams of its session, also over restarts and replicas: a
//! stream's number begins with the name of its replica, where it is looked up, and is random beyond that. It holds a digest of the session, so that one of another session is
//! recognised as such; it opens nothing by itself, since it is looked up within the session that shows it.
//! Ids of upstreams' streams are never handed on.

use std::fmt;

use ring::digest;
use uuid::Uuid;

use crate::relay::{REPLICA_BITS, ReplicaId};

/// What of a stream's number is by chance: one session has few streams.
const RANDOM_BITS: u32 = u64::BITS - REPLICA_BITS;

/// How a stream was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// By a POST: it ends with the answer to that request.
    Call,
    /// By a GET: it is for what belongs to no request.
    Session,
}

/// A stream, as its events name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamName {
    kind: Kind,
    session: u32,
    number: u64,
}

/// One event of a stream. They are counted from 1; 0 is the place before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// The stream it is on.
    pub stream: StreamName,
    /// Its place there.
    pub number: u64,
}

impl StreamName {
    /// A new stream of a session, at a replica.
    pub fn new(kind: Kind, session: Uuid, replica: ReplicaId) -> Self {
        // The half of it that is random.
        let (_, random) = Uuid::now_v7().as_u64_pair();
        let number = replica.bits() << RANDOM_BITS | random & ((1 << RANDOM_BITS) - 1);
        Self { kind, session: digest_of(session), number }
    }

    /// Where it was begun, if there is such a replica.
    pub fn replica(self) -> Option<ReplicaId> {
        ReplicaId::from_bits(self.number >> RANDOM_BITS)
    }

    /// How it was begun.
    pub fn kind(self) -> Kind {
        self.kind
    }
}

impl EventId {
    /// Reads what [`fmt::Display`] wrote for this session; none for anything else.
    pub fn parse(text: &str, session: Uuid) -> Option<Self> {
        let (kind, rest) = match text.split_at_checked(1)? {
            ("c", rest) => (Kind::Call, rest),
            ("s", rest) => (Kind::Session, rest),
            _ => return None,
        };
        let (stream, number) = rest.split_once('-')?;
        let (of_session, stream) = stream.split_at_checked(8)?;
        if stream.len() != 16 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let stream = StreamName { kind, session: hex(of_session)?, number: hex(stream)? };
        let id = Self { stream, number: number.parse().ok()? };
        // What is written otherwise than we do isn't ours.
        (stream.session == digest_of(session) && id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StreamName { kind, session, number } = self.stream;
        let kind = match kind {
            Kind::Call => 'c',
            Kind::Session => 's',
        };
        write!(f, "{kind}{session:08x}{number:016x}-{}", self.number)
    }
}

fn hex<T: TryFrom<u64>>(text: &str) -> Option<T> {
    T::try_from(u64::from_str_radix(text, 16).ok()?).ok()
}

/// Tells sessions apart without naming them.
fn digest_of(session: Uuid) -> u32 {
    let digest = digest::digest(&digest::SHA256, session.as_bytes());
    let mut start = [0; 4];
    start.copy_from_slice(&digest.as_ref()[..4]);
    u32::from_be_bytes(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written_and_in_its_session_only() {
        let session = Uuid::from_u128(1);
        for kind in [Kind::Call, Kind::Session] {
            for number in [0, 1, u64::MAX] {
                let id = EventId { stream: StreamName::new(kind, session, ReplicaId::random()), number };
                let text = id.to_string();
                assert_eq!(EventId::parse(&text, session), Some(id));
                assert_eq!(EventId::parse(&text, Uuid::from_u128(2)), None);
            }
        }
    }

    #[test]
    fn two_streams_of_a_session_have_two_names() {
        let session = Uuid::from_u128(1);
        let replica = ReplicaId::random();
        let name = || StreamName::new(Kind::Call, session, replica);
        assert_ne!(name(), name());
        assert_eq!(name().replica(), Some(replica));
    }

    #[test]
    fn what_is_none_of_ours_is_no_id() {
        let session = Uuid::from_u128(1);
        let stream = StreamName::new(Kind::Call, session, ReplicaId::random());
        let id = EventId { stream, number: 7 }.to_string();
        let (stream, _) = id.split_once('-').expect("it has a place");
        for text in [
            "",
            "c",
            "7",
            "é-1",
            &id[1..],
            &format!("x{}", &id[1..]),
            stream,
            &format!("{stream}-"),
            &format!("{stream}-+7"),
            &format!("{stream}-07"),
            &format!("{stream}-18446744073709551616"),
            &format!("{}-7", stream.to_uppercase()),
            &format!("{stream}0-7"),
            &format!("{}-7", &stream[..20]),
        ] {
            assert_eq!(EventId::parse(text, session), None, "{text}");
        }
    }
}
