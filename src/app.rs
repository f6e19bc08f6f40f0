//! The composition root: the only place that knows every part.
//!
//! The listener answers `/healthz` from the first moment. Then the store is opened, the bootstrap file
//! applied, the data plane started and the control plane mounted; with the first catalog published,
//! `/readyz` turns 200. Upstreams connect after that, so that a dead one delays nothing.

use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;

use admin::first_admin::{self, FirstAdminError};
use admin::log_ring::LogRing;
use proxy::access::client_address::TrustedProxies;
use proxy::access::origin::OriginRules;
use proxy::cache::Cache;
use proxy::cache::redis::Redis;
use proxy::data_plane::{DataPlane, Options, PeerSocket};
use proxy::gateway::{Gateway, GatewayOptions, Phase, Serving};
use proxy::guard::Tls;
use proxy::http_bridge::admin_service;
use proxy::metrics::listener;
use proxy::tasks::Tasks;
use proxy::upstream::egress::Egress;
use proxy::upstream::stdio::{BaseEnvironment, Launcher, StdioPolicy};
use sql::Store;
use sql::clock::Clock;
use sql::model::{PlaintextKey, Secret, Settings};

use crate::bootstrap::{Bootstrap, BootstrapError};
use crate::config::{self, Allowed, Config};
use crate::database;
use crate::failure::Failure;
use crate::jobs;
use crate::metrics;
use crate::notify;
use crate::peer;
use crate::server::{self, ServeError, Server, ServerOptions};
use crate::settings_file::SettingsFile;

/// How long a start waits for Redis: longer than it takes to connect, shorter than anybody notices.
const REDIS_AT_START_MAX: Duration = Duration::from_secs(1);

/// Serves until told to stop.
pub(crate) fn serve(config: Config, logs: LogRing) -> Result<ExitCode, Failure> {
    let bootstrap = match &config.bootstrap {
        Some(path) => Some(Bootstrap::load(path).map_err(|problems| Failure::configuration(&problems))?),
        None => None,
    };
    let clock = Clock::system();
    let tls = tls(&config)?;
    let gateway = Gateway::new(gateway_options(&config, tls.clone())?, clock.clone());
    let peer = config.peer.map(peer::bind).transpose()?;
    let scraped = config.metrics.map(metrics::bind).transpose()?;
    let server = Server::bind(server_options(&config))
        .map_err(|error| Failure::General(format!("MPG_LISTEN: {:#}", anyhow::Error::new(error))))?;
    tracing::info!(listen = %server.address(), tls = tls.is_some(), settings.locked = ?config.overrides.locked(), "starting");
    let serving = gateway.clone();
    let outcome = server.run(&gateway, move |plane| async move {
        if let Some(tls) = tls {
            Tasks::new(plane.runtime.clone()).spawn("certificate", tls.follow(plane.stopping.clone()));
        }
        run(config, bootstrap, clock, serving, plane, Bound { peer, scraped, logs }).await
    });
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(ServeError::DataPlane(failure)) => Err(failure),
        Err(ServeError::Panicked) => Err(Failure::panicked()),
    }
}

/// What was bound before anything started.
struct Bound {
    peer: Option<PeerSocket>,
    scraped: Option<TcpListener>,
    /// Where the last lines of the log are.
    logs: LogRing,
}

/// Everything that lives as long as the process.
async fn run(
    config: Config,
    bootstrap: Option<Bootstrap>,
    clock: Clock,
    gateway: Gateway,
    plane: server::DataPlane,
    bound: Bound,
) -> Result<(), Failure> {
    let store = database::open(&config, clock).await?;
    let tasks = Tasks::new(plane.runtime.clone());
    let cache = cache(&config, &store, &tasks).await?;
    let launcher = launcher(&config)?;
    let egress = egress(&config);
    let overrides = config.overrides.clone();
    let overlay = move |stored: Settings| {
        // What the environment says was checked at start, so it can only fail against stored values
        // that are themselves out of range; those stay as they are then.
        overrides.over(&stored).unwrap_or(stored)
    };
    let mut settings_file = SettingsFile::new(&config.data_dir, store.clone());
    if config.pg_dsn.is_some() {
        settings_file.take_over().await;
    } else {
        settings_file.begin().await;
    }
    if let Some(bootstrap) = bootstrap {
        apply(bootstrap, &store, &launcher, egress, &overlay).await?;
    }
    let setup_token = first_admin(&config, &store).await?;
    let locked = config.overrides.locked().to_vec();
    let data_plane = DataPlane::start(Options {
        store: store.clone(),
        overlay: Box::new(overlay),
        egress,
        launcher,
        tasks: tasks.clone(),
        stale_max: config.stale_max,
        cache,
        peer: bound.peer,
        spans: config.spans.clone(),
        draining: plane.draining.clone(),
    })
    .await
    .map_err(|error| Failure::Internal(error.into()))?;
    let admin = admin::service(admin::Deps {
        store: store.clone(),
        control: data_plane.control(),
        settings: data_plane.settings(),
        locked,
        logs: bound.logs,
        setup_token,
        public_url: config.public_url.as_ref().map(ToString::to_string),
        version: env!("CARGO_PKG_VERSION"),
    });
    gateway.serve_with(Serving {
        mcp: data_plane.mcp_service(config.public_url.clone()),
        admin: admin_service(admin, admin::Body::new),
        keys: data_plane.keys(),
        settings: data_plane.settings(),
        denials: data_plane.denials(),
    });
    if config.pg_dsn.is_none() {
        // On one node: several that share a database have a file each, and no file would be the settings'.
        tasks.spawn("settings file", settings_file.run(plane.stopping.clone()));
    }
    if let Some(socket) = bound.scraped {
        let pages = metrics::pages(gateway.clone(), data_plane.clone());
        tasks.spawn("metrics", listener::serve(socket, pages, tasks.clone()));
    }
    tasks.spawn("jobs", jobs::run(data_plane.clone(), data_plane.settings(), tasks.stopping().clone()));
    gateway.readiness().advance(Phase::Ready);
    tracing::info!(listen = %plane.address, version = env!("CARGO_PKG_VERSION"), "ready");
    notify::tell(notify::State::Ready);

    plane.stopping.cancelled().await;
    data_plane.shutdown().await;
    store.close().await;
    Ok(())
}

async fn apply(
    bootstrap: Bootstrap,
    store: &Store,
    launcher: &Launcher,
    egress: Egress,
    in_force: impl Fn(Settings) -> Settings,
) -> Result<(), Failure> {
    let check =
        |upstream: &sql::model::Upstream| proxy::data_plane::check_spec(upstream, launcher.policy(), egress);
    let applied = bootstrap.apply(store, check, in_force).await.map_err(|error| match error {
        BootstrapError::Refused(problems) => Failure::configuration(&problems),
        BootstrapError::Store(error) => Failure::Internal(error.into()),
    })?;
    tracing::info!(?applied, "bootstrap file applied");
    Ok(())
}

/// Makes the admin that the environment names, or the token by which the first one registers.
async fn first_admin(config: &Config, store: &Store) -> Result<Option<Secret<String>>, Failure> {
    if let Some(admin) = &config.first_admin {
        let made = first_admin::ensure(store, &admin.username, &admin.password).await;
        let made = made.map_err(|error| match error {
            FirstAdminError::Password(_) => Failure::configuration(&[format!("MPG_ADMIN_PASSWORD: {error}")]),
            error => Failure::Internal(error.into()),
        });
        if made? {
            tracing::info!(admin.username, "first admin made");
        }
        return Ok(None);
    }
    if !first_admin::is_awaited(store).await.map_err(|error| Failure::Internal(error.into()))? {
        return Ok(None);
    }
    if let Some(token) = &config.setup_token {
        return Ok(Some(token.clone()));
    }
    // A key's secret has the form and the strength that a token needs.
    let token = PlaintextKey::generate().expose().trim_start_matches("mpg_").to_owned();
    tracing::warn!(
        setup.token = token,
        "no admin yet: register with this token, or from this machine without"
    );
    Ok(Some(Secret::new(token)))
}

/// The files were good when the configuration was read; they may have changed since.
fn tls(config: &Config) -> Result<Option<Tls>, Failure> {
    let load = |files: &proxy::guard::TlsFiles| {
        Tls::load(files.clone())
            .map_err(|error| Failure::configuration(&[format!("MPG_TLS_CERT, MPG_TLS_KEY: {error}")]))
    };
    config.tls.as_ref().map(load).transpose()
}

fn gateway_options(config: &Config, tls: Option<Tls>) -> Result<GatewayOptions, Failure> {
    let origins = OriginRules::new(
        listed(&config.allowed_hosts),
        listed(&config.allowed_origins),
        config.public_url.as_ref(),
    );
    let origins = origins.map_err(|rule| {
        Failure::configuration(&[format!("MPG_ALLOWED_HOSTS, MPG_ALLOWED_ORIGINS: {} is not a rule", rule.0)])
    })?;
    Ok(GatewayOptions {
        origins,
        proxies: TrustedProxies::new(config.trusted_proxies.clone()),
        tls,
        ..GatewayOptions::default()
    })
}

fn listed(allowed: &Allowed) -> Vec<&str> {
    match allowed {
        Allowed::Any => vec!["*"],
        Allowed::Also(names) => names.iter().map(String::as_str).collect(),
    }
}

fn server_options(config: &Config) -> ServerOptions {
    ServerOptions {
        listen: config.listen,
        take_over: false,
        take_over_socket: config.data_dir.join("take-over.sock"),
        drain_delay: config.drain_delay,
        drain_timeout: config.drain_timeout,
    }
}

/// Gives Redis a moment, so that limits are shared from the first call on; a start doesn't hang on it.
async fn cache(config: &Config, store: &Store, tasks: &Tasks) -> Result<Cache, Failure> {
    let Some(address) = &config.redis else { return Ok(Cache::default()) };
    let redis = Redis::start(address, store.instance_id(), store.clock().clone(), tasks)
        .map_err(|error| Failure::Internal(error.into()))?;
    // What is wrong is in the log, and in the health that is shown.
    let _ = redis.found_within(REDIS_AT_START_MAX).await;
    Ok(Cache::Redis(redis))
}

fn launcher(config: &Config) -> Result<Launcher, Failure> {
    let binary = std::env::current_exe().map_err(|error| Failure::Internal(error.into()))?;
    Ok(Launcher::new(
        binary,
        stdio_policy(config),
        BaseEnvironment::from_lookup(|name| std::env::var_os(name)),
    ))
}

/// What may be started as a child.
pub(crate) fn stdio_policy(config: &Config) -> StdioPolicy {
    StdioPolicy { enabled: config.stdio.enabled, commands: config.stdio.commands.clone() }
}

/// Which addresses may be dialled.
pub(crate) fn egress(config: &Config) -> Egress {
    match config.egress {
        config::Egress::Private => Egress::Private,
        config::Egress::Public => Egress::Public,
    }
}
