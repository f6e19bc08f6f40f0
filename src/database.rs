//! Opening the database that the configuration names, and what its refusals mean to an operator.

use sql::clock::Clock;
use sql::{Database, Store, StoreError, StoreOptions};

use crate::config::{Config, EncryptionKey, make_private_dir};
use crate::failure::Failure;

/// Connects, brings the schema up to date, and checks the key. Waits for a database that isn't there
/// yet as long as `MPG_DB_START_TIMEOUT` says.
pub(crate) async fn open(config: &Config, clock: Clock) -> Result<Store, Failure> {
    let options = StoreOptions {
        database: database(config)?,
        master_key: config.encryption_key.obtain().map_err(|problem| Failure::configuration(&[problem]))?,
        previous_keys: config.previous_keys.obtain().map_err(|problem| Failure::configuration(&[problem]))?,
        clock,
        start_timeout: config.db_start_timeout,
    };
    Store::open(options).await.map_err(|error| failure(error, config))
}

fn database(config: &Config) -> Result<Database, Failure> {
    if let Some(dsn) = &config.pg_dsn {
        return Ok(Database::Postgres { dsn: dsn.clone() });
    }
    make_private_dir(&config.data_dir).map_err(|error| {
        Failure::Configuration(vec![format!(
            "{}: cannot be made: {}",
            config.data_dir.display(),
            error.kind()
        )])
    })?;
    Ok(Database::Sqlite { path: config.sqlite_path() })
}

/// What the operator can do about it decides the exit code.
fn failure(error: StoreError, config: &Config) -> Failure {
    let key = match &config.encryption_key {
        EncryptionKey::Given(_) => "MPG_ENCRYPTION_KEY".to_owned(),
        EncryptionKey::Kept(path) => path.display().to_string(),
    };
    match error {
        StoreError::WrongKey => Failure::Configuration(vec![format!(
            "{key}: not the key of this database; if it was changed, MPG_ENCRYPTION_KEY_PREVIOUS[_FILE] has to \
             give the one before until rotate-key is through"
        )]),
        StoreError::InvalidDsn => Failure::Configuration(vec!["MPG_PG_DSN: not a valid DSN".to_owned()]),
        StoreError::TlsOptions(_) | StoreError::RootCertificates { .. } | StoreError::TlsRefused(_) => {
            Failure::Configuration(vec![format!("MPG_PG_DSN: {error}")])
        }
        StoreError::NewerSchema { .. } => Failure::Configuration(vec![error.to_string()]),
        StoreError::Unavailable(_) => Failure::Unavailable(anyhow::Error::new(error)),
        StoreError::StorageFull(_) => Failure::General(format!("{:#}", anyhow::Error::new(error))),
        _ => Failure::Internal(anyhow::Error::new(error)),
    }
}
