//! Streams of the legacy era whose connections break: each is resumed where it was (Streamable HTTP,
//! resumability and redelivery).

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{
    Event, Exchange, Intermediary, LEGACY_LATEST, MODERN, Mcp, PATIENCE, Peer, Session, TestGateway, plain,
    send, success_of,
};

/// Bytes that are kept of one stream.
const KEPT_BYTES: usize = 1024 * 1024;
/// Ended streams that are kept of one session.
const KEPT_STREAMS: usize = 32;

const RESUMABLE: [&str; 3] = ["2025-03-26", "2025-06-18", LEGACY_LATEST];

async fn gateway_before(peer: &Peer) -> TestGateway {
    let gateway = TestGateway::start().with_peer("peer", peer).with_key().await;
    gateway.mcp().lists(&["steps"]).await;
    gateway
}

/// A call that reports once, and `count` times in all when the peer lets it.
async fn steps(session: &Session, id: usize, count: u32) -> Exchange {
    let arguments = json!({"canary": format!("call {id}"), "count": count});
    let params = json!({"name": "steps", "arguments": arguments, "_meta": {"progressToken": id}});
    session.request_as(id, "tools/call", params).await
}

/// The steps that the rest of a call's stream tells of, and the text of its answer.
async fn rest(exchange: Exchange, id: usize) -> (Vec<f64>, String) {
    let (before, answer) = exchange.all().await;
    assert_eq!(answer["id"], id, "{answer}");
    let step = |message: &Value| {
        assert_eq!(message["params"]["progressToken"], id, "of this call: {message}");
        assert_eq!(message["params"]["message"], format!("call {id}"));
        message["params"]["progress"].as_f64().expect("a number")
    };
    (before.iter().map(step).collect(), success_of(&answer["result"]).to_owned())
}

/// The steps from one to another.
fn numbers(steps: RangeInclusive<u32>) -> Vec<f64> {
    steps.map(f64::from).collect()
}

/// Status and code of a GET for the rest of a stream.
async fn refused(session: &Session, last_event_id: &str) -> (u16, i64) {
    session.resume(last_event_id).await.refusal().await
}

#[tokio::test]
async fn broken_connections_cost_no_message_and_repeat_none() {
    const CALLS: usize = 6;
    const STEPS: u32 = 60;
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let intermediary = Intermediary::before(&gateway).await;
    for (round, version) in RESUMABLE.into_iter().enumerate() {
        let session = gateway.mcp().through(&intermediary).initialize(version).await;
        let mut calls = Vec::new();
        for id in 0..CALLS {
            let mut exchange = steps(&session, id, STEPS).await;
            assert_eq!(exchange.expect().await["params"]["progress"], 1.0);
            calls.push((id, exchange));
        }
        peer.counts_reach(|counts| counts.parked == CALLS).await;
        intermediary.cut_all().await;
        // The first half comes back before the rest is said, the second after it.
        let (early, late): (Vec<_>, Vec<_>) = calls.into_iter().partition(|(id, _)| id < &(CALLS / 2));
        let back = early.into_iter().map(async |(id, mut broken)| {
            assert_eq!(broken.next().await, None, "it is cut");
            (id, session.resume(broken.last_event_id()).await)
        });
        let back = join_all(back).await;
        assert_eq!(peer.counts().cancelled, 0, "leaving is not cancelling");
        peer.release_in_reverse();
        peer.counts_reach(|counts| counts.parked == 0 && counts.calls == (round + 1) * CALLS).await;
        let back_late = join_all(
            late.into_iter().map(async |(id, broken)| (id, session.resume(broken.last_event_id()).await)),
        );
        let later = back_late.await;
        for (id, exchange) in back.into_iter().chain(later) {
            assert_eq!(exchange.status(), StatusCode::OK);
            let (told, answer) = rest(exchange, id).await;
            assert_eq!(told, numbers(2..=STEPS), "{version}");
            assert_eq!(answer, format!("call {id}"));
        }
    }
}

#[tokio::test]
async fn a_stream_can_break_at_every_event() {
    const STEPS: u32 = 12;
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let mut exchange = steps(&session, 1, STEPS).await;
    peer.counts_reach(|counts| counts.parked == 1).await;
    let first = exchange.next_raw_event().await.expect("an event");
    assert_eq!((first.data.as_str(), first.retry), ("", Some(1000)), "an id to come back with, and when");
    peer.release_in_reverse();
    let mut told = Vec::new();
    loop {
        let last = exchange.last_event_id().to_owned();
        exchange = session.resume(&last).await;
        let message = exchange.expect().await;
        let Some(step) = message["params"]["progress"].as_f64() else {
            assert_eq!(success_of(&message["result"]), "call 1");
            break;
        };
        told.push(step);
    }
    assert_eq!(told, numbers(1..=STEPS));
    assert_eq!(exchange.next().await, None, "after the answer the stream is over");
}

#[tokio::test]
async fn a_question_that_was_asked_before_the_break_is_answered_after_it() {
    let peer = Peer::start().await;
    for era in ["legacy", "modern"] {
        let gateway = TestGateway::start().with_peer_in(era, "peer", &peer).with_key().await;
        gateway.mcp().lists(&["ask"]).await;
        let intermediary = Intermediary::before(&gateway).await;
        let mcp = gateway.mcp().through(&intermediary);
        let session = mcp.initialize_with(LEGACY_LATEST, json!({"elicitation": {}})).await;
        // The client has heard the question when the connection breaks, or not.
        for heard in [true, false] {
            let mut exchange = session.request("tools/call", json!({"name": "ask", "arguments": {}})).await;
            let before = exchange.next_raw_event().await.and_then(|event| event.id).expect("an id");
            let question = exchange.expect().await;
            let last = if heard { exchange.last_event_id().to_owned() } else { before };
            intermediary.cut_all().await;
            let mut exchange = session.resume(&last).await;
            if !heard {
                assert_eq!(exchange.expect().await, question, "{era}");
            }
            let answer = json!({"action": "accept", "content": {"name": "Ada"}});
            session.answer(&question["id"], answer).await;
            let (before, answer) = exchange.all().await;
            assert_eq!(before, [Value::Null; 0], "{era}");
            assert!(success_of(&answer["result"]).contains("Ada"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_stream_is_its_sessions_own() {
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let (other_key, _) = gateway.mcp_with("other", json!({})).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let mut call = steps(&session, 1, 2).await;
    call.expect().await;
    let mut stream = session.stream().await;
    let stream_id = stream.next_raw_event().await.and_then(|event| event.id).expect("an id");
    let call_id = call.last_event_id().to_owned();
    let sessions = [gateway.mcp().initialize(LEGACY_LATEST).await, other_key.initialize(LEGACY_LATEST).await];
    for other in sessions {
        for id in [&call_id, &stream_id] {
            assert_eq!(refused(&other, id).await, (400, -32600));
        }
    }
    // The session itself isn't another key's either.
    assert_eq!(refused(&session.shown_by(&other_key), &call_id).await, (404, -32001));
    let (name, place) = call_id.split_once('-').expect("a place");
    let later = format!("{name}-{}", place.parse::<u64>().expect("a number") + 1);
    for made_up in ["1", "x", "é", "c0-0", &call_id[1..], name, &later, &format!("{call_id}0")] {
        assert_eq!(refused(&session, made_up).await, (400, -32600), "{made_up}");
    }
    // All this disturbed neither stream.
    peer.release_in_reverse();
    assert_eq!(rest(call, 1).await, (vec![2.0], "call 1".to_owned()));
    peer.change_tools(vec![plain("another")]).await;
    assert_eq!(stream.expect().await["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn the_newer_of_two_connections_has_the_stream() {
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let mut first = steps(&session, 1, 3).await;
    first.expect().await;
    let last = first.last_event_id().to_owned();
    let mut second = session.resume(&last).await;
    assert_eq!(first.next().await, None, "it was replaced");
    let third = session.resume(&last).await;
    assert_eq!(second.next().await, None, "it was replaced");
    peer.release_in_reverse();
    assert_eq!(rest(third, 1).await, (vec![2.0, 3.0], "call 1".to_owned()));
}

#[tokio::test]
async fn who_comes_back_too_late_is_told_what_is_missing() {
    // Together more than is kept, and few enough to wait in a call's queue all at once.
    const STEPS: u32 = 100;
    const STEP_BYTES: usize = 2 * KEPT_BYTES / STEPS as usize;
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    for level in [None, Some("error")] {
        let session = gateway.mcp().apart().initialize(LEGACY_LATEST).await;
        if let Some(level) = level {
            session.request("logging/setLevel", json!({"level": level})).await.result().await;
        }
        let arguments = json!({"canary": "x".repeat(STEP_BYTES), "count": STEPS});
        let params = json!({"name": "steps", "arguments": arguments, "_meta": {"progressToken": 1}});
        let mut exchange = session.request("tools/call", params).await;
        exchange.expect().await;
        let last = exchange.last_event_id().to_owned();
        drop(exchange);
        peer.counts_reach(|counts| counts.parked == 1).await;
        peer.release_in_reverse();
        // All has been said when the stream is over.
        answered(&session, &last).await;
        let mut exchange = session.resume(&last).await;
        let notice = match level {
            None => Some(exchange.expect().await),
            Some(_) => None,
        };
        let (before, answer) = exchange.all().await;
        assert!(answer["result"].is_object(), "{level:?}");
        let told: Vec<_> = before.iter().filter_map(|step| step["params"]["progress"].as_f64()).collect();
        let missing = STEPS - 1 - u32::try_from(told.len()).expect("not that many");
        assert!(missing > 0 && missing < STEPS - 1, "{missing} of {STEPS} are missing");
        assert_eq!(told, numbers(missing + 2..=STEPS), "{level:?}");
        if let Some(notice) = notice {
            assert_eq!(notice["method"], "notifications/message");
            assert_eq!(notice["params"]["level"], "warning");
            let text = notice["params"]["data"].as_str().expect("a text");
            assert!(text.starts_with(&format!("{missing} messages")), "{text}");
        }
    }
}

/// Waits until the stream has its answer, by reading it to its end.
async fn answered(session: &Session, last_event_id: &str) {
    let mut exchange = session.resume(last_event_id).await;
    while exchange.next_raw_event().await.is_some() {}
}

#[tokio::test]
async fn of_streams_that_have_ended_a_session_keeps_the_last_ones() {
    let peer = Peer::start().await;
    let scene = TestGateway::start().alone("each replica keeps as many").with_peer("peer", &peer);
    let gateway = scene.with_key().await;
    gateway.mcp().lists(&["progress"]).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let mut ids = Vec::new();
    for id in 0..=KEPT_STREAMS {
        let params = json!({"name": "progress", "arguments": {}, "_meta": {"progressToken": id}});
        let mut exchange = session.request_as(id, "tools/call", params).await;
        exchange.expect().await;
        ids.push(exchange.last_event_id().to_owned());
        while exchange.next().await.is_some() {}
    }
    assert_eq!(refused(&session, &ids[0]).await, (400, -32600));
    for (id, last) in ids.iter().enumerate().skip(1) {
        let (before, answer) = session.resume(last).await.all().await;
        assert_eq!((before.len(), &answer["id"]), (2, &json!(id)));
    }
    assert_eq!(session.delete().await, StatusCode::NO_CONTENT);
    assert_eq!(refused(&session, &ids[1]).await, (404, -32001));
}

#[tokio::test]
async fn a_cancelled_call_has_no_stream_to_come_back_to() {
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let session = gateway.mcp().apart().initialize(LEGACY_LATEST).await;
    let mut exchange = steps(&session, 1, 2).await;
    exchange.expect().await;
    let last = exchange.last_event_id().to_owned();
    drop(exchange);
    peer.counts_reach(|counts| counts.parked == 1).await;
    session.notify("notifications/cancelled", json!({"requestId": 1})).await;
    peer.counts_reach(|counts| counts.cancelled == 1).await;
    answered_no_more(&session, &last).await;
}

/// Waits until a stream is gone.
async fn answered_no_more(session: &Session, last_event_id: &str) {
    let look = async { while session.resume(last_event_id).await.status() != StatusCode::BAD_REQUEST {} };
    tokio::time::timeout(PATIENCE, look).await.expect("it goes");
}

#[tokio::test]
async fn a_sessions_stream_tells_what_happened_while_nobody_listened() {
    let peer = Peer::start().await;
    let mut gateway = gateway_before(&peer).await;
    let session = gateway.mcp().apart().initialize(LEGACY_LATEST).await;
    let mut stream = session.stream().await;
    let first = stream.next_raw_event().await.expect("the priming event");
    assert_eq!((first.data.as_str(), first.retry), ("", Some(1000)));
    let id = first.id.expect("an id");
    drop(stream);
    peer.change_tools(vec![plain("another")]).await;
    gateway.mcp().lists(&["another"]).await;
    let mut stream = session.resume(&id).await;
    assert_eq!(stream.expect().await["method"], "notifications/tools/list_changed");
    let id = stream.last_event_id().to_owned();
    // What was heard isn't said again; what is new is.
    let mut again = session.resume(&id).await;
    assert_eq!(stream.next().await, None, "it was replaced");
    peer.change_tools(vec![plain("third")]).await;
    assert_eq!(again.expect().await["method"], "notifications/tools/list_changed");
    // After a restart there is nothing to go on with, but a new stream.
    gateway.kill_9().await;
    gateway.start_again().await;
    gateway.mcp().lists(&["third"]).await;
    let mut stream = session.resume(again.last_event_id()).await;
    assert_eq!(stream.status(), StatusCode::OK);
    let first = stream.next_raw_event().await.expect("the priming event");
    assert!(first.data.is_empty() && first.id.is_some(), "{first:?}");
    peer.change_tools(vec![plain("fourth")]).await;
    assert_eq!(stream.expect().await["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn a_calls_stream_is_gone_after_a_restart() {
    let peer = Peer::start().await;
    let mut gateway = gateway_before(&peer).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let mut exchange = steps(&session, 1, 2).await;
    exchange.expect().await;
    gateway.kill_9().await;
    gateway.start_again().await;
    assert_eq!(refused(&session, exchange.last_event_id()).await, (400, -32600));
}

#[tokio::test]
async fn a_gateway_that_stops_says_when_to_come_back() {
    let mut gateway = TestGateway::start().with_key().await;
    let mut streams = Vec::new();
    for version in RESUMABLE {
        streams.push((version, gateway.mcp().initialize(version).await.stream().await));
    }
    gateway.terminate().await;
    for (version, mut stream) in streams {
        let mut events: Vec<Event> = Vec::new();
        while let Some(event) = stream.next_raw_event().await {
            events.push(event);
        }
        if version != LEGACY_LATEST {
            assert_eq!(events, [], "{version}");
            continue;
        }
        let [first, last] = &events[..] else { panic!("{events:?}") };
        assert_eq!(first.retry, Some(1000));
        assert!(last.data.is_empty() && last.id.is_some() && last.id != first.id, "{last:?}");
        assert!(last.retry.is_some_and(|retry| (3000..=5000).contains(&retry)), "{last:?}");
    }
}

#[tokio::test]
async fn a_revoked_key_ends_resumed_streams_within_a_second() {
    let peer = Peer::start().await;
    let scene = TestGateway::start().alone("on other replicas it takes up to two seconds");
    let gateway = scene.with_peer("peer", &peer).with_key().await;
    gateway.mcp().lists(&["steps"]).await;
    let (mcp, id) = gateway.mcp_with("revoked", json!({})).await;
    let session = mcp.initialize(LEGACY_LATEST).await;
    let mut call = steps(&session, 1, 2).await;
    call.expect().await;
    let mut resumed = session.resume(call.last_event_id()).await;
    let mut stream = session.stream().await;
    let last = stream.next_raw_event().await.and_then(|event| event.id).expect("an id");
    let mut stream = session.resume(&last).await;
    let (status, body) = gateway.admin().await.post(&format!("keys/{id}/disable"), &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let revoked = Instant::now();
    assert_eq!((resumed.next().await, stream.next().await), (None, None));
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    peer.counts_reach(|counts| counts.cancelled == 1).await;
}

#[tokio::test]
async fn a_stream_that_takes_the_place_of_another_needs_no_second_place() {
    let peer = Peer::start().await;
    let gateway = TestGateway::start()
        .alone("each replica counts the streams that it has")
        .with_setting("limits", "streams_per_key", 1)
        .with_peer("peer", &peer)
        .with_key()
        .await;
    gateway.mcp().lists(&["steps"]).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let mut stream = session.stream().await;
    for round in 0..20 {
        assert_eq!(stream.status(), StatusCode::OK, "{round}");
        let last = stream.next_raw_event().await.and_then(|event| event.id);
        stream = match last {
            Some(last) if round % 2 == 0 => session.resume(&last).await,
            _ => session.stream().await,
        };
        if round % 2 == 0 {
            // A resumed one begins with what is new: nothing.
            stream = session.stream().await;
        }
    }
    let other = gateway.mcp().initialize(LEGACY_LATEST).await;
    assert_eq!(other.stream().await.status(), StatusCode::TOO_MANY_REQUESTS);
    // The connection that a call began with is none of these, but one that takes over from it is.
    let mut call = steps(&other, 1, 2).await;
    call.expect().await;
    assert_eq!(other.resume(call.last_event_id()).await.status(), StatusCode::TOO_MANY_REQUESTS);
    peer.release_in_reverse();
    assert_eq!(rest(call, 1).await, (vec![2.0], "call 1".to_owned()), "the refusal took nothing away");
}

#[tokio::test]
async fn versions_without_resumption_have_none_of_it() {
    let peer = Peer::start().await;
    let gateway = gateway_before(&peer).await;
    let params = json!({"name": "progress", "arguments": {}, "_meta": {"progressToken": 1}});
    let legacy = gateway.mcp().initialize("2024-11-05").await;
    for mut exchange in
        [legacy.request("tools/call", params.clone()).await, gateway.mcp().modern("tools/call", params).await]
    {
        let mut events = 0;
        while let Some(event) = exchange.next_raw_event().await {
            assert!(event.id.is_none() && event.retry.is_none() && !event.data.is_empty(), "{event:?}");
            events += 1;
        }
        assert_eq!(events, 4);
    }
    // A header that these versions don't know says nothing.
    assert!(legacy.resume("c0-0").await.is_stream());
}

#[tokio::test]
async fn who_opens_a_stream_takes_event_streams() {
    let gateway = TestGateway::start().with_key().await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let get = |accept: Option<&'static str>| {
        let request = session.with_headers(gateway.mcp().request(Method::GET));
        match accept {
            Some(accept) => send(request.header("accept", accept)),
            None => send(request),
        }
    };
    for accept in ["text/event-stream", "*/*", "text/*", "application/json, text/event-stream;q=0.5"] {
        assert_eq!(get(Some(accept)).await.status(), StatusCode::OK, "{accept}");
    }
    for accept in ["application/json", "text/html", "text/event-stream;q=0"] {
        assert_eq!(get(Some(accept)).await.status(), StatusCode::NOT_ACCEPTABLE, "{accept}");
    }
    // The modern era has no such streams, whatever a client takes.
    let modern = gateway.mcp().request(Method::GET).header("mcp-protocol-version", MODERN);
    assert_eq!(send(modern.header("accept", "text/html")).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn an_answer_that_is_there_at_once_is_no_stream() {
    let gateway = TestGateway::start().with_key().await;
    let mcp: Mcp = gateway.mcp();
    let session = mcp.initialize(LEGACY_LATEST).await;
    assert!(!session.request("ping", json!({})).await.is_stream());
    assert!(!session.request("tools/list", json!({})).await.is_stream());
}
