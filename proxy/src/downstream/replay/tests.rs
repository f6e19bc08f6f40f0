//! Streams whose connections break, one after the other.

use std::collections::BTreeSet;

use bytes::Bytes;
use sql::clock::Clock;
use sql::model::ApiKeyId;
use tokio::sync::mpsc;

use super::stream_log::{AWAY_KEPT, EVENTS_MAX, STREAM_BYTES_MAX, UNREAD_MAX};
use super::*;
use crate::downstream::in_flight::CallsInFlight;
use crate::testing::pass;
use crate::wire::sse::{Event, Reader};

const SESSION: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

/// What one connection gets.
struct Connection {
    body: mpsc::Receiver<Bytes>,
    reader: Reader,
    last: Option<EventId>,
}

impl Connection {
    fn of(reading: Reading) -> Self {
        let (events, body) = mpsc::channel(1);
        let never = CancellationToken::new;
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        tasks.spawn("connection", reading.copy(events, never(), never()));
        Self { body, reader: Reader::new(usize::MAX), last: None }
    }

    fn resume(log: &Arc<StreamLog>, after: EventId) -> Self {
        assert_eq!(after.stream, log.name());
        Self::of(log.resume(after.number, None).expect("it goes on"))
    }

    async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.reader.next_event().expect("of any size") {
                let id = event.id.as_deref().map(|id| EventId::parse(id, SESSION).expect("an id of ours"));
                self.last = id.or(self.last);
                return Some(event);
            }
            self.reader.push(self.body.recv().await?);
        }
    }

    /// The next event that has data.
    async fn next(&mut self) -> Option<String> {
        loop {
            let event = self.event().await?;
            if !event.data.is_empty() {
                return Some(String::from_utf8(event.data.to_vec()).expect("UTF-8"));
            }
        }
    }

    async fn rest(mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Some(data) = self.next().await {
            rest.push(data);
        }
        rest
    }
}

fn scene(form: Form) -> (Replays, Arc<StreamLog>) {
    let replays = Replays::default();
    let log = replays.begin(SESSION, form);
    (replays, log)
}

fn tasks() -> Tasks {
    Tasks::new(tokio::runtime::Handle::current())
}

fn words(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("\"{number}\"")).collect()
}

#[tokio::test]
async fn whatever_breaks_each_event_comes_once_and_in_order() {
    // Breaks after so many events, of a stream that is written all the while, in small pieces and large.
    for broken_after in 1..20 {
        let (replays, log) = scene(Form::Primed);
        let mut connection = Connection::of(log.open(None));
        let written = Arc::clone(&log);
        tasks().spawn("writer", async move {
            for word in words(0..150) {
                let filler = Bytes::from(" ".repeat(if word.ends_with("7\"") { 20_000 } else { 3 }));
                assert!(written.send(vec![Bytes::from(word), filler]).await);
            }
            written.end();
        });
        assert_eq!(connection.event().await.expect("the priming event").data, "");
        let mut read = Vec::new();
        loop {
            for _ in 0..broken_after {
                read.extend(connection.next().await.map(|data| data.trim_end().to_owned()));
            }
            let last = connection.last.expect("ids from the start");
            if last.number == 150 {
                break;
            }
            drop(connection);
            connection = Connection::resume(&log, last);
        }
        assert_eq!(read, words(0..150), "breaking after {broken_after}");
        assert_eq!(connection.next().await, None, "the end");
        replays.give_up(&log);
        assert_eq!(replays.bytes(), 0);
    }
}

#[tokio::test]
async fn what_is_resumed_goes_on_live_until_its_end() {
    let (_, log) = scene(Form::Numbered);
    let mut first = Connection::of(log.open(None));
    assert!(log.offer(b"\"0\"") && log.offer(b"\"1\""));
    assert_eq!(first.event().await.expect("no priming event").data, "\"0\"");
    let last = first.last.expect("an id");
    drop(first);
    let mut second = Connection::resume(&log, last);
    assert_eq!(second.next().await.as_deref(), Some("\"1\""));
    assert!(log.offer(b"\"2\""));
    assert_eq!(second.next().await.as_deref(), Some("\"2\""));
    log.end();
    assert_eq!(second.next().await, None);
    assert!(!log.offer(b"\"3\"") && !log.send(vec![]).await);
    // And again, when all is over.
    assert_eq!(Connection::resume(&log, last).rest().await, words(1..3));
}

#[tokio::test]
async fn a_resumed_connection_that_breaks_before_its_first_event_is_resumed_from_the_same_place() {
    let (_, log) = scene(Form::Primed);
    drop(log.open(None));
    assert!(log.offer(b"\"0\"") && log.offer(b"\"1\""));
    let mut after = EventId { stream: log.name(), number: 1 };
    for _ in 0..3 {
        let mut connection = Connection::resume(&log, after);
        assert_eq!(connection.event().await.expect("the priming event").data, "");
        assert_eq!(connection.last, Some(after));
        after = connection.last.expect("an id");
    }
    log.end();
    assert_eq!(Connection::resume(&log, after).rest().await, words(1..2));
}

#[tokio::test]
async fn the_newer_of_two_connections_takes_over_with_its_place() {
    let places = CallsInFlight::default();
    let key = ApiKeyId::new(&Clock::system());
    let (_, log) = scene(Form::Primed);
    let mut first = Connection::of(log.open(places.enter(key, 1)));
    assert!(places.enter(key, 1).is_none());
    let permit = log.take_permit().expect("it has one");
    let start = EventId { stream: log.name(), number: 0 };
    let mut second = Connection::of(log.resume(start.number, Some(permit)).expect("it goes on"));
    assert!(log.offer(b"1"));
    assert_eq!(second.next().await.as_deref(), Some("1"));
    assert_eq!(first.next().await, None);
    drop(first);
    assert!(places.enter(key, 1).is_none(), "the second has it");
    drop(second);
    let free = async {
        while places.enter(key, 1).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), free).await.expect("its place is free");
}

#[tokio::test]
async fn a_full_stream_loses_its_oldest_events_and_says_how_many() {
    let (replays, log) = scene(Form::Numbered);
    drop(log.open(None));
    for word in words(0..EVENTS_MAX + 10) {
        assert!(log.offer(word.as_bytes()));
    }
    let reading = log.resume(3, None).expect("it goes on");
    assert_eq!(reading.missed, 7);
    log.end();
    assert_eq!(Connection::of(reading).rest().await, words(10..EVENTS_MAX + 10));
    // One large event pushes out all others, and stays.
    let log = replays.begin(SESSION, Form::Numbered);
    assert!(log.offer(b"1") && log.offer(&vec![b'2'; 2 * STREAM_BYTES_MAX]));
    log.end();
    let reading = log.resume(0, None).expect("it goes on");
    assert_eq!(reading.missed, 1);
    assert_eq!(Connection::of(reading).rest().await[0].len(), 2 * STREAM_BYTES_MAX);
}

#[tokio::test]
async fn while_a_connection_reads_nothing_is_lost_to_it_and_the_writer_waits() {
    let (_, log) = scene(Form::Numbered);
    let connection = Connection::of(log.open(None));
    let written = Arc::clone(&log);
    let writer = tasks().spawn("writer", async move {
        for word in words(0..2000) {
            assert!(written.send(vec![word.into()]).await);
        }
        written.end();
    });
    let behind = async {
        while log.has_room() {
            tokio::task::yield_now().await;
        }
    };
    behind.await;
    // One that can't wait is told that nobody reads.
    while log.offer(b"\"offered\"") {}
    assert!(!writer.is_finished());
    let rest = connection.rest().await;
    let sent: Vec<String> = rest.into_iter().filter(|data| data != "\"offered\"").collect();
    assert_eq!(sent, words(0..2000));
    assert!(UNREAD_MAX < EVENTS_MAX as u64);
}

#[test]
fn a_place_that_never_was_is_none_to_go_on_from() {
    let (replays, log) = scene(Form::Numbered);
    assert!(log.offer(b"1"));
    for (after, goes_on) in [(0, true), (1, true), (2, false), (u64::MAX, false)] {
        assert_eq!(log.goes_on_after(after), goes_on, "{after}");
        assert_eq!(log.resume(after, None).is_some(), goes_on, "{after}");
    }
    replays.give_up(&log);
    assert!(!log.goes_on_after(0) && log.resume(0, None).is_none());
}

#[test]
fn a_stream_is_found_by_its_own_session() {
    let (replays, log) = scene(Form::Numbered);
    assert!(replays.find(SESSION, log.name()).is_some());
    assert!(replays.find(OTHER, log.name()).is_none());
    replays.give_up(&log);
    assert!(replays.find(SESSION, log.name()).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_ended_stream_is_kept_for_a_while_and_leaves_nothing() {
    let (replays, log) = scene(Form::Primed);
    let (name, tasks) = (log.name(), tasks());
    assert!(log.offer(b"1"));
    replays.keep(log, CancellationToken::new(), &tasks);
    pass(ENDED_KEPT.checked_sub(SWEEP_INTERVAL).expect("longer")).await;
    assert!(replays.find(SESSION, name).is_some());
    pass(3 * SWEEP_INTERVAL).await;
    assert!(replays.find(SESSION, name).is_none());
    assert_eq!((replays.bytes(), tasks.len()), (0, 0));
    assert!(replays.ended().by_session.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_goes_with_its_key_its_session_and_the_gateway() {
    for cause in ["key", "session", "gateway"] {
        let replays = Replays::default();
        let (tasks, revoked) = (tasks(), CancellationToken::new());
        let names: Vec<_> = [SESSION, OTHER]
            .into_iter()
            .map(|session| {
                let log = replays.begin(session, Form::Numbered);
                assert!(log.offer(b"1"));
                let name = log.name();
                replays.keep(log, revoked.clone(), &tasks);
                name
            })
            .collect();
        match cause {
            "key" => revoked.cancel(),
            "session" => replays.end_session(SESSION),
            _ => tasks.stopping().cancel(),
        }
        pass(2 * SWEEP_INTERVAL).await;
        assert!(replays.find(SESSION, names[0]).is_none(), "{cause}");
        assert_eq!(replays.find(OTHER, names[1]).is_some(), cause == "session");
        assert_eq!(replays.bytes() == 0, cause != "session");
    }
}

#[tokio::test]
async fn a_session_keeps_so_many_ended_streams_and_others_theirs() {
    let (replays, other) = scene(Form::Numbered);
    let tasks = tasks();
    let other_name = other.name();
    replays.keep(other, CancellationToken::new(), &tasks);
    let mut names = Vec::new();
    for _ in 0..=ENDED_PER_SESSION_MAX {
        let log = replays.begin(OTHER, Form::Numbered);
        names.push(log.name());
        replays.keep(log, CancellationToken::new(), &tasks);
    }
    assert!(replays.find(SESSION, other_name).is_some());
    let kept: Vec<_> = names.iter().map(|name| replays.find(OTHER, *name).is_some()).collect();
    assert_eq!(kept, [vec![false], vec![true; ENDED_PER_SESSION_MAX]].concat());
}

#[tokio::test]
async fn all_streams_together_hold_so_much_and_the_oldest_ended_ones_go_first() {
    let (replays, tasks) = (Replays::default(), tasks());
    let large = vec![b'1'; STREAM_BYTES_MAX];
    let mut ended = Vec::new();
    for session in 10..15 {
        let session = Uuid::from_u128(session);
        let log = replays.begin(session, Form::Numbered);
        assert!(log.offer(&large));
        ended.push((session, log.name()));
        replays.keep(log, CancellationToken::new(), &tasks);
    }
    let running: Vec<_> = (0..62).map(|_| replays.begin(SESSION, Form::Numbered)).collect();
    for log in &running {
        assert!(log.offer(b"1") && log.offer(&large));
    }
    assert!(replays.bytes() <= BYTES_MAX, "{}", replays.bytes());
    let kept: BTreeSet<_> =
        ended.iter().map(|(session, name)| replays.find(*session, *name).is_some()).collect();
    assert!(replays.find(ended[0].0, ended[0].1).is_none(), "{kept:?}");
    // With none left that has ended, each running one keeps its newest.
    let more: Vec<_> = (0..8).map(|_| replays.begin(SESSION, Form::Numbered)).collect();
    for log in &more {
        assert!(log.offer(b"1") && log.offer(&large));
        assert_eq!(log.resume(0, None).expect("it goes on").missed, 1);
    }
    for log in running.iter().chain(&more) {
        replays.give_up(log);
    }
    assert_eq!(replays.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_stream_of_a_session_waits_for_its_client() {
    let replays = Replays::default();
    let log = replays.begin_session_stream(SESSION, Form::Primed);
    let reading = log.open(None);
    let waiting = tokio::time::timeout(2 * AWAY_KEPT, log.abandoned());
    assert!(waiting.await.is_err(), "not while it is read");
    drop(reading);
    assert!(tokio::time::timeout(AWAY_KEPT / 2, log.abandoned()).await.is_err());
    assert!(log.offer(b"1"), "what is said meanwhile waits");
    // What is said doesn't make it wait for longer.
    assert!(tokio::time::timeout(AWAY_KEPT * 2 / 3, log.abandoned()).await.is_ok());
    let back = log.resume(0, None).expect("it goes on");
    assert!(tokio::time::timeout(2 * AWAY_KEPT, log.abandoned()).await.is_err());
    assert_eq!(Connection::of(back).next().await.as_deref(), Some("1"));
    assert_eq!(replays.0.away.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_closed_before_its_time_says_when_to_come_back() {
    for (form, retry) in [(Form::Primed, Some(4000)), (Form::Numbered, None), (Form::Plain, None)] {
        let log = Replays::default().begin_session_stream(SESSION, form);
        let mut connection = Connection::of(log.open(None));
        if form == Form::Primed {
            assert_eq!(connection.event().await.expect("the priming event").retry, Some(1000));
        }
        log.farewell(Duration::from_secs(4));
        assert_eq!(connection.event().await.and_then(|event| event.retry), retry);
        assert_eq!(connection.event().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_without_resumption_has_no_ids_and_nothing_is_kept_for_it() {
    let (replays, log) = scene(Form::Plain);
    let mut connection = Connection::of(log.open(None));
    assert!(log.offer(b"1"));
    assert_eq!(connection.event().await.map(|event| (event.id, event.data)), Some((None, "1".into())));
    assert_eq!(replays.bytes(), 0);
    assert!(replays.find(SESSION, log.name()).is_none());
    drop(connection);
    let stream = replays.begin_session_stream(SESSION, Form::Plain);
    drop(stream.open(None));
    assert!(tokio::time::timeout(SWEEP_INTERVAL, stream.abandoned()).await.is_ok(), "at once");
}
