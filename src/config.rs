//! The configuration: environment and flags in, one validated and immutable [`Config`] out.
//!
//! This is the only place that reads the environment. Every problem is found in one pass and told in
//! a line of its own that names the variable and never its value; nothing starts until all are gone.

mod collector;
mod connect;
mod duration;
mod encryption_key;
mod overrides;
mod show;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use proxy::cache::RedisAddress;
use proxy::guard::{TlsError, TlsFiles};
use proxy::spans::SpanOptions;
use sql::model::Secret;
use url::Url;

pub(crate) use connect::ConnectConfig;
pub(crate) use encryption_key::{EncryptionKey, PreviousKeys, make_private_dir};
pub(crate) use overrides::SettingOverrides;
pub(crate) use variables::{Environment, Flags, Origin, Problem, read_secret_file};

use variables::Reader;

/// An hour of draining is a mistake, not patience: the orchestrator would have killed us long before.
const DRAIN_MAX: Duration = Duration::from_hours(1);
/// Whoever waits longer for a database should let the supervisor restart us.
const DB_START_TIMEOUT_MAX: Duration = Duration::from_hours(1);
/// A catalog older than a month describes another world.
const STALE_MAX: Duration = Duration::from_hours(24 * 30);

/// Everything the process was told, checked. Its `Debug` shows no secret.
#[derive(Debug)]
pub(crate) struct Config {
    /// `MPG_PG_DSN`; without it the embedded database in [`Config::data_dir`].
    pub(crate) pg_dsn: Option<Secret<String>>,
    /// `MPG_ENCRYPTION_KEY`, or the file it is kept in.
    pub(crate) encryption_key: EncryptionKey,
    /// `MPG_ENCRYPTION_KEY_PREVIOUS`.
    pub(crate) previous_keys: PreviousKeys,
    /// `MPG_DATA_DIR`: the embedded database and the key.
    pub(crate) data_dir: PathBuf,
    /// `MPG_LISTEN`: the one listener. Loopback unless said otherwise, since nobody has registered yet
    /// when a gateway starts for the first time.
    pub(crate) listen: SocketAddr,
    /// `MPG_PUBLIC_URL`: without a slash at its end.
    pub(crate) public_url: Option<Url>,
    /// `MPG_TLS_CERT` and `MPG_TLS_KEY`: the listener speaks TLS with these, and in clear without.
    pub(crate) tls: Option<TlsFiles>,
    /// `MPG_REDIS_ADDR`, `MPG_REDIS_PASSWORD`, `MPG_REDIS_TLS`: what replicas share beside the database;
    /// without it each is alone.
    pub(crate) redis: Option<RedisAddress>,
    /// `MPG_METRICS_ADDR`: where Prometheus reads; nowhere without.
    pub(crate) metrics: Option<SocketAddr>,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` and its like: where a collector takes spans; nowhere without.
    pub(crate) spans: Option<SpanOptions>,
    /// `MPG_PEER_ADDR`: where other replicas hand over what is for this one.
    pub(crate) peer: Option<SocketAddr>,
    /// `MPG_TRUSTED_PROXIES`: whose `X-Forwarded-For` is believed.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// `MPG_ALLOWED_HOSTS`: names let through beside those that always are.
    pub(crate) allowed_hosts: Allowed,
    /// `MPG_ALLOWED_ORIGINS`, likewise.
    pub(crate) allowed_origins: Allowed,
    /// `MPG_SETUP_TOKEN`; without it one is made at start while no admin exists.
    pub(crate) setup_token: Option<Secret<String>>,
    /// `MPG_ADMIN_USERNAME` and `MPG_ADMIN_PASSWORD`.
    pub(crate) first_admin: Option<FirstAdmin>,
    /// `MPG_BACKUP_PASSPHRASE`: what `export` and `import` seal and open secrets with.
    pub(crate) backup_passphrase: Option<Secret<String>>,
    /// `MPG_BOOTSTRAP`: a file of upstreams, keys and settings to apply at start.
    pub(crate) bootstrap: Option<PathBuf>,
    /// `MPG_STDIO_ENABLED`, `MPG_STDIO_COMMANDS`: what may be started as a child.
    pub(crate) stdio: StdioPolicy,
    /// `MPG_EGRESS`: which addresses may be dialled.
    pub(crate) egress: Egress,
    /// `MPG_DRAIN_DELAY`: how long `/readyz` says no while connections are still accepted.
    pub(crate) drain_delay: Duration,
    /// `MPG_DRAIN_TIMEOUT`: how long calls in flight may take to finish.
    pub(crate) drain_timeout: Duration,
    /// `MPG_DB_START_TIMEOUT`: how long to wait for the database at start.
    pub(crate) db_start_timeout: Duration,
    /// `MPG_STALE_MAX`: how long the last catalog serves without the database.
    pub(crate) stale_max: Duration,
    /// `MPG_SETTING__*`.
    pub(crate) overrides: SettingOverrides,
    /// `MPG_LOG`, `MPG_LOG_FORMAT`.
    pub(crate) log: LogConfig,
    origins: BTreeMap<&'static str, Origin>,
}

/// Names that a guard lets through beside those it always does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// These, in lower case; empty when the variable is unset.
    Also(Vec<String>),
    /// `*`: the guard is off.
    Any,
}

/// The admin of an unattended first start.
#[derive(Debug)]
pub(crate) struct FirstAdmin {
    /// As written.
    pub(crate) username: String,
    /// In clear, until it is hashed.
    pub(crate) password: Secret<String>,
}

/// What may be started as a child process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StdioPolicy {
    /// Whether stdio upstreams exist at all.
    pub(crate) enabled: bool,
    /// The commands they may start; any if unset.
    pub(crate) commands: Option<Vec<String>>,
}

/// Which addresses may be dialled. Link-local and metadata addresses never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Egress {
    /// Loopback and private ones too.
    Private,
    /// Public ones only.
    Public,
}

/// What is logged, and how it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogConfig {
    /// Directives in the form of [`tracing_subscriber::EnvFilter`].
    pub(crate) filter: String,
    /// One JSON object a line, or text for a person.
    pub(crate) format: LogFormat,
    /// Whether text may have colours: only at a terminal, and not against `NO_COLOR`.
    pub(crate) is_colored: bool,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// One object a line.
    Json,
    /// For a person at a terminal.
    Text,
}

impl Config {
    /// Reads and checks everything, or tells all that is wrong.
    pub(crate) fn load(environment: &Environment, flags: &Flags) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::new(environment, flags);
        let data_dir = PathBuf::from(reader.text("MPG_DATA_DIR").unwrap_or_else(|| "./data".to_owned()));
        let pg_dsn = pg_dsn(&mut reader);
        let config = Self {
            encryption_key: encryption_key(&mut reader, pg_dsn.is_some(), &data_dir),
            previous_keys: previous_keys(&mut reader),
            pg_dsn,
            data_dir,
            listen: reader.parsed("MPG_LISTEN", SocketAddr::from(([127, 0, 0, 1], 8080)), listen_address),
            public_url: reader.parsed("MPG_PUBLIC_URL", None, |text| public_url(text).map(Some)),
            tls: tls(&mut reader),
            redis: redis(&mut reader),
            metrics: reader.parsed("MPG_METRICS_ADDR", None, |text| metrics_address(text).map(Some)),
            spans: collector::spans(&mut reader),
            peer: reader.parsed("MPG_PEER_ADDR", None, |text| peer_address(text).map(Some)),
            trusted_proxies: reader.list("MPG_TRUSTED_PROXIES", network).unwrap_or_default(),
            allowed_hosts: allowed(&mut reader, "MPG_ALLOWED_HOSTS", host_name),
            allowed_origins: allowed(&mut reader, "MPG_ALLOWED_ORIGINS", origin),
            setup_token: setup_token(&mut reader),
            first_admin: first_admin(&mut reader),
            backup_passphrase: reader.secret("MPG_BACKUP_PASSPHRASE"),
            bootstrap: reader.text("MPG_BOOTSTRAP").map(PathBuf::from),
            stdio: stdio_policy(&mut reader),
            egress: egress(&mut reader),
            drain_delay: reader.duration("MPG_DRAIN_DELAY", Duration::ZERO, DRAIN_MAX),
            drain_timeout: reader.duration("MPG_DRAIN_TIMEOUT", Duration::from_secs(25), DRAIN_MAX),
            db_start_timeout: reader.duration(
                "MPG_DB_START_TIMEOUT",
                Duration::from_secs(30),
                DB_START_TIMEOUT_MAX,
            ),
            stale_max: reader.duration("MPG_STALE_MAX", Duration::from_hours(1), STALE_MAX),
            overrides: SettingOverrides::read(&mut reader),
            log: log(&mut reader),
            origins: reader.origins().clone(),
        };
        let problems = reader.into_problems();
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Where the embedded database lies.
    pub(crate) fn sqlite_path(&self) -> PathBuf {
        self.data_dir.join("gateway.db")
    }
}

fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an address and port like 127.0.0.1:9100".to_owned())
}

/// Others have to know the port before it is bound; the address may be any of this machine's.
fn peer_address(text: &str) -> Result<SocketAddr, String> {
    let address: Option<SocketAddr> = text.parse().ok();
    address
        .filter(|address| address.port() != 0)
        .ok_or_else(|| "not an address and port like 10.0.0.5:9090 or 0.0.0.0:9090".to_owned())
}

/// Only the shape: whether somebody answers there is found out at start.
fn pg_dsn(reader: &mut Reader<'_>) -> Option<Secret<String>> {
    let dsn = reader.secret("MPG_PG_DSN")?;
    let text = dsn.expose();
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    if !is_url && !text.contains('=') {
        reader.problem("MPG_PG_DSN", "neither a postgresql:// URL nor a list of key=value pairs");
    }
    Some(dsn)
}

fn encryption_key(
    reader: &mut Reader<'_>,
    shared_database: bool,
    data_dir: &std::path::Path,
) -> EncryptionKey {
    if let Some(text) = reader.secret("MPG_ENCRYPTION_KEY") {
        if let Err(message) = encryption_key::check(text.expose()) {
            reader.problem("MPG_ENCRYPTION_KEY", message);
        }
        return EncryptionKey::Given(text);
    }
    // Replicas that each made a key of their own couldn't read each other's rows. (A key file that can't
    // be read has been told already.)
    if shared_database && !reader.origins().contains_key("MPG_ENCRYPTION_KEY") {
        reader.problem("MPG_ENCRYPTION_KEY", "required with MPG_PG_DSN");
    }
    EncryptionKey::Kept(data_dir.join("encryption.key"))
}

fn previous_keys(reader: &mut Reader<'_>) -> PreviousKeys {
    let Some(text) = reader.secret("MPG_ENCRYPTION_KEY_PREVIOUS") else { return PreviousKeys::default() };
    PreviousKeys::parse(text.expose()).unwrap_or_else(|message| {
        reader.problem("MPG_ENCRYPTION_KEY_PREVIOUS", message);
        PreviousKeys::default()
    })
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an address and port like 127.0.0.1:8080".to_owned())
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address).ok_or_else(|| "not a list of networks like 10.0.0.0/8".to_owned())
}

fn public_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("not an http or https URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no user name or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with its path".to_owned());
    }
    Ok(url)
}

/// Both or neither, and usable: a gateway that was meant to speak TLS must never speak in clear.
fn tls(reader: &mut Reader<'_>) -> Option<TlsFiles> {
    let files = match (reader.restriction("MPG_TLS_CERT"), reader.restriction("MPG_TLS_KEY")) {
        (Some(certificate), Some(key)) => TlsFiles { certificate: certificate.into(), key: key.into() },
        (Some(_), None) => {
            reader.problem("MPG_TLS_KEY", "required with MPG_TLS_CERT");
            return None;
        }
        (None, Some(_)) => {
            reader.problem("MPG_TLS_CERT", "required with MPG_TLS_KEY");
            return None;
        }
        (None, None) => return None,
    };
    if let Err(error) = files.check() {
        let variable = match error {
            TlsError::Certificate(_) => "MPG_TLS_CERT",
            TlsError::Key(_) | TlsError::Mismatch => "MPG_TLS_KEY",
        };
        reader.problem(variable, error.to_string());
    }
    Some(files)
}

/// Only the shape: whether somebody answers there is found out while serving.
fn redis(reader: &mut Reader<'_>) -> Option<RedisAddress> {
    let address = reader.parsed("MPG_REDIS_ADDR", None, |text| RedisAddress::parse(text).map(Some));
    let password = reader.secret("MPG_REDIS_PASSWORD");
    let tls = reader.restriction("MPG_REDIS_TLS");
    let is_given = reader.origins().contains_key("MPG_REDIS_ADDR");
    for name in ["MPG_REDIS_PASSWORD", "MPG_REDIS_TLS"] {
        if !is_given && reader.origins().contains_key(name) {
            reader.problem(name, "means nothing without MPG_REDIS_ADDR");
        }
    }
    let address = address?.with_password(password);
    match tls.as_deref() {
        Some("true") => Some(address.with_tls()),
        Some("false") if address.is_tls() => {
            reader.problem("MPG_REDIS_TLS", "false, but MPG_REDIS_ADDR is a rediss:// URL");
            None
        }
        None | Some("false") => Some(address),
        Some(_) => {
            reader.problem("MPG_REDIS_TLS", "not true or false");
            None
        }
    }
}

fn allowed(
    reader: &mut Reader<'_>,
    name: &'static str,
    parse: impl Fn(&str) -> Result<String, String>,
) -> Allowed {
    let listed = reader.list(name, |part| if part == "*" { Ok("*".to_owned()) } else { parse(part) });
    let listed = listed.unwrap_or_default();
    if listed.iter().any(|part| part == "*") { Allowed::Any } else { Allowed::Also(listed) }
}

/// A host, with or without a port, as it stands in a `Host` header.
fn host_name(text: &str) -> Result<String, String> {
    const EXPECTED: &str = "not a list of hosts like gateway.example.com or gateway.example.com:8443";
    let url = Url::parse(&format!("http://{text}/")).map_err(|_| EXPECTED)?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !is_bare || text.contains(['@', '/', '\\']) || text.contains(char::is_whitespace) {
        return Err(EXPECTED.to_owned());
    }
    Ok(text.to_ascii_lowercase())
}

/// An origin, as it stands in an `Origin` header.
fn origin(text: &str) -> Result<String, String> {
    const EXPECTED: &str = "not a list of origins like https://console.example.com";
    let url = Url::parse(text).map_err(|_| EXPECTED)?;
    let (_, authority) = text.split_once("://").ok_or(EXPECTED)?;
    if url.host().is_none() || authority.is_empty() || authority.contains(['/', '\\', '?', '#', '@']) {
        return Err(EXPECTED.to_owned());
    }
    Ok(text.to_ascii_lowercase())
}

fn setup_token(reader: &mut Reader<'_>) -> Option<Secret<String>> {
    let token = reader.secret("MPG_SETUP_TOKEN")?;
    if is_placeholder(token.expose()) {
        reader.problem("MPG_SETUP_TOKEN", "a placeholder; give a random value");
    }
    Some(token)
}

fn first_admin(reader: &mut Reader<'_>) -> Option<FirstAdmin> {
    let username = reader.text("MPG_ADMIN_USERNAME");
    let password = reader.secret("MPG_ADMIN_PASSWORD");
    let (username, password) = match (username, password) {
        (Some(username), Some(password)) => (username, password),
        (None, None) => return None,
        (Some(_), None) => {
            // A file that couldn't be read has been told already.
            if !reader.origins().contains_key("MPG_ADMIN_PASSWORD") {
                reader.problem("MPG_ADMIN_PASSWORD", "required with MPG_ADMIN_USERNAME");
            }
            return None;
        }
        (None, Some(_)) => {
            reader.problem("MPG_ADMIN_USERNAME", "required with MPG_ADMIN_PASSWORD");
            return None;
        }
    };
    if !(3..=32).contains(&username.chars().count()) {
        reader.problem("MPG_ADMIN_USERNAME", "must have 3 to 32 characters");
    }
    let text = password.expose();
    // bcrypt reads at most 72 bytes and stops at a NUL.
    if !(8..=71).contains(&text.len()) || text.contains('\0') {
        reader.problem("MPG_ADMIN_PASSWORD", "must have 8 to 71 bytes and no NUL");
    } else if is_placeholder(text) {
        reader.problem("MPG_ADMIN_PASSWORD", "a placeholder; give a password of your own");
    }
    Some(FirstAdmin { username, password })
}

/// What examples write where a secret belongs.
fn is_placeholder(text: &str) -> bool {
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let letters = letters.to_ascii_lowercase();
    ["changeme", "replaceme", "replacewith", "yourown", "placeholder"]
        .iter()
        .any(|sign| letters.contains(sign))
        || matches!(letters.as_str(), "password" | "password1" | "secret" | "admin123" | "12345678")
}

fn stdio_policy(reader: &mut Reader<'_>) -> StdioPolicy {
    let enabled = reader.restriction("MPG_STDIO_ENABLED").is_none_or(|text| match text.as_str() {
        "true" => true,
        "false" => false,
        _ => {
            reader.problem("MPG_STDIO_ENABLED", "not true or false");
            false
        }
    });
    let commands = reader.restriction("MPG_STDIO_COMMANDS").map(|text| {
        let listed: Vec<String> =
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if listed.is_empty() {
            reader
                .problem("MPG_STDIO_COMMANDS", "names no command; use MPG_STDIO_ENABLED=false to allow none");
        }
        listed
    });
    StdioPolicy { enabled, commands }
}

fn egress(reader: &mut Reader<'_>) -> Egress {
    match reader.restriction("MPG_EGRESS").as_deref() {
        None | Some("private") => Egress::Private,
        Some("public") => Egress::Public,
        Some(_) => {
            reader.problem("MPG_EGRESS", "not private or public");
            Egress::Public
        }
    }
}

fn log(reader: &mut Reader<'_>) -> LogConfig {
    // Logs go to standard error; what a person watches there should be readable.
    let is_terminal = std::io::stderr().is_terminal();
    let format = if is_terminal { LogFormat::Text } else { LogFormat::Json };
    LogConfig {
        filter: reader.parsed("MPG_LOG", "info".to_owned(), |text| {
            let parsed = tracing_subscriber::EnvFilter::try_new(text);
            parsed
                .map(|_| text.to_owned())
                .map_err(|_| "not a level or directives like info,proxy=debug".to_owned())
        }),
        is_colored: is_terminal && !reader.is_present("NO_COLOR"),
        format: reader.parsed("MPG_LOG_FORMAT", format, |text| match text {
            "json" => Ok(LogFormat::Json),
            "text" => Ok(LogFormat::Text),
            _ => Err("not json or text".to_owned()),
        }),
    }
}
