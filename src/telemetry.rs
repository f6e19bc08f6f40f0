//! What the process tells about itself: its log, and what a panic leaves there.

use std::fmt;
use std::panic::PanicHookInfo;

use admin::log_ring::LogRing;
use serde_json::{Map, Value};
use sql::clock::Clock;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{LogConfig, LogFormat};

/// The crates of this project, whose logs hold no secrets by our own rules.
const OWN_TARGETS: [&str; 4] = ["mcp_proxy_gateway", "proxy", "admin", "sql"];

/// Levels at which a dependency tells of its own inner life, headers, statements and frames.
const VERBOSE_LEVELS: [&str; 3] = ["info", "debug", "trace"];

/// Starts the log on standard error and the panic hook. Once, before any thread starts. The last lines are kept for
/// the console as well.
pub(crate) fn init(config: &LogConfig) -> LogRing {
    let filter = EnvFilter::new(own_directives(&config.filter));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let ring = LogRing::default();
    let kept = Kept { ring: ring.clone(), clock: Clock::system() };
    let started = match config.format {
        LogFormat::Json => {
            subscriber.json().flatten_event(true).with_span_list(false).finish().with(kept).try_init()
        }
        LogFormat::Text => subscriber.with_ansi(config.is_colored).finish().with(kept).try_init(),
    };
    // Only a second call can fail, and then a subscriber is there already.
    drop(started);
    std::panic::set_hook(Box::new(log_panic));
    ring
}

/// Keeps each line that the log lets through.
struct Kept {
    ring: LogRing,
    clock: Clock,
}

impl<S: Subscriber> Layer<S> for Kept {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        self.ring.push(self.clock.now(), level, metadata.target(), &said.message, said.fields);
    }
}

/// What a line says, and of what.
#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    fn say(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        } else {
            self.fields.insert(field.name().to_owned(), value);
        }
    }
}

impl Visit for Said {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.say(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.say(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.say(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.say(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.say(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.say(field, format!("{value:?}").into());
    }
}

/// Keeps our memory, which holds unsealed secrets, out of core dumps and of other processes.
pub(crate) fn refuse_core_dumps() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "core dumps could not be refused");
        }
    }
}

/// A bare level is meant for us. Libraries write whole headers and statements at the verbose ones, so
/// one of theirs must be named to be heard below a warning: `debug,hyper=debug`.
fn own_directives(filter: &str) -> String {
    let directives = filter.split(',').map(str::trim).map(|directive| {
        let is_bare_and_verbose = VERBOSE_LEVELS.iter().any(|level| directive.eq_ignore_ascii_case(level));
        if !is_bare_and_verbose {
            return directive.to_owned();
        }
        let ours = OWN_TARGETS.map(|target| format!("{target}={directive}"));
        format!("warn,{}", ours.join(","))
    });
    directives.collect::<Vec<_>>().join(",")
}

/// A panic is a line of the log like any other. Its text is told only where the compiler wrote it:
/// one put together at run time may quote a value.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(message withheld)");
    let thread = std::thread::current();
    tracing::error!(
        panic.location = location,
        panic.thread = thread.name().unwrap_or_default(),
        panic.message = message,
        "panicked"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_verbose_level_is_ours_alone() {
        let ours = "warn,mcp_proxy_gateway=trace,proxy=trace,admin=trace,sql=trace";
        assert_eq!(own_directives("trace"), ours);
        assert_eq!(own_directives(" trace , hyper=debug"), format!("{ours},hyper=debug"));
        assert_eq!(own_directives("off,proxy=debug"), "off,proxy=debug");
        assert_eq!(own_directives("warn"), "warn");
    }
}
