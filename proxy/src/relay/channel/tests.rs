//! Exchanges of two replicas through a cache that both share, on a clock that passes by itself.

use async_trait::async_trait;
use tokio::task::JoinSet;

use super::super::directory::HEARTBEAT;
use super::super::testing::{HERE, Installation, Nothing, Replica};
use super::*;
use crate::http_bridge::{McpRequest, McpService};
use crate::testing::pass;

const BYTES_MAX: usize = 1024;

/// Answers after a while.
struct Slow(Duration);

#[async_trait]
impl McpService for Slow {
    async fn serve(&self, _: McpRequest) -> Reply {
        pass(self.0).await;
        Reply::new(ReplyBody::Whole(Bytes::from_static(b"done")))
    }
}

/// Answers with streams that don't end, and hands out their other ends.
struct Endless(mpsc::Sender<mpsc::Sender<Bytes>>);

#[async_trait]
impl McpService for Endless {
    async fn serve(&self, _: McpRequest) -> Reply {
        let (pieces, body) = mpsc::channel(1);
        self.0.send(pieces).await.expect("it is waited for");
        Reply::new(ReplyBody::Stream(body))
    }
}

fn endless() -> (Endless, mpsc::Receiver<mpsc::Sender<Bytes>>) {
    let (streams, begun) = mpsc::channel(1);
    (Endless(streams), begun)
}

/// Lets replicas say that they are there, until what is returned is dropped.
fn there(replicas: &[&Replica]) -> JoinSet<()> {
    let mut saying = JoinSet::new();
    for replica in replicas {
        let directory = Arc::clone(&replica.directory);
        saying.spawn(async move {
            loop {
                directory.say(HERE).await.expect("the cache is there");
                pass(HEARTBEAT).await;
            }
        });
    }
    saying
}

/// Lets a replica listen, and waits until it does.
async fn listening(replica: &Replica) {
    let listening = Arc::clone(&replica.channel).listen(Arc::clone(&replica.listener));
    replica.tasks.spawn("relay through redis", listening);
    pass(Duration::from_millis(1)).await;
}

/// A request and its pass.
fn packed(installation: &Installation, from: &Replica, to: &Replica) -> (String, Bytes) {
    let request = installation.request();
    let packed = carried::pack(&request, &request.body);
    (from.passes.issue(to.id, &packed), packed)
}

/// What follows the head of the message that asks.
fn request(installation: &Installation, from: &Replica, to: &Replica) -> Vec<u8> {
    let (pass, packed) = packed(installation, from, to);
    let length = u16::try_from(pass.len()).expect("short");
    [from.id.to_string().as_bytes(), &length.to_be_bytes(), pass.as_bytes(), &packed].concat()
}

/// The kind of the next message and its exchange.
async fn heard(ear: &mut crate::cache::Subscription) -> (u8, Uuid, Bytes) {
    loop {
        if let Heard::Message(mut message) = ear.next().await.expect("the cache is there") {
            let head: [u8; HEAD_BYTES] = *message.first_chunk().expect("it has a head");
            message.advance(HEAD_BYTES);
            return (head[0], Uuid::from_slice(&head[1..]).expect("an id"), message);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_when_there_is_no_room_is_told_at_once() {
    let installation = Installation::new();
    let replica = installation.replica(2, Nothing);
    for n in 0..EXCHANGES_MAX {
        replica.channel.served.insert(Uuid::from_u128(n as u128), CancellationToken::new());
    }
    let from = ReplicaId::from_bits(1).expect("small");
    let mut ear = installation.cache.subscribe(&channel_of(from));
    let (id, began) = (Uuid::from_u128(u128::MAX), Instant::now());
    let request = [&[Kind::Request as u8], id.as_bytes().as_slice(), from.to_string().as_bytes()].concat();
    replica.channel.take(request.into(), &replica.listener);
    let (kind, of, status) = heard(&mut ear).await;
    assert_eq!((kind, of), (Kind::Refused as u8, id));
    assert_eq!(status[..], 503_u16.to_be_bytes());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_hears_nothing_at_all_gives_up_and_says_so() {
    let installation = Installation::new();
    let (one, mute) = (installation.replica(1, Nothing), installation.replica(2, Nothing));
    let _there = there(&[&one, &mute]);
    listening(&one).await;
    let mut ear = installation.cache.subscribe(&channel_of(mute.id));
    let began = Instant::now();
    let answer = one.channel.ask(mute.id, "a pass", b"a request", BYTES_MAX).await;
    assert_eq!(answer.err(), Some(Unreached::Unavailable));
    assert_eq!(began.elapsed(), SILENT_LOOKS_MAX * LOOK_INTERVAL);
    let (kind, id, _) = heard(&mut ear).await;
    assert_eq!(kind, Kind::Request as u8);
    assert_eq!(heard(&mut ear).await, (Kind::Cancelled as u8, id, Bytes::new()));
    assert!(one.channel.begun.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_is_waited_for_however_long_it_takes() {
    let installation = Installation::new();
    let (one, slow) =
        (installation.replica(1, Nothing), installation.replica(2, Slow(Duration::from_hours(1))));
    let _there = there(&[&one, &slow]);
    listening(&one).await;
    listening(&slow).await;
    let (pass, packed) = packed(&installation, &one, &slow);
    let answer = one.channel.ask(slow.id, &pass, &packed, BYTES_MAX).await.expect("it is answered");
    let ReplyBody::Whole(body) = answer.into_body() else { panic!("in one piece") };
    assert_eq!(body, "done");
    assert!(slow.channel.served.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_the_replica_that_asked_for_it_is_gone() {
    let installation = Installation::new();
    let (streams, mut begun) = endless();
    let (one, two) = (installation.replica(1, Nothing), installation.replica(2, streams));
    listening(&two).await;
    let mut ear = installation.cache.subscribe(&channel_of(one.id));
    let request = request(&installation, &one, &two);
    one.channel.say(two.id, Kind::Request, Uuid::from_u128(1), &request).await.expect("the cache is there");
    assert_eq!(heard(&mut ear).await.0, Kind::Head as u8);
    let stream = begun.recv().await.expect("it was begun");
    assert_eq!(heard(&mut ear).await.0, Kind::Beat as u8);
    assert!(!stream.is_closed());
    drop(ear);
    let died = Instant::now();
    stream.closed().await;
    assert!(died.elapsed() <= BEAT_INTERVAL, "{:?}", died.elapsed());
    assert!(two.channel.served.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_who_asked_for_it_has_missed_messages() {
    let installation = Installation::new();
    let (streams, mut begun) = endless();
    let (one, two) = (installation.replica(1, Nothing), installation.replica(2, streams));
    let _there = there(&[&one, &two]);
    listening(&one).await;
    listening(&two).await;
    let (pass, packed) = packed(&installation, &one, &two);
    let answer = one.channel.ask(two.id, &pass, &packed, BYTES_MAX).await.expect("it is answered");
    let ReplyBody::Stream(mut body) = answer.into_body() else { panic!("a stream") };
    let stream = begun.recv().await.expect("it was begun");
    stream.send(Bytes::from_static(b"one")).await.expect("it is open");
    assert_eq!(body.recv().await.as_deref(), Some(&b"one"[..]));
    // As after a gap.
    one.channel.begun.clear();
    let missed = Instant::now();
    assert_eq!(body.recv().await, None);
    stream.closed().await;
    assert!(missed.elapsed() <= BEAT_INTERVAL, "{:?}", missed.elapsed());
}

/// The two are heard one right after the other, before what serves the first has run.
#[tokio::test(start_paused = true)]
async fn what_is_cancelled_right_behind_its_request_ends() {
    let installation = Installation::new();
    let (streams, mut begun) = endless();
    let (one, two) = (installation.replica(1, Nothing), installation.replica(2, streams));
    let _ear = installation.cache.subscribe(&channel_of(one.id));
    let id = Uuid::from_u128(1);
    let message =
        |kind: Kind, rest: &[u8]| Bytes::from([&[kind as u8], id.as_bytes().as_slice(), rest].concat());
    two.channel.take(message(Kind::Request, &request(&installation, &one, &two)), &two.listener);
    two.channel.take(message(Kind::Cancelled, b""), &two.listener);
    let stream = begun.recv().await.expect("it was begun");
    tokio::time::timeout(BEAT_INTERVAL * 2, stream.closed()).await.expect("nobody reads it");
    assert!(two.channel.served.is_empty());
}
