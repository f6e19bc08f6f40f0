//! Where a configured value comes from: a flag, the environment, a file named by it, or nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use sql::model::Secret;

/// Every variable of this release, and whether its value is a secret (which may then come from a
/// file named by `<NAME>_FILE`).
const VARIABLES: &[(&str, Kind)] = &[
    ("MPG_ADMIN_PASSWORD", Kind::Secret),
    ("MPG_ADMIN_USERNAME", Kind::Plain),
    ("MPG_ALLOWED_HOSTS", Kind::Plain),
    ("MPG_ALLOWED_ORIGINS", Kind::Plain),
    ("MPG_BACKUP_PASSPHRASE", Kind::Secret),
    ("MPG_BOOTSTRAP", Kind::Plain),
    ("MPG_DATA_DIR", Kind::Plain),
    ("MPG_DB_START_TIMEOUT", Kind::Plain),
    ("MPG_DRAIN_DELAY", Kind::Plain),
    ("MPG_DRAIN_TIMEOUT", Kind::Plain),
    ("MPG_EGRESS", Kind::Plain),
    ("MPG_ENCRYPTION_KEY", Kind::Secret),
    ("MPG_ENCRYPTION_KEY_PREVIOUS", Kind::Secret),
    ("MPG_LISTEN", Kind::Plain),
    ("MPG_LOG", Kind::Plain),
    ("MPG_LOG_FORMAT", Kind::Plain),
    ("MPG_METRICS_ADDR", Kind::Plain),
    ("MPG_PEER_ADDR", Kind::Plain),
    ("MPG_PG_DSN", Kind::Secret),
    ("MPG_PUBLIC_URL", Kind::Plain),
    ("MPG_REDIS_ADDR", Kind::Plain),
    ("MPG_REDIS_PASSWORD", Kind::Secret),
    ("MPG_REDIS_TLS", Kind::Plain),
    ("MPG_SETUP_TOKEN", Kind::Secret),
    ("MPG_STALE_MAX", Kind::Plain),
    ("MPG_STDIO_COMMANDS", Kind::Plain),
    ("MPG_STDIO_ENABLED", Kind::Plain),
    ("MPG_TLS_CERT", Kind::Plain),
    ("MPG_TLS_KEY", Kind::Plain),
    ("MPG_TRUSTED_PROXIES", Kind::Plain),
];

/// Those of `connect`, which stands on another machine than the gateway: it reads these and no other.
const CONNECT_VARIABLES: &[(&str, Kind)] =
    &[("MPG_KEY", Kind::Secret), ("MPG_LOG", Kind::Plain), ("MPG_URL", Kind::Plain)];

/// What an overriding variable of a setting begins with.
pub(super) const SETTING_PREFIX: &str = "MPG_SETTING__";

/// A secret is a line, not a disk image: what is longer was named by mistake.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// More edits than this and a suggestion would be a guess.
const SUGGESTION_DISTANCE_MAX: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Secret,
}

/// The environment, as one value that a test can make up.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// What this process was given. Called once, in `main`.
    pub(crate) fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The names that are ours, by their prefix.
    fn own_names(&self) -> impl Iterator<Item = String> {
        self.0.keys().map(|name| name.to_string_lossy().into_owned()).filter(|name| name.starts_with("MPG_"))
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Values given on the command line, by the variable that each stands for.
#[derive(Clone, Default)]
pub(crate) struct Flags(BTreeMap<&'static str, (&'static str, OsString)>);

impl Flags {
    /// Lets `flag` (as a person writes it) stand for `variable`, if it was given.
    pub(crate) fn set(
        &mut self,
        variable: &'static str,
        flag: &'static str,
        value: Option<impl Into<OsString>>,
    ) {
        if let Some(value) = value {
            self.0.insert(variable, (flag, value.into()));
        }
    }
}

/// Where an effective value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Built in.
    Default,
    /// The variable itself.
    Environment,
    /// The file that `<NAME>_FILE` names.
    File,
    /// A flag on the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Flag => "flag",
        })
    }
}

/// One thing that is wrong: a line that names the variable and never its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The variable, or the flag that stood for it.
    pub(crate) name: String,
    /// What is wrong and what would be right.
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.name, self.message)
    }
}

/// Reads variable after variable and keeps every problem, so that all are told at once.
pub(super) struct Reader<'a> {
    environment: &'a Environment,
    flags: &'a Flags,
    origins: BTreeMap<&'static str, Origin>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Starts with the names: one that isn't known is a typing error, and would otherwise leave its
    /// default in force without a word.
    pub(super) fn new(environment: &'a Environment, flags: &'a Flags) -> Self {
        let mut reader = Self { environment, flags, origins: BTreeMap::new(), problems: Vec::new() };
        for name in environment.own_names() {
            if is_of(CONNECT_VARIABLES, &name) && !is_known(&name) {
                reader.problem(&name, "only `connect` reads it");
            } else if !name.starts_with(SETTING_PREFIX) && !is_known(&name) {
                reader.problem(&name, unknown(&name, VARIABLES));
            }
        }
        reader
    }

    /// Starts for `connect`. The variables of a gateway on the same machine are none of its business.
    pub(super) fn for_connect(environment: &'a Environment, flags: &'a Flags) -> Self {
        let mut reader = Self { environment, flags, origins: BTreeMap::new(), problems: Vec::new() };
        for name in environment.own_names() {
            let is_a_gateways = is_known(&name) || name.starts_with(SETTING_PREFIX);
            if !is_of(CONNECT_VARIABLES, &name) && !is_a_gateways {
                reader.problem(&name, unknown(&name, CONNECT_VARIABLES));
            }
        }
        reader
    }

    /// Notes that `name` is wrong.
    pub(super) fn problem(&mut self, name: &str, message: impl Into<String>) {
        let name = match self.flags.0.get(name) {
            Some((flag, _)) => (*flag).to_owned(),
            None => name.to_owned(),
        };
        self.problems.push(Problem { name, message: message.into() });
    }

    /// The variables that override settings, with their values.
    pub(super) fn setting_variables(&mut self) -> Vec<(String, String)> {
        let names: Vec<String> =
            self.environment.own_names().filter(|name| name.starts_with(SETTING_PREFIX)).collect();
        names.into_iter().filter_map(|name| self.environment_text(&name).map(|value| (name, value))).collect()
    }

    /// A value as text. An empty one is an unset one: `docker compose` and Kubernetes manifests
    /// write `${NAME:-}` for "not given".
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        let (origin, text) = match self.flags.0.get(name) {
            Some((_, value)) => (Origin::Flag, self.utf8(name, &value.clone())?),
            None => (Origin::Environment, self.environment_text(name)?),
        };
        self.origins.insert(name, origin);
        Some(text)
    }

    /// A value that restricts something: given but empty, it is refused, since taking it for unset
    /// would open what somebody meant to close.
    pub(super) fn restriction(&mut self, name: &'static str) -> Option<String> {
        if self.environment.get(name).is_some_and(OsStr::is_empty) {
            self.problem(name, "given but empty; give a value or remove it");
            return None;
        }
        self.text(name)
    }

    /// Whether a variable that isn't ours has any value, as the convention of `NO_COLOR` asks.
    pub(super) fn is_present(&self, name: &str) -> bool {
        self.environment.get(name).is_some_and(|value| !value.is_empty())
    }

    /// A secret, from the variable or from the file that `<NAME>_FILE` names.
    pub(super) fn secret(&mut self, name: &'static str) -> Option<Secret<String>> {
        let file_variable = format!("{name}_FILE");
        let direct = self.environment_text(name);
        let file = self.environment.get(&file_variable).filter(|path| !path.is_empty());
        match (direct, file) {
            (Some(_), Some(_)) => {
                self.problem(name, format!("set together with {file_variable}; give one of them"));
                None
            }
            (Some(value), None) => {
                self.origins.insert(name, Origin::Environment);
                Some(Secret::new(value))
            }
            (None, Some(path)) => {
                self.origins.insert(name, Origin::File);
                read_secret_file(Path::new(path))
                    .map_err(|message| self.problem(&file_variable, message))
                    .ok()
                    .map(Secret::new)
            }
            (None, None) => None,
        }
    }

    /// A value through `parse`, or `default`.
    pub(super) fn parsed<T>(
        &mut self,
        name: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let Some(text) = self.text(name) else { return default };
        self.check(name, default, parse(&text))
    }

    /// The parts of a comma list, each through `parse`.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let text = self.text(name)?;
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parsed: Result<Vec<T>, String> = parts.map(parse).collect();
        Some(self.check(name, Vec::new(), parsed))
    }

    /// A length of time within bounds.
    pub(super) fn duration(&mut self, name: &'static str, default: Duration, max: Duration) -> Duration {
        self.parsed(name, default, |text| {
            let duration = super::duration::parse(text)?;
            if duration > max {
                return Err(format!("longer than {}", super::duration::show(max)));
            }
            Ok(duration)
        })
    }

    /// Takes a parsed value, or notes why there is none.
    pub(super) fn check<T>(&mut self, name: &'static str, instead: T, parsed: Result<T, String>) -> T {
        parsed.unwrap_or_else(|message| {
            self.problem(name, message);
            instead
        })
    }

    /// Where the value of `name` came from.
    pub(super) fn origins(&self) -> &BTreeMap<&'static str, Origin> {
        &self.origins
    }

    /// Everything that is wrong, in the order of the names, each once.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems;
        problems.sort_by(|a, b| a.name.cmp(&b.name));
        problems.dedup();
        problems
    }

    fn environment_text(&mut self, name: &str) -> Option<String> {
        let value = self.environment.get(name).filter(|value| !value.is_empty())?.to_owned();
        self.utf8(name, &value)
    }

    fn utf8(&mut self, name: &str, value: &OsStr) -> Option<String> {
        if value.is_empty() {
            return None;
        }
        let text = value.to_str().map(str::to_owned);
        if text.is_none() {
            self.problem(name, "not UTF-8");
        }
        text
    }
}

/// Whether the variable is one of this release, or the `_FILE` form of one of its secrets.
fn is_known(name: &str) -> bool {
    is_of(VARIABLES, name)
}

fn is_of(variables: &[(&str, Kind)], name: &str) -> bool {
    let names_file_of = |secret: &str| name.strip_suffix("_FILE") == Some(secret);
    variables.iter().any(|(known, kind)| name == *known || (*kind == Kind::Secret && names_file_of(known)))
}

fn unknown(name: &str, variables: &[(&str, Kind)]) -> String {
    if let Some(plain) = name.strip_suffix("_FILE").filter(|plain| is_of(variables, plain)) {
        return format!("only a secret may come from a file; set {plain}");
    }
    let file_forms =
        variables.iter().filter(|(_, kind)| *kind == Kind::Secret).map(|(known, _)| format!("{known}_FILE"));
    let candidates: BTreeSet<String> =
        variables.iter().map(|(known, _)| (*known).to_owned()).chain(file_forms).collect();
    match nearest(name, candidates.iter().map(String::as_str)) {
        Some(candidate) => format!("unknown variable; did you mean {candidate}?"),
        None => "unknown variable".to_owned(),
    }
}

/// The candidate that is fewest edits away, if any is near.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= SUGGESTION_DISTANCE_MAX)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many bytes must be inserted, removed or replaced to turn one into the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, from_byte) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to_byte) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(from_byte != to_byte);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[to.len()]
}

/// The content of a mounted secret: text, without the newline at its end that editors leave.
pub(crate) fn read_secret_file(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| cannot_read(&error))?;
    let mut text = String::new();
    // One byte more than allowed, so that too long shows.
    file.take(SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| cannot_read(&error))?;
    if text.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(format!("the file is longer than {} KiB", SECRET_FILE_BYTES_MAX / 1024));
    }
    let trimmed = text.trim_end_matches(['\r', '\n']);
    if trimmed.is_empty() {
        return Err("the file is empty".to_owned());
    }
    Ok(trimmed.to_owned())
}

/// Only the kind: an error's full text may repeat the path, which came from the environment.
fn cannot_read(error: &std::io::Error) -> String {
    format!("cannot read the file: {}", error.kind())
}
