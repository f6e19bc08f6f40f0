//! The commands that end: what they print, where, and with which exit code.

use std::fs;

use serde_json::Value;

use crate::harness::{GatewayCommand, assert_private};

/// `EX_UNAVAILABLE` and `EX_CONFIG` of sysexits.h.
const UNAVAILABLE: i32 = 69;
const CONFIGURATION: i32 = 78;

const KEY: &str = "hex:8f1c2a94d07be5360c9a4f7712de83b5a6e0194c72fd3b8865017ac9e42b5dd1";
/// What is told of a key that isn't the database's, behind its name.
const NOT_THE_KEY: &str = "not the key of this database; if it was changed, MPG_ENCRYPTION_KEY_PREVIOUS[_FILE] has to \
    give the one before until rotate-key is through";
const OTHER_KEY: &str = "hex:1f1c2a94d07be5360c9a4f7712de83b5a6e0194c72fd3b8865017ac9e42b5dd1";

#[test]
fn version_is_data() {
    let expected = format!("mcp-proxy-gateway {}\n", env!("CARGO_PKG_VERSION"));
    for argument in ["version", "--version"] {
        let output = GatewayCommand::new([argument]).run();
        assert_eq!(output.assert_success().stdout, expected);
    }
}

#[test]
fn help_has_examples() {
    let output = GatewayCommand::new(["--help"]).run();
    assert!(output.assert_success().stdout.contains("mcp-proxy-gateway --bootstrap examples/gateway.yaml"));
    assert!(!output.stdout.contains("supervise"), "a hidden command");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [&["nonsense"][..], &["--nonsense"], &["config"], &["config", "nonsense"]] {
        let output = GatewayCommand::new(arguments).run();
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(output.stderr.contains("Usage:"), "{arguments:?}");
    }
}

#[test]
fn every_command_refuses_a_bad_environment_in_the_same_words() {
    for arguments in
        [&["serve"][..], &["config", "check"], &["config", "show"], &["migrate"], &["healthcheck"]]
    {
        let output = GatewayCommand::new(arguments).env("MPG_LISTEN", "CANARY").run();
        output.assert_failure(CONFIGURATION, &["MPG_LISTEN: not an address and port like 127.0.0.1:8080"]);
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let output = GatewayCommand::new(["config", "check"])
        .env("MPG_EGRESS", "everything")
        .env("MPG_DRAIN_TIMEOUT", "25")
        .env("MPG_SETUP_TOKN", "x")
        .env("MPG_ENCRYPTION_KEY", KEY)
        .env("MPG_ENCRYPTION_KEY_FILE", "key")
        .run();
    output.assert_failure(
        CONFIGURATION,
        &[
            "MPG_DRAIN_TIMEOUT: not a duration like 25s, 500ms, 5m or 1h",
            "MPG_EGRESS: not private or public",
            "MPG_ENCRYPTION_KEY: set together with MPG_ENCRYPTION_KEY_FILE; give one of them",
            "MPG_SETUP_TOKN: unknown variable; did you mean MPG_SETUP_TOKEN?",
        ],
    );
}

#[test]
fn a_placeholder_for_the_encryption_key_is_refused() {
    let zeros = "0".repeat(64);
    for placeholder in ["replace-with-your-own-32-byte-random-key", zeros.as_str()] {
        let output = GatewayCommand::new(["serve"]).env("MPG_ENCRYPTION_KEY", placeholder).run();
        assert_eq!(output.code, Some(CONFIGURATION));
        assert!(output.stderr.starts_with("MPG_ENCRYPTION_KEY: "), "{}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert!(!output.stderr.contains(placeholder), "{}", output.stderr);
    }
}

#[test]
fn a_bare_start_would_listen_on_loopback_alone() {
    let output = GatewayCommand::new(["config", "show"]).run();
    let listen: Vec<&str> = output
        .assert_success()
        .stdout
        .lines()
        .find(|line| line.starts_with("MPG_LISTEN"))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(listen, ["MPG_LISTEN", "127.0.0.1:8080", "default"]);
}

#[test]
fn show_masks_secrets_and_names_origins() {
    let mut command = GatewayCommand::new(["config", "show", "--listen", "127.0.0.1:9999"])
        .file("token", "CANARY-token\n")
        .env("MPG_SETUP_TOKEN_FILE", "token")
        .env("MPG_ENCRYPTION_KEY", KEY)
        .env("MPG_LISTEN", "127.0.0.1:1111");
    let output = command.run();
    let shown = &output.assert_success().stdout;
    assert!(!shown.contains("CANARY") && !shown.contains(&KEY[4..]), "{shown}");
    let row = |name: &str| -> Vec<&str> {
        shown.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect()
    };
    assert_eq!(row("MPG_LISTEN"), ["MPG_LISTEN", "127.0.0.1:9999", "flag"]);
    assert_eq!(row("MPG_SETUP_TOKEN"), ["MPG_SETUP_TOKEN", "********", "file"]);
    assert_eq!(row("MPG_ENCRYPTION_KEY"), ["MPG_ENCRYPTION_KEY", "********", "environment"]);
}

#[test]
fn check_starts_and_leaves_nothing() {
    let mut command = GatewayCommand::new(["config", "check"]);
    assert_eq!(command.run().assert_success().stdout, "configuration ok\n");
    assert!(!command.path("data").exists());
}

#[test]
fn a_bad_bootstrap_file_is_told_by_line_and_field() {
    let mut command = GatewayCommand::new(["config", "check", "--bootstrap", "gateway.yaml"]).file(
        "gateway.yaml",
        concat!(
            "upstreams:\n",
            "  - name: time\n",
            "    transport: stdio\n",
            "    connParams: {command: uvx, args: [mcp-server-time]}\n",
            "  - name: other\n",
            "    transport: carrier-pigeon\n",
            "    connParams: {command: uvx}\n",
            "rules: []\n",
        ),
    );
    let output = command.run();
    assert_eq!(output.code, Some(CONFIGURATION));
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("gateway.yaml:6: upstreams[1].transport: "), "{lines:?}");
    assert_eq!(lines[1], "gateway.yaml:8: rules: must be a mapping of `aliases:` and `filters:`");
    assert!(!output.stderr.contains("pigeon"));
}

#[test]
fn a_bootstrap_file_that_is_not_there_is_told_by_its_name() {
    let output = GatewayCommand::new(["config", "check", "--bootstrap", "none.yaml"]).run();
    output.assert_failure(CONFIGURATION, &["none.yaml: cannot read the file: entity not found"]);
}

#[test]
fn the_first_migration_makes_a_database_and_a_private_key() {
    let mut command = GatewayCommand::new(["migrate"]);
    assert_eq!(command.run().code, Some(0));
    assert!(command.path("data/gateway.db").exists());
    assert_private(&command.path("data/encryption.key"));
    let key = fs::read_to_string(command.path("data/encryption.key")).unwrap();
    assert_eq!(command.run().code, Some(0), "a second time there is nothing to do");
    assert_eq!(fs::read_to_string(command.path("data/encryption.key")).unwrap(), key);
}

#[test]
fn another_encryption_key_than_the_databases_is_refused() {
    let mut command = GatewayCommand::new(["migrate"]).env("MPG_ENCRYPTION_KEY", KEY);
    assert_eq!(command.run().code, Some(0));
    let mut command = command.env("MPG_ENCRYPTION_KEY", OTHER_KEY);
    command.run().assert_failure(CONFIGURATION, &[&format!("MPG_ENCRYPTION_KEY: {NOT_THE_KEY}")]);
    // And one made anew because the file was lost is no better.
    fs::write(command.path("data/encryption.key"), format!("{OTHER_KEY}\n")).unwrap();
    let mut command = command.env("MPG_ENCRYPTION_KEY", "");
    command.run().assert_failure(CONFIGURATION, &[&format!("./data/encryption.key: {NOT_THE_KEY}")]);
}

#[test]
fn a_database_that_is_not_there_is_exit_code_69() {
    let output = GatewayCommand::new(["migrate"])
        // Port 1 is reserved, and nothing listens there.
        .env("MPG_PG_DSN", "postgresql://gateway:CANARY@127.0.0.1:1/gateway")
        .env("MPG_ENCRYPTION_KEY", KEY)
        .env("MPG_DB_START_TIMEOUT", "300ms")
        .run();
    assert_eq!(output.code, Some(UNAVAILABLE), "{}", output.stderr);
    assert!(output.stderr.lines().last().unwrap().starts_with("database unreachable: "), "{}", output.stderr);
    assert!(!output.stderr.contains("CANARY"), "{}", output.stderr);
}

#[test]
fn tls_that_the_database_cannot_be_asked_for_is_a_wrong_configuration() {
    for (tls, told) in [
        ("sslmode=verify-ca", "sslmode=verify-ca needs sslrootcert, the file of the authority's certificate"),
        (
            "sslmode=verify-full&sslrootcert=%2Fno%2Fca.pem",
            "sslrootcert: /no/ca.pem: No such file or directory (os error 2)",
        ),
    ] {
        let output = GatewayCommand::new(["migrate"])
            .env("MPG_PG_DSN", format!("postgresql://gateway:CANARY@127.0.0.1:1/gateway?{tls}"))
            .env("MPG_ENCRYPTION_KEY", KEY)
            .run();
        output.assert_failure(CONFIGURATION, &[&format!("MPG_PG_DSN: {told}")]);
    }
}

#[test]
fn a_data_folder_that_cannot_be_made_is_told() {
    let output = GatewayCommand::new(["migrate"]).file("data", "not a folder").run();
    assert_eq!(output.code, Some(CONFIGURATION), "{}", output.stderr);
    assert!(output.stderr.starts_with("./data"), "{}", output.stderr);
}

#[test]
fn a_password_is_reset_for_an_admin_who_exists() {
    let mut command = GatewayCommand::new(["reset-password"]);
    let missing = "MPG_ADMIN_USERNAME and MPG_ADMIN_PASSWORD: required, to say whose password becomes what";
    command.run().assert_failure(CONFIGURATION, &[missing]);
    let output = command.env("MPG_ADMIN_USERNAME", "root").env("MPG_ADMIN_PASSWORD", "CANARY-password").run();
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("there is no admin of this name"), "{}", output.stderr);
    assert!(!output.stderr.contains("CANARY"), "{}", output.stderr);
}

#[test]
fn the_encryption_key_is_changed_for_another() {
    let mut command = GatewayCommand::new(["migrate"]).env("MPG_ENCRYPTION_KEY", KEY);
    assert_eq!(command.run().code, Some(0));
    let mut command = command.then(["rotate-key"]).env("MPG_ENCRYPTION_KEY", OTHER_KEY);
    let refused = format!("MPG_ENCRYPTION_KEY: {NOT_THE_KEY}");
    command.run().assert_failure(CONFIGURATION, &[&refused]);
    let mut command = command.env("MPG_ENCRYPTION_KEY_PREVIOUS", KEY);
    let output = command.run();
    let told = "2 values were sealed anew, 0 needed no change";
    assert!(output.assert_success().stdout.starts_with(told), "{}", output.stdout);
    let mut command = command.then(["audit", "verify"]).env("MPG_ENCRYPTION_KEY", KEY);
    command.run().assert_failure(CONFIGURATION, &[&refused]);
    let output = command.env("MPG_ENCRYPTION_KEY", OTHER_KEY).run();
    assert!(output.assert_success().stdout.starts_with("intact: 1 events"), "{}", output.stdout);
}

#[test]
fn a_previous_key_that_is_none_is_told_by_its_line() {
    let lines = format!("{KEY}\n\nCANARY");
    let output =
        GatewayCommand::new(["config", "check"]).env("MPG_ENCRYPTION_KEY_PREVIOUS", lines.as_str()).run();
    assert_eq!(output.code, Some(CONFIGURATION));
    assert!(output.stderr.contains("MPG_ENCRYPTION_KEY_PREVIOUS: line 2: "), "{}", output.stderr);
    assert!(!output.stderr.contains("CANARY"), "{}", output.stderr);
}

#[test]
fn openapi_is_a_document() {
    let output = GatewayCommand::new(["openapi"]).run();
    let document: Value = serde_json::from_str(&output.assert_success().stdout).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(document["paths"]["/api/admin/upstreams"].is_object());
}

#[test]
fn healthcheck_of_nothing_is_exit_code_1() {
    let output = GatewayCommand::new(["healthcheck", "--listen", "127.0.0.1:1"]).run();
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""));
    assert!(output.stderr.starts_with("unhealthy: no answer from 127.0.0.1:1"), "{}", output.stderr);
}

#[test]
fn an_audit_log_is_verified_without_a_gateway() {
    let mut command = GatewayCommand::new(["audit", "verify"]);
    let output = command.run();
    let stdout = &output.assert_success().stdout;
    assert!(stdout.starts_with("intact: 0 events, 0 older ones dropped\nanchor: 0:"), "{stdout}");
    let wrong = GatewayCommand::new(["audit", "verify", "--anchor", "x"]).run();
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(1), ""));
    let later = format!("3:{}", "a".repeat(64));
    let broken = GatewayCommand::new(["audit", "verify", "--anchor", &later]).run();
    assert_eq!((broken.code, broken.stdout.as_str()), (Some(1), ""));
    assert!(broken.stderr.contains("broken: event 1 "), "{}", broken.stderr);
}
