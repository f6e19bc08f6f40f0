//! What is done on a schedule, by one replica for all, and how it went when it was done last.
//!
//! The schedule itself is kept outside (the process has it): here is what a job does, the lease that lets one
//! replica do it, and the watch that shows when a job was due for the last time. A scheduler that stands still
//! shows in that: a job that another replica did is noted here as well.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use sql::model::Timestamp;
use sql::{Store, StoreError, leases};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// How long a replica keeps a job after it did it. Several rounds of the most frequent one; another replica takes
/// over so long after this one is gone.
const LEASE: Duration = Duration::from_mins(1);

/// How long a job may take: less than its lease, so that two replicas never do it at once.
const TIME_MAX: Duration = Duration::from_secs(50);

/// A job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// Fetches the lists of every upstream that wants it.
    Sync,
    /// Drops call records that are too old or too many.
    CallRecords,
    /// Makes the partitions of call records ahead, and drops those whose time is over.
    Partitions,
    /// Drops sums of calls whose time is over.
    Rollups,
    /// Drops the state of sessions that have expired.
    Sessions,
    /// Drops counts of quotas of months long past.
    KeyUsage,
}

impl Job {
    /// Every job.
    pub const ALL: &'static [Self] =
        &[Self::Sync, Self::CallRecords, Self::Partitions, Self::Rollups, Self::Sessions, Self::KeyUsage];

    /// Its word, as it is serialised.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::CallRecords => "call-records",
            Self::Partitions => "partitions",
            Self::Rollups => "rollups",
            Self::Sessions => "sessions",
            Self::KeyUsage => "key-usage",
        }
    }

    const fn lease(self) -> &'static str {
        match self {
            Self::Sync => "job:sync",
            Self::CallRecords => "job:call-records",
            Self::Partitions => "job:partitions",
            Self::Rollups => "job:rollups",
            Self::Sessions => "job:sessions",
            Self::KeyUsage => "job:key-usage",
        }
    }
}

/// What came of a job when it was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobOutcome {
    /// It was done here.
    Done,
    /// Another replica has it.
    Elsewhere,
    /// It failed; what it is for is done the next time.
    Failed,
}

impl JobOutcome {
    /// Every word.
    pub const WORDS: &'static [&'static str] = &["done", "elsewhere", "failed"];

    /// Its word, as it is serialised.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Elsewhere => "elsewhere",
            Self::Failed => "failed",
        }
    }
}

/// How a job fares at this replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Which.
    pub job: Job,
    /// When it was due last; `None`: never since this process started.
    pub last_run_at: Option<Timestamp>,
    /// What came of it then.
    pub last_outcome: Option<JobOutcome>,
    /// How long that took, in milliseconds.
    pub last_ms: u64,
    /// How often it was done here since this process started.
    pub done: u64,
    /// How often it failed here since then.
    pub failed: u64,
}

/// The jobs of one replica, watched.
pub struct Jobs {
    store: Store,
    /// This replica, to the leases.
    holder: Uuid,
    watched: Mutex<BTreeMap<Job, JobStatus>>,
    /// One at a time of each: one that takes longer than its schedule isn't begun again meanwhile.
    running: BTreeMap<Job, tokio::sync::Mutex<()>>,
}

impl Jobs {
    /// None has run yet.
    pub(crate) fn new(store: Store) -> Self {
        let unknown = |job: Job| JobStatus {
            job,
            last_run_at: None,
            last_outcome: None,
            last_ms: 0,
            done: 0,
            failed: 0,
        };
        Self {
            store,
            holder: Uuid::now_v7(),
            watched: Mutex::new(Job::ALL.iter().map(|job| (*job, unknown(*job))).collect()),
            running: Job::ALL.iter().map(|job| (*job, tokio::sync::Mutex::default())).collect(),
        }
    }

    /// How each job fares.
    pub fn statuses(&self) -> Vec<JobStatus> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Does a job if this replica has it, and notes what came of it. One that runs already isn't begun again.
    pub(crate) async fn run(&self, job: Job, work: BoxFuture<'_, Result<(), StoreError>>) {
        let Some(Ok(_running)) = self.running.get(&job).map(tokio::sync::Mutex::try_lock) else { return };
        let (begun, began_at) = (Instant::now(), self.store.clock().now());
        let outcome = match timeout(TIME_MAX, self.attempt(job, work)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                tracing::warn!(
                    job = job.as_str(),
                    error = &error as &dyn std::error::Error,
                    "a job failed, it is done when it is due again"
                );
                JobOutcome::Failed
            }
            Err(_) => {
                tracing::warn!(job = job.as_str(), "a job took too long and is cut off");
                JobOutcome::Failed
            }
        };
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = watched.get_mut(&job) {
            status.last_run_at = Some(began_at);
            status.last_outcome = Some(outcome);
            status.last_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            status.done += u64::from(outcome == JobOutcome::Done);
            status.failed += u64::from(outcome == JobOutcome::Failed);
        }
    }

    async fn attempt(
        &self,
        job: Job,
        work: BoxFuture<'_, Result<(), StoreError>>,
    ) -> Result<JobOutcome, StoreError> {
        let mut tx = self.store.begin().await?;
        let is_ours = leases::acquire(&mut tx, job.lease(), self.holder, LEASE).await?;
        tx.commit().await?;
        if !is_ours {
            return Ok(JobOutcome::Elsewhere);
        }
        work.await.map(|()| JobOutcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use sql::clock::Clock;
    use sql::seal::MasterKey;
    use sql::{Database, StoreOptions};

    use super::*;
    use crate::catalog::testing::NOW;

    async fn store() -> Store {
        let (master_key, _) = MasterKey::from_env_text(MasterKey::generate_hex().expose()).unwrap();
        let clock = Clock::manual(NOW);
        let start_timeout = Duration::from_secs(10);
        Store::open(StoreOptions {
            database: Database::SqliteMemory,
            master_key,
            previous_keys: Vec::new(),
            clock,
            start_timeout,
        })
        .await
        .unwrap()
    }

    fn status(jobs: &Jobs, job: Job) -> JobStatus {
        jobs.statuses().into_iter().find(|status| status.job == job).expect("every job is watched")
    }

    #[tokio::test]
    async fn one_replica_does_a_job_and_another_takes_over_when_it_is_gone() {
        let store = store().await;
        let (one, two) = (Jobs::new(store.clone()), Jobs::new(store.clone()));
        assert_eq!(status(&one, Job::Rollups).last_run_at, None);
        for jobs in [&one, &two, &one] {
            jobs.run(Job::Rollups, async { Ok(()) }.boxed()).await;
        }
        let (here, there) = (status(&one, Job::Rollups), status(&two, Job::Rollups));
        assert_eq!((here.last_outcome, here.done, here.last_run_at), (Some(JobOutcome::Done), 2, Some(NOW)));
        assert_eq!((there.last_outcome, there.done), (Some(JobOutcome::Elsewhere), 0));
        assert_eq!(there.last_run_at, Some(NOW), "it was due, so the schedule goes on");
        store.clock().advance(LEASE);
        two.run(Job::Rollups, async { Ok(()) }.boxed()).await;
        assert_eq!(status(&two, Job::Rollups).last_outcome, Some(JobOutcome::Done));
        assert_eq!(status(&two, Job::Sync).last_run_at, None, "each job has a lease of its own");
    }

    #[tokio::test]
    async fn a_job_that_fails_is_seen() {
        let jobs = Jobs::new(store().await);
        jobs.run(Job::Sessions, async { Err(StoreError::Aborted) }.boxed()).await;
        let status = status(&jobs, Job::Sessions);
        assert_eq!((status.last_outcome, status.failed, status.done), (Some(JobOutcome::Failed), 1, 0));
    }

    #[tokio::test]
    async fn a_job_that_runs_is_not_begun_again() {
        let jobs = Jobs::new(store().await);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let slow = jobs.run(
            Job::Partitions,
            async {
                let _ = ended.await;
                Ok(())
            }
            .boxed(),
        );
        let again = async {
            jobs.run(Job::Partitions, async { panic!("it runs") }.boxed()).await;
            drop(end);
        };
        tokio::join!(slow, again);
        assert_eq!(status(&jobs, Job::Partitions).done, 1);
    }
}
