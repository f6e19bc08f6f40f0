//! What becomes of keys that change, and of keys that nobody can read any more.

use sql::clock::Clock;
use sql::model::{ApiKey, FilterAction, PlaintextKey};
use sql::seal::MasterKey;
use sql::{Database, StoreOptions};

use super::*;
use crate::catalog::testing::filter;

async fn store() -> Store {
    let key = MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a fresh key").0;
    let options = StoreOptions {
        database: Database::SqliteMemory,
        master_key: key,
        previous_keys: Vec::new(),
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

async fn insert_key(store: &Store, n: usize) -> ApiKeyId {
    let clock = store.clock().clone();
    let key = ApiKey::create(ApiKeyId::new(&clock), format!("k{n}"), &PlaintextKey::generate(), clock.now());
    let mut tx = store.begin().await.unwrap();
    api_keys::insert(&mut tx, &key).await.unwrap();
    tx.commit().await.unwrap();
    key.id
}

#[tokio::test]
async fn keys_that_come_one_by_one_are_read_one_by_one() {
    let store = store().await;
    let mut follower = follower(&store, Duration::from_hours(1)).await;
    let reminded = follower.published.changes();
    let known = follower.full_loads;
    for n in 0..1000 {
        insert_key(&store, n).await;
        if n % 7 == 0 {
            follower.catch_up().await.unwrap();
        }
    }
    follower.catch_up().await.unwrap();
    assert_eq!((follower.keys.len(), follower.full_loads), (1001, known), "no full load");
    assert!(!reminded.has_changed().unwrap(), "no stream has to look for a key that is new");
}

#[tokio::test]
async fn the_rules_of_a_key_are_followed_with_the_key() {
    let store = store().await;
    let mut follower = follower(&store, Duration::from_hours(1)).await;
    let id = insert_key(&store, 0).await;
    follower.catch_up().await.unwrap();
    let before = follower.keys.policy(id).unwrap();
    let mut reminded = follower.published.changes();
    let rule = filter(RuleOwner::Key(id), FilterAction::Deny, "x");
    let mut tx = store.begin().await.unwrap();
    rules::insert(&mut tx, &rule).await.unwrap();
    tx.commit().await.unwrap();
    follower.catch_up().await.unwrap();
    let after = follower.keys.policy(id).unwrap();
    assert_ne!(before, after);
    assert!(reminded.has_changed().unwrap(), "its streams look again");
    reminded.mark_unchanged();
    // A full load comes to the same.
    let mut whole =
        KeyFollower::new(store.clone(), Keys::default(), follower.published.clone(), Duration::from_hours(1));
    whole.load(&mut store.read().await.unwrap()).await.unwrap();
    assert_eq!(whole.keys.policy(id).unwrap(), after);
    let mut tx = store.begin().await.unwrap();
    assert!(rules::delete::<sql::model::FilterRule>(&mut tx, rule.id).await.unwrap());
    tx.commit().await.unwrap();
    follower.catch_up().await.unwrap();
    assert_eq!(follower.keys.policy(id).unwrap(), before);
}
