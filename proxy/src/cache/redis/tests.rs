//! The cache in a real Redis, where `MPG_TEST_REDIS_ADDR` names one, and against peers that are none.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::*;
use crate::cache::{Cache, Heard};

const TTL: Duration = Duration::from_mins(1);
const FOUND_MAX: Duration = Duration::from_secs(5);

/// The Redis that the environment names; none where tests run without.
pub(crate) fn address() -> Option<RedisAddress> {
    let named = std::env::var("MPG_TEST_REDIS_ADDR").ok().filter(|address| !address.is_empty());
    if named.is_none() {
        eprintln!("MPG_TEST_REDIS_ADDR isn't set: nothing was tested; `.ci/run test-replicas` sets it");
    }
    named.map(|address| RedisAddress::parse(&address).expect("an address"))
}

/// A replica of `installation`, once it has found its Redis.
pub(crate) async fn replica(address: &RedisAddress, installation: Uuid, tasks: &Tasks) -> Redis {
    let redis = Redis::start(address, installation, Clock::system(), tasks).unwrap();
    assert!(redis.found_within(FOUND_MAX).await, "{:?}", redis.health());
    redis
}

async fn started(address: &RedisAddress) -> (Redis, Tasks) {
    let tasks = Tasks::new(Handle::current());
    (replica(address, Uuid::now_v7(), &tasks).await, tasks)
}

#[tokio::test]
async fn values_live_for_their_time_and_are_exchanged_for_the_expected_ones() {
    let Some(address) = address() else { return };
    let (redis, tasks) = started(&address).await;
    let cache = Cache::Redis(redis.clone());
    assert_eq!(cache.get("a").await.unwrap(), None);
    cache.set("a", b"\0\xff", TTL).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap().as_deref(), Some(&b"\0\xff"[..]));
    assert!(!cache.compare_and_set("a", None, b"1", TTL).await.unwrap());
    assert!(!cache.compare_and_set("a", Some(b""), b"1", TTL).await.unwrap());
    assert!(cache.compare_and_set("a", Some(b"\0\xff"), b"", TTL).await.unwrap());
    assert!(cache.compare_and_set("a", Some(b""), b"2", TTL).await.unwrap());
    assert!(cache.compare_and_set("b", None, b"1", TTL).await.unwrap());
    assert!(!cache.delete_if("a", b"1").await.unwrap());
    assert!(cache.delete_if("a", b"2").await.unwrap());
    cache.delete("b").await.unwrap();
    assert_eq!(cache.get("b").await.unwrap(), None);
    // Every key is this installation's, and goes by itself.
    let mut command = redis::cmd("PTTL");
    command.arg(redis.full_name("replicas"));
    assert!((1..=10_000).contains(&redis.command::<i64>(&command).await.unwrap()));
    tasks.stop().await;
    assert_eq!(cache.get("a").await, Err(Lost));
}

#[tokio::test]
async fn replicas_know_of_each_other_and_hear_each_other() {
    let Some(address) = address() else { return };
    let (installation, tasks) = (Uuid::now_v7(), Tasks::new(Handle::current()));
    let one = replica(&address, installation, &tasks).await;
    let second = Tasks::new(Handle::current());
    let two = replica(&address, installation, &second).await;
    let (stranger, strange) = started(&address).await;
    assert_eq!((two.replicas(), stranger.replicas()), (2, 1));
    let mut heard = one.subscribe("news");
    let mut elsewhere = stranger.subscribe("news");
    assert_eq!(heard.next().await, Some(Heard::Gap));
    assert_eq!(elsewhere.next().await, Some(Heard::Gap));
    assert_eq!(two.publish("news", b"hello").await.unwrap(), 1);
    assert_eq!(heard.next().await, Some(Heard::Message(Bytes::from_static(b"hello"))));
    // Who leaves in order is not counted any more.
    second.stop().await;
    let mut command = redis::cmd("ZCARD");
    command.arg(one.full_name("replicas"));
    assert_eq!(one.command::<u32>(&command).await.unwrap(), 1);
    strange.stop().await;
    tasks.stop().await;
}

#[tokio::test]
async fn a_foreign_value_fails_its_command_and_nothing_else() {
    let Some(address) = address() else { return };
    let (redis, tasks) = started(&address).await;
    let mut command = redis::cmd("LPUSH");
    command.arg(redis.full_name("a")).arg("x");
    redis.command::<u32>(&command).await.unwrap();
    assert_eq!(redis.get("a").await, Err(Lost));
    assert!(redis.is_up());
    redis.set("a", b"1", TTL).await.unwrap();
    redis.delete("a").await.unwrap();
    tasks.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_cut_is_found_again_and_channels_are_joined_again_f13() {
    let Some(address) = address() else { return };
    let (redis, tasks) = started(&address).await;
    let (other, others) = started(&address).await;
    let mut heard = redis.subscribe("news");
    assert_eq!(heard.next().await, Some(Heard::Gap));
    let id: i64 = redis.command(redis::cmd("CLIENT").arg("ID")).await.unwrap();
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("ID").arg(id);
    let mut up = redis.watch();
    assert_eq!(other.command::<u32>(&kill).await.unwrap(), 1);
    up.wait_for(|up| !up).await.unwrap();
    assert_eq!(heard.next().await, Some(Heard::Gap));
    assert!(redis.is_up());
    assert_eq!(redis.publish("news", b"again").await.unwrap(), 1);
    assert_eq!(heard.next().await, Some(Heard::Message(Bytes::from_static(b"again"))));
    others.stop().await;
    tasks.stop().await;
}

/// Commands that a client sends at once to introduce itself, and a few more.
const COMMANDS: usize = 8;

/// A peer that reads all it is sent and answers each command with `answer`.
async fn peer(answer: &'static [u8], tasks: &Tasks) -> RedisAddress {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = RedisAddress::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let (stopping, of_connections) = (tasks.stopping().clone(), tasks.clone());
    tasks.spawn("peer", async move {
        while let Some(Ok((mut stream, _))) = stopping.run_until_cancelled(listener.accept()).await {
            let stopping = stopping.clone();
            of_connections.spawn("peer connection", async move {
                let mut read = [0; 4096];
                while let Some(Ok(1..)) = stopping.run_until_cancelled(stream.read(&mut read)).await {
                    if stream.write_all(&answer.repeat(COMMANDS)).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn what_is_no_redis_is_lost_without_a_wait_f13() {
    let peers: [(&[u8], &str); 4] = [
        (b"", "no connection in time"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers there is no Redis"),
        (b"-NOAUTH Authentication required.\r\n", "the password or user was refused"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "it answered LOADING"),
    ];
    for (answer, problem) in peers {
        let tasks = Tasks::new(Handle::current());
        let address = peer(answer, &tasks).await;
        let redis = Redis::start(&address, Uuid::now_v7(), Clock::system(), &tasks).unwrap();
        let started = tokio::time::Instant::now();
        assert_eq!(redis.get("a").await, Err(Lost));
        assert_eq!(redis.publish("a", b"").await, Err(Lost));
        assert!(started.elapsed() < COMMAND_TIMEOUT / 2);
        while redis.health().problem.as_deref() == Some("not connected yet") {
            redis.watch().changed().await.unwrap();
        }
        let health = redis.health();
        assert_eq!((health.up, health.problem.as_deref(), health.replicas), (false, Some(problem), 1));
        tasks.stop().await;
    }
}
