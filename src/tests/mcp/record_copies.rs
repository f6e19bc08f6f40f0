//! Call records have a copy in Redis until they are written: each is written once, whoever is lost meanwhile.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Admin, Mcp, PATIENCE, Peer, Postgres, RedisServer, TestGateway, success_of};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const CALLS: u64 = 20;

/// Where the process under test is one of its own kind, whatever the others of this run are.
const ALONE: &str = "it is killed, or cut off from the database, by itself";

async fn call(mcp: &Mcp) {
    for number in 0..CALLS {
        let answer = mcp.call("echo", json!({"message": number.to_string()})).await;
        assert_eq!(success_of(&answer), format!("echo: {number}"));
    }
}

/// The records that have a copy.
fn copied(redis: &RedisServer) -> u64 {
    let script = "local calls = 0
        for _, key in ipairs(redis.call('KEYS', 'mpg:*:calls:*')) do
          for _, copy in ipairs(redis.call('HVALS', key)) do calls = calls + #cjson.decode(copy).calls end
        end
        return calls";
    redis.command(&["EVAL", script, "0"]).parse().expect("a number")
}

async fn copied_reach(redis: &RedisServer, expected: u64) {
    let look = async {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        while copied(redis) != expected {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the copies are there");
}

/// What is told of the calls, once there are as many.
async fn summary_with(admin: &Admin, calls: u64) -> Value {
    let look = async {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        loop {
            ticks.tick().await;
            let (_, summary) = admin.get("stats/summary").await;
            if summary["calls"].as_u64() >= Some(calls) {
                return summary;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the calls are in the sums")
}

async fn listed(admin: &Admin) -> Value {
    admin.get("stats/calls?limit=1").await.1["total"].clone()
}

#[tokio::test]
async fn what_a_killed_replica_could_not_write_another_writes_once() {
    let (Some(postgres), Some(redis)) = (Postgres::create(), RedisServer::start().await) else { return };
    let (cut_off, between) = postgres.through_an_intermediary().await;
    let peer = Peer::start().await;
    let on_redis = |database: &Postgres| {
        TestGateway::start().on(database).alone(ALONE).with_env("MPG_REDIS_ADDR", &redis.address())
    };
    let mut one = on_redis(&cut_off).with_peer("peer", &peer).with_key().await;
    let two = on_redis(&postgres).sharing_admin_of(&one).await;
    one.mcp().lists(&["echo"]).await;

    between.go_away().await;
    call(&one.mcp()).await;
    copied_reach(&redis, CALLS).await;
    one.kill_9().await;

    let admin = two.admin().await;
    assert_eq!(summary_with(&admin, CALLS).await["calls"], CALLS);
    copied_reach(&redis, 0).await;
    assert_eq!(listed(&admin).await, CALLS);
}

#[tokio::test]
async fn with_database_and_redis_lost_and_back_each_record_is_written_once() {
    let (Some(postgres), Some(mut redis)) = (Postgres::create(), RedisServer::start().await) else { return };
    let (database, between) = postgres.through_an_intermediary().await;
    let peer = Peer::start().await;
    let gateway = TestGateway::start()
        .on(&database)
        .alone(ALONE)
        .with_env("MPG_REDIS_ADDR", &redis.address())
        .with_peer("peer", &peer)
        .with_key()
        .await;
    let mcp = gateway.mcp();
    mcp.lists(&["echo"]).await;
    let admin = gateway.admin().await;

    between.go_away().await;
    call(&mcp).await;
    copied_reach(&redis, CALLS).await;
    redis.shut_down();
    call(&mcp).await;
    between.come_back();
    assert_eq!(summary_with(&admin, 2 * CALLS).await["calls"], 2 * CALLS);
    // Without Redis, with the database.
    call(&mcp).await;
    assert_eq!(summary_with(&admin, 3 * CALLS).await["calls"], 3 * CALLS);
    redis.start_again().await;
    call(&mcp).await;
    assert_eq!(summary_with(&admin, 4 * CALLS).await["calls"], 4 * CALLS);
    copied_reach(&redis, 0).await;
    assert_eq!(listed(&admin).await, 4 * CALLS);
    let (_, health) = admin.get("health").await;
    assert_eq!(health["callRecords"], json!({"written": 4 * CALLS, "buffered": 0, "lost": 0, "surplus": 0}));
}
