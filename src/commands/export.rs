//! `export`: everything that is configured, as the document that the REST API makes, in a file or on standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use admin::transfer::{self, Exported, NotTransferred};
use clap::Args;
use sql::clock::Clock;
use sql::model::Secret;

use super::{block_on, passphrase, print};
use crate::config::Config;
use crate::failure::Failure;
use crate::{database, telemetry};

/// What `export --help` ends with.
pub(crate) const EXAMPLES: &str = "\
Secrets of upstreams are in the document only under a passphrase: from --passphrase-file, MPG_BACKUP_PASSPHRASE or
MPG_BACKUP_PASSPHRASE_FILE, or asked for at a terminal. A gateway that serves need not stop.

Examples:
    mcp-proxy-gateway export --out backup.json
    MPG_BACKUP_PASSPHRASE_FILE=passphrase mcp-proxy-gateway export | gzip >backup.json.gz
    mcp-proxy-gateway export --without-secrets --out review.json";

/// What `export` takes beside the environment.
#[derive(Args)]
pub(crate) struct ExportOptions {
    /// The file to write, which its owner alone may read; standard output without
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A file with the passphrase [MPG_BACKUP_PASSPHRASE, MPG_BACKUP_PASSPHRASE_FILE]
    #[arg(long, value_name = "FILE", conflicts_with = "without_secrets")]
    passphrase_file: Option<PathBuf>,
    /// Leave out the secrets of upstreams, and ask for no passphrase
    #[arg(long)]
    without_secrets: bool,
}

/// Writes the document; says on standard error if it has no secrets.
pub(crate) fn run(config: &Config, options: &ExportOptions) -> Result<ExitCode, Failure> {
    telemetry::init(&config.log);
    if options.out.is_none() && io::stdout().is_terminal() {
        return Err(Failure::General("standard output is a terminal: name a file with --out".to_owned()));
    }
    let database = config.sqlite_path();
    if config.pg_dsn.is_none() && !database.exists() {
        // To make an empty one and keep that would look like a backup.
        let database = database.display();
        return Err(Failure::General(format!(
            "{database}: there is no database; name its folder with --data-dir"
        )));
    }
    let passphrase = passphrase(config, options)?;
    let has_secrets = passphrase.is_some();
    let Exported { document, upstreams, keys } = block_on(async {
        let store = database::open(config, Clock::system()).await?;
        let exported = transfer::export(&store, env!("CARGO_PKG_VERSION"), passphrase).await;
        store.close().await;
        exported.map_err(failure)
    })?;
    let text = format!("{document:#}\n");
    let secrets = if has_secrets { "with" } else { "without" };
    let Some(out) = &options.out else {
        let _ = writeln!(io::stderr(), "{upstreams} upstreams, {keys} keys, {secrets} secrets");
        return print(&text);
    };
    write_private(out, text.as_bytes()).map_err(|error| {
        Failure::General(format!("{}: cannot be written: {}", out.display(), error.kind()))
    })?;
    print(&format!("{}: {upstreams} upstreams, {keys} keys, {secrets} secrets\n", out.display()))
}

fn passphrase(config: &Config, options: &ExportOptions) -> Result<Option<Secret<String>>, Failure> {
    if options.without_secrets {
        return Ok(None);
    }
    let given = match passphrase::given(config, options.passphrase_file.as_deref())? {
        None if passphrase::can_ask() => twice()?,
        given => given,
    };
    if let Some(given) = &given {
        transfer::check_passphrase(given)
            .map_err(|message| Failure::General(format!("the passphrase {message}")))?;
    }
    Ok(given)
}

/// Asks for a new passphrase; for none, if the answer is empty.
fn twice() -> Result<Option<Secret<String>>, Failure> {
    let first = passphrase::ask("Passphrase for the secrets (empty: leave them out)")?;
    if first.expose().is_empty() {
        return Ok(None);
    }
    let second = passphrase::ask("Once more")?;
    if first.expose() == second.expose() {
        return Ok(Some(first));
    }
    Err(Failure::General("these are two passphrases: nothing was done".to_owned()))
}

/// Whole or not at all, also over one that is there: written beside it, synced, and renamed.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let draft = path.with_file_name(name);
    let written = write_and_rename(&draft, path, content);
    if written.is_err() {
        // What is half written is of no use to anybody.
        let _ = fs::remove_file(&draft);
    }
    written
}

fn write_and_rename(draft: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// What kept a document from being made or restored, for an operator.
pub(super) fn failure(error: NotTransferred) -> Failure {
    match error {
        NotTransferred::Store(error @ sql::StoreError::Unavailable(_)) => Failure::Unavailable(error.into()),
        NotTransferred::Overtaken | NotTransferred::Store(sql::StoreError::Conflict { .. }) => {
            Failure::General("something was changed meanwhile, and nothing was done; try again".to_owned())
        }
        error => Failure::Internal(error.into()),
    }
}
