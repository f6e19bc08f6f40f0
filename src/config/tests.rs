//! Every rule of the configuration, as tables: what is given, and what comes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use sql::model::Settings;
use tempfile::TempDir;

use super::*;

/// 32 bytes that nobody would take for a placeholder.
const KEY: &str = "hex:8f1c2a94d07be5360c9a4f7712de83b5a6e0194c72fd3b8865017ac9e42b5dd1";

fn load(pairs: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let environment = pairs.iter().copied().collect();
    Config::load(&environment, &Flags::default())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn problems(pairs: &[(&str, &str)]) -> Vec<String> {
    load(pairs).expect_err("refused")
}

#[test]
fn nothing_given_is_a_gateway_for_this_machine_alone() {
    let config = load(&[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert!(config.pg_dsn.is_none());
    assert_eq!(config.sqlite_path(), PathBuf::from("./data/gateway.db"));
    assert!(matches!(&config.encryption_key, EncryptionKey::Kept(path) if path.ends_with("encryption.key")));
    assert_eq!(config.allowed_hosts, Allowed::Also(vec![]));
    assert_eq!(config.allowed_origins, Allowed::Also(vec![]));
    assert!(config.trusted_proxies.is_empty());
    assert_eq!(config.stdio, StdioPolicy { enabled: true, commands: None });
    assert_eq!(config.egress, Egress::Private);
    let durations = [config.drain_delay, config.drain_timeout, config.db_start_timeout, config.stale_max];
    assert_eq!(durations.map(|duration| duration.as_secs()), [0, 25, 30, 3600]);
    assert!(config.overrides.locked().is_empty());
    assert_eq!(config.log.filter, "info");
}

#[test]
fn each_variable_is_read() {
    let config = load(&[
        ("MPG_PG_DSN", "postgresql://gateway@db/gateway"),
        ("MPG_ENCRYPTION_KEY", KEY),
        ("MPG_DATA_DIR", "/data"),
        ("MPG_LISTEN", "[::]:80"),
        ("MPG_PUBLIC_URL", "https://gateway.example.com/tools"),
        ("MPG_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1,2001:db8::/32"),
        ("MPG_ALLOWED_HOSTS", "Gateway.Example.com, other:8443"),
        ("MPG_ALLOWED_ORIGINS", "https://console.example.com,vscode-webview://abc"),
        ("MPG_SETUP_TOKEN", "k3w9vm2p"),
        ("MPG_ADMIN_USERNAME", "ada"),
        ("MPG_ADMIN_PASSWORD", "correct horse"),
        ("MPG_BOOTSTRAP", "/etc/gateway.yaml"),
        ("MPG_STDIO_ENABLED", "false"),
        ("MPG_STDIO_COMMANDS", "npx, uvx"),
        ("MPG_EGRESS", "public"),
        ("MPG_DRAIN_DELAY", "5s"),
        ("MPG_DRAIN_TIMEOUT", "500ms"),
        ("MPG_DB_START_TIMEOUT", "2m"),
        ("MPG_STALE_MAX", "6h"),
        ("MPG_LOG", "warn,proxy=debug"),
        ("MPG_LOG_FORMAT", "text"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    assert_eq!(config.pg_dsn.unwrap().expose(), "postgresql://gateway@db/gateway");
    assert!(matches!(config.encryption_key, EncryptionKey::Given(_)));
    assert_eq!(config.listen.to_string(), "[::]:80");
    assert_eq!(config.public_url.unwrap().as_str(), "https://gateway.example.com/tools");
    let networks: Vec<String> = config.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]);
    assert_eq!(config.allowed_hosts, Allowed::Also(vec!["gateway.example.com".into(), "other:8443".into()]));
    let origins = vec!["https://console.example.com".into(), "vscode-webview://abc".into()];
    assert_eq!(config.allowed_origins, Allowed::Also(origins));
    assert_eq!(config.setup_token.unwrap().expose(), "k3w9vm2p");
    let admin = config.first_admin.unwrap();
    assert_eq!((admin.username.as_str(), admin.password.expose().as_str()), ("ada", "correct horse"));
    assert_eq!(config.bootstrap.unwrap(), PathBuf::from("/etc/gateway.yaml"));
    assert_eq!(
        config.stdio,
        StdioPolicy { enabled: false, commands: Some(vec!["npx".into(), "uvx".into()]) }
    );
    assert_eq!(config.egress, Egress::Public);
    let durations = [config.drain_delay, config.drain_timeout, config.db_start_timeout, config.stale_max];
    assert_eq!(durations.map(|duration| duration.as_millis()), [5000, 500, 120_000, 21_600_000]);
    assert_eq!(config.log.filter, "warn,proxy=debug");
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn each_bad_value_is_one_line_that_names_the_variable_and_not_the_value() {
    let table = [
        ("MPG_LISTEN", "CANARY:80", "not an address and port like 127.0.0.1:8080"),
        ("MPG_LISTEN", "127.0.0.1", "not an address and port like 127.0.0.1:8080"),
        ("MPG_PUBLIC_URL", "CANARY", "not a URL: relative URL without a base"),
        ("MPG_PUBLIC_URL", "ftp://canary/", "not an http or https URL"),
        ("MPG_PUBLIC_URL", "https://u:canary@h/", "must hold no user name or password"),
        ("MPG_PUBLIC_URL", "https://h/?canary", "must end with its path"),
        ("MPG_TRUSTED_PROXIES", "10.0.0.0/8,canary", "not a list of networks like 10.0.0.0/8"),
        (
            "MPG_ALLOWED_HOSTS",
            "https://canary",
            "not a list of hosts like gateway.example.com or gateway.example.com:8443",
        ),
        ("MPG_ALLOWED_ORIGINS", "canary", "not a list of origins like https://console.example.com"),
        (
            "MPG_ALLOWED_ORIGINS",
            "https://canary/path",
            "not a list of origins like https://console.example.com",
        ),
        ("MPG_STDIO_ENABLED", "canary", "not true or false"),
        ("MPG_STDIO_ENABLED", "", "given but empty; give a value or remove it"),
        ("MPG_STDIO_COMMANDS", "", "given but empty; give a value or remove it"),
        ("MPG_STDIO_COMMANDS", " , ", "names no command; use MPG_STDIO_ENABLED=false to allow none"),
        ("MPG_EGRESS", "canary", "not private or public"),
        ("MPG_EGRESS", "", "given but empty; give a value or remove it"),
        ("MPG_DRAIN_DELAY", "25", "not a duration like 25s, 500ms, 5m or 1h"),
        ("MPG_DRAIN_TIMEOUT", "1.5s", "not a duration like 25s, 500ms, 5m or 1h"),
        ("MPG_DRAIN_TIMEOUT", "-1s", "not a duration like 25s, 500ms, 5m or 1h"),
        ("MPG_DRAIN_TIMEOUT", "2h", "longer than 1h"),
        ("MPG_DB_START_TIMEOUT", "99999999999999999999s", "not a duration like 25s, 500ms, 5m or 1h"),
        ("MPG_DB_START_TIMEOUT", "18446744073709551615h", "too long"),
        ("MPG_STALE_MAX", "721h", "longer than 720h"),
        ("MPG_LOG", "proxy=canary", "not a level or directives like info,proxy=debug"),
        ("MPG_LOG_FORMAT", "canary", "not json or text"),
        ("MPG_SETUP_TOKEN", "change-me", "a placeholder; give a random value"),
        (
            "MPG_REDIS_ADDR",
            "canary:x",
            "not an address like redis:6379, redis://redis:6379/0 or rediss://redis:6379",
        ),
        ("MPG_REDIS_ADDR", "redis://:canary@h", "must hold no password; use MPG_REDIS_PASSWORD"),
        ("MPG_REDIS_PASSWORD", "canary", "means nothing without MPG_REDIS_ADDR"),
        ("MPG_REDIS_TLS", "canary", "means nothing without MPG_REDIS_ADDR"),
        ("MPG_REDIS_TLS", "", "given but empty; give a value or remove it"),
        ("MPG_TLS_KEY_FILE", "canary", "only a secret may come from a file; set MPG_TLS_KEY"),
        ("MPG_KEY", "canary", "only `connect` reads it"),
        ("MPG_METRICS_ADDR", "canary", "not an address and port like 127.0.0.1:9100"),
        ("MPG_PEER_ADDR", "canary:9090", "not an address and port like 10.0.0.5:9090 or 0.0.0.0:9090"),
        ("MPG_PEER_ADDR", "10.0.0.5:0", "not an address and port like 10.0.0.5:9090 or 0.0.0.0:9090"),
        ("MPG_LISTN", "canary", "unknown variable; did you mean MPG_LISTEN?"),
        ("MPG_SETUPTOKEN_FILE", "canary", "unknown variable; did you mean MPG_SETUP_TOKEN_FILE?"),
        ("MPG_LISTEN_FILE", "canary", "only a secret may come from a file; set MPG_LISTEN"),
        ("MPG_COMPLETELY_DIFFERENT", "canary", "unknown variable"),
        (
            "MPG_SETTING__MCP_API__MODES",
            "canary",
            "unknown setting; did you mean MPG_SETTING__MCP_API__MODE?",
        ),
        ("MPG_SETTING__MCP_API", "canary", "expected MPG_SETTING__<GROUP>__<KEY>"),
        ("MPG_SETTING__SYNC__TIMEOUT_S", "canary", "not a number"),
    ];
    for (name, value, message) in table {
        let told = problems(&[(name, value)]);
        assert_eq!(told, [format!("{name}: {message}")], "{name}={value}");
        assert!(!told[0].to_lowercase().contains("canary"));
    }
}

#[test]
fn redis_is_an_address_a_password_and_whether_to_encrypt() {
    let config = load(&[
        ("MPG_REDIS_ADDR", "gateway@redis:6380"),
        ("MPG_REDIS_PASSWORD", "canary"),
        ("MPG_REDIS_TLS", "true"),
    ])
    .unwrap();
    assert_eq!(config.redis.as_ref().unwrap().to_string(), "rediss://gateway@redis:6380/0");
    assert!(!format!("{config:?}{}", config.show()).contains("canary"));
    assert!(load(&[]).unwrap().redis.is_none());
    let told = |tls: &str| problems(&[("MPG_REDIS_ADDR", "rediss://h"), ("MPG_REDIS_TLS", tls)]);
    assert_eq!(told("false"), ["MPG_REDIS_TLS: false, but MPG_REDIS_ADDR is a rediss:// URL"]);
    assert_eq!(told("yes"), ["MPG_REDIS_TLS: not true or false"]);
}

#[test]
fn placeholder_keys_are_refused() {
    let zeros = "0".repeat(64);
    for text in ["replace-with-your-own-32-byte-random-key", zeros.as_str(), "too short", "base64:AAAA"] {
        let told = problems(&[("MPG_ENCRYPTION_KEY", text)]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("MPG_ENCRYPTION_KEY: "), "{told:?}");
        assert!(!told[0].contains(text), "{told:?}");
    }
}

#[test]
fn a_shared_database_needs_a_shared_key() {
    let told = problems(&[("MPG_PG_DSN", "host=db")]);
    assert_eq!(told, ["MPG_ENCRYPTION_KEY: required with MPG_PG_DSN"]);
    let told = problems(&[("MPG_PG_DSN", "CANARY"), ("MPG_ENCRYPTION_KEY", KEY)]);
    assert_eq!(told, ["MPG_PG_DSN: neither a postgresql:// URL nor a list of key=value pairs"]);
}

#[test]
fn the_first_admin_is_whole_or_not_at_all() {
    let given = |name: &str, password: &str| {
        load(&[("MPG_ADMIN_USERNAME", name), ("MPG_ADMIN_PASSWORD", password)]).err().unwrap_or_default()
    };
    assert_eq!(given("ada", "12345678x"), [""; 0]);
    assert_eq!(given("ada", ""), ["MPG_ADMIN_PASSWORD: required with MPG_ADMIN_USERNAME"]);
    assert_eq!(given("", "12345678x"), ["MPG_ADMIN_USERNAME: required with MPG_ADMIN_PASSWORD"]);
    assert_eq!(given("ab", "12345678x"), ["MPG_ADMIN_USERNAME: must have 3 to 32 characters"]);
    assert_eq!(given("ada", "1234567"), ["MPG_ADMIN_PASSWORD: must have 8 to 71 bytes and no NUL"]);
    assert_eq!(given("ada", &"x".repeat(72)), ["MPG_ADMIN_PASSWORD: must have 8 to 71 bytes and no NUL"]);
    assert_eq!(given("ada", "changeme1"), ["MPG_ADMIN_PASSWORD: a placeholder; give a password of your own"]);
}

#[test]
fn every_problem_is_told_at_once_in_the_order_of_the_names() {
    let told =
        problems(&[("MPG_STALE_MAX", "x"), ("MPG_LISTEN", "x"), ("MPG_EGRESS", "x"), ("MPG_NOPE", "x")]);
    let names: Vec<&str> = told.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names, ["MPG_EGRESS", "MPG_LISTEN", "MPG_NOPE", "MPG_STALE_MAX"]);
}

#[test]
fn a_secret_may_come_from_a_file_but_not_from_both() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("token");
    let path_text = path.to_str().unwrap();
    fs::write(&path, "from-the-file\n").unwrap();
    let config = load(&[("MPG_SETUP_TOKEN_FILE", path_text)]).unwrap();
    assert_eq!(config.setup_token.unwrap().expose(), "from-the-file");

    let both = problems(&[("MPG_SETUP_TOKEN_FILE", path_text), ("MPG_SETUP_TOKEN", "direct")]);
    assert_eq!(both, ["MPG_SETUP_TOKEN: set together with MPG_SETUP_TOKEN_FILE; give one of them"]);

    let missing = problems(&[("MPG_SETUP_TOKEN_FILE", "/no/such/file")]);
    assert_eq!(missing, ["MPG_SETUP_TOKEN_FILE: cannot read the file: entity not found"]);

    fs::write(&path, "\n").unwrap();
    let empty = problems(&[("MPG_SETUP_TOKEN_FILE", path_text)]);
    assert_eq!(empty, ["MPG_SETUP_TOKEN_FILE: the file is empty"]);

    fs::write(&path, "x".repeat(64 * 1024 + 1)).unwrap();
    let long = problems(&[("MPG_SETUP_TOKEN_FILE", path_text)]);
    assert_eq!(long, ["MPG_SETUP_TOKEN_FILE: the file is longer than 64 KiB"]);

    // A key file that can't be read is one problem, not also a missing key.
    let key = problems(&[("MPG_PG_DSN", "host=db"), ("MPG_ENCRYPTION_KEY_FILE", "/no/such/file")]);
    assert_eq!(key, ["MPG_ENCRYPTION_KEY_FILE: cannot read the file: entity not found"]);
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let config = load(&[("MPG_LISTEN", ""), ("MPG_PG_DSN", ""), ("MPG_SETTING__MCP_API__MODE", "")]).unwrap();
    assert_eq!(config.listen.port(), 8080);
    assert!(config.pg_dsn.is_none());
    assert!(config.overrides.locked().is_empty());
}

#[test]
fn what_is_not_utf_8_is_told() {
    use std::os::unix::ffi::OsStringExt;
    let value = std::ffi::OsString::from_vec(vec![0xff]);
    let environment = [(std::ffi::OsString::from("MPG_LISTEN"), value)].into_iter().collect();
    let told = Config::load(&environment, &Flags::default()).err().unwrap();
    assert_eq!(told[0].to_string(), "MPG_LISTEN: not UTF-8");
}

#[test]
fn a_flag_goes_before_the_environment_and_is_told_by_its_own_name() {
    let environment = [("MPG_LISTEN", "127.0.0.1:1")].into_iter().collect();
    let mut flags = Flags::default();
    flags.set("MPG_LISTEN", "--listen", Some("127.0.0.1:2"));
    let config = Config::load(&environment, &flags).unwrap();
    assert_eq!(config.listen.port(), 2);
    flags.set("MPG_LISTEN", "--listen", Some("x"));
    let told = Config::load(&environment, &flags).err().unwrap();
    assert_eq!(told[0].to_string(), "--listen: not an address and port like 127.0.0.1:8080");
}

#[test]
fn a_star_must_be_written_out_to_switch_a_guard_off() {
    let config = load(&[("MPG_ALLOWED_HOSTS", "a.example,*"), ("MPG_ALLOWED_ORIGINS", "*")]).unwrap();
    assert_eq!((config.allowed_hosts, config.allowed_origins), (Allowed::Any, Allowed::Any));
}

#[test]
fn overrides_lie_over_the_stored_settings_and_are_locked() {
    let config = load(&[
        ("MPG_SETTING__MCP_API__MODE", "smart"),
        ("MPG_SETTING__MCP_API__SMART_DISCOVERY_LIMIT", "7"),
        ("MPG_SETTING__SYNC__CRON", "0 0 * * * *"),
    ])
    .unwrap();
    let stored = Settings::default()
        .merge_patch(&json!({"mcp_api": {"mode": "full", "request_body_max_mib": 9}}))
        .unwrap();
    let in_force = serde_json::to_value(config.overrides.over(&stored).unwrap()).unwrap();
    assert_eq!(in_force["mcp_api"]["mode"], "smart");
    assert_eq!(in_force["mcp_api"]["smart_discovery_limit"], 7);
    assert_eq!(in_force["mcp_api"]["request_body_max_mib"], 9);
    assert_eq!(in_force["sync"]["cron"], "0 0 * * * *");
    assert_eq!(config.overrides.locked(), ["mcp_api.mode", "mcp_api.smart_discovery_limit", "sync.cron"]);
}

#[test]
fn an_override_out_of_range_is_told_by_its_variable() {
    let told = problems(&[("MPG_SETTING__SYNC__TIMEOUT_S", "100000")]);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("MPG_SETTING__SYNC__TIMEOUT_S: "), "{told:?}");
    assert!(!told[0].contains("100000"), "{told:?}");
}

#[test]
fn neither_debug_nor_show_tells_a_secret() {
    let config = load(&[
        ("MPG_PG_DSN", "postgresql://u:CANARY-dsn@db/g"),
        ("MPG_ENCRYPTION_KEY", KEY),
        ("MPG_SETUP_TOKEN", "CANARY-token"),
        ("MPG_ADMIN_USERNAME", "ada"),
        ("MPG_ADMIN_PASSWORD", "CANARY-password"),
        ("MPG_SETTING__MCP_API__MODE", "smart"),
    ])
    .unwrap();
    let shown = config.show();
    for text in [format!("{config:?}"), shown.clone()] {
        assert!(!text.contains("CANARY") && !text.contains(&KEY[4..]), "{text}");
    }
    let row = |name: &str| -> Vec<&str> {
        shown.lines().find(|line| line.starts_with(name)).expect(name).split_whitespace().collect()
    };
    assert_eq!(row("MPG_PG_DSN"), ["MPG_PG_DSN", "********", "environment"]);
    assert_eq!(row("MPG_LISTEN"), ["MPG_LISTEN", "127.0.0.1:8080", "default"]);
    assert_eq!(row("MPG_PUBLIC_URL"), ["MPG_PUBLIC_URL", "-", "default"]);
    assert_eq!(row("mcp_api.mode"), ["mcp_api.mode", "smart", "environment"]);
}

#[test]
fn a_key_of_our_own_is_made_once_and_is_private() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("new").join("encryption.key");
    let kept = EncryptionKey::Kept(path.clone());
    kept.obtain().unwrap();
    let first = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    kept.obtain().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), first);
    let names: Vec<_> =
        fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["encryption.key"], "no draft is left");
}

#[test]
fn a_kept_key_that_is_broken_is_told_by_its_path() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("encryption.key");
    fs::write(&path, "CANARY").unwrap();
    let told = EncryptionKey::Kept(path.clone()).obtain().err().unwrap().to_string();
    assert!(told.starts_with(&format!("{}: ", path.display())) && !told.contains("CANARY"), "{told}");
}

#[test]
fn tls_needs_both_files_and_both_good() {
    let missing = "the certificate can't be read: entity not found".to_owned();
    assert_eq!(problems(&[("MPG_TLS_CERT", "canary")]), ["MPG_TLS_KEY: required with MPG_TLS_CERT"]);
    assert_eq!(problems(&[("MPG_TLS_KEY", "canary")]), ["MPG_TLS_CERT: required with MPG_TLS_KEY"]);
    assert_eq!(
        problems(&[("MPG_TLS_CERT", "canary"), ("MPG_TLS_KEY", "canary")]),
        [format!("MPG_TLS_CERT: {missing}")]
    );
    // Meant to be there, and lost on the way: never in clear for that.
    assert_eq!(
        problems(&[("MPG_TLS_CERT", ""), ("MPG_TLS_KEY", "")]),
        [
            "MPG_TLS_CERT: given but empty; give a value or remove it",
            "MPG_TLS_KEY: given but empty; give a value or remove it"
        ]
    );
}
