//! Connecting to whichever host of a DSN takes writes.
//!
//! All hosts are tried at once: of two, one may be an old primary that still takes connections and
//! never says a word again. It must not keep us from the other. Each is tried with TLS and in clear as
//! the DSN's `sslmode` says.

use deadpool_postgres::{ConfigConnectImpl, Connect};
use futures::FutureExt as _;
use futures::future::{BoxFuture, select_ok};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, Connection, Error, Socket};

use super::tls::{self, Tls};

/// A connection as the driver has it, which somebody must poll.
pub(crate) type Wire = Connection<Socket, tls::Stream>;

/// A way to make a connection to one host.
type Dial<T> = fn(Config, Tls) -> BoxFuture<'static, Result<T, Error>>;

/// The hosts of a DSN, each with all that the DSN says beside.
#[derive(Clone)]
pub(crate) struct Hosts {
    each: Vec<Config>,
    tls: Tls,
}

impl Hosts {
    pub(super) fn of(config: &Config, tls: Tls) -> Self {
        let count = config.get_hosts().len().max(config.get_hostaddrs().len());
        let mut each =
            if count < 2 { vec![config.clone()] } else { (0..count).map(|at| only(config, at)).collect() };
        each.iter_mut().for_each(fit_for_tls);
        Self { each, tls }
    }

    /// A connection of its own. It has no end but that of the network: the caller sets one.
    pub(crate) async fn dial(&self) -> Result<(Client, Wire), Error> {
        self.first(|host, tls| async move { host.connect(tls).await }.boxed()).await
    }

    async fn first<T>(&self, dial: Dial<T>) -> Result<T, Error> {
        let attempts = self.each.iter().map(|host| Box::pin(reach(host, &self.tls, dial)));
        select_ok(attempts).await.map(|(first, _)| first)
    }
}

impl Connect for Hosts {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        self.first(|host, tls| async move { ConfigConnectImpl { tls }.connect(&host).await }.boxed()).boxed()
    }
}

/// One host, in clear where TLS was only preferred and doesn't come about: the driver itself gives up then.
async fn reach<T>(host: &Config, tls: &Tls, dial: Dial<T>) -> Result<T, Error> {
    let error = match dial(host.clone(), tls.clone()).await {
        Err(error) if host.get_ssl_mode() == SslMode::Prefer && tls::may_do_without(&error) => error,
        outcome => return outcome,
    };
    tracing::debug!(error = &error as &dyn std::error::Error, "no TLS with Postgres, going on in clear");
    let mut in_clear = host.clone();
    in_clear.ssl_mode(SslMode::Disable);
    dial(in_clear, tls.clone()).await
}

/// Where there is no TLS, over a Unix socket, none is asked for; and an address without a name is its own, since the
/// driver begins no TLS without one.
fn fit_for_tls(host: &mut Config) {
    match (host.get_hosts(), host.get_hostaddrs()) {
        ([Host::Unix(_)], []) => drop(host.ssl_mode(SslMode::Disable)),
        ([], &[address]) => drop(host.host(address.to_string())),
        _ => {}
    }
}

/// The configuration with one of its hosts: there is no way to take a host out of one.
fn only(config: &Config, at: usize) -> Config {
    let mut one = Config::new();
    config.get_user().map(|user| one.user(user));
    config.get_password().map(|password| one.password(password));
    config.get_dbname().map(|name| one.dbname(name));
    config.get_options().map(|options| one.options(options));
    config.get_application_name().map(|name| one.application_name(name));
    match config.get_hosts().get(at) {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    config.get_hostaddrs().get(at).map(|address| one.hostaddr(*address));
    // One port is that of all hosts.
    let ports = config.get_ports();
    ports.get(at).or(ports.first()).map(|port| one.port(*port));
    config.get_connect_timeout().map(|limit| one.connect_timeout(*limit));
    config.get_tcp_user_timeout().map(|limit| one.tcp_user_timeout(*limit));
    config.get_keepalives_interval().map(|interval| one.keepalives_interval(interval));
    config.get_keepalives_retries().map(|retries| one.keepalives_retries(retries));
    one.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs());
    one
}

#[cfg(test)]
mod tests {
    use super::super::dsn::TlsOptions;
    use super::*;

    fn config(dsn: &str) -> Config {
        dsn.parse().expect("a DSN")
    }

    fn hosts(dsn: &str) -> Vec<Config> {
        let tls = tls::configure(&TlsOptions::default(), &mut Config::new()).expect("says nothing wrong");
        Hosts::of(&config(dsn), tls).each
    }

    #[test]
    fn each_host_has_its_port_and_all_else() {
        let dsn = "host=a,b port=1,2 user=u password=p dbname=d application_name=n
            options='-c search_path=s' target_session_attrs=read-write connect_timeout=3
            sslmode=require sslnegotiation=direct channel_binding=require";
        for (host, (name, port)) in hosts(dsn).into_iter().zip([("a", 1), ("b", 2)]) {
            let expected = config(&dsn.replace("a,b", name).replace("1,2", &port.to_string()));
            assert_eq!(host, expected);
        }
        assert!(hosts("host=a,b port=7 user=u").iter().all(|host| host.get_ports() == [7]));
        assert_eq!(hosts("host=a user=u"), [config("host=a user=u")]);
    }

    #[test]
    fn an_address_without_a_name_is_its_own() {
        for host in hosts("hostaddr=10.0.0.1,::1") {
            let address = host.get_hostaddrs()[0].to_string();
            assert_eq!(host.get_hosts(), [Host::Tcp(address)]);
        }
        assert_eq!(hosts("host=a hostaddr=10.0.0.1"), [config("host=a hostaddr=10.0.0.1")]);
    }

    #[test]
    fn only_a_unix_socket_goes_without_tls() {
        let modes = hosts("host=/run,a sslmode=require").iter().map(Config::get_ssl_mode).collect::<Vec<_>>();
        assert_eq!(modes, [SslMode::Disable, SslMode::Require]);
    }
}
