//! Why a command didn't do what it was asked, and the exit code that says so.
//!
//! The only place that knows exit codes. What a person reads goes to standard error, one line a
//! problem; it never holds a configured value.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// `EX_UNAVAILABLE` of sysexits.h: a service we need isn't there.
const UNAVAILABLE: u8 = 69;
/// `EX_SOFTWARE`: our own fault.
const INTERNAL: u8 = 70;
/// `EX_CONFIG`: somebody must change the configuration.
const CONFIGURATION: u8 = 78;

/// An end that isn't a success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The answer is no, or an input or output failed.
    General(String),
    /// One line a problem.
    Configuration(Vec<String>),
    /// The database didn't answer in time.
    Unavailable(anyhow::Error),
    /// Nothing the operator did.
    Internal(anyhow::Error),
}

impl Failure {
    /// Of problems that each write themselves as one line.
    pub(crate) fn configuration<T: fmt::Display>(problems: &[T]) -> Self {
        Self::Configuration(problems.iter().map(ToString::to_string).collect())
    }

    /// Of a defect that nobody caught on the way.
    pub(crate) fn panicked() -> Self {
        Self::Internal(anyhow::anyhow!("a panic ended the program"))
    }

    /// Tells the person and answers the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let mut stderr = std::io::stderr().lock();
        for line in self.lines() {
            // Nobody reads us: the exit code still tells.
            let _ = writeln!(stderr, "{line}");
        }
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Self::General(_) => 1,
            Self::Unavailable(_) => UNAVAILABLE,
            Self::Internal(_) => INTERNAL,
            Self::Configuration(_) => CONFIGURATION,
        }
    }

    fn lines(&self) -> Vec<String> {
        match self {
            Self::General(line) => vec![line.clone()],
            Self::Configuration(lines) => lines.clone(),
            Self::Unavailable(error) => vec![format!("database unreachable: {error:#}")],
            Self::Internal(error) => vec![format!("internal error: {error:#}")],
        }
    }
}
