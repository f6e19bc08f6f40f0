//! What `config show` prints: every value in force and where it came from, secrets masked.

use std::fmt::Write;

use super::collector::SHOWN;
use super::{Allowed, Config, Egress, EncryptionKey, LogFormat, Origin, duration};

/// What stands for a secret, whatever its length.
const MASK: &str = "********";
/// What stands for a value that isn't there.
const UNSET: &str = "-";

impl Config {
    /// One line a variable: its name, the value in force, and its origin.
    pub(crate) fn show(&self) -> String {
        let rows = self.rows();
        let name_width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
        let value_width = rows.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or_default();
        let mut text = String::new();
        for (name, value, origin) in rows {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{name:name_width$}  {value:value_width$}  {origin}");
        }
        text
    }

    fn rows(&self) -> Vec<(String, String, Origin)> {
        let of = |name: &str| self.origins.get(name).copied().unwrap_or(Origin::Default);
        let mut rows: Vec<(String, String, Origin)> = self
            .values()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.unwrap_or_else(|| UNSET.to_owned()), of(name)))
            .collect();
        rows.extend(self.overrides.shown().map(|(name, value)| (name, value, Origin::Environment)));
        rows
    }

    fn values(&self) -> Vec<(&'static str, Option<String>)> {
        let database = self.sqlite_path().display().to_string();
        let key = match &self.encryption_key {
            EncryptionKey::Given(_) => MASK.to_owned(),
            EncryptionKey::Kept(path) => format!("kept in {}", path.display()),
        };
        let admin = self.first_admin.as_ref();
        let masked = |given: bool| given.then(|| MASK.to_owned());
        vec![
            (
                "MPG_PG_DSN",
                Some(if self.pg_dsn.is_some() { MASK.to_owned() } else { format!("SQLite in {database}") }),
            ),
            ("MPG_ENCRYPTION_KEY", Some(key)),
            ("MPG_ENCRYPTION_KEY_PREVIOUS", masked(self.previous_keys.len() > 0)),
            ("MPG_DATA_DIR", Some(self.data_dir.display().to_string())),
            ("MPG_LISTEN", Some(self.listen.to_string())),
            ("MPG_PUBLIC_URL", self.public_url.as_ref().map(ToString::to_string)),
            ("MPG_TLS_CERT", self.tls.as_ref().map(|tls| tls.certificate.display().to_string())),
            ("MPG_TLS_KEY", self.tls.as_ref().map(|tls| tls.key.display().to_string())),
            ("MPG_REDIS_ADDR", self.redis.as_ref().map(ToString::to_string)),
            ("MPG_REDIS_PASSWORD", masked(self.origins.contains_key("MPG_REDIS_PASSWORD"))),
            ("MPG_REDIS_TLS", self.redis.as_ref().map(|redis| redis.is_tls().to_string())),
            ("MPG_METRICS_ADDR", self.metrics.as_ref().map(ToString::to_string)),
            ("MPG_PEER_ADDR", self.peer.as_ref().map(ToString::to_string)),
            (SHOWN[0], self.spans.as_ref().map(|spans| spans.endpoint.to_string())),
            (SHOWN[1], masked(self.origins.contains_key(SHOWN[1]))),
            ("MPG_TRUSTED_PROXIES", list(&self.trusted_proxies)),
            ("MPG_ALLOWED_HOSTS", allowed(&self.allowed_hosts)),
            ("MPG_ALLOWED_ORIGINS", allowed(&self.allowed_origins)),
            ("MPG_SETUP_TOKEN", masked(self.setup_token.is_some())),
            ("MPG_ADMIN_USERNAME", admin.map(|admin| admin.username.clone())),
            ("MPG_ADMIN_PASSWORD", masked(admin.is_some_and(|admin| !admin.password.expose().is_empty()))),
            ("MPG_BACKUP_PASSPHRASE", masked(self.backup_passphrase.is_some())),
            ("MPG_BOOTSTRAP", self.bootstrap.as_ref().map(|path| path.display().to_string())),
            ("MPG_STDIO_ENABLED", Some(self.stdio.enabled.to_string())),
            ("MPG_STDIO_COMMANDS", self.stdio.commands.as_deref().and_then(list)),
            ("MPG_EGRESS", Some(egress(self.egress).to_owned())),
            ("MPG_DRAIN_DELAY", Some(duration::show(self.drain_delay))),
            ("MPG_DRAIN_TIMEOUT", Some(duration::show(self.drain_timeout))),
            ("MPG_DB_START_TIMEOUT", Some(duration::show(self.db_start_timeout))),
            ("MPG_STALE_MAX", Some(duration::show(self.stale_max))),
            ("MPG_LOG", Some(self.log.filter.clone())),
            ("MPG_LOG_FORMAT", Some(log_format(self.log.format).to_owned())),
        ]
    }
}

fn list<T: ToString>(items: &[T]) -> Option<String> {
    (!items.is_empty()).then(|| items.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

fn allowed(allowed: &Allowed) -> Option<String> {
    match allowed {
        Allowed::Also(names) => list(names),
        Allowed::Any => Some("*".to_owned()),
    }
}

fn egress(egress: Egress) -> &'static str {
    match egress {
        Egress::Private => "private",
        Egress::Public => "public",
    }
}

fn log_format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Json => "json",
        LogFormat::Text => "text",
    }
}
