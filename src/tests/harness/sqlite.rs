//! A gateway's SQLite file, from outside: by Python's own SQLite, so that no driver of ours is needed.

use std::path::Path;
use std::process::Command;

/// Runs one statement and commits; answers how many rows it changed.
pub(crate) fn execute(database: &Path, sql: &str) -> usize {
    let script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); \
        print(db.execute(sys.argv[2]).rowcount); db.commit()";
    python(script, database, sql).parse().expect("a number")
}

/// What SQLite says of the whole file; `ok`, if nothing is wrong with it.
pub(crate) fn integrity(database: &Path) -> String {
    let script =
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])";
    python(script, database, "PRAGMA integrity_check")
}

fn python(script: &str, database: &Path, sql: &str) -> String {
    let output = Command::new("python3").args(["-c", script]).arg(database).arg(sql).output();
    let output = output.expect("python3 is installed");
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
