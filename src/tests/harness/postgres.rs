//! A Postgres to run on, if the environment names one: a database of its own for each gateway.

use std::process::Command;

use sql::model::PlaintextKey;

use super::hintless::Hintless;
use super::intermediary::Intermediary;

/// Where the server is; `.ci/run` starts one.
const VARIABLE: &str = "MPG_TEST_PG_DSN";

/// A database, and the key that seals what is in it. Clones are the same database.
#[derive(Clone)]
pub(crate) struct Postgres {
    dsn: String,
    key: String,
}

impl Postgres {
    /// A new database; none where there is no server.
    pub(crate) fn create() -> Option<Self> {
        let server = std::env::var(VARIABLE).ok().filter(|dsn| !dsn.is_empty())?;
        // Random enough to be nobody else's, and a name without quotes needs lower case.
        let random = PlaintextKey::generate().hash().map(|byte| format!("{byte:02x}")).concat();
        let name = format!("gateway_{}", &random[..16]);
        run(&server, &format!("CREATE DATABASE {name}"));
        let (server, _) = server.rsplit_once('/').expect("the DSN is a URL that names a database");
        Some(Self { dsn: format!("{server}/{name}"), key: format!("hex:{random}") })
    }

    /// A new database for gateways that also share a Redis; none where there is no server of either.
    pub(crate) fn create_with_redis() -> Option<Self> {
        let redis = std::env::var("MPG_TEST_REDIS_ADDR").is_ok_and(|address| !address.is_empty());
        let postgres = redis.then(Self::create).flatten();
        if postgres.is_none() {
            eprintln!(
                "no MPG_TEST_PG_DSN or no MPG_TEST_REDIS_ADDR: nothing was tested; `.ci/run` sets both"
            );
        }
        postgres
    }

    /// The same database, reached through a proxy that the test can cut.
    pub(crate) async fn through_an_intermediary(&self) -> (Self, Intermediary) {
        let between = Intermediary::to(self.address().to_owned()).await;
        (self.at(between.port()), between)
    }

    /// The same database, reached through a relay by which no hint of a change comes.
    pub(crate) async fn without_hints(&self) -> (Self, Hintless) {
        let between = Hintless::to(self.address().to_owned()).await;
        let mut through = self.at(between.port());
        // It reads what the server says, which it can only in clear.
        through.dsn.push_str("?sslmode=disable");
        (through, between)
    }

    /// Where its server is: host and port.
    fn address(&self) -> &str {
        let (_, rest) = self.dsn.rsplit_once('@').expect("the DSN is a URL with a user");
        rest.split_once('/').expect("and a database").0
    }

    /// The same database by another port.
    fn at(&self, port: u16) -> Self {
        let dsn = self.dsn.replacen(self.address(), &format!("127.0.0.1:{port}"), 1);
        Self { dsn, key: self.key.clone() }
    }

    /// Runs a statement beside the gateways, as somebody with access to the database would.
    pub(crate) fn run(&self, sql: &str) {
        run(&self.dsn, sql);
    }

    /// What a gateway's environment says of it.
    pub(super) fn environment(&self) -> [(String, String); 2] {
        [("MPG_PG_DSN".into(), self.dsn.clone()), ("MPG_ENCRYPTION_KEY".into(), self.key.clone())]
    }
}

fn run(dsn: &str, sql: &str) {
    let output = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--command", sql, dsn])
        .output()
        .expect("psql is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
