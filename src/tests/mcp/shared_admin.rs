//! What control planes of two replicas know of each other: who guesses passwords, and what was created already.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Admin, Postgres, TestGateway};

/// Guesses that are looked at before the first wait.
const FREE_ATTEMPTS: usize = 5;

async fn log_in(admin: &Admin, username: &str, password: &str) -> (StatusCode, Option<u64>) {
    let url = admin.request(Method::POST, "").build().expect("a request").url().join("/api/auth/login");
    let request = reqwest::Client::new().post(url.expect("a path")).json(&json!({
        "username": username, "password": password,
    }));
    let answer = request.send().await.expect("an answer");
    let wait = answer.headers().get("retry-after").and_then(|wait| wait.to_str().ok()?.parse().ok());
    (answer.status(), wait)
}

/// T12: guessing at each replica in turn gains nothing.
#[tokio::test]
async fn guesses_are_counted_over_all_replicas() {
    let Some(postgres) = Postgres::create_with_redis() else { return };
    let gateway = TestGateway::start().on(&postgres).in_replicas(2).await;
    let admins = [gateway.admin_at(0).await, gateway.admin_at(1).await];
    for index in 0..FREE_ATTEMPTS {
        let guess = log_in(&admins[index % 2], "nobody", "not the password").await;
        assert_eq!(guess, (StatusCode::UNAUTHORIZED, None));
    }
    for admin in &admins {
        let (status, wait) = log_in(admin, "nobody", "not the password").await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert!(wait.is_some_and(|wait| (1..=5).contains(&wait)), "{wait:?}");
    }
}

#[tokio::test]
async fn a_create_that_is_repeated_at_another_replica_makes_one_thing() {
    let Some(postgres) = Postgres::create_with_redis() else { return };
    let mut gateway = TestGateway::start().on(&postgres).in_replicas(2).await;
    let create = async |admin: &Admin| -> (StatusCode, Value) {
        let request = admin.request(Method::POST, "keys").header("idempotency-key", "one");
        let answer = request.json(&json!({"name": "once"})).send().await.expect("an answer");
        (answer.status(), answer.json().await.expect("JSON"))
    };
    let (one, two) = (gateway.admin_at(0).await, gateway.admin_at(1).await);
    let made = create(&one).await;
    assert_eq!(made.0, StatusCode::CREATED, "{}", made.1);
    assert!(made.1["plaintextKey"].is_string(), "{}", made.1);
    assert_eq!(create(&two).await, made);
    // Also once the replica that made it is gone.
    gateway.replica_mut(0).kill_9().await;
    assert_eq!(create(&two).await, made);
    let keys = two.get("keys?search=once").await.1;
    assert_eq!(keys["total"], 1, "{keys}");
}
