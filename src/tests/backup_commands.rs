//! `export` and `import` without a gateway: what they refuse, and how they ask for a passphrase.

use std::fs::{self, File};

use serde_json::{Value, json};

use crate::harness::{CommandOutput, GatewayCommand, assert_private, at_a_terminal};

const PASSPHRASE: &str = "CANARY-passphrase";

/// The backup of an installation in which nobody did anything yet, its secrets sealed.
fn backup() -> String {
    let mut command = GatewayCommand::new(["export"]).env("MPG_BACKUP_PASSPHRASE", PASSPHRASE);
    prepared(&command);
    let output = command.run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    output.stdout
}

/// Gives the command's folder a database.
fn prepared(command: &GatewayCommand) {
    let data = command.path("data");
    let output = GatewayCommand::new(["migrate", "--data-dir", data.to_str().expect("UTF-8")]).run();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}

/// Imports a document into an empty folder.
fn import(document: &str, more: &[&str]) -> CommandOutput {
    let words = [&["import", "backup.json"], more].concat();
    GatewayCommand::new(words)
        .file("backup.json", document)
        .env("MPG_LOG", "error")
        .env("MPG_BACKUP_PASSPHRASE", PASSPHRASE)
        .run()
}

#[test]
fn a_document_comes_back_into_an_empty_folder() {
    let backup = backup();
    assert!(!backup.contains("CANARY"));
    let output = import(&backup, &["--mode", "replace", "--yes"]);
    assert!(
        output.assert_success().stdout.ends_with("everything is so already\nrestored\n"),
        "{}",
        output.stdout
    );
}

#[test]
fn what_is_no_whole_backup_of_this_form_is_refused() {
    let backup = backup();
    let changed = |change: fn(&mut Value)| {
        let mut document: Value = serde_json::from_str(&backup).expect("JSON");
        change(&mut document);
        document.to_string()
    };
    let altered = "backup.json: /sha256: is another one: the backup was altered or is not whole";
    for (document, line) in [
        (
            changed(|document| document["format"] = json!("mpg-backup/v2")),
            "backup.json: /format: must be mpg-backup/v1",
        ),
        (changed(|document| document["gateway"] = json!("CANARY")), altered),
        (changed(|document| document["keys"] = json!([{"name": "CANARY"}])), altered),
        (backup[..backup.len() / 2].to_owned(), ""),
        (String::new(), "backup.json: not JSON at line 1, column 0"),
        ("[]".to_owned(), "backup.json: : must be an object"),
    ] {
        let output = import(&document, &[]);
        if line.is_empty() {
            assert!(output.stderr.starts_with("backup.json: not JSON at line "), "{}", output.stderr);
            continue;
        }
        output.assert_failure(1, &[line]);
    }
    let missing = GatewayCommand::new(["import", "none.json"]).run();
    missing.assert_failure(1, &["none.json: cannot be read: entity not found"]);
}

#[test]
fn another_passphrase_opens_nothing_and_is_not_told() {
    let backup = backup();
    let words = ["import", "backup.json", "--passphrase-file", "other"];
    let mut command = GatewayCommand::new(words)
        .file("backup.json", &backup)
        .file("other", "CANARY-another")
        .env("MPG_LOG", "error");
    let line = "backup.json: /secrets: doesn't open: the passphrase is another one";
    command.run().assert_failure(1, &[line]);
    let mut command =
        GatewayCommand::new(["import", "-"]).file("backup.json", &backup).env("MPG_LOG", "error");
    let output = command.run_with_stdin(File::open(command.path("backup.json")).expect("just written"));
    output.assert_failure(1, &["-: /secrets: are sealed: the passphrase is required"]);
    for short in ["CANARY", &"CANARY".repeat(200)] {
        let mut command = GatewayCommand::new(["export"]).env("MPG_BACKUP_PASSPHRASE", short);
        prepared(&command);
        command.run().assert_failure(1, &["the passphrase must have 12 to 1024 characters"]);
    }
}

#[test]
fn a_folder_without_a_database_is_no_backup() {
    let output = GatewayCommand::new(["export"]).run();
    let line = "./data/gateway.db: there is no database; name its folder with --data-dir";
    output.assert_failure(1, &[line]);
}

#[test]
fn a_file_that_is_there_is_replaced_and_private() {
    let mut command = GatewayCommand::new(["export", "--without-secrets", "--out", "backup.json"])
        .file("backup.json", "an older one, which everybody may read");
    prepared(&command);
    let output = command.run();
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(0), "backup.json: 0 upstreams, 0 keys, without secrets\n")
    );
    assert_private(&command.path("backup.json"));
    let written = fs::read_to_string(command.path("backup.json")).expect("it was written");
    assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON")["secrets"], Value::Null);
    let mut nowhere = GatewayCommand::new(["export", "--without-secrets", "--out", "none/backup.json"]);
    prepared(&nowhere);
    let output = nowhere.run();
    assert_eq!(output.code, Some(1));
    assert!(
        output.stderr.ends_with("none/backup.json: cannot be written: entity not found\n"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_passphrase_is_asked_for_and_never_shown() {
    let first = "Passphrase for the secrets (empty: leave them out): ";
    let mut command = GatewayCommand::new(["export", "--out", "backup.json"]);
    prepared(&command);
    let answers = [(first, PASSPHRASE), ("Once more: ", PASSPHRASE)];
    let (output, shown) = at_a_terminal(&mut command, &answers);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(!shown.contains("CANARY") && !output.stderr.contains("CANARY"), "{shown}{}", output.stderr);
    let backup = fs::read_to_string(command.path("backup.json")).expect("it was written");

    let (output, _) = at_a_terminal(&mut command, &[(first, PASSPHRASE), ("Once more: ", "CANARY-another")]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.ends_with("these are two passphrases: nothing was done\n"), "{}", output.stderr);

    let mut command = GatewayCommand::new(["import", "backup.json"]).file("backup.json", &backup);
    let prompt = "Passphrase of the secrets: ";
    let (output, shown) = at_a_terminal(&mut command, &[(prompt, PASSPHRASE)]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(!shown.contains("CANARY"), "{shown}");
    let (output, _) = at_a_terminal(&mut command, &[(prompt, "CANARY-another")]);
    assert_eq!(output.code, Some(1));
}
