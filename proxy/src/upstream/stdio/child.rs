//! One child process from its start to its end, and the steps in which it is stopped.
//!
//! Closing stdin asks a server to end, and most do. Then the supervisor is told, which ends the whole tree
//! by SIGTERM and SIGKILL. If even the supervisor hangs, its life line is dropped, and at last it is killed
//! with what can be found of its session. Each step has its time, so stopping is bounded.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::ChildStderr;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::lines::{Ring, keep};
use crate::tasks::Tasks;
use crate::upstream::channel::Channel;
use crate::upstream::supervise::{TERM_GRACE, tree};

/// How long a child has after its stdin was closed.
const STDIN_GRACE: Duration = Duration::from_secs(2);

/// What a supervisor may take beyond the grace it gives its tree: it has to find and reap it.
const SUPERVISOR_SLACK: Duration = Duration::from_secs(1);

/// How long the last lines of a process that ended may take to be read: they are in the pipe already.
const LAST_LINES: Duration = Duration::from_millis(250);

/// The exit codes that a shell gives to a signal begin above this one.
const SIGNAL_BASE: i32 = 128;

/// A handle to a child; dropping it stops the child.
pub(super) struct Child {
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Child {
    /// Looks after a process that was just started.
    pub(super) fn watch(
        process: tokio::process::Child,
        stderr: ChildStderr,
        channel: Channel,
        ring: Arc<Ring>,
        tasks: &Tasks,
    ) -> Self {
        let child = Self { stop: tasks.stopping().child_token(), ended: CancellationToken::new() };
        let let_go = CancellationToken::new();
        tasks.spawn("child stderr", {
            let (ring, dropped) = (Arc::clone(&ring), let_go.clone());
            // The pipe lives in this future: when it ends, the supervisor takes the gateway for gone.
            async move {
                dropped.run_until_cancelled(keep(stderr, &ring)).await;
            }
        });
        let life = Life { pid: pid_of(&process), process, channel, let_go };
        let (stop, ended) = (child.stop.clone(), child.ended.clone().drop_guard());
        tasks.spawn("child", async move {
            let end = life.until(stop).await;
            ring.push(format!("[{end}]").as_bytes());
            drop(ended);
        });
        child
    }

    /// Stops the process and waits until nothing is left of it.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A process while it runs.
struct Life {
    pid: Option<Pid>,
    process: tokio::process::Child,
    channel: Channel,
    let_go: CancellationToken,
}

impl Life {
    /// Lives until the process ends or is to be stopped; says in words how it ended.
    async fn until(mut self, stop: CancellationToken) -> String {
        let lost = self.channel.lost().clone();
        let status = tokio::select! {
            status = self.process.wait() => {
                // What it wrote at the very end is still to be read.
                let _ = timeout(LAST_LINES, lost.cancelled()).await;
                status.ok()
            }
            () = stop.cancelled() => self.stop().await,
            () = lost.cancelled() => self.stop().await,
        };
        if status.is_none_or(|status| status.code().is_none())
            && let Some(leader) = self.pid
        {
            // Whoever killed the supervisor left its tree without one.
            tree::kill_session(leader);
        }
        let end = describe(status);
        self.channel.cut(&end);
        end
    }

    async fn stop(&mut self) -> Option<ExitStatus> {
        self.channel.close();
        if let Ok(status) = timeout(STDIN_GRACE, self.process.wait()).await {
            return status.ok();
        }
        // Until it is waited for, the process id can't be another's.
        if let Some(supervisor) = self.pid {
            let _ = rustix::process::kill_process(supervisor, Signal::TERM);
        }
        if let Ok(status) = timeout(TERM_GRACE + SUPERVISOR_SLACK, self.process.wait()).await {
            return status.ok();
        }
        self.let_go.cancel();
        if let Ok(status) = timeout(SUPERVISOR_SLACK, self.process.wait()).await {
            return status.ok();
        }
        tracing::error!("a supervisor did not end and was killed");
        let _ = self.process.start_kill();
        timeout(SUPERVISOR_SLACK, self.process.wait()).await.ok()?.ok()
    }
}

fn pid_of(process: &tokio::process::Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(process.id()?).ok()?)
}

fn describe(status: Option<ExitStatus>) -> String {
    match status.and_then(|status| status.code()) {
        Some(code) if code > SIGNAL_BASE => format!("the process was ended by signal {}", code - SIGNAL_BASE),
        Some(code) => format!("the process ended with exit code {code}"),
        None => "the supervisor of the process was killed".into(),
    }
}
