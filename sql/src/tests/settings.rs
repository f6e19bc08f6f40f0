//! The one row of settings.

use super::harness::on_each_database;
use crate::db::cells;
use crate::error::StoreError;
use crate::model::settings::{Mode, Settings};
use crate::settings::{self, VERSION_NONE};

on_each_database! {
    async fn settings_are_saved_over_the_version_that_was_read(db) {
        let mut tx = db.store.begin().await.expect("begins");
        assert_eq!(settings::load(&mut tx).await.expect("reads"), None);
        let mut changed = Settings::default();
        assert!(!settings::save(&mut tx, &changed, 1).await.expect("nothing is stored"));
        assert!(settings::save(&mut tx, &changed, VERSION_NONE).await.expect("saves"));
        assert!(!settings::save(&mut tx, &changed, VERSION_NONE).await.expect("is stored already"));
        changed.mcp_api.mode = Mode::Smart;
        changed.connection.retry_multiplier = 1.5;
        assert!(settings::save(&mut tx, &changed, 1).await.expect("saves"));
        assert!(!settings::save(&mut tx, &changed, 1).await.expect("is stale"));
        assert_eq!(settings::load(&mut tx).await.expect("reads"), Some((changed, 2)));
    }

    async fn a_document_that_cannot_be_read_is_named(db) {
        let mut tx = db.store.begin().await.expect("begins");
        settings::save(&mut tx, &Settings::default(), VERSION_NONE).await.expect("saves");
        tx.execute("settings", "UPDATE settings SET document = '{\"auth\": 1}'", cells![]).await.expect("updates");
        let refused = settings::load(&mut tx).await.expect_err("is corrupt");
        assert!(matches!(refused, StoreError::Corrupt { table: "settings", column, .. } if column == "document"));
    }
}
