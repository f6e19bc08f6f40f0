//! A Postgres to run on, if the environment names one: a database of its own for each gateway.

use std::process::Command;

use sql::model::PlaintextKey;

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

    /// The same database, reached through a proxy that the test can cut.
    pub(crate) async fn through_an_intermediary(&self) -> (Self, Intermediary) {
        let (head, rest) = self.dsn.rsplit_once('@').expect("the DSN is a URL with a user");
        let (address, database) = rest.split_once('/').expect("and a database");
        let between = Intermediary::to(address.to_owned()).await;
        let dsn = format!("{head}@127.0.0.1:{}/{database}", between.port());
        (Self { dsn, key: self.key.clone() }, between)
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
