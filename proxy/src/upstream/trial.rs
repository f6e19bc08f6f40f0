//! Trying an upstream that may not be stored yet, step by step, so that an admin sees how far it comes.
//!
//! Nothing is kept: the connection is closed at the end, and what the upstream says meanwhile is dropped.
//! The checks are those of the real thing, since the steps are those of the real thing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use sql::model::{Transport, Upstream};
use tokio::time::Instant;

use super::call::{Answer, Call};
use super::handshake::{self, Declared, Greeting};
use super::link::{Dropped, Link, Listener, OpenError, Roots, Stage, Wiring};
use super::oauth::Pass;
use super::pool::Pool;
use super::status::{StageReport, TestReport, millis, raw_value};
use super::target::Target;
use crate::tasks::Tasks;

/// How long the list is waited for.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// One page of a list.
const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Hears nothing.
struct Deaf;

impl Listener for Deaf {
    fn notification(&self, _: &str, _: Option<Bytes>) {}

    fn dropped(&self, _: Dropped) {}
}

/// Tries `spec`. `open` opens its transport as the supervisor would.
pub(super) async fn run<F>(
    spec: &Upstream,
    pool: &Pool,
    tasks: &Tasks,
    pass: Arc<Pass>,
    limit: Duration,
    open: impl FnOnce(Wiring) -> F,
) -> TestReport
where
    F: Future<Output = Result<Arc<dyn Link>, OpenError>>,
{
    let mut trial = Trial { report: TestReport::default(), began: Instant::now() };
    let outcome = async {
        if spec.transport != Transport::Stdio {
            trial.dial(spec, pool).await?;
        }
        let wiring =
            Wiring { tasks: tasks.clone(), listener: Arc::new(Deaf), roots: Roots::Undeclared, pass };
        let link = open(wiring).await?;
        if spec.transport == Transport::Stdio {
            trial.done(Stage::Connect);
        }
        let spoken = trial.speak(&*link, spec, limit).await;
        trial.report.stderr = link.stderr();
        link.close().await;
        spoken
    }
    .await;
    if let Err(OpenError { stage, reason, .. }) = outcome {
        trial.report.ok = false;
        trial.note(stage, Some(reason));
    }
    trial.report
}

struct Trial {
    report: TestReport,
    began: Instant,
}

impl Trial {
    /// The steps below HTTP, with the dialler of the real connection.
    async fn dial(&mut self, spec: &Upstream, pool: &Pool) -> Result<(), OpenError> {
        let uri = Target::of(spec, pool.dialler().egress(), &Arc::default())?.uri().clone();
        let addresses = pool.dialler().resolve(&uri).await?;
        self.done(Stage::Resolve);
        let stream = pool.dialler().connect(&addresses).await?;
        self.done(Stage::Connect);
        if uri.scheme_str() == Some("https") {
            pool.dialler().secure(&uri, stream).await?;
            self.done(Stage::Tls);
        }
        Ok(())
    }

    async fn speak(&mut self, link: &dyn Link, spec: &Upstream, limit: Duration) -> Result<(), OpenError> {
        let declared = Declared::all(Roots::Undeclared);
        let greeting = tokio::select! {
            greeting = handshake::shake(link, handshake::protocol_of(spec), None, declared, limit) => greeting?,
            () = link.closed().cancelled() => return Err(handshake::ended(link)),
        };
        self.done(Stage::Initialize);
        self.greeted(&greeting);
        self.report.tools = Some(count_tools(link, &greeting).await?);
        self.done(Stage::List);
        self.report.ok = true;
        Ok(())
    }

    fn greeted(&mut self, greeting: &Greeting) {
        self.report.era = Some(greeting.spoken.era());
        self.report.protocol_version = Some(greeting.spoken.version.to_string());
        self.report.server_info = raw_value(&greeting.server_info);
        self.report.capabilities = raw_value(&greeting.spoken.capabilities);
    }

    fn done(&mut self, stage: Stage) {
        self.note(stage, None);
    }

    fn note(&mut self, stage: Stage, reason: Option<String>) {
        let ms = millis(self.began.elapsed());
        self.report.stages.push(StageReport { stage, ok: reason.is_none(), ms, reason });
        self.began = Instant::now();
    }
}

async fn count_tools(link: &dyn Link, greeting: &Greeting) -> Result<usize, OpenError> {
    #[derive(serde::Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        tools: Vec<&'a RawValue>,
    }
    let failed = |reason: String| OpenError::new(Stage::List, reason);
    let offers = crate::wire::edit::Object::parse(&greeting.spoken.capabilities);
    if offers.is_ok_and(|offers| offers.get("tools").is_none()) {
        return Ok(0);
    }
    let params = handshake::own_params(greeting.spoken.era());
    let call = Call::own("tools/list", params, LIST_TIMEOUT, LIST_BYTES_MAX);
    match link.request(call).await.map_err(|error| failed(error.to_string()))? {
        Answer::Result(page) => match serde_json::from_slice::<Page<'_>>(&page) {
            Ok(page) => Ok(page.tools.len()),
            Err(_) => Err(failed("its list of tools is not one".into())),
        },
        Answer::Error(_) => Err(failed("it refused to list its tools".into())),
    }
}
