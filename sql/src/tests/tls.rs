//! TLS to Postgres: what each `sslmode` asks of a server, and that all goes over it that should.

use std::path::Path;

use super::authority::Authority;
use super::cluster::Cluster;
use super::failover::{heard_of, open, write, write_until_taken};
use super::harness::{KEY, options, run_sql};
use crate::db::cells;
use crate::{Clock, Database, Store, StoreError, TlsRefusal};

/// What the servers' certificates are for.
const NAMES: &str = "DNS:db.test,IP:127.0.0.1";
/// A server that knows only versions of TLS that we don't speak any more.
const OUTDATED: &str = "ssl_min_protocol_version = 'TLSv1'\nssl_max_protocol_version = 'TLSv1.1'";

impl Cluster {
    /// By the address, under a name that no resolver knows.
    fn named(&self, host: &str, more: &str) -> String {
        self.dsn(&format!("host={host} hostaddr=127.0.0.1 {more}"))
    }

    fn dsn(&self, more: &str) -> String {
        format!("port={} user=postgres dbname=postgres {more}", self.port)
    }
}

async fn try_open(dsn: &str) -> Result<Store, StoreError> {
    let database = Database::Postgres { dsn: dsn.into() };
    Store::open(options(&database, KEY, &Clock::system())).await
}

/// Opens a store, and says whether what it said was encrypted.
async fn encrypted(dsn: &str) -> bool {
    let store = try_open(dsn).await.unwrap_or_else(|error| panic!("{dsn}: {error:?}"));
    let encrypted =
        ask(&store, "SELECT CAST(ssl AS TEXT) AS t FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await;
    store.close().await;
    encrypted == "true"
}

/// The text that a statement answers as `t`.
async fn ask(store: &Store, sql: &str) -> String {
    let mut tx = store.read().await.expect("reads");
    tx.query_one("none", sql, cells![]).await.expect("reads").get("t").expect("a text")
}

/// Why the store can't be opened, which waiting wouldn't change.
async fn refusal(dsn: &str) -> TlsRefusal {
    let refused = try_open(dsn).await.map(drop).expect_err("is refused");
    assert!(!refused.is_transient(), "{refused:?}");
    match refused {
        StoreError::TlsRefused(refusal) => refusal,
        other => panic!("{dsn}: {other:?}"),
    }
}

fn trusting(mode: &str, root: &Path) -> String {
    format!("sslmode={mode} sslrootcert='{}'", root.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mode_checks_what_it_says() {
    let (authority, other) = (Authority::new(), Authority::new());
    let Some(server) = Cluster::with_tls(&authority.issue(NAMES), "", "") else { return };
    let (root, foreign) = (authority.root(), other.root());

    assert!(!encrypted(&server.named("db.test", "sslmode=disable")).await);
    assert!(encrypted(&server.named("db.test", "")).await, "without a mode");
    assert!(encrypted(&server.named("elsewhere.test", "sslmode=require")).await);
    for mode in ["require", "verify-ca"] {
        assert!(encrypted(&server.named("elsewhere.test", &trusting(mode, &root))).await, "{mode}");
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let refused = refusal(&server.named("db.test", &trusting(mode, &foreign))).await;
        assert_eq!(refused, TlsRefusal::UnknownIssuer, "{mode}");
    }
    let full = trusting("verify-full", &root);
    assert!(encrypted(&server.named("db.test", &full)).await);
    let refused = refusal(&server.named("elsewhere.test", &full)).await;
    assert_eq!(
        refused.to_string(),
        "the server's certificate is not for the DSN's host, but for db.test, 127.0.0.1; sslmode=verify-full needs \
         one that stands in its subjectAltName (verify-ca looks at no name)"
    );
    // The machine doesn't know this authority, whomever else it does.
    assert_eq!(refusal(&server.named("db.test", "sslrootcert=system")).await, TlsRefusal::UnknownIssuer);

    let url = format!(
        "postgres://postgres@127.0.0.1:{}/postgres?sslmode=verify%2Dfull&sslrootcert={}",
        server.port,
        root.display()
    );
    assert!(encrypted(&url).await);
    for mode in ["", "sslmode=require", &full] {
        assert!(
            encrypted(&server.dsn(&format!("hostaddr=127.0.0.1 {mode}"))).await,
            "an address alone, {mode}"
        );
    }
    let socket = server.socket_folder().display();
    for mode in ["", "sslmode=require", &full] {
        assert!(!encrypted(&server.dsn(&format!("host={socket} {mode}"))).await, "a Unix socket, {mode}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_good_in_its_time_alone() {
    for (from, until, expected) in
        [("2020", "2021", TlsRefusal::Expired), ("2080", "2090", TlsRefusal::NotValidYet)]
    {
        let authority = Authority::new();
        let Some(server) = Cluster::with_tls(&authority.issue_for(NAMES, from, until), "", "") else {
            return;
        };
        let refused = refusal(&server.named("db.test", &trusting("verify-ca", &authority.root()))).await;
        assert_eq!(refused, expected);
        assert!(encrypted(&server.named("db.test", "sslmode=require")).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_signed_by_itself_is_its_own_authority() {
    let authority = Authority::new();
    let pair = authority.self_signed(NAMES);
    let Some(server) = Cluster::with_tls(&pair, "", "") else { return };
    let full = trusting("verify-full", &pair.certificate);
    assert!(encrypted(&server.named("db.test", &full)).await);
    assert!(matches!(refusal(&server.named("elsewhere.test", &full)).await, TlsRefusal::OtherName { .. }));
    let refused = refusal(&server.named("db.test", &trusting("verify-ca", &authority.root()))).await;
    assert!(matches!(refused, TlsRefusal::Certificate(_)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_for_those_who_do_without() {
    let Some(server) = Cluster::primary() else { return };
    for mode in ["", "sslmode=prefer", "sslmode=disable"] {
        assert!(!encrypted(&server.dsn(&format!("host=127.0.0.1 {mode}"))).await, "{mode}");
        assert!(!encrypted(&server.dsn(&format!("hostaddr=127.0.0.1 {mode}"))).await, "{mode}");
    }
    for mode in ["sslmode=require", "sslrootcert=system"] {
        assert_eq!(refusal(&server.dsn(&format!("host=127.0.0.1 {mode}"))).await, TlsRefusal::NotOffered);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_preferred_is_gone_without() {
    let authority = Authority::new();
    let Some(server) = Cluster::with_tls(&authority.issue(NAMES), OUTDATED, "") else { return };
    assert!(!encrypted(&server.named("db.test", "")).await, "the handshake failed");
    let refused = refusal(&server.named("db.test", "sslmode=require")).await;
    assert!(matches!(refused, TlsRefusal::Handshake(_)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_the_server_decide_where_tls_is_only_preferred() {
    let authority = Authority::new();
    let rules = "hostnossl all all all trust\nhostssl all all all reject";
    let Some(server) = Cluster::with_tls(&authority.issue(NAMES), "", rules) else { return };
    assert!(!encrypted(&server.named("db.test", "sslmode=prefer")).await);
    let refused = try_open(&server.named("db.test", "sslmode=require")).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

/// A log-in that is bound to its connection can't be passed on by somebody in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_can_be_bound_to_its_connection() {
    let authority = Authority::new();
    let rules = "host all bound all scram-sha-256";
    let Some(server) = Cluster::with_tls(&authority.issue(NAMES), "", rules) else { return };
    let role = "CREATE ROLE bound SUPERUSER LOGIN PASSWORD 'a password'";
    run_sql(&server.dsn("host=127.0.0.1 sslmode=disable"), role).await;
    let dsn = |more: &str| {
        let user = format!("user=bound password='a password' {more}");
        server.named("db.test", "").replace("user=postgres", &user)
    };
    assert!(encrypted(&dsn("sslmode=require channel_binding=require")).await);
    let refused = try_open(&dsn("sslmode=disable channel_binding=require")).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_are_heard_over_tls_before_and_after_a_restart() {
    let authority = Authority::new();
    let Some(server) =
        Cluster::with_tls(&authority.issue(NAMES), "", "hostssl all all all trust\nhost all all all reject")
    else {
        return;
    };
    let dsn = server.named("db.test", &trusting("verify-full", &authority.root()));
    let (store, other) = (open(dsn.clone()).await, open(dsn).await);
    let mut hints = store.changes();
    while !heard_of(&mut hints, &store, write(&other).await.expect("is taken")).await {}
    server.stop();
    let refused = write(&store).await.expect_err("nobody is there");
    assert!(refused.is_transient(), "{refused:?}");
    server.start();
    write_until_taken(&store).await;
    write_until_taken(&other).await;
    while !heard_of(&mut hints, &store, write(&other).await.expect("is taken")).await {}
    let in_clear = "SELECT CAST(count(*) AS TEXT) AS t FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'mcp-proxy-gateway' AND NOT ssl";
    assert_eq!(ask(&store, in_clear).await, "0");
    store.close().await;
    other.close().await;
}
