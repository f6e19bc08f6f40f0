//! Connecting to whichever host of a DSN takes writes.
//!
//! All hosts are tried at once: of two, one may be an old primary that still takes connections and
//! never says a word again. It must not keep us from the other.

use deadpool_postgres::{ConfigConnectImpl, Connect};
use futures::future::{BoxFuture, select_ok};
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, Error, NoTls, Socket};

/// The hosts of a DSN, each with all that the DSN says beside.
#[derive(Clone)]
pub(crate) struct Hosts(Vec<Config>);

impl Hosts {
    pub(super) fn of(config: &Config) -> Self {
        let count = config.get_hosts().len().max(config.get_hostaddrs().len());
        if count < 2 {
            return Self(vec![config.clone()]);
        }
        Self((0..count).map(|at| only(config, at)).collect())
    }

    /// A connection of its own. It has no end but that of the network: the caller sets one.
    pub(crate) async fn dial(&self) -> Result<(Client, Connection<Socket, NoTlsStream>), Error> {
        let attempts = self.0.iter().map(|host| Box::pin(host.connect(NoTls)));
        select_ok(attempts).await.map(|(first, _)| first)
    }
}

impl Connect for Hosts {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(async {
            let direct = ConfigConnectImpl { tls: NoTls };
            select_ok(self.0.iter().map(|host| direct.connect(host))).await.map(|(first, _)| first)
        })
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
        .channel_binding(config.get_channel_binding())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs());
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_its_port_and_all_else() {
        let dsn = "host=a,b port=1,2 user=u password=p dbname=d application_name=n
            options='-c search_path=s' target_session_attrs=read-write connect_timeout=3";
        let config: Config = dsn.parse().expect("a DSN");
        let hosts = Hosts::of(&config).0;
        for (at, (host, port)) in [("a", 1), ("b", 2)].into_iter().enumerate() {
            let one = dsn.replace("a,b", host).replace("1,2", &port.to_string());
            let expected: Config = one.parse().expect("a DSN");
            assert_eq!(hosts[at], expected);
        }
        let same_port: Config = "host=a,b port=7 user=u".parse().expect("a DSN");
        assert!(Hosts::of(&same_port).0.iter().all(|host| host.get_ports() == [7]));
        let single: Config = "host=a user=u".parse().expect("a DSN");
        assert_eq!(Hosts::of(&single).0, [single]);
    }
}
