//! What a channel does with what its other end says, and how it ends.

mod scene;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use self::scene::{ALICE, BOB, PATIENCE, Scene, outcome};
pub(in crate::upstream) use self::scene::{Heard, call};
use super::*;
use crate::downstream::conversation::{Outbound, Outbox};
use crate::upstream::link::Dropped;
use crate::wire::meta::Version;

#[tokio::test]
async fn t20_answers_find_their_calls_whatever_their_order() {
    let mut scene = Scene::new();
    let (first, first_id) = scene.calling(call(ALICE, "tools/call", &json!({"id": 1})).0).await;
    let (second, second_id) = scene.calling(call(BOB, "tools/call", &json!({"id": 1})).0).await;
    scene.answers(second_id, &json!({"of": "bob"}));
    scene.answers(first_id, &json!({"of": "alice"}));
    assert_eq!(outcome(first).await.expect("answered"), json!({"of": "alice"}));
    assert_eq!(outcome(second).await.expect("answered"), json!({"of": "bob"}));
    scene.end().await;
}

#[tokio::test]
async fn f04_what_nobody_waits_for_is_dropped_and_the_channel_goes_on() {
    let mut scene = Scene::new();
    let (running, id) = scene.calling(call(ALICE, "tools/call", &json!({})).0).await;
    for garbage in ["not JSON", "{}", "[]", r#"{"jsonrpc":"2.0","id":1,"id":2,"result":{}}"#] {
        scene.says_raw(garbage);
    }
    scene.says(&json!({"jsonrpc": "2.0", "id": id.to_string(), "result": {"of": "a string"}}));
    scene.says(&json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "?"}}));
    scene.answers(id, &json!({"right": true}));
    scene.answers(id, &json!({"right": false}));
    assert_eq!(outcome(running).await.expect("answered"), json!({"right": true}));
    scene.heard.wait("drops", |heard| heard.count(Dropped::Answer) == 3).await;
    assert_eq!(scene.heard.count(Dropped::Garbage), 4);
    scene.end().await;
}

#[tokio::test]
async fn a_message_that_the_transport_refuses_fails_its_call_and_no_other() {
    let mut scene = Scene::new();
    let (running, id) = scene.calling(call(ALICE, "tools/call", &json!({})).0).await;
    let refused = scene.start(call(BOB, "tools/call", &json!({"unwanted": true})).0);
    assert!(matches!(outcome(refused).await, Err(CallError::Refused { status: 413 })));
    scene.channel.notify("notifications/unwanted", None).expect("it is queued");
    scene.answers(id, &json!({"of": "alice"}));
    assert_eq!(outcome(running).await.expect("answered"), json!({"of": "alice"}));
    scene.end().await;
}

#[tokio::test]
async fn an_error_of_the_upstream_passes_as_it_came() {
    let mut scene = Scene::new();
    let (running, id) = scene.calling(call(ALICE, "tools/call", &json!({})).0).await;
    scene.says_raw(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code": -1,  "message":"no","x":1.0}}}}"#
    ));
    let answer = timeout(PATIENCE, running).await.expect("it ends").expect("no panic").expect("answered");
    assert_eq!(answer, Answer::Error(r#"{"code": -1,  "message":"no","x":1.0}"#.into()));
    scene.end().await;
}

#[tokio::test]
async fn progress_has_the_token_of_its_client_and_comes_before_the_answer() {
    let mut scene = Scene::new();
    let with_token = json!({"_meta": {"progressToken": "1"}});
    let (alices, mut to_alice) = call(ALICE, "tools/call", &with_token);
    let (bobs, mut to_bob) = call(BOB, "tools/call", &with_token);
    let (alices, first) = scene.calling(alices).await;
    let (_bobs, second) = scene.calling(bobs).await;
    let progress = |id: u64, at: u64| {
        let params = json!({"progressToken": id, "progress": at});
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
    };
    for at in 1..=3 {
        scene.says(&progress(first, at));
        scene.says(&progress(second, at * 10));
    }
    scene.answers(first, &json!({}));
    scene.says(&progress(first, 4));
    outcome(alices).await.expect("answered");
    scene.heard.dropped_once(Dropped::Progress).await;
    let received = |outbox: &mut Outbox| -> Vec<Value> {
        std::iter::from_fn(|| outbox.next_ready())
            .map(|message| match message {
                Outbound::Notification { params: Some(params), .. } => {
                    serde_json::from_slice(&params).expect("JSON")
                }
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let expected = |by: u64| [1, 2, 3].map(|at| json!({"progressToken": "1", "progress": at * by}));
    assert_eq!(received(&mut to_alice), expected(1));
    assert_eq!(received(&mut to_bob), expected(10));
    scene.end().await;
}

#[tokio::test]
async fn a_request_is_put_to_the_one_client_there_is() {
    let mut scene = Scene::new();
    let (asked, mut outbox) = call(ALICE, "tools/call", &json!({}));
    let (running, id) = scene.calling(asked).await;
    let request =
        json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"message": "?"}});
    scene.says(&request);
    let Some(Outbound::Ask(ask)) = timeout(PATIENCE, outbox.next()).await.expect("it comes") else {
        panic!("a request was sent")
    };
    assert_eq!((&*ask.method, ask.params), ("elicitation/create", Some(r#"{"message":"?"}"#.into())));
    ask.reply.send(Ok(Answer::Result(r#"{"action":"accept"}"#.into()))).expect("it waits");
    assert_eq!(scene.written().await, json!({"jsonrpc": "2.0", "id": "q", "result": {"action": "accept"}}));
    scene.answers(id, &json!({}));
    outcome(running).await.expect("answered");
    scene.end().await;
}

#[tokio::test]
async fn with_two_clients_a_request_is_refused_and_a_log_message_dropped() {
    let mut scene = Scene::new();
    let (alices, mut to_alice) = call(ALICE, "tools/call", &json!({}));
    let (bobs, mut to_bob) = call(BOB, "tools/call", &json!({}));
    let (_alices, _) = scene.calling(alices).await;
    let (_bobs, bobs_id) = scene.calling(bobs).await;
    scene.says(&json!({"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {}}));
    let refused = scene.written().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(1), &json!(-32603)));
    let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x"}});
    scene.says(&log);
    scene.heard.wait("drops", |heard| heard.count(Dropped::Unattributed) == 2).await;
    assert!(to_alice.next_ready().is_none() && to_bob.next_ready().is_none());
    // As soon as one of them has its answer, the other is the only one.
    scene.answers(bobs_id, &json!({}));
    scene.says(&log);
    assert!(matches!(
        timeout(PATIENCE, to_alice.next()).await.expect("it comes"),
        Some(Outbound::Notification { method, .. }) if &*method == "notifications/message"
    ));
    scene.end().await;
}

#[tokio::test]
async fn without_a_call_a_request_is_refused_and_the_rest_told_to_everyone() {
    let mut scene = Scene::new();
    scene.says(&json!({"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {}}));
    assert_eq!(scene.written().await["error"]["code"], -32601);
    scene.says(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    scene.heard.notified_of("notifications/tools/list_changed").await;
    scene.says(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": 1}}));
    scene.heard.notified_of("notifications/message").await;
    assert_eq!(scene.heard.count(Dropped::Unattributed), 1);
    scene.end().await;
}

#[tokio::test]
async fn answers_pings_itself_and_shared_roots_never() {
    let mut scene = Scene::new();
    let (asked, mut outbox) = call(ALICE, "tools/call", &json!({}));
    let (_running, _) = scene.calling(asked).await;
    scene.says(&json!({"jsonrpc": "2.0", "id": "p", "method": "ping"}));
    assert_eq!(scene.written().await, json!({"jsonrpc": "2.0", "id": "p", "result": {}}));
    scene.says(&json!({"jsonrpc": "2.0", "id": 2, "method": "roots/list"}));
    assert_eq!(scene.written().await["error"]["code"], -32601);
    assert!(outbox.next_ready().is_none());
    scene.end().await;
}

#[tokio::test]
async fn a_modern_upstream_may_not_ask() {
    let mut scene = Scene::new();
    scene.channel.set_protocol(Negotiated { version: Version::V2026_07_28, capabilities: Bytes::new() });
    let (asked, mut outbox) = call(ALICE, "tools/call", &json!({}));
    let (_running, _) = scene.calling(asked).await;
    scene.says(&json!({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": {}}));
    scene.heard.dropped_once(Dropped::Garbage).await;
    scene.says(&json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}));
    assert_eq!(scene.written().await["id"], 2, "nothing was written before");
    assert!(outbox.next_ready().is_none());
    scene.end().await;
}

#[tokio::test]
async fn a_subscription_speaks_to_everyone_and_may_end_by_cancellation() {
    let mut scene = Scene::new();
    scene.channel.set_protocol(Negotiated { version: Version::V2026_07_28, capabilities: Bytes::new() });
    let listen = Call::own("subscriptions/listen", r#"{"notifications":{}}"#.into(), PATIENCE, 1024);
    let (running, id) = scene.calling(listen).await;
    let (other, other_id) = scene.calling(call(ALICE, "tools/call", &json!({})).0).await;
    let params = json!({"_meta": {"io.modelcontextprotocol/subscriptionId": id}, "uri": "a:b"});
    scene.says(&json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params}));
    scene.heard.notified_of("notifications/resources/updated").await;
    for id in [other_id, id] {
        scene.says(
            &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}),
        );
    }
    assert_eq!(outcome(running).await.expect("a graceful end"), json!({"resultType": "complete"}));
    scene.answers(other_id, &json!({}));
    outcome(other).await.expect("an upstream can't cancel a call");
    scene.end().await;
}

#[tokio::test]
async fn a_question_taken_back_is_not_answered() {
    let mut scene = Scene::new();
    let (asked, mut outbox) = call(ALICE, "tools/call", &json!({}));
    let (_running, _) = scene.calling(asked).await;
    scene.says(&json!({"jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": {}}));
    let Some(Outbound::Ask(mut ask)) = timeout(PATIENCE, outbox.next()).await.expect("it comes") else {
        panic!("a request was sent")
    };
    scene.says(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}));
    timeout(PATIENCE, ask.reply.closed()).await.expect("the client's side sees it");
    scene.says(&json!({"jsonrpc": "2.0", "id": 8, "method": "ping"}));
    assert_eq!(scene.written().await["id"], 8, "nothing was written before");
    scene.end().await;
}

#[tokio::test]
async fn more_questions_than_people_answer_are_refused() {
    let mut scene = Scene::new();
    let (asked, _outbox) = call(ALICE, "tools/call", &json!({}));
    let (_running, _) = scene.calling(asked).await;
    for id in 0..=reading::QUESTIONS_MAX {
        scene.says(&json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": {}}));
    }
    let refused = scene.written().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(reading::QUESTIONS_MAX), &json!(-32603)));
    scene.end().await;
}

#[tokio::test]
async fn f27_a_cancelled_call_is_cancelled_upstream_and_its_late_answer_dropped() {
    let mut scene = Scene::new();
    let (cancelled, _outbox) = call(ALICE, "tools/call", &json!({}));
    let cancel = cancelled.cancel.clone();
    let (running, id) = scene.calling(cancelled).await;
    cancel.cancel();
    assert!(matches!(outcome(running).await, Err(CallError::Cancelled)));
    let told = scene.written().await;
    assert_eq!(
        (&told["method"], &told["params"]["requestId"]),
        (&json!("notifications/cancelled"), &json!(id))
    );
    scene.answers(id, &json!({}));
    scene.heard.dropped_once(Dropped::Answer).await;
    scene.end().await;
}

#[tokio::test]
async fn a_call_whose_future_is_dropped_is_cancelled_too_but_initialize_never() {
    let mut scene = Scene::new();
    let (running, _) = scene.calling(call(ALICE, "initialize", &json!({})).0).await;
    running.abort();
    let (running, id) = scene.calling(call(ALICE, "tools/call", &json!({})).0).await;
    running.abort();
    assert_eq!(scene.written().await["params"]["requestId"], id);
    scene.end().await;
}

#[tokio::test]
async fn f02_silence_ends_a_call_and_progress_does_not_let_it_be_silent() {
    let mut scene = Scene::new();
    let idle = Duration::from_millis(200);
    let silent = |params: &Value| Call { idle_timeout: idle, ..call(ALICE, "tools/call", params).0 };
    let (running, id) = scene.calling(silent(&json!({}))).await;
    assert!(matches!(outcome(running).await, Err(CallError::TimedOut { after }) if after == idle));
    assert_eq!(scene.written().await["params"]["requestId"], id);

    let started = Instant::now();
    let (running, id) = scene.calling(silent(&json!({"_meta": {"progressToken": 0}}))).await;
    let mut ticks = tokio::time::interval(idle / 4);
    while started.elapsed() < idle * 2 {
        ticks.tick().await;
        let params = json!({"progressToken": id, "progress": 1});
        scene.says(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}));
    }
    scene.answers(id, &json!({}));
    outcome(running).await.expect("it was never silent for long");

    let total = Duration::from_millis(100);
    let (running, _) = scene.calling(Call { total_timeout: total, ..silent(&json!({})) }).await;
    assert!(matches!(outcome(running).await, Err(CallError::TimedOut { after }) if after == total));
    scene.end().await;
}

#[tokio::test]
async fn an_upstream_that_waits_for_the_client_is_not_silent() {
    let mut scene = Scene::new();
    let idle = Duration::from_millis(100);
    let (asked, mut outbox) = call(ALICE, "tools/call", &json!({}));
    let (mut running, id) = scene.calling(Call { idle_timeout: idle, ..asked }).await;
    scene.says(&json!({"jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": {}}));
    let Some(Outbound::Ask(ask)) = timeout(PATIENCE, outbox.next()).await.expect("it comes") else {
        panic!("a request was sent")
    };
    timeout(idle * 3, &mut running).await.expect_err("it waits for the client");
    ask.reply.send(Ok(Answer::Result("{}".into()))).expect("it waits");
    scene.written().await;
    scene.answers(id, &json!({}));
    outcome(running).await.expect("answered");
    scene.end().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_call_and_nobody_else_does() {
    let mut scene = Scene::new();
    let (slow, _never_read) = call(ALICE, "tools/call", &json!({"_meta": {"progressToken": 0}}));
    let (slow, slow_id) = scene.calling(slow).await;
    let (other, other_id) = scene.calling(call(BOB, "tools/call", &json!({})).0).await;
    for at in 0..1000 {
        let params = json!({"progressToken": slow_id, "progress": at});
        scene.says(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}));
    }
    scene.answers(other_id, &json!({}));
    outcome(other).await.expect("the reader never waits");
    assert!(matches!(outcome(slow).await, Err(CallError::Cancelled)));
    scene.end().await;
}

#[tokio::test]
async fn f01_a_broken_channel_tells_what_was_sent_from_what_was_not() {
    let mut scene = Scene::new();
    let (sent, _) = scene.calling(call(ALICE, "tools/call", &json!({})).0).await;
    // The test reads no more: one message is taken, one is being written, the last stays queued.
    let first = scene.start(call(ALICE, "tools/call", &json!({})).0);
    let second = scene.start(call(ALICE, "tools/call", &json!({})).0);
    let waiting = |calls: &Channel| calls.shared.queue.max_capacity() - calls.shared.queue.capacity();
    while scene.channel.shared.calls().pending.len() < 3 || waiting(&scene.channel) > 0 {
        tokio::task::yield_now().await;
    }
    let third = scene.start(call(ALICE, "tools/call", &json!({})).0);
    while waiting(&scene.channel) < 1 {
        tokio::task::yield_now().await;
    }
    scene.says_raw("broken");
    for sent in [sent, first, second] {
        assert!(matches!(outcome(sent).await, Err(CallError::ClosedMidCall)));
    }
    assert!(matches!(outcome(third).await, Err(CallError::Unavailable { reason }) if reason == "it broke"));
    assert!(scene.channel.lost().is_cancelled());
    let late = scene.channel.request(call(ALICE, "tools/call", &json!({})).0).await;
    assert!(matches!(late, Err(CallError::Unavailable { .. })));
    scene.end().await;
}

#[tokio::test]
async fn a_channel_that_is_closed_was_not_lost() {
    let mut scene = Scene::new();
    let (running, _) = scene.calling(call(ALICE, "tools/call", &json!({})).0).await;
    scene.channel.close();
    assert!(matches!(outcome(running).await, Err(CallError::ClosedMidCall)));
    scene.to_channel.take();
    assert!(!scene.channel.lost().is_cancelled());
    scene.end().await;
}

#[tokio::test]
async fn the_end_of_messages_is_a_loss() {
    let mut scene = Scene::new();
    let (running, id) = scene.calling(call(ALICE, "tools/call", &json!({})).0).await;
    scene.answers(id, &json!({"last": "words"}));
    scene.to_channel.take();
    outcome(running).await.expect("what came before the end counts");
    timeout(PATIENCE, scene.channel.lost().cancelled()).await.expect("it is noticed");
    scene.end().await;
}

#[tokio::test]
async fn a_queue_that_is_full_refuses_and_an_abandoned_request_is_never_written() {
    let mut scene = Scene::new();
    let mut running = Vec::new();
    // The first is taken, the second is being written, and the rest fill the queue.
    for _ in 0..QUEUE_MESSAGES_MAX + 2 {
        running.push(scene.start(call(ALICE, "tools/call", &json!({})).0));
        tokio::task::yield_now().await;
    }
    while scene.channel.shared.queue.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    let refused = scene.channel.request(call(ALICE, "tools/call", &json!({})).0).await;
    assert!(matches!(refused, Err(CallError::Busy { limit: QUEUE_MESSAGES_MAX })));
    for call in running.drain(2..) {
        call.abort();
        let _ = call.await;
    }
    assert_eq!(scene.written().await["method"], "tools/call");
    assert_eq!(scene.written().await["method"], "tools/call");
    assert!(scene.channel.notify("notifications/initialized", None).is_ok());
    assert_eq!(scene.written().await["method"], "notifications/initialized");
    scene.end().await;
}

#[tokio::test]
async fn bytes_that_wait_are_bounded_and_one_large_message_passes_alone() {
    let scene = Scene::new();
    let large = Bytes::from(vec![b' '; QUEUE_BYTES_MAX + 1]);
    assert!(scene.channel.shared.queue(large.clone(), None).is_ok());
    assert!(matches!(scene.channel.shared.queue(large, None), Err(CallError::Busy { .. })));
    scene.end().await;
}

#[tokio::test]
async fn an_answer_larger_than_the_call_allows_is_not_passed_on() {
    let mut scene = Scene::new();
    let small = Call { response_bytes_max: 10, ..call(ALICE, "tools/call", &json!({})).0 };
    let (running, id) = scene.calling(small).await;
    scene.answers(id, &json!({"text": "more than ten bytes"}));
    assert!(matches!(outcome(running).await, Err(CallError::TooLarge { limit: 10 })));
    scene.end().await;
}

#[tokio::test]
async fn a_batch_is_read_element_by_element() {
    let mut scene = Scene::new();
    let (running, id) = scene.calling(call(ALICE, "tools/call", &json!({})).0).await;
    scene.says(&json!([
        {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"},
        17,
        {"jsonrpc": "2.0", "id": id, "result": {}},
    ]));
    outcome(running).await.expect("answered");
    scene.heard.notified_of("notifications/tools/list_changed").await;
    assert_eq!(scene.heard.count(Dropped::Garbage), 1);
    scene.end().await;
}
