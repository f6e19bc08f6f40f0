//! A WebSocket towards a client: what is written, what is read, and when it ends.

use tokio::io::DuplexStream;

use super::*;
use crate::downstream::outlet::{self, Outgoing};
use crate::testing::pass;

/// A connection with a client that the test is, and the queue that is written to it.
struct Scene {
    sink: Sink,
    /// Kept, as the reading half is.
    stream: SplitStream<Socket>,
    client: WebSocketStream<DuplexStream>,
    outgoing: Outgoing,
    queue: mpsc::Receiver<Pieces>,
    missed: AtomicU32,
}

const PACE: Pace = Pace { ping: KEEP_ALIVE, write: WRITE_DEADLINE };

/// `bytes`: what is on its way without having been read.
async fn scene(bytes: usize) -> Scene {
    let (near, far) = tokio::io::duplex(bytes);
    let near: Box<dyn Duplex> = Box::new(near);
    let (sink, stream) = WebSocketStream::from_raw_socket(near, Role::Server, None).await.split();
    let client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    let (outgoing, queue) = outlet::outgoing();
    Scene { sink, stream, client, outgoing, queue, missed: AtomicU32::new(0) }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_shows_no_life_is_gone_after_two_missed_pings() {
    let mut scene = scene(1024).await;
    let began = Instant::now();
    let end = write(&mut scene.sink, &mut scene.queue, &scene.missed, PACE).await;
    assert_eq!(end, End::Silent);
    let took = began.elapsed();
    assert!((3 * KEEP_ALIVE.mul_f64(0.75)..=3 * KEEP_ALIVE).contains(&took), "{took:?}");
    for _ in 0..PINGS_MISSED_MAX {
        assert_eq!(scene.client.next().await.unwrap().unwrap(), Received::Ping(Bytes::new()));
    }
    assert!(end.frame().is_none(), "nobody is there to read it");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_shows_life_stays() {
    let mut scene = scene(1024).await;
    let alive = async {
        loop {
            pass(KEEP_ALIVE).await;
            scene.missed.store(0, Ordering::Relaxed);
        }
    };
    let written = write(&mut scene.sink, &mut scene.queue, &scene.missed, PACE);
    tokio::select! {
        end = written => panic!("{end:?}"),
        () = alive => {}
        () = pass(20 * KEEP_ALIVE) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_given_up_t31() {
    let mut scene = scene(64).await;
    let large = vec![Bytes::from(vec![b' '; 1000]), Bytes::from_static(b"{}")];
    assert!(scene.outgoing.send(large).await);
    let began = Instant::now();
    let end = write(&mut scene.sink, &mut scene.queue, &scene.missed, PACE).await;
    assert_eq!((end, began.elapsed()), (End::TooSlow, WRITE_DEADLINE));
    // And the end doesn't wait for it either.
    close(scene.sink, scene.stream, end).await;
    assert_eq!(began.elapsed(), WRITE_DEADLINE + LINGER);
}

#[tokio::test(start_paused = true)]
async fn a_large_message_has_the_time_that_its_size_needs() {
    let mut scene = scene(64).await;
    let reads_slowly = async {
        // Half a minute of silence, which would be too much for a small message.
        pass(WRITE_DEADLINE + KEEP_ALIVE).await;
        scene.client.next().await
    };
    let payload = Bytes::from(vec![b' '; 2 * WRITE_BYTES]);
    let (sent, received) =
        tokio::join!(send(&mut scene.sink, vec![payload.clone()], WRITE_DEADLINE), reads_slowly);
    assert_eq!(sent, Ok(()));
    assert_eq!(received.unwrap().unwrap().into_data(), payload);
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_out_in_order_each_as_one_frame() {
    let mut scene = scene(1024).await;
    for message in
        [vec![Bytes::from_static(b"{\"a\":"), Bytes::from_static(b"1}")], vec![Bytes::from_static(b"{}")]]
    {
        assert!(scene.outgoing.send(message).await);
    }
    let read = async {
        let mut texts = Vec::new();
        for _ in 0..2 {
            texts.push(scene.client.next().await.unwrap().unwrap().into_text().unwrap().to_string());
        }
        texts
    };
    tokio::select! {
        end = write(&mut scene.sink, &mut scene.queue, &scene.missed, PACE) => panic!("{end:?}"),
        texts = read => assert_eq!(texts, [r#"{"a":1}"#, "{}"]),
    }
}

#[test]
fn every_end_has_the_code_of_its_reason() {
    let code = |end: End| end.frame().map(|frame| u16::from(frame.code));
    for (end, expected) in [
        (End::Left, None),
        (End::Silent, None),
        (End::TooSlow, Some(1008)),
        (End::Binary, Some(1003)),
        (End::NotUtf8, Some(1007)),
        (End::TooLarge, Some(1009)),
        (End::Malformed, Some(1002)),
        (End::Unauthorized, Some(1008)),
        (End::Stopping, Some(1001)),
    ] {
        assert_eq!(code(end), expected, "{end:?}");
    }
}
