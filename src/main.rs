//! The process: reads its arguments, then does one thing.

mod app;
mod bootstrap;
mod commands;
mod config;
mod database;
mod failure;
mod jobs;
mod metrics;
mod notify;
mod peer;
mod server;
mod settings_file;
mod telemetry;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use config::{Config, ConnectConfig, Environment, Flags};
use failure::Failure;

// Many threads that each allocate little and often: the system's allocator keeps far more than is used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  Serve at http://127.0.0.1:8080, everything kept in ./data:
    mcp-proxy-gateway
  Serve what a file describes:
    mcp-proxy-gateway --bootstrap examples/gateway.yaml
  Check the environment and the file before a restart:
    mcp-proxy-gateway config check --bootstrap examples/gateway.yaml
  See every value in force and where it came from:
    MPG_LISTEN=0.0.0.0:8080 mcp-proxy-gateway config show
  Check that nobody altered the audit log, and that it has what the log told an hour ago:
    mcp-proxy-gateway audit verify --anchor 1042:5f0c...
  Keep what is configured, and look what a restore elsewhere would do:
    MPG_BACKUP_PASSPHRASE_FILE=passphrase mcp-proxy-gateway export --out backup.json
    mcp-proxy-gateway import backup.json --data-dir elsewhere --dry-run
  Give an admin who lost the password another one; a gateway that serves need not stop:
    MPG_ADMIN_USERNAME=root MPG_ADMIN_PASSWORD_FILE=new mcp-proxy-gateway reset-password
  Serve over TLS, with HTTP/2:
    MPG_TLS_CERT=cert.pem MPG_TLS_KEY=key.pem mcp-proxy-gateway
  Give a client that only starts commands a gateway on another machine:
    MPG_KEY=mpg_... mcp-proxy-gateway connect --url https://gateway.example.com/mcp

Exit codes: 0 done, 1 the command failed, 2 usage, 69 database unreachable, 70 internal, 78 configuration.";

const ROTATE_KEY_STEPS: &str = "\
Steps:
  1. Restart every gateway with the new key in MPG_ENCRYPTION_KEY[_FILE] and the old one in
     MPG_ENCRYPTION_KEY_PREVIOUS[_FILE] (up to four, one a line). Both open; the new one seals.
  2. Run rotate-key with the same two. It may be stopped, and run again, at any time.
  3. Restart without MPG_ENCRYPTION_KEY_PREVIOUS, and destroy the old key once no backup needs it.

Examples:
  MPG_ENCRYPTION_KEY_FILE=new MPG_ENCRYPTION_KEY_PREVIOUS_FILE=old mcp-proxy-gateway rotate-key
  With the key that was made in ./data: move it aside, and the next start makes another one:
    mv data/encryption.key data/encryption.key.old
    MPG_ENCRYPTION_KEY_PREVIOUS_FILE=data/encryption.key.old mcp-proxy-gateway rotate-key";

const CONNECT_EXAMPLES: &str = "\
The key comes from the environment, never from an argument: MPG_KEY, or a file that MPG_KEY_FILE names.

Examples:
    MPG_KEY=mpg_... mcp-proxy-gateway connect --url https://gateway.example.com/mcp
    MPG_KEY_FILE=key MPG_URL=http://127.0.0.1:8080/mcp mcp-proxy-gateway connect --header 'X-Team: tools'
  In claude_desktop_config.json, below \"mcpServers\":
    \"gateway\": {
      \"command\": \"mcp-proxy-gateway\",
      \"args\": [\"connect\", \"--url\", \"https://gateway.example.com/mcp\"],
      \"env\": { \"MPG_KEY\": \"mpg_...\" }
    }";

/// The hidden command by which stdio upstreams are started.
const SUPERVISE: &str = "supervise";

/// One endpoint in front of many MCP servers.
#[derive(Parser)]
#[command(name = "mcp-proxy-gateway", version, about, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What stands before the environment.
#[derive(Args)]
struct Options {
    /// A YAML file of upstreams, keys and settings, applied at start [MPG_BOOTSTRAP]
    #[arg(long, global = true, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// Where to listen [MPG_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<OsString>,
    /// Where the embedded database and the encryption key are kept [MPG_DATA_DIR] [default: ./data]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve MCP clients and the console (the default)
    Serve,
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at the audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Bring the database to this version's schema
    Migrate,
    /// Keep everything that is configured, as one document
    #[command(after_help = commands::export::EXAMPLES)]
    Export(commands::export::ExportOptions),
    /// Restore what `export` kept; a gateway that serves need not stop
    #[command(after_help = commands::import::EXAMPLES)]
    Import(commands::import::ImportOptions),
    /// Print the REST API's OpenAPI document
    Openapi,
    /// Ask a gateway on this machine whether it lives: exit code 0 or 1
    Healthcheck,
    /// Give the admin that MPG_ADMIN_USERNAME names the password in MPG_ADMIN_PASSWORD[_FILE]
    ResetPassword,
    /// Seal everything anew with a new encryption key, while gateways serve
    #[command(after_help = ROTATE_KEY_STEPS)]
    RotateKey,
    /// Serve MCP on standard input and output, from a gateway elsewhere
    #[command(after_help = CONNECT_EXAMPLES)]
    Connect(ConnectOptions),
    /// Print the version
    Version,
}

/// What `connect` takes beside its environment.
#[derive(Args)]
struct ConnectOptions {
    /// The gateway's MCP endpoint [MPG_URL]
    #[arg(long, value_name = "URL")]
    url: Option<OsString>,
    /// A header for every request, of the form 'Name: value'; may be given several times
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check the environment and the bootstrap file; start nothing
    Check,
    /// Print every value in force and its origin, secrets masked
    Show,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Check that no event was changed, left out or put in: exit code 0 or 1
    Verify {
        /// An event that was noted elsewhere, such as the `audit.anchor` of the gateway's log
        #[arg(long, value_name = "SEQ:HASH")]
        anchor: Option<String>,
    },
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == SUPERVISE) {
        // First, and alone: a supervisor forks, and so must never have a second thread. Not an affair
        // of the argument parser either, since what follows belongs to the supervised command.
        return proxy::upstream::supervise::run(words.collect());
    }
    let arguments = Arguments::parse();
    // The panic hook has told what happened; what is left is an exit code that says whose fault it is.
    let outcome = std::panic::catch_unwind(|| run(arguments)).unwrap_or_else(|_| Err(Failure::panicked()));
    outcome.unwrap_or_else(|failure| failure.report())
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = || load(&arguments.options);
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(config()?),
        Command::Config(ConfigCommand::Check) => commands::config::check(&config()?),
        Command::Config(ConfigCommand::Show) => commands::config::show(&config()?),
        Command::Audit(AuditCommand::Verify { anchor }) => {
            commands::audit::verify(&config()?, anchor.as_deref())
        }
        Command::Migrate => commands::migrate::run(&config()?),
        Command::Export(options) => commands::export::run(&config()?, &options),
        Command::Import(options) => commands::import::run(&config()?, &options),
        Command::Openapi => commands::openapi::run(),
        Command::ResetPassword => commands::reset_password::run(&config()?),
        Command::RotateKey => commands::rotate_key::run(&config()?),
        Command::Healthcheck => commands::healthcheck::run(&config()?),
        Command::Connect(options) => commands::connect::run(load_connect(&options)?),
        Command::Version => commands::version::run(),
    }
}

fn serve(config: Config) -> Result<ExitCode, Failure> {
    let logs = telemetry::init(&config.log);
    telemetry::refuse_core_dumps();
    app::serve(config, logs)
}

fn load(options: &Options) -> Result<Config, Failure> {
    let mut flags = Flags::default();
    flags.set("MPG_BOOTSTRAP", "--bootstrap", options.bootstrap.as_ref());
    flags.set("MPG_LISTEN", "--listen", options.listen.as_ref());
    flags.set("MPG_DATA_DIR", "--data-dir", options.data_dir.as_ref());
    Config::load(&Environment::of_process(), &flags).map_err(|problems| Failure::configuration(&problems))
}

fn load_connect(options: &ConnectOptions) -> Result<ConnectConfig, Failure> {
    let mut flags = Flags::default();
    flags.set("MPG_URL", "--url", options.url.as_ref());
    ConnectConfig::load(&Environment::of_process(), &flags, &options.headers)
        .map_err(|problems| Failure::configuration(&problems))
}
