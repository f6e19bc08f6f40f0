//! The schedule: when each job is due. What a job does, and which replica does it, is the data plane's.
//!
//! Every job is a cron job, in UTC: the scheduler's repeated jobs stop for ever after a delay (its issues 113 and
//! 114). That it goes on is watched all the same: health and a metric tell when each job was due last.

use std::sync::Arc;

use proxy::data_plane::DataPlane;
use proxy::jobs::Job;
use sql::model::Settings;
use tokio::sync::watch;
use tokio_cron_scheduler::{Job as Scheduled, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// When jobs are due whose schedule is ours. Not at once, so that they don't get in each other's way.
const SCHEDULE: [(Job, &str); 5] = [
    // That is how far the number of records may be off.
    (Job::CallRecords, "*/10 * * * * *"),
    (Job::Rollups, "25 */5 * * * *"),
    // They are made a month ahead; a month that begins has its own long before.
    (Job::Partitions, "35 7 * * * *"),
    (Job::Sessions, "45 17 * * * *"),
    (Job::KeyUsage, "55 27 * * * *"),
];

/// Runs jobs when they are due, those of our own schedule once at the beginning, until `stopping`.
pub(crate) async fn run(
    plane: DataPlane,
    mut settings: watch::Receiver<Arc<Settings>>,
    stopping: CancellationToken,
) {
    let mut schedule = match Schedule::start(plane.clone()).await {
        Ok(schedule) => schedule,
        Err(error) => {
            tracing::error!(error = %error, "the scheduler could not be started: nothing is done on a schedule");
            return;
        }
    };
    let first = async {
        for (job, _) in SCHEDULE {
            plane.run_job(job).await;
        }
    };
    tokio::select! {
        () = first => {}
        () = stopping.cancelled() => {}
    }
    while !stopping.is_cancelled() {
        let cron = settings.borrow_and_update().sync.cron.clone();
        schedule.sync_at(&cron).await;
        tokio::select! {
            changed = settings.changed() => if changed.is_err() { break },
            () = stopping.cancelled() => break,
        }
    }
    schedule.end().await;
}

struct Schedule {
    scheduler: JobScheduler,
    plane: DataPlane,
    /// The schedule of syncs that is in force, as the settings have it, and its id.
    sync: Option<(String, Uuid)>,
}

impl Schedule {
    async fn start(plane: DataPlane) -> Result<Self, JobSchedulerError> {
        let scheduler = JobScheduler::new().await?;
        for (job, cron) in SCHEDULE {
            scheduler.add(scheduled(&plane, job, cron)?).await?;
        }
        scheduler.start().await?;
        Ok(Self { scheduler, plane, sync: None })
    }

    /// Has syncs run by this schedule. One that the scheduler refuses leaves the old one in force.
    async fn sync_at(&mut self, cron: &str) {
        if self.sync.as_ref().is_some_and(|(current, _)| current == cron) {
            return;
        }
        let added = async { self.scheduler.add(scheduled(&self.plane, Job::Sync, &six_fields(cron))?).await };
        match added.await {
            Ok(id) => {
                if let Some((_, former)) = self.sync.replace((cron.to_owned(), id))
                    && let Err(error) = self.scheduler.remove(&former).await
                {
                    tracing::warn!(error = %error, "the former schedule of syncs could not be removed");
                }
            }
            Err(error) => {
                tracing::error!(sync.cron = cron, error = %error, "this is no schedule, the former one stays");
            }
        }
    }

    async fn end(mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::warn!(error = %error, "the scheduler could not be stopped");
        }
    }
}

fn scheduled(plane: &DataPlane, job: Job, cron: &str) -> Result<Scheduled, JobSchedulerError> {
    let plane = plane.clone();
    Scheduled::new_async(cron, move |_, _| {
        let plane = plane.clone();
        Box::pin(async move { plane.run_job(job).await })
    })
}

/// A schedule as the scheduler reads it: with seconds, and without names for common ones.
fn six_fields(cron: &str) -> String {
    match cron {
        "@yearly" | "@annually" => "0 0 0 1 1 *".to_owned(),
        "@monthly" => "0 0 0 1 * *".to_owned(),
        "@weekly" => "0 0 0 * * 0".to_owned(),
        "@daily" | "@midnight" => "0 0 0 * * *".to_owned(),
        "@hourly" => "0 0 * * * *".to_owned(),
        _ if cron.split_whitespace().count() == 5 => format!("0 {cron}"),
        _ => cron.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken(cron: &str) -> bool {
        Scheduled::new_async(cron, |_, _| Box::pin(async {})).is_ok()
    }

    #[test]
    fn the_scheduler_takes_what_the_settings_take() {
        for cron in [
            "0 */30 * * * *",
            "*/5 * * * *",
            "0 0 1,15 * MON-FRI",
            "0 0 12 ? * 2#1",
            "@yearly",
            "@annually",
            "@monthly",
            "@weekly",
            "@daily",
            "@midnight",
            "@hourly",
        ] {
            assert!(is_taken(&six_fields(cron)), "{cron}");
        }
        assert!(!is_taken(&six_fields("99 * * * *")));
    }

    #[test]
    fn every_job_has_a_schedule() {
        for job in Job::ALL {
            let ours: Vec<_> = SCHEDULE.iter().filter(|(scheduled, _)| scheduled == job).collect();
            assert_eq!(ours.len(), usize::from(*job != Job::Sync), "{job:?}");
            assert!(ours.iter().all(|(_, cron)| is_taken(cron)));
        }
    }
}
