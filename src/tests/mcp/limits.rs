//! Limits and quotas of keys over whole gateways: alone, over replicas, and while their Redis is lost.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Admin, Line, Mcp, PATIENCE, Postgres, RedisServer, TRANSPORTS, TestGateway};

/// How soon a gateway has to notice that its Redis is lost or back.
const NOTICED_MAX: Duration = Duration::from_secs(5);
/// How long a call may take while Redis hangs: one command's deadline, and a debug build's time.
const DELAYED_MAX: Duration = Duration::from_millis(1500);
/// Between two questions.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until the gateway sees its Redis up or down; answers what it says is wrong.
async fn redis_becomes(admin: &Admin, up: bool) -> Value {
    let mut look = tokio::time::interval(LOOK);
    let becomes = async {
        loop {
            look.tick().await;
            let (_, health) = admin.get("health").await;
            if health["redis"]["up"] == up {
                assert_eq!(health["status"], if up { "ok" } else { "degraded" });
                return health["redis"]["problem"].clone();
            }
        }
    };
    tokio::time::timeout(NOTICED_MAX, becomes).await.expect("noticed in time")
}

/// One message; answers the status and how long it took.
async fn send(mcp: &Mcp) -> (u16, Duration) {
    let started = Instant::now();
    let status = mcp.modern("tools/list", json!({})).await.status();
    (status.as_u16(), started.elapsed())
}

/// Sends until it is refused; answers how many passed.
async fn passed(mcp: &Mcp) -> u32 {
    let mut passed = 0;
    loop {
        match send(mcp).await.0 {
            200 => passed += 1,
            429 => return passed,
            other => panic!("answered {other}"),
        }
    }
}

/// One of those who share a limit.
enum Sender {
    Http(Mcp),
    Line(Line),
}

impl Sender {
    /// Sends one message; answers whether it passed.
    async fn send(&mut self, id: u64) -> bool {
        match self {
            Self::Http(mcp) => match send(mcp).await.0 {
                200 => true,
                429 => false,
                other => panic!("answered {other}"),
            },
            Self::Line(line) => {
                line.modern(id, "tools/list", json!({})).await;
                let answer = line.answer(id).await.1;
                let passed = answer.get("result").is_some();
                assert!(passed || answer["error"]["data"]["code"] == "RATE_LIMITED", "{answer}");
                passed
            }
        }
    }
}

#[tokio::test]
async fn ten_a_second_are_ten_a_second_over_two_gateways_and_three_transports_t34() {
    let (Some(postgres), Some(redis)) = (Postgres::create(), RedisServer::start().await) else {
        eprintln!("MPG_TEST_PG_DSN isn't set: nothing was tested; `.ci/run test-replicas` sets it");
        return;
    };
    let start = || TestGateway::start().on(&postgres).with_env("MPG_REDIS_ADDR", &redis.address());
    let one = start().with_key().await;
    let two = start().sharing_admin_of(&one).await;
    let limit = json!({"rateLimit": {"limit": 10, "windowS": 1}});
    let (_, key) = one.admin().await.create_key("limited", limit).await;
    two.mcp_as(&key).answers_with(StatusCode::OK).await;
    let mut senders = Vec::new();
    for gateway in [&one, &two] {
        senders.push(Sender::Http(gateway.mcp_as(&key)));
        for transport in TRANSPORTS {
            senders.push(Sender::Line(Line::open_as(transport, gateway, &key).await));
        }
    }
    // 1,002 messages in 5 s.
    let pace = Duration::from_secs(5) / 167;
    let started = Instant::now();
    let sending = senders.into_iter().map(async |mut sender| {
        let mut pace = tokio::time::interval(pace);
        let mut passed = 0;
        for id in 0..167 {
            pace.tick().await;
            passed += u32::from(sender.send(id).await);
        }
        passed
    });
    let passed: u32 = futures::future::join_all(sending).await.iter().sum();
    // A slow machine takes longer, in which more may pass.
    let allowed = 10.0 + 10.0 * started.elapsed().as_secs_f64().max(5.0);
    assert!(f64::from(passed) <= allowed, "{passed} of {allowed}");
    assert!(passed >= 45, "{passed}");
}

#[tokio::test]
async fn a_gateway_goes_on_without_its_redis_and_takes_it_up_again_f13() {
    let Some(mut redis) = RedisServer::start().await else { return };
    let began = Instant::now();
    let gateway = TestGateway::start()
        .alone("it has a Redis of its own")
        .with_env("MPG_REDIS_ADDR", &redis.address())
        .with_key()
        .await;
    let admin = gateway.admin().await;
    redis_becomes(&admin, true).await;
    let (mcp, _) = gateway.mcp_with("few", json!({"rateLimit": {"limit": 6, "windowS": 3600}})).await;
    let (many, _) = gateway.mcp_with("many", json!({"rateLimit": {"limit": 100_000, "windowS": 3600}})).await;
    assert_eq!((send(&mcp).await.0, send(&many).await.0), (200, 200));

    // Frozen: one call at most waits, and the limit is kept here.
    redis.freeze();
    let (status, took) = send(&mcp).await;
    assert!(status == 200 && took < DELAYED_MAX, "{status} after {took:?}");
    assert!(redis_becomes(&admin, false).await.is_string());
    let started = Instant::now();
    assert_eq!(passed(&mcp).await, 5, "a budget of its own, of which one was used");
    for _ in 0..10 {
        assert_eq!(send(&many).await.0, 200);
    }
    assert!(started.elapsed() < DELAYED_MAX, "{:?}", started.elapsed());
    redis.thaw();
    redis_becomes(&admin, true).await;
    // What was asked of the frozen one may have been counted there.
    assert!((4..=5).contains(&passed(&mcp).await), "the shared budget goes on where it stood");

    // Flushed: the count begins anew, for a message that isn't refused from memory.
    let (fresh, _) = gateway.mcp_with("fresh", json!({"rateLimit": {"limit": 3, "windowS": 3600}})).await;
    assert_eq!(send(&fresh).await.0, 200);
    assert_eq!(redis.command(&["FLUSHALL"]), "OK");
    assert_eq!(passed(&fresh).await, 3);

    // Full, or a replica of something: what can't be written to is lost, and comes back.
    for (spoil, repair, problem) in [
        (
            &["CONFIG", "SET", "maxmemory", "1"][..],
            &["CONFIG", "SET", "maxmemory", "0"][..],
            "it answered OOM",
        ),
        (&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"], "it answered READONLY"),
    ] {
        assert_eq!(redis.command(spoil), "OK");
        assert_eq!(redis_becomes(&admin, false).await, problem);
        assert_eq!(send(&many).await.0, 200);
        assert_eq!(redis.command(repair), "OK");
        redis_becomes(&admin, true).await;
    }

    // Gone: the setting says what becomes of limits, and acts at once.
    redis.shut_down();
    redis_becomes(&admin, false).await;
    for (version, (word, status)) in [("closed", 503), ("open", 200), ("closed", 503)].into_iter().enumerate()
    {
        let body = json!({"limits": {"redis_lost": word}});
        let (patched, answer) = admin.patch("settings", &format!("\"{version}\""), &body).await;
        assert_eq!(patched, StatusCode::OK, "{answer}");
        assert_eq!(send(&mcp).await.0, status, "{word}");
        assert_eq!(send(&gateway.mcp()).await.0, 200, "who has no limit has nothing to fear");
    }
    redis.start_again().await;
    redis_becomes(&admin, true).await;
    assert_eq!(send(&many).await.0, 200);
    let lost = gateway.log().matches("redis lost").count();
    let most = 1 + began.elapsed().as_secs() / 30;
    assert!(lost >= 1 && lost as u64 <= most, "logged once in 30 s, not {lost} times");
}

#[tokio::test]
async fn a_gateway_starts_without_its_redis() {
    let gateway = TestGateway::start().with_env("MPG_REDIS_ADDR", "127.0.0.1:1").with_key().await;
    assert_eq!(send(&gateway.mcp()).await.0, 200);
    assert_eq!(redis_becomes(&gateway.admin().await, false).await, "not reachable");
}

#[tokio::test]
async fn a_quota_is_one_for_all_transports_and_outlives_a_restart() {
    let mut gateway =
        TestGateway::start().alone("replicas add up what was used every few seconds").with_key().await;
    let (mcp, id) = gateway.mcp_with("k", json!({"quotaPerDay": 3, "quotaPerMonth": 5})).await;
    let usage = format!("keys/{id}/usage");
    for transport in TRANSPORTS {
        let mut line = Line::open_as(transport, &gateway, mcp.key()).await;
        line.modern(1, "tools/list", json!({})).await;
        assert!(line.answer(1).await.1.get("result").is_some(), "{transport}");
    }
    assert_eq!(send(&mcp).await.0, 200);
    let exchange = mcp.modern("tools/list", json!({})).await;
    assert_eq!(exchange.status(), 429);
    for transport in TRANSPORTS {
        let mut line = Line::open_as(transport, &gateway, mcp.key()).await;
        line.modern(1, "tools/list", json!({})).await;
        let error = line.answer(1).await.1["error"].clone();
        assert_eq!((&error["code"], &error["data"]["code"]), (&json!(-32603), &json!("QUOTA_EXCEEDED")));
        assert!((1..=86_400_000).contains(&error["data"]["retryAfterMs"].as_u64().unwrap()), "{error}");
    }
    let (_, used) = gateway.admin().await.get(&usage).await;
    assert_eq!((&used["day"]["used"], &used["day"]["quota"]), (&json!(3), &json!(3)), "{used}");
    assert_eq!((&used["month"]["used"], &used["month"]["quota"]), (&json!(3), &json!(5)), "{used}");
    gateway.terminate().await;
    gateway.start_again().await;
    assert_eq!(send(&mcp).await.0, 429);
    let (_, used) = gateway.admin().await.get(&usage).await;
    assert_eq!(used["day"]["used"], 3, "{used}");
}

#[tokio::test]
async fn gateways_on_one_database_share_a_quota() {
    let Some(postgres) = Postgres::create() else {
        eprintln!("MPG_TEST_PG_DSN isn't set: nothing was tested; `.ci/run test-replicas` sets it");
        return;
    };
    let one = TestGateway::start().on(&postgres).with_key().await;
    let two = TestGateway::start().on(&postgres).sharing_admin_of(&one).await;
    let (mcp, id) = one.mcp_with("k", json!({"quotaPerDay": 1000})).await;
    for _ in 0..20 {
        assert_eq!(send(&mcp).await.0, 200);
    }
    let there = two.mcp_as(mcp.key());
    there.answers_with(StatusCode::OK).await;
    let admin = two.admin().await;
    let mut look = tokio::time::interval(LOOK);
    let known = async {
        loop {
            look.tick().await;
            let (_, used) = admin.get(&format!("keys/{id}/usage")).await;
            if used["day"]["used"].as_u64() >= Some(21) {
                return;
            }
            assert_eq!(send(&there).await.0, 200);
        }
    };
    tokio::time::timeout(PATIENCE, known).await.expect("what one counted is known to the other");
}
