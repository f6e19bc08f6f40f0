//! `import`: makes a gateway what a document of `export` says, or shows what would become of it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use admin::transfer::{self, BACKUP_BYTES_MAX, Change, Mode, NotTransferred, Report, Restored, Wish};
use clap::{Args, ValueEnum};
use proxy::data_plane::{check_spec, check_xiaozhi_url};
use serde_json::Value;
use sql::clock::Clock;
use sql::model::{FieldError, Secret, Settings, Upstream};

use super::{block_on, export, passphrase, print};
use crate::config::Config;
use crate::failure::Failure;
use crate::{app, database, telemetry};

/// What `import --help` ends with.
pub(crate) const EXAMPLES: &str = "\
All of it is restored or nothing; ids stay, so that keys work as before, and admins are left alone. A gateway that
serves need not stop: it follows within seconds. What is allowed (MPG_STDIO_ENABLED, MPG_STDIO_COMMANDS, MPG_EGRESS)
is asked of this command's environment: give it that of the gateway.

Examples:
    mcp-proxy-gateway import backup.json --dry-run
    MPG_BACKUP_PASSPHRASE_FILE=passphrase mcp-proxy-gateway import backup.json
    gunzip -c backup.json.gz | mcp-proxy-gateway import - --mode replace --yes --passphrase-file passphrase";

/// What stands for standard input in the place of a file.
const STDIN: &str = "-";

/// Problems that are told of one document: enough to see what kind of thing is wrong with it.
const PROBLEMS_TOLD_MAX: usize = 50;

/// What is restored, in the order in which it is told, and what each kind is called.
const NOUNS: [(&str, &str); 6] = [
    ("settings", "settings"),
    ("upstream", "upstreams"),
    ("key", "keys"),
    ("aliasRule", "alias rules"),
    ("filterRule", "filter rules"),
    ("xiaozhi", "XiaoZhi endpoints"),
];

/// What `import` takes beside the environment.
#[derive(Args)]
pub(crate) struct ImportOptions {
    /// The document; `-` for standard input
    file: PathBuf,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// What becomes of what isn't in the document
    #[arg(long, value_enum, default_value_t = Wanted::Merge)]
    mode: Wanted,
    /// Let `--mode replace` delete
    #[arg(long)]
    yes: bool,
    /// A file with the passphrase [MPG_BACKUP_PASSPHRASE, MPG_BACKUP_PASSPHRASE_FILE]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// The modes as they are written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// It stays
    Merge,
    /// It is deleted
    Replace,
}

/// Restores the document, or shows what that would do.
pub(crate) fn run(config: &Config, options: &ImportOptions) -> Result<ExitCode, Failure> {
    telemetry::init(&config.log);
    if options.mode == Wanted::Replace && !options.dry_run && !options.yes {
        let message =
            "--mode replace deletes what isn't in the document: look with --dry-run, then add --yes";
        return Err(Failure::General(message.to_owned()));
    }
    let name = options.file.display().to_string();
    let document = read(&options.file).map_err(|message| Failure::General(format!("{name}: {message}")))?;
    let passphrase = passphrase(config, options, &document)?;
    let report = block_on(async {
        let store = database::open(config, Clock::system()).await?;
        let (policy, egress) = (app::stdio_policy(config), app::egress(config));
        let wish = Wish {
            mode: if options.mode == Wanted::Replace { Mode::Replace } else { Mode::Merge },
            check_upstream: &|upstream: &Upstream| check_spec(upstream, &policy, egress),
            check_address: &|url: &str| check_xiaozhi_url(egress, url),
            name_length_max: name_length_max(config),
        };
        let done = if options.dry_run {
            transfer::preview(&store, document, passphrase, &wish).await
        } else {
            transfer::restore(&store, document, passphrase, &wish).await
        };
        store.close().await;
        done.map_err(|error| match error {
            NotTransferred::Refused(errors) => refused(&name, &errors),
            error => export::failure(error),
        })
    })?;
    let end = if options.dry_run { "nothing was done: this was a dry run\n" } else { "restored\n" };
    print(&format!("{}{end}", told(&report)))
}

fn read(path: &Path) -> Result<Value, String> {
    let cannot_read = |error: io::Error| format!("cannot be read: {}", error.kind());
    let mut bytes = Vec::new();
    // One byte more than allowed, so that too long shows.
    let limit = BACKUP_BYTES_MAX as u64 + 1;
    let count = if path == Path::new(STDIN) {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).map_err(cannot_read)?.take(limit).read_to_end(&mut bytes)
    };
    if count.map_err(cannot_read)? > BACKUP_BYTES_MAX {
        return Err(format!("longer than {} MiB", BACKUP_BYTES_MAX / 1024 / 1024));
    }
    // Where, but not what: the text of the error may quote the document.
    serde_json::from_slice(&bytes)
        .map_err(|error| format!("not JSON at line {}, column {}", error.line(), error.column()))
}

fn passphrase(
    config: &Config,
    options: &ImportOptions,
    document: &Value,
) -> Result<Option<Secret<String>>, Failure> {
    let given = passphrase::given(config, options.passphrase_file.as_deref())?;
    // Not asked for what nothing needs; without one, the refusal says that it is.
    if given.is_some() || !transfer::is_sealed(document) || !passphrase::can_ask() {
        return Ok(given);
    }
    passphrase::ask("Passphrase of the secrets").map(Some)
}

/// What the environment says of the length of names.
fn name_length_max(config: &Config) -> Option<u32> {
    let is_said = config.overrides.locked().iter().any(|key| key == "naming.length_max");
    let settings = config.overrides.over(&Settings::default()).ok().filter(|_| is_said)?;
    Some(settings.naming.length_max)
}

fn refused(name: &str, errors: &[FieldError]) -> Failure {
    let line = |error: &FieldError| format!("{name}: {}: {}", error.pointer, error.message);
    let mut lines: Vec<String> = errors.iter().take(PROBLEMS_TOLD_MAX).map(line).collect();
    if errors.len() > PROBLEMS_TOLD_MAX {
        lines.push(format!("{name}: and {} more", errors.len() - PROBLEMS_TOLD_MAX));
    }
    Failure::General(lines.join("\n"))
}

/// What was, or would be, done, noun by noun. Values aren't told: one look shouldn't need discretion.
fn told(report: &Report) -> String {
    let secrets = if report.has_secrets { "with" } else { "without" };
    let (at, gateway) = (report.created_at, shown(&report.gateway));
    let mut text = format!("a backup of {at}, made by {gateway}, {secrets} secrets\n");
    for (kind, noun) in NOUNS {
        let changes: Vec<&Restored> = report.changes.iter().filter(|change| change.kind == kind).collect();
        if changes.is_empty() {
            continue;
        }
        let count = |wanted: Change| changes.iter().filter(|change| change.change == wanted).count();
        let [created, changed, deleted] = [Change::Create, Change::Update, Change::Delete].map(count);
        // Writing to a string can't fail.
        let _ = writeln!(text, "{noun}: {created} created, {changed} changed, {deleted} deleted");
        for change in changes {
            let _ = writeln!(text, "  {}", line(change));
        }
    }
    for name in &report.without_secrets {
        let _ = writeln!(text, "without its secrets, which are nowhere: {}", shown(name));
    }
    if report.changes.is_empty() {
        text.push_str("everything is so already\n");
    }
    text
}

fn line(change: &Restored) -> String {
    let name = shown(&change.name);
    match change.change {
        Change::Create => format!("+ {name}"),
        Change::Delete => format!("- {name}"),
        Change::Update => {
            let pointers = change.diff.as_object().into_iter().flatten().map(|(pointer, _)| shown(pointer));
            format!("~ {name}: {}", pointers.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Text of a stranger, with nothing that a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
