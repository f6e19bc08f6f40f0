//! What becomes of keys that change, and of keys that nobody can read any more.

use sql::clock::Clock;
use sql::model::{ApiKey, PlaintextKey};
use sql::seal::MasterKey;
use sql::{Database, StoreOptions};

use super::*;

async fn store() -> Store {
    let key = MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a fresh key").0;
    let options = StoreOptions {
        database: Database::SqliteMemory,
        master_key: key,
        clock: Clock::system(),
        start_timeout: Duration::from_secs(1),
    };
    Store::open(options).await.expect("a store in memory")
}

async fn follower(store: &Store, stale_max: Duration) -> KeyFollower {
    let clock = store.clock().clone();
    let mut tx = store.begin().await.unwrap();
    let key = ApiKey::create(ApiKeyId::new(&clock), "a", &PlaintextKey::generate(), clock.now());
    api_keys::insert(&mut tx, &key).await.unwrap();
    tx.commit().await.unwrap();
    let mut follower = KeyFollower::new(store.clone(), Keys::default(), Published::new(clock), stale_max);
    follower.catch_up().await.unwrap();
    assert_eq!(follower.keys.len(), 1);
    follower
}

#[tokio::test]
async fn without_the_store_keys_are_served_for_a_while() {
    let store = store().await;
    let mut follower = follower(&store, Duration::from_hours(1)).await;
    store.close().await;
    follower.catch_up().await.expect_err("the store is closed");
    follower.close_if_stale();
    assert_eq!(follower.keys.len(), 1);
}

#[tokio::test]
async fn keys_that_nobody_can_revoke_any_more_are_not_served_until_the_store_is_back() {
    let store = store().await;
    let mut follower = follower(&store, Duration::ZERO).await;
    follower.close_if_stale();
    assert!(follower.keys.is_empty());
    follower.catch_up().await.unwrap();
    assert_eq!(follower.keys.len(), 1, "they are read whole again");
}
