//! What the tests of several modules need.

use std::time::Duration;

use sql::clock::Clock;
use sql::model::Timestamp;
use sql::{Database, MasterKey, Store, StoreOptions};
use tokio::time::{Instant, sleep_until};

/// A store in memory, whose clock stands still.
pub(crate) async fn store() -> Store {
    let (master_key, _) = MasterKey::from_env_text(MasterKey::generate_hex().expose()).unwrap();
    let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
    let options = StoreOptions {
        database: Database::SqliteMemory,
        master_key,
        previous_keys: Vec::new(),
        clock,
        start_timeout: Duration::from_secs(10),
    };
    Store::open(options).await.unwrap()
}

/// Lets time pass on a paused clock: tasks run as they fall due, and nobody waits for it.
pub(crate) async fn pass(time: Duration) {
    sleep_until(Instant::now() + time).await;
}
