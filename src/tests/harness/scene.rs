//! What a test wants of a gateway, before it is started.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use serde_json::{Value, json};
use sql::model::PlaintextKey;

use super::authority::Authority;
use super::gateway::TestGateway;
use super::mcp;
use super::node::Port;
use super::peer::Peer;
use super::postgres::Postgres;

/// The admin every scene has.
pub(super) const ADMIN_USERNAME: &str = "harness";

/// The parts of a gateway; awaiting it starts the gateway and waits until it is ready.
pub(crate) struct Scene {
    pub(super) upstreams: Vec<Value>,
    pub(super) key: Option<PlaintextKey>,
    pub(super) settings: serde_json::Map<String, Value>,
    environment: BTreeMap<String, String>,
    pub(super) admin_password: String,
    /// What asks whether it is ready.
    pub(super) http: reqwest::Client,
    database: Database,
    replicas: Replicas,
}

/// As how many processes a gateway runs.
enum Replicas {
    /// One, or as many as the environment says: every test runs on both.
    AsTheEnvironmentSays,
    /// One: why the test is about one process, a person may read there.
    One,
    /// So many, whatever the environment says.
    Many(usize),
}

/// How many processes a gateway is to be, where a test doesn't say.
const REPLICAS: &str = "MPG_TEST_REPLICAS";

/// Where the Redis is; `.ci/run` starts one.
const REDIS: &str = "MPG_TEST_REDIS_ADDR";

/// Where a gateway keeps what it knows.
enum Database {
    /// On Postgres if the environment names one, so that every test runs on both.
    AsTheEnvironmentSays,
    Sqlite,
    Postgres(Postgres),
}

impl Scene {
    pub(super) fn new() -> Self {
        // For the clients of tests; a second test of this process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Any random text does; a fresh one shows up if it ever gets into a log.
        let admin_password = PlaintextKey::generate().expose().to_owned();
        let environment = BTreeMap::from([
            ("MPG_ADMIN_USERNAME".to_owned(), ADMIN_USERNAME.to_owned()),
            ("MPG_ADMIN_PASSWORD".to_owned(), admin_password.clone()),
            ("MPG_LOG_FORMAT".to_owned(), "json".to_owned()),
        ]);
        Self {
            upstreams: Vec::new(),
            key: None,
            settings: serde_json::Map::new(),
            environment,
            admin_password,
            http: mcp::client(),
            database: Database::AsTheEnvironmentSays,
            replicas: Replicas::AsTheEnvironmentSays,
        }
    }

    /// An upstream started as a child process.
    pub(crate) fn with_stdio_upstream(self, name: &str, command: &str, args: &[&str]) -> Self {
        self.with_upstream(json!({
            "name": name, "transport": "stdio", "connParams": {"command": command, "args": args},
        }))
    }

    /// An upstream over Streamable HTTP.
    pub(crate) fn with_http_upstream(self, name: &str, url: &str) -> Self {
        self.with_upstream(json!({"name": name, "transport": "streamable-http", "connParams": {"url": url}}))
    }

    /// An upstream in the test's own process, in the era that the gateway finds out.
    pub(crate) fn with_peer(self, name: &str, peer: &Peer) -> Self {
        self.with_http_upstream(name, &peer.url())
    }

    /// The same in an era: `legacy` or `modern`.
    pub(crate) fn with_peer_in(self, era: &str, name: &str, peer: &Peer) -> Self {
        self.with_upstream(json!({
            "name": name, "transport": "streamable-http", "protocol": era, "connParams": {"url": peer.url()},
        }))
    }

    /// An upstream as the REST API takes it.
    pub(crate) fn with_upstream(mut self, body: Value) -> Self {
        self.upstreams.push(body);
        self
    }

    /// A key for everything; [`TestGateway::key`] tells it.
    pub(crate) fn with_key(mut self) -> Self {
        self.key = Some(PlaintextKey::generate());
        self
    }

    /// A setting, through the bootstrap file.
    pub(crate) fn with_setting(mut self, group: &str, key: &str, value: impl Into<Value>) -> Self {
        let members = self.settings.entry(group).or_insert_with(|| json!({}));
        members[key] = value.into();
        self
    }

    /// A variable of the environment.
    pub(crate) fn with_env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// No admin: the first one is registered by the test.
    pub(crate) fn without_admin(mut self) -> Self {
        self.environment.retain(|name, _| !name.starts_with("MPG_ADMIN_"));
        self
    }

    /// TLS on the listener.
    pub(crate) fn with_tls(mut self, authority: &Authority) -> Self {
        let text = |path: std::path::PathBuf| path.to_str().expect("UTF-8").to_owned();
        self.environment.insert("MPG_TLS_CERT".to_owned(), text(authority.certificate()));
        self.environment.insert("MPG_TLS_KEY".to_owned(), text(authority.key()));
        self.http = authority.client(true);
        self
    }

    /// The embedded database, whatever the environment says: for what only that one has.
    pub(crate) fn on_sqlite(mut self) -> Self {
        self.database = Database::Sqlite;
        self
    }

    /// This database, which another gateway may use as well.
    pub(crate) fn on(mut self, postgres: &Postgres) -> Self {
        self.database = Database::Postgres(postgres.clone());
        self
    }

    /// The admin that another gateway on the same database has made.
    pub(crate) fn sharing_admin_of(mut self, other: &TestGateway) -> Self {
        other.admin_password().clone_into(&mut self.admin_password);
        self.environment.insert("MPG_ADMIN_PASSWORD".to_owned(), self.admin_password.clone());
        self
    }

    /// One process, whatever the environment says, for the reason given: what is tested is the business of
    /// one process alone, or is counted by each of them.
    pub(crate) fn alone(mut self, _reason: &'static str) -> Self {
        self.replicas = Replicas::One;
        self
    }

    /// So many processes behind a balancer, on a Postgres.
    pub(crate) fn in_replicas(mut self, count: usize) -> Self {
        self.replicas = Replicas::Many(count);
        self
    }

    /// Completes the variables of the environment; how many processes there are to be.
    pub(super) fn settle(&mut self) -> usize {
        let is_own = matches!(self.database, Database::AsTheEnvironmentSays);
        let postgres = match std::mem::replace(&mut self.database, Database::Sqlite) {
            Database::AsTheEnvironmentSays => Postgres::create(),
            Database::Sqlite => None,
            Database::Postgres(postgres) => Some(postgres),
        };
        self.environment.extend(postgres.iter().flat_map(Postgres::environment));
        match self.replicas {
            Replicas::Many(count) => {
                assert!(postgres.is_some(), "replicas share a Postgres");
                count
            }
            // A test that names its database starts as many gateways on it as it wants.
            Replicas::AsTheEnvironmentSays if is_own && postgres.is_some() => {
                let count = std::env::var(REPLICAS).ok().filter(|count| !count.is_empty());
                count.map_or(1, |count| count.parse().expect("a number of replicas"))
            }
            Replicas::AsTheEnvironmentSays | Replicas::One => 1,
        }
    }

    /// The variables of one of its processes, and the port that they name for other replicas.
    pub(super) fn environment(&self, is_replica: bool) -> (BTreeMap<String, String>, Option<Port>) {
        let mut environment = self.environment.clone();
        if !is_replica {
            return (environment, None);
        }
        let redis = std::env::var(REDIS).ok().filter(|address| !address.is_empty());
        let redis = redis.expect("replicas meet in a Redis");
        environment.entry("MPG_REDIS_ADDR".to_owned()).or_insert(redis);
        let port = (!environment.contains_key("MPG_PEER_ADDR")).then(Port::take);
        environment.extend(port.iter().map(|port| ("MPG_PEER_ADDR".to_owned(), port.address())));
        // Empty is unset.
        environment.retain(|_, value| !value.is_empty());
        (environment, port)
    }

    /// The bootstrap file. JSON is YAML.
    pub(super) fn bootstrap(&self) -> String {
        let keys: Vec<Value> =
            self.key.iter().map(|key| json!({"name": "harness", "key": key.expose()})).collect();
        json!({"upstreams": self.upstreams, "keys": keys, "settings": self.settings}).to_string()
    }
}

impl IntoFuture for Scene {
    type Output = TestGateway;
    type IntoFuture = Pin<Box<dyn Future<Output = TestGateway> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(TestGateway::launch(self))
    }
}
