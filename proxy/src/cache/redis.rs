//! The cache in Redis: commands with a deadline, on a connection that one task keeps.
//!
//! A command that isn't answered within [`COMMAND_TIMEOUT`], or in a way that says that Redis can't serve
//! now (gone, loading, out of memory, read-only, no Redis at all), gives the connection up for everybody:
//! from then on commands answer [`Lost`] without a wait. The keeper alone looks for it again, and gives a
//! connection out only after a write on it succeeded. So it is a breaker whose half-open probe costs no call.

mod keeper;
mod script;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use sql::clock::Clock;
use sql::model::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use uuid::Uuid;

pub use self::script::Script;
use super::channels::Channels;
use super::{COMMAND_TIMEOUT, CacheHealth, Lost, RedisAddress, Subscription};
use crate::tasks::Tasks;

/// Sets a value where an expected one (or none) is.
static COMPARE_AND_SET: Script = Script::new(
    "local found = redis.call('GET', KEYS[1])
    if ARGV[1] == '' then
      if found then return 0 end
    elseif found ~= ARGV[2] then return 0 end
    redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
    return 1",
);

/// Removes a value if it is the expected one.
static DELETE_IF: Script = Script::new(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
    return redis.call('DEL', KEYS[1])",
);

/// A Redis, there or not. Clones are one.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    /// `mpg:<installation>:`, before every key and channel.
    prefix: String,
    /// This process among its kind, made anew at every start.
    replica: String,
    link: ArcSwapOption<Link>,
    channels: Channels,
    replicas: AtomicU32,
    state: Mutex<State>,
    up: watch::Sender<bool>,
    clock: Clock,
    /// Tells the keeper that there is something to do.
    wake: Notify,
}

/// A connection on which Redis was seen to serve.
struct Link {
    connection: MultiplexedConnection,
}

struct State {
    since: Timestamp,
    problem: Option<String>,
}

impl Redis {
    /// Starts looking for the Redis at `address`, for one installation. Doesn't wait: see
    /// [`Redis::found_within`].
    pub fn start(
        address: &RedisAddress,
        installation: Uuid,
        clock: Clock,
        tasks: &Tasks,
    ) -> redis::RedisResult<Self> {
        let client = redis::Client::open(address.connection_info()?)?;
        let redis = Self(Arc::new(Inner {
            prefix: format!("mpg:{installation}:"),
            replica: Uuid::now_v7().simple().to_string(),
            link: ArcSwapOption::empty(),
            channels: Channels::default(),
            replicas: AtomicU32::new(1),
            state: Mutex::new(State { since: clock.now(), problem: Some("not connected yet".to_owned()) }),
            up: watch::Sender::new(false),
            clock,
            wake: Notify::new(),
        }));
        tasks.spawn("redis", keeper::keep(redis.clone(), client, tasks.stopping().clone()));
        Ok(redis)
    }

    /// Waits until Redis is there, at most `limit`; answers whether it is.
    pub async fn found_within(&self, limit: Duration) -> bool {
        let mut up = self.0.up.subscribe();
        timeout(limit, up.wait_for(|up| *up)).await.is_ok()
    }

    /// Word of its being lost and found.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.0.up.subscribe()
    }

    /// Whether it is there, as far as is known.
    pub fn is_up(&self) -> bool {
        self.0.link.load().is_some()
    }

    /// This process among its kind; another after a restart.
    pub fn replica(&self) -> &str {
        &self.0.replica
    }

    /// A key or channel as it is called in Redis.
    pub fn full_name(&self, name: &str) -> String {
        [&self.0.prefix, name].concat()
    }

    /// Runs a script on keys that are named without the installation. It must make its own sense of
    /// anything that it finds there.
    pub async fn eval<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<T, Lost> {
        let keys: Vec<String> = keys.iter().map(|key| self.full_name(key)).collect();
        let by_hash = script.by_hash(&keys, arguments);
        match self.run::<T>(&by_hash).await? {
            Ok(answer) => Ok(answer),
            // Redis was restarted or flushed of its scripts: sent once, it knows it again.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command(&script.whole(&keys, arguments)).await
            }
            Err(_) => Err(Lost),
        }
    }

    /// Sends one command whose keys are full names.
    pub async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Lost> {
        self.run(command).await?.map_err(|_| Lost)
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, Lost> {
        let mut command = redis::cmd("GET");
        command.arg(self.full_name(key));
        Ok(self.command::<Option<Vec<u8>>>(&command).await?.map(Bytes::from))
    }

    pub(super) async fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), Lost> {
        let mut command = redis::cmd("SET");
        command.arg(self.full_name(key)).arg(value).arg("PX").arg(millis(ttl));
        self.command(&command).await
    }

    pub(super) async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, Lost> {
        let (is_expected, expected) = expected.map_or((&b""[..], &b""[..]), |bytes| (b"1", bytes));
        let ttl = millis(ttl).to_string();
        let arguments = [is_expected, expected, value, ttl.as_bytes()];
        self.eval(&COMPARE_AND_SET, &[key], &arguments).await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), Lost> {
        let mut command = redis::cmd("DEL");
        command.arg(self.full_name(key));
        self.command(&command).await
    }

    pub(super) async fn delete_if(&self, key: &str, expected: &[u8]) -> Result<bool, Lost> {
        self.eval(&DELETE_IF, &[key], &[expected]).await
    }

    pub(super) async fn publish(&self, channel: &str, message: &[u8]) -> Result<u64, Lost> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(self.full_name(channel)).arg(message);
        self.command(&command).await
    }

    pub(super) fn subscribe(&self, channel: &str) -> Subscription {
        let subscription = self.0.channels.subscribe(&self.full_name(channel));
        self.0.wake.notify_one();
        subscription
    }

    /// The replicas known to be running, or last known; at least 1.
    pub fn replicas(&self) -> u32 {
        self.0.replicas.load(Ordering::Relaxed)
    }

    /// Whether a replica is known to run.
    pub async fn is_living(&self, replica: &str) -> Result<bool, Lost> {
        self.eval(&keeper::IS_LIVING, &[keeper::REPLICAS], &[replica.as_bytes()]).await
    }

    pub(super) fn health(&self) -> CacheHealth {
        let state = self.state();
        CacheHealth {
            up: state.problem.is_none(),
            since: state.since,
            problem: state.problem.clone(),
            replicas: self.replicas(),
        }
    }

    /// Sends a command, if Redis is there. The inner error is about the command alone; one about Redis
    /// itself has been dealt with.
    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<Result<T, RedisError>, Lost> {
        let link = self.0.link.load_full().ok_or(Lost)?;
        let mut connection = link.connection.clone();
        match timeout(COMMAND_TIMEOUT, command.query_async::<T>(&mut connection)).await {
            Ok(Ok(answer)) => Ok(Ok(answer)),
            Ok(Err(error)) if is_about_the_command(&error) => Ok(Err(error)),
            Ok(Err(error)) => {
                self.lose(&link, keeper::describe(&error));
                Err(Lost)
            }
            Err(_) => {
                self.lose(&link, "a command wasn't answered in time".to_owned());
                Err(Lost)
            }
        }
    }

    /// Gives a connection up, unless that was done already.
    fn lose(&self, link: &Arc<Link>, problem: String) {
        let current = self.0.link.compare_and_swap(link, None);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            self.note(Some(problem));
            self.0.wake.notify_one();
        }
    }

    /// Notes that Redis is there (no problem) or not.
    fn note(&self, problem: Option<String>) {
        let up = problem.is_none();
        let mut state = self.state();
        if state.problem.is_none() != up {
            state.since = self.0.clock.now();
        }
        state.problem = problem;
        drop(state);
        self.0.up.send_replace(up);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error says nothing of whether Redis serves: a value of another type where ours should be, a
/// script that failed on what it found, a script that isn't known (yet).
fn is_about_the_command(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
        || matches!(error.code(), Some("WRONGTYPE" | "ERR"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
