//! The task that keeps the connection: finds Redis, beats, joins channels, and finds it again.
//!
//! A connection is given out after the first heartbeat on it succeeded: a write, so that a Redis that is
//! full or read-only counts as lost. It beats every second; that is also how a connection that nobody
//! uses is found dead, and how the replicas are counted.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, Msg, PushInfo, PushKind, RedisError};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{COMMAND_TIMEOUT, Link, Redis, Script};

/// How long connecting may take, with TLS and a name to resolve.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The first wait before looking again, which doubles up to the second: Redis is back within moments of
/// a failover, and every replica looks.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// How often a replica says that it lives, and how long it counts as living after the last time: it may
/// miss several beats before others take its share of a limit.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
const HEARTBEAT_TTL: Duration = Duration::from_secs(10);

/// How often it is logged that Redis is lost.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Commands that may wait for their turn to be written: enough for a burst, and beyond it a command
/// runs into its deadline.
const QUEUED_MAX: usize = 1024;

/// A set of replicas by the time until which each counts as living, by Redis's clock.
pub(super) const REPLICAS: &str = "replicas";
static BEAT: Script = Script::new(
    "local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
    redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return redis.call('ZCARD', KEYS[1])",
);

/// Whether a replica's time isn't over.
pub(super) static IS_LIVING: Script = Script::new(
    "local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local living_until = redis.call('ZSCORE', KEYS[1], ARGV[1])
    if living_until and tonumber(living_until) > now then return 1 end
    return 0",
);

/// Looks for Redis until told to stop.
pub(super) async fn keep(redis: Redis, client: Client, stopping: CancellationToken) {
    let mut keeper = Keeper { redis, client, logged_at: None, is_news: true, retry: RETRY_MIN };
    let _ = stopping.run_until_cancelled(keeper.run()).await;
    keeper.leave().await;
}

struct Keeper {
    redis: Redis,
    client: Client,
    /// When its loss was last logged.
    logged_at: Option<Instant>,
    /// Whether its return is to be logged: at the start, and after a loss that was.
    is_news: bool,
    retry: Duration,
}

impl Keeper {
    async fn run(&mut self) {
        loop {
            match self.connect().await {
                Ok(link) => {
                    self.retry = RETRY_MIN;
                    self.found(&link);
                    let problem = self.beat_until_lost(&link).await;
                    self.redis.lose(&link, problem);
                    self.redis.0.channels.left_all();
                }
                Err(problem) => self.redis.note(Some(problem)),
            }
            self.log_loss();
            tokio::time::sleep(self.retry).await;
            self.retry = (self.retry * 2).min(RETRY_MAX);
        }
    }

    /// A connection on which a write succeeded.
    async fn connect(&self) -> Result<Arc<Link>, String> {
        let (told, own) = (self.redis.clone(), Arc::new(OnceLock::<Weak<Link>>::new()));
        let of_push = Arc::clone(&own);
        let config = AsyncConnectionConfig::new()
            // Both have a deadline of ours.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUED_MAX)
            .set_push_sender(move |push| {
                told.heard(push, of_push.get());
                Ok::<(), ()>(())
            });
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let connection = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connection) => connection.map_err(|error| describe(&error))?,
            Err(_) => return Err("no connection in time".to_owned()),
        };
        let link = Arc::new(Link { connection });
        let _ = own.set(Arc::downgrade(&link));
        self.beat(&link).await?;
        Ok(link)
    }

    fn found(&mut self, link: &Arc<Link>) {
        self.redis.0.link.store(Some(Arc::clone(link)));
        self.redis.note(None);
        if self.is_news {
            self.is_news = false;
            tracing::info!(replicas = self.redis.replicas(), "redis found");
        }
    }

    /// Answers why the connection was given up.
    async fn beat_until_lost(&self, link: &Arc<Link>) -> String {
        let mut beat = tokio::time::interval(HEARTBEAT_INTERVAL);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first is due at once and was the probe.
        beat.tick().await;
        loop {
            if let Err(problem) = self.follow_channels(link).await {
                return problem;
            }
            tokio::select! {
                () = self.redis.0.wake.notified() => {}
                _ = beat.tick() => {
                    if let Err(problem) = self.beat(link).await {
                        return problem;
                    }
                }
            }
            // Somebody's command was the one that found out.
            if !self.redis.is_up() {
                return self.redis.health().problem.unwrap_or_default();
            }
        }
    }

    async fn beat(&self, link: &Link) -> Result<(), String> {
        let keys = [self.redis.full_name(REPLICAS)];
        let ttl = HEARTBEAT_TTL.as_millis().to_string();
        let arguments = [self.redis.replica().as_bytes(), ttl.as_bytes()];
        let mut connection = link.connection.clone();
        let command = BEAT.whole(&keys, &arguments);
        let replicas: u32 = within(command.query_async(&mut connection)).await?;
        self.redis.0.replicas.store(replicas.max(1), Ordering::Relaxed);
        Ok(())
    }

    /// Joins what is newly listened to and leaves what no longer is.
    async fn follow_channels(&self, link: &Link) -> Result<(), String> {
        let (join, leave) = self.redis.0.channels.changes();
        let mut connection: MultiplexedConnection = link.connection.clone();
        for channel in leave {
            within(connection.unsubscribe(&channel)).await?;
        }
        for channel in join {
            within(connection.subscribe(&channel)).await?;
            self.redis.0.channels.joined(&channel);
        }
        Ok(())
    }

    fn log_loss(&mut self) {
        let now = Instant::now();
        if self.logged_at.is_none_or(|at| now - at >= LOG_INTERVAL) {
            (self.logged_at, self.is_news) = (Some(now), true);
            let problem = self.redis.health().problem.unwrap_or_default();
            tracing::warn!(problem, "redis lost, going on without");
        }
    }

    /// So that the others divide by one less at once. If it fails they find out by the missing beats.
    async fn leave(&self) {
        let mut command = redis::cmd("ZREM");
        command.arg(self.redis.full_name(REPLICAS)).arg(self.redis.replica());
        let _ = self.redis.command::<u32>(&command).await;
        self.redis.0.link.store(None);
    }
}

impl Redis {
    /// What Redis says without being asked, on the connection `link`.
    fn heard(&self, push: PushInfo, link: Option<&Weak<Link>>) {
        match push.kind {
            PushKind::Message => {
                if let Some(message) = Msg::from_push_info(push) {
                    let payload = bytes::Bytes::copy_from_slice(message.get_payload_bytes());
                    self.0.channels.deliver(message.get_channel_name(), payload);
                }
            }
            // The beat would find out a second later.
            PushKind::Disconnection => {
                if let Some(link) = link.and_then(Weak::upgrade) {
                    self.lose(&link, "the connection was closed".to_owned());
                }
            }
            _ => {}
        }
    }
}

async fn within<T>(answer: impl Future<Output = redis::RedisResult<T>>) -> Result<T, String> {
    match timeout(COMMAND_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|error| describe(&error)),
        Err(_) => Err("a heartbeat wasn't answered in time".to_owned()),
    }
}

/// The kind of a failure: its full text may repeat what was configured or what somebody else's server said.
pub(super) fn describe(error: &RedisError) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    if matches!(error.code(), Some("NOAUTH" | "NOPERM" | "WRONGPASS")) {
        return "the password or user was refused".to_owned();
    }
    match error.kind() {
        ErrorKind::Io => "not reachable".to_owned(),
        ErrorKind::AuthenticationFailed => "the password or user was refused".to_owned(),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => "what answers there is no Redis".to_owned(),
        ErrorKind::RESP3NotSupported => "older than Redis 7".to_owned(),
        _ => match error.code() {
            Some(code) => format!("it answered {}", code.chars().take(20).collect::<String>()),
            None => "it could not be used".to_owned(),
        },
    }
}
