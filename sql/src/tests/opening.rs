//! Opening a store: the first time, again, and with the wrong key.

use std::time::Duration;

use super::harness::{
    KEY, MIGRATIONS, OTHER_KEY, TestDatabase, on_each_database, on_each_shared_database, options,
};
use crate::{Clock, Database, Store, StoreError};

on_each_shared_database! {
    async fn the_installation_stays_the_same(db) {
        let again = db.open_another(KEY).await.expect("opens again");
        assert_eq!(again.instance_id(), db.store.instance_id());
        assert_eq!(again.sealer().derive_key("x"), db.store.sealer().derive_key("x"));
        again.close().await;
    }

    async fn another_master_key_is_refused(db) {
        let refused = db.open_another(OTHER_KEY).await.map(drop);
        assert!(matches!(refused, Err(StoreError::WrongKey)), "{refused:?}");
    }

    async fn many_starts_at_once_agree(db) {
        let starts = (0..4).map(|_| db.open_another(KEY));
        for start in futures::future::join_all(starts).await {
            let store = start.expect("opens");
            assert_eq!(store.instance_id(), db.store.instance_id());
            store.close().await;
        }
    }

    async fn nothing_is_pending_once_it_is_open(db) {
        let options = options(&db.database, KEY, &db.clock);
        assert!(Store::pending_migrations(&options).await.expect("asks").is_empty());
        assert!(Store::migrate(&options).await.expect("migrates").is_empty());
    }
}

on_each_database! {
    async fn a_closed_store_says_so(db) {
        db.store.healthy().await.expect("is open");
        db.store.close().await;
        let refused = db.store.healthy().await.expect_err("is closed");
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    }
}

#[tokio::test]
async fn a_new_file_has_everything_pending_and_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.db");
    let options = options(&Database::Sqlite { path: path.clone() }, KEY, &Clock::system());
    assert_eq!(Store::pending_migrations(&options).await.expect("asks"), MIGRATIONS);
    assert_eq!(Store::pending_migrations(&options).await.expect("asking changed nothing"), MIGRATIONS);
    assert_eq!(Store::migrate(&options).await.expect("migrates"), MIGRATIONS);
    let mode = std::fs::metadata(path).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_unavailable() {
    let database = Database::Sqlite { path: "/nonexistent/gateway.db".into() };
    let refused = Store::open(options(&database, KEY, &Clock::system())).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn what_was_committed_survives_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = Database::Sqlite { path: folder.path().join("gateway.db") };
    let first = TestDatabase::open(database).await;
    let upstream = super::upstreams::full(&first, "a");
    let mut tx = first.store.begin().await.expect("begins");
    crate::upstreams::insert(&mut tx, &upstream).await.expect("inserts");
    tx.commit().await.expect("commits");
    first.store.close().await;

    let second = first.open_another(KEY).await.expect("opens again");
    let mut tx = second.read().await.expect("reads");
    assert_eq!(crate::upstreams::list(&mut tx).await.expect("reads"), [upstream]);
}

/// A port where nobody listens: found out at once, and tried again only while there is time.
#[tokio::test]
async fn a_postgres_that_does_not_answer_is_unavailable() {
    let dsn = "host=127.0.0.1 port=1 user=x password=CANARY";
    let database = Database::Postgres { dsn: dsn.into() };
    let mut options = options(&database, KEY, &Clock::system());
    options.start_timeout = Duration::from_millis(250);
    let refused = Store::open(options).await.map(drop).expect_err("nobody is there");
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    assert!(!format!("{refused} {refused:?}").contains("CANARY"));
}

#[tokio::test]
async fn a_dsn_that_is_none_is_refused_unseen() {
    for dsn in ["CANARY nonsense", "host=h nonsense=CANARY", "postgres://u:CANARY@h/d?nonsense=1"] {
        let refused = refusal(dsn).await;
        assert!(matches!(refused, StoreError::InvalidDsn), "{refused:?}");
        assert!(!format!("{refused} {refused:?}").contains("CANARY"));
    }
}

#[tokio::test]
async fn tls_options_that_mean_nothing_together_are_refused_with_what_would() {
    for (tls, told) in [
        ("sslmode=verify-ca", "sslmode=verify-ca needs sslrootcert, the file of the authority's certificate"),
        (
            "sslmode=verify-full",
            "sslmode=verify-full needs sslrootcert, the file of the authority's certificate or `system`",
        ),
        ("sslmode=allow", "sslmode is disable, prefer, require, verify-ca or verify-full"),
        ("sslmode=''", "sslmode is disable, prefer, require, verify-ca or verify-full"),
        ("sslrootcert=/ca.pem", "sslrootcert needs sslmode=verify-full, verify-ca or require"),
        ("sslmode=require sslrootcert=system", "sslrootcert=system needs sslmode=verify-full, or none"),
        ("sslnegotiation=direct", "sslnegotiation=direct needs sslmode=require or stricter"),
    ] {
        let refused = refusal(&format!("host=h user=u password=CANARY {tls}")).await;
        assert!(matches!(refused, StoreError::TlsOptions(_)), "{refused:?}");
        assert_eq!(refused.to_string(), told);
    }
}

#[tokio::test]
async fn a_file_without_root_certificates_is_refused_by_its_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, content, told) in [
        ("none.pem", None, "No such file or directory (os error 2)"),
        ("empty.pem", Some(""), "has no certificate in it"),
        ("half.pem", Some("-----BEGIN CERTIFICATE-----\nAAAA\n"), "is not a PEM file"),
        ("broken.pem", Some(broken), "has a certificate that can't be read"),
    ] {
        let path = folder.path().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).expect("the folder is writable");
        }
        let path = path.display();
        let refused = refusal(&format!("postgres://u:CANARY@h/d?sslmode=verify-ca&sslrootcert={path}")).await;
        assert!(matches!(refused, StoreError::RootCertificates { .. }), "{refused:?}");
        assert_eq!(refused.to_string(), format!("sslrootcert: {path}: {told}"));
    }
}

/// How a DSN is refused that no server is asked for.
async fn refusal(dsn: &str) -> StoreError {
    let database = Database::Postgres { dsn: dsn.into() };
    let refused = Store::open(options(&database, KEY, &Clock::system())).await.map(drop);
    refused.expect_err("is no DSN we take")
}
