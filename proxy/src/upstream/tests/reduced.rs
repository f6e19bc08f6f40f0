//! Sessions that declare less than all: who is served by them, and what serves where there can be none.

use std::sync::atomic::Ordering;

use sql::model::{ApiKeyId, Isolation};

use super::supervision::{Script, Scripted, connected, scripted, surroundings};
use super::*;
use crate::downstream::abilities::Abilities;
use crate::testing::pass;
use crate::upstream::isolation::Served;
use crate::upstream::link::Roots;

const SAMPLING: Abilities = Abilities { sampling: true, ..Abilities::NONE };
const FORMS: Abilities = Abilities { elicitation_form: true, ..Abilities::NONE };
const ROOTS: Abilities = Abilities { roots: true, ..Abilities::NONE };

/// A legacy upstream that was reached already.
async fn served(
    opener: &Arc<Scripted>,
    isolation: Isolation,
    transport: Transport,
    limit: u32,
) -> (Served, mpsc::Receiver<UpstreamEvent>) {
    let (events, mut news) = mpsc::channel(64);
    let mut settings = Settings::default();
    settings.limits.sessions_per_upstream = limit;
    let surroundings = surroundings(opener, settings, events);
    let spec = Upstream { isolation, transport, ..record("http://127.0.0.1:1/", Protocol::Legacy) };
    let served = Served::start(&Arc::new(spec), &surroundings, Arc::default());
    connected(&mut news).await;
    (served, news)
}

/// A call of a modern client of this key.
async fn call(served: &Served, key: u128, abilities: Abilities) {
    let (mut call, _outbox) = call_of(Owner(Uuid::from_u128(key)), "{}");
    let conversation = call.conversation.of_key(ApiKeyId::from_uuid(Uuid::from_u128(key)));
    call.conversation = conversation.able_to(abilities);
    served.call(call).await.expect("it is served");
}

/// Calls by session, and whether roots are declared there.
fn seen(opener: &Scripted) -> Vec<(usize, Roots)> {
    let links = opener.links.lock().expect("whole").clone();
    links.iter().map(|link| (link.calls.load(Ordering::SeqCst), link.wiring.roots)).collect()
}

#[tokio::test(start_paused = true)]
async fn clients_that_can_be_asked_the_same_share_a_session_until_it_is_idle() {
    let opener = scripted(Vec::new());
    let (served, _news) = served(&opener, Isolation::Shared, Transport::StreamableHttp, 64).await;
    for (key, abilities) in
        [(1, Abilities::ALL), (1, SAMPLING), (2, SAMPLING), (2, ROOTS), (1, Abilities::NONE)]
    {
        call(&served, key, abilities).await;
    }
    let expected = [(2, Roots::OfCalls), (2, Roots::Undeclared), (1, Roots::OfCalls)];
    assert_eq!((seen(&opener).as_slice(), served.status().sessions), (expected.as_slice(), 3));
    pass(Duration::from_mins(11)).await;
    let closed: Vec<_> =
        opener.links.lock().expect("whole").iter().map(|link| link.closed.is_cancelled()).collect();
    assert_eq!((closed, served.status().sessions), (vec![false, true, true], 1));
    served.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_shared_child_is_one_for_all_and_children_of_ones_own_declare_what_their_client_can() {
    for (isolation, expected) in [
        (Isolation::Shared, vec![(3, Roots::OfCalls)]),
        (
            Isolation::PerKey,
            vec![(0, Roots::Undeclared), (1, Roots::Undeclared), (1, Roots::Undeclared), (1, Roots::OfCalls)],
        ),
    ] {
        let opener = scripted(Vec::new());
        let (served, _news) = served(&opener, isolation, Transport::Stdio, 64).await;
        for abilities in [SAMPLING, FORMS, Abilities::ALL] {
            call(&served, 1, abilities).await;
        }
        assert_eq!(seen(&opener), expected, "{isolation:?}");
        served.ended().await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_room_what_declares_all_serves() {
    // Of one owner, however often its clients change their mind.
    let opener = scripted(Vec::new());
    let (shared, _news) = served(&opener, Isolation::Shared, Transport::Websocket, 64).await;
    for bits in 1..15 {
        let bit = |place: u32| bits & (1 << place) != 0;
        let abilities =
            Abilities { sampling: bit(0), elicitation_form: bit(1), elicitation_url: bit(2), roots: bit(3) };
        call(&shared, 1, abilities).await;
    }
    let calls: Vec<_> = seen(&opener).iter().map(|(calls, _)| *calls).collect();
    assert_eq!(calls, [8, 1, 1, 1, 1, 1, 1]);
    shared.ended().await;

    // Of all owners: half of the places are for those who have no session yet.
    let opener = scripted(Vec::new());
    let (per_key, _news) = served(&opener, Isolation::PerKey, Transport::Sse, 4).await;
    for (key, abilities) in [(1, SAMPLING), (1, FORMS), (1, ROOTS), (1, SAMPLING), (2, FORMS), (2, ROOTS)] {
        call(&per_key, key, abilities).await;
    }
    let calls: Vec<_> = seen(&opener).iter().map(|(calls, _)| *calls).collect();
    assert_eq!(
        calls,
        [0, 2, 1, 1, 2],
        "the gateway's, two of the first key that declare less, one each of all"
    );
    per_key.ended().await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_takes_no_further_session_is_asked_again_after_a_while() {
    let opener = scripted(vec![Script::Works, Script::Fails]);
    let (served, _news) = served(&opener, Isolation::Shared, Transport::StreamableHttp, 64).await;
    call(&served, 1, SAMPLING).await;
    call(&served, 1, SAMPLING).await;
    assert_eq!((seen(&opener), opener.opened.load(Ordering::SeqCst)), (vec![(2, Roots::OfCalls)], 2));
    pass(Duration::from_mins(2)).await;
    assert_eq!(opener.opened.load(Ordering::SeqCst), 2, "nobody tries meanwhile");
    call(&served, 1, SAMPLING).await;
    assert_eq!(seen(&opener), [(2, Roots::OfCalls), (1, Roots::Undeclared)]);
    served.ended().await;
}
