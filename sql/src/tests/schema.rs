//! Both schemas, as the databases understood them, column by column.

use super::harness::{TestDatabase, on_memory, on_postgres};
use crate::Database;
use crate::db::{Row, cells};

/// `table.column type null?`, in order.
async fn columns(db: &TestDatabase, sql: &str) -> Vec<String> {
    let mut tx = db.store.read().await.expect("reads");
    let rows = tx.query("schema", sql, cells![]).await.expect("reads");
    let text = |row: &Row, column| row.get::<String>(column).expect("a text");
    let line = |row: &Row| {
        let (table, column, ty) = (text(row, "tab"), text(row, "col"), text(row, "typ"));
        let null = row.get::<i64>("required").map(|required| if required == 1 { "NOT NULL" } else { "" });
        format!("{table}.{column} {ty} {}", null.expect("a number"))
    };
    rows.iter().map(line).collect()
}

const SQLITE: &str = "SELECT tables.name AS tab, columns.name AS col, columns.type AS typ,
        columns.\"notnull\" AS required
    FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
    WHERE tables.type = 'table' ORDER BY tables.name, columns.cid";

/// Partitions aren't tables of their own: they have the columns of what they are a part of.
const POSTGRES: &str = "SELECT CAST(table_name AS TEXT) AS tab, CAST(column_name AS TEXT) AS col,
        CASE CAST(data_type AS TEXT) WHEN 'bigint' THEN 'INTEGER' WHEN 'text' THEN 'TEXT'
            WHEN 'bytea' THEN 'BLOB' ELSE CAST(data_type AS TEXT) END AS typ,
        CAST(CASE is_nullable WHEN 'NO' THEN 1 ELSE 0 END AS BIGINT) AS required
    FROM information_schema.columns WHERE table_schema = current_schema()
    AND NOT EXISTS (SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = table_schema AND relname = table_name AND relispartition)
    ORDER BY CAST(table_name AS TEXT) COLLATE \"C\", ordinal_position";

/// Every column of texts: its table, and its name.
pub(super) async fn texts(db: &TestDatabase) -> Vec<(String, String)> {
    let sql = if matches!(db.database, Database::Postgres { .. }) { POSTGRES } else { SQLITE };
    let columns = columns(db, sql).await;
    let texts = columns.iter().filter_map(|line| line.split_once(" TEXT"));
    texts.filter_map(|(name, _)| name.split_once('.')).map(|(tab, col)| (tab.into(), col.into())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_databases_have_the_same_columns() {
    let mut sqlite = Vec::new();
    on_memory(async |db: &TestDatabase| sqlite = columns(db, SQLITE).await).await;
    assert!(sqlite.contains(&"upstreams.credential TEXT ".to_owned()), "{sqlite:?}");
    on_postgres(async |db: &TestDatabase| assert_eq!(columns(db, POSTGRES).await, sqlite)).await;
}

/// Texts sort by their bytes on both; elsewhere than in "C", Postgres would ask the locale.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_text_of_postgres_sorts_by_its_bytes() {
    let sql = "SELECT CAST(table_name AS TEXT) AS tab FROM information_schema.columns
        WHERE table_schema = current_schema() AND data_type = 'text' AND table_name <> 'migrations'
        AND collation_name IS DISTINCT FROM 'C'";
    on_postgres(async |db: &TestDatabase| {
        let mut tx = db.store.read().await.expect("reads");
        assert!(tx.query("schema", sql, cells![]).await.expect("reads").is_empty());
    })
    .await;
}
