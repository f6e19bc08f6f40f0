//! The bootstrap file: what is refused and where, and that applying it again writes nothing.

use std::path::PathBuf;
use std::time::Duration;

use sql::clock::Clock;
use sql::model::{
    Actor, ConnParams, FilterAction, MatchOn, OwnerRules, PageRequest, RuleOwner, Timestamp, Transport,
    Upstream, UpstreamId,
};
use sql::seal::MasterKey;
use sql::{Database, Store, StoreOptions, api_keys, audit_log, changes, upstreams};
use tempfile::TempDir;

use super::apply::{Applied, BootstrapError};
use super::*;

/// A key that nobody would take for an example.
const KEY: &str = "mpg_Zk3v9Qx1LrT7_ybW0nPdCu5HsJ8aGf2EoMi4RtKqYX6";
const OTHER_KEY: &str = "mpg_Bq8s2Wm5NfA1-hcZ7kRuEo3TvYd9JpXi6LgQx0CtMr4";

/// Everything a file may say in this release.
const WHOLE: &str = r#"# An example.
upstreams:
  - name: time
    transport: stdio
    connParams:
      command: uvx
      args: ["mcp-server-time", --local-timezone=Europe/Berlin]
      env: {TOKEN: {secret: "sésame"}, LEVEL: info}
    tags: [clock]
  - {name: remote, transport: streamable-http, connParams: {url: "https://mcp.example/mcp"}, credential: hidden, enabled: false}
keys:
  - name: laptop
    key: mpg_Zk3v9Qx1LrT7_ybW0nPdCu5HsJ8aGf2EoMi4RtKqYX6
    upstreams: [time]
    rateLimit: {limit: 600, windowS: 60}
rules:
  aliases:
    - {owner: {type: upstream, name: time}, pattern: "get_(.*)", isRegex: true, targetName: "read_$1"}
    - {owner: {type: all}, pattern: echo, targetDescription: Says it again.}
  filters:
    - {owner: {type: key, name: laptop}, pattern: "delete_.*", isRegex: true, action: deny, matchOn: exposed}
settings:
  mcp_api:
    smart_discovery_limit: 7
"#;

fn parse(text: &str) -> Result<Bootstrap, Vec<String>> {
    let parsed = Bootstrap::parse(Path::new("gateway.yaml"), text.as_bytes().to_vec());
    parsed.map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn refused(text: &str) -> Vec<String> {
    parse(text).err().expect("refused")
}

async fn store() -> Store {
    let (master_key, _) = MasterKey::from_env_text(MasterKey::generate_hex().expose()).unwrap();
    let options = StoreOptions {
        database: Database::SqliteMemory,
        master_key,
        previous_keys: Vec::new(),
        clock: Clock::manual(Timestamp::from_millis(1_700_000_000_000)),
        start_timeout: Duration::from_secs(5),
    };
    Store::open(options).await.unwrap()
}

async fn apply(store: &Store, text: &str) -> Applied {
    parse(text).unwrap().apply(store, |_| Vec::new(), |settings| settings).await.unwrap()
}

async fn upstream(store: &Store, name: &str) -> Upstream {
    upstreams::by_name(&mut store.read().await.unwrap(), name).await.unwrap().expect("stored")
}

async fn revision(store: &Store) -> i64 {
    changes::revision(&mut store.read().await.unwrap()).await.unwrap()
}

async fn audited(store: &Store) -> Vec<(String, Option<String>, String)> {
    let everything = PageRequest { limit: 100, cursor: None, search: None, sort: None };
    let mut tx = store.read().await.unwrap();
    let page = audit_log::page(&mut tx, &everything, &audit_log::AuditFilter::default()).await.unwrap();
    assert!(page.items.iter().all(|event| event.actor == Actor::System));
    page.items.into_iter().map(|event| (event.action, event.target_name, event.diff.to_string())).collect()
}

#[tokio::test]
async fn a_file_is_applied_whole() {
    let store = store().await;
    let applied = apply(&store, WHOLE).await;
    assert_eq!(applied, Applied { created: 6, changed: 1, unchanged: 0 });
    let time = upstream(&store, "time").await;
    assert_eq!((time.transport, time.enabled, time.sort_order), (Transport::Stdio, true, 0));
    let ConnParams::Stdio { env, args, .. } = &time.conn_params else { panic!("not stdio") };
    assert_eq!(
        (env["TOKEN"].expose(), env["TOKEN"].is_secret(), env["LEVEL"].is_secret()),
        ("sésame", true, false)
    );
    assert_eq!(args[1].expose(), "--local-timezone=Europe/Berlin");
    let remote = upstream(&store, "remote").await;
    assert_eq!((remote.enabled, remote.sort_order), (false, 1));
    assert_eq!(remote.credential.unwrap().expose(), "hidden");
    let mut tx = store.read().await.unwrap();
    let key = api_keys::by_name(&mut tx, "laptop").await.unwrap().unwrap();
    assert_eq!(key.hash, PlaintextKey::parse(KEY).unwrap().hash());
    assert_eq!(key.upstream_ids, Some(vec![time.id]));
    assert_eq!(key.rate_limit.unwrap().limit, 600);
    let (settings, _) = sql::settings::load(&mut tx).await.unwrap().unwrap();
    assert_eq!(settings.mcp_api.smart_discovery_limit, 7);
}

#[tokio::test]
async fn every_change_is_audited_without_its_secrets() {
    let store = store().await;
    apply(&store, WHOLE).await;
    let events = audited(&store).await;
    let mut actions: Vec<(&str, Option<&str>)> =
        events.iter().map(|(action, name, _)| (action.as_str(), name.as_deref())).collect();
    actions.sort_unstable();
    assert_eq!(
        actions,
        [
            ("alias_rule.create", Some("echo")),
            ("alias_rule.create", Some("get_(.*)")),
            ("filter_rule.create", Some("delete_.*")),
            ("key.create", Some("laptop")),
            ("settings.update", Some("settings")),
            ("upstream.create", Some("remote")),
            ("upstream.create", Some("time")),
        ]
    );
    for (action, _, diff) in &events {
        assert!(
            !diff.contains("hidden") && !diff.contains("sésame") && !diff.contains(&KEY[12..]),
            "{action}: {diff}"
        );
    }
}

#[tokio::test]
async fn applied_again_it_writes_nothing() {
    let store = store().await;
    apply(&store, WHOLE).await;
    let (revision_before, events) = (revision(&store).await, audited(&store).await.len());
    store.clock().advance(Duration::from_mins(1));
    let applied = apply(&store, WHOLE).await;
    assert_eq!(applied, Applied { created: 0, changed: 0, unchanged: 7 });
    assert_eq!((revision(&store).await, audited(&store).await.len()), (revision_before, events));
    assert_eq!(upstream(&store, "time").await.version, 1);
}

#[tokio::test]
async fn what_the_file_says_wins_and_what_it_does_not_say_stays() {
    let store = store().await;
    apply(&store, WHOLE).await;
    let time = upstream(&store, "time").await;
    let edited = Upstream {
        enabled: false,
        tags: vec!["mine".to_owned()],
        call_timeout_s: Some(9),
        credential: Some("typed in by hand".into()),
        version: 2,
        ..time.clone()
    };
    let mut tx = store.begin().await.unwrap();
    assert!(upstreams::update(&mut tx, &edited, 1).await.unwrap());
    tx.commit().await.unwrap();
    let applied = apply(&store, WHOLE).await;
    assert_eq!(applied, Applied { created: 0, changed: 1, unchanged: 6 });
    let after = upstream(&store, "time").await;
    assert_eq!(after.tags, ["clock"], "the file says so");
    assert_eq!((after.enabled, after.call_timeout_s), (false, Some(9)), "the file doesn't say");
    assert_eq!(after.credential.as_ref().unwrap().expose(), "typed in by hand");
    assert_eq!((after.id, after.version), (time.id, 3));
}

async fn stored_rules(store: &Store, owner: RuleOwner) -> OwnerRules {
    sql::rules::of_owner(&mut store.read().await.unwrap(), owner).await.unwrap()
}

#[tokio::test]
async fn rules_belong_to_whom_the_file_names() {
    let store = store().await;
    apply(&store, WHOLE).await;
    let time = upstream(&store, "time").await;
    let of_time = stored_rules(&store, RuleOwner::Upstream(time.id)).await;
    assert_eq!(of_time.aliases[0].target_name.as_deref(), Some("read_$1"));
    let of_all = stored_rules(&store, RuleOwner::All).await;
    assert_eq!(of_all.aliases[0].target_description.as_deref(), Some("Says it again."));
    let key = api_keys::by_name(&mut store.read().await.unwrap(), "laptop").await.unwrap().unwrap();
    let of_key = stored_rules(&store, RuleOwner::Key(key.id)).await;
    assert_eq!(
        (of_key.filters[0].action, of_key.filters[0].match_on),
        (FilterAction::Deny, MatchOn::Exposed)
    );
}

#[tokio::test]
async fn a_rule_is_known_again_by_its_pattern_and_keeps_what_the_file_does_not_say() {
    let store = store().await;
    apply(&store, WHOLE).await;
    let mut edited = stored_rules(&store, RuleOwner::All).await.aliases.remove(0);
    edited.enabled = false;
    edited.target_description = Some("typed in by hand".to_owned());
    let mut tx = store.begin().await.unwrap();
    assert!(sql::rules::update(&mut tx, &edited, 1).await.unwrap());
    tx.commit().await.unwrap();
    let text = WHOLE.replace("pattern: \"get_(.*)\"", "pattern: \"fetch_(.*)\"");
    assert_eq!(apply(&store, &text).await, Applied { created: 1, changed: 1, unchanged: 5 });
    let echo = stored_rules(&store, RuleOwner::All).await.aliases.remove(0);
    assert_eq!((echo.enabled, echo.target_description.as_deref()), (false, Some("Says it again.")));
    assert_eq!(echo.version, 3);
    // Nothing is deleted, and what is new comes last.
    let time = upstream(&store, "time").await;
    let of_time = stored_rules(&store, RuleOwner::Upstream(time.id)).await.aliases;
    let order: Vec<_> = of_time.iter().map(|rule| (rule.pattern.as_str(), rule.sort_order)).collect();
    assert_eq!(order, [("get_(.*)", 0), ("fetch_(.*)", 1)]);
}

#[tokio::test]
async fn a_rule_of_nobody_is_refused() {
    let store = store().await;
    let told = async |text: &str| {
        let error =
            parse(text).unwrap().apply(&store, |_| Vec::new(), |settings| settings).await.unwrap_err();
        let BootstrapError::Refused(problems) = error else { panic!("{error:?}") };
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let text = "rules:\n  filters:\n    - {owner: {type: key, name: gone}, pattern: a, action: deny}\n";
    assert_eq!(told(text).await, ["gateway.yaml:3: rules.filters[0].owner.name: no key has this name"]);
    let text = "rules:\n  aliases:\n    - {owner: {type: upstream, name: gone}, pattern: a}\n";
    assert_eq!(told(text).await, ["gateway.yaml:3: rules.aliases[0].owner.name: no upstream has this name"]);
}

#[test]
fn everything_wrong_with_rules_is_told_by_its_line() {
    let told = refused(concat!(
        "rules:\n",
        "  aliases:\n",
        "    - {pattern: \"(a\", isRegex: true}\n",
        "    - owner: {type: all, name: x}\n",
        "      pattern: a\n",
        "      matchOn: exposed\n",
        "    - {owner: {type: upstream}, pattern: a}\n",
        "    - {owner: {type: all}, pattern: a}\n",
        "    - {owner: {type: all}, pattern: a, targetName: b}\n",
        "  filter: []\n",
    ));
    assert_eq!(
        told,
        [
            "gateway.yaml:3: rules.aliases[0].owner: is required",
            "gateway.yaml:3: rules.aliases[0].pattern: the expression is not valid: unclosed group",
            "gateway.yaml:4: rules.aliases[1].owner.name: stands with all, which has no name",
            "gateway.yaml:6: rules.aliases[1].matchOn: must be upstream: only rules of a key see exposed names",
            "gateway.yaml:7: rules.aliases[2].owner.name: is required, as a text",
            "gateway.yaml:9: rules.aliases[4].pattern: stands twice in this file",
            "gateway.yaml:10: rules.filter: is not a known group",
        ]
    );
    assert_eq!(
        refused("rules: []\n"),
        ["gateway.yaml:1: rules: must be a mapping of `aliases:` and `filters:`"]
    );
}

#[tokio::test]
async fn null_clears_a_credential() {
    let store = store().await;
    apply(&store, WHOLE).await;
    let text = "upstreams:\n  - {name: remote, transport: streamable-http, connParams: {url: 'https://mcp.example/mcp'}, credential: null}\n";
    apply(&store, text).await;
    let remote = upstream(&store, "remote").await;
    assert_eq!((remote.credential, remote.enabled), (None, false));
}

#[tokio::test]
async fn another_secret_replaces_the_keys_own() {
    let store = store().await;
    apply(&store, WHOLE).await;
    let applied = apply(&store, &WHOLE.replace(KEY, OTHER_KEY)).await;
    assert_eq!(applied, Applied { created: 0, changed: 1, unchanged: 6 });
    let mut tx = store.read().await.unwrap();
    let key = api_keys::by_name(&mut tx, "laptop").await.unwrap().unwrap();
    assert_eq!((key.hash, key.previous), (PlaintextKey::parse(OTHER_KEY).unwrap().hash(), None));
    assert_eq!(key.prefix, OTHER_KEY[..12]);
}

#[tokio::test]
async fn one_refusal_applies_nothing() {
    let store = store().await;
    let refuse_remote = |upstream: &Upstream| {
        let refused = upstream.name == "remote";
        refused.then(|| FieldError::new("/connParams/url", "may not be dialled")).into_iter().collect()
    };
    let error = parse(WHOLE).unwrap().apply(&store, refuse_remote, |settings| settings).await.unwrap_err();
    let BootstrapError::Refused(problems) = error else { panic!("{error:?}") };
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["gateway.yaml:10: upstreams[1].connParams.url: may not be dialled"]);
    assert!(upstreams::list(&mut store.read().await.unwrap()).await.unwrap().is_empty());
    assert!(audited(&store).await.is_empty());
}

#[tokio::test]
async fn a_key_for_an_upstream_that_is_not_there_is_refused() {
    let store = store().await;
    let error = parse(&WHOLE.replace("upstreams: [time]", "upstreams: [time, tide]")).unwrap();
    let error = error.apply(&store, |_| Vec::new(), |settings| settings).await.unwrap_err();
    let BootstrapError::Refused(problems) = error else { panic!("{error:?}") };
    assert_eq!(problems[0].to_string(), "gateway.yaml:14: keys[0].upstreams[1]: no upstream has this name");
}

#[tokio::test]
async fn nothing_that_the_file_does_not_name_is_touched() {
    let store = store().await;
    let mut tx = store.begin().await.unwrap();
    let params = ConnParams::Http { url: "https://else.example/".into(), headers: BTreeMap::default() };
    let new = NewUpstream::named("else", Transport::StreamableHttp, params);
    let mine = Upstream::create(new, UpstreamId::new(store.clock()), store.clock().now());
    upstreams::insert(&mut tx, &mine).await.unwrap();
    tx.commit().await.unwrap();
    apply(&store, WHOLE).await;
    assert_eq!(upstream(&store, "else").await, mine);
    assert_eq!(upstream(&store, "time").await.sort_order, mine.sort_order + 1, "it comes last");
}

#[test]
fn an_empty_file_wants_nothing() {
    for text in ["", "# nothing\n", "{}", "upstreams:\nkeys: []\nsettings:\n"] {
        let bootstrap = parse(text).unwrap();
        assert!(bootstrap.upstreams.is_empty() && bootstrap.keys.is_empty() && bootstrap.settings.is_none());
    }
}

#[test]
fn groups_are_known_or_refused() {
    assert_eq!(
        refused("roles: []\nxiaozhi: []\nupstream: []\n"),
        ["gateway.yaml:1: roles: is not a known group", "gateway.yaml:3: upstream: is not a known group",]
    );
    assert_eq!(refused("- a\n"), ["gateway.yaml:1: must be a mapping of groups such as `upstreams:`"]);
    assert_eq!(refused("upstreams: {}\n"), ["gateway.yaml:1: upstreams: must be a list"]);
    assert_eq!(refused("upstreams:\n  - a\n"), ["gateway.yaml:2: upstreams[0]: must be a mapping"]);
}

#[test]
fn a_setting_out_of_range_is_told_by_its_line() {
    let told = refused("settings:\n  sync:\n    timeout_s: 100000\n  mcp_api:\n    nonsense: 1\n");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("gateway.yaml:3: settings.sync.timeout_s: "), "{told:?}");
    assert!(told[1].starts_with("gateway.yaml:5: settings.mcp_api.nonsense: "), "{told:?}");
}

#[test]
fn every_field_that_is_wrong_is_told_and_no_value() {
    let told = refused(concat!(
        "upstreams:\n",
        "  - name: a\n",
        "    transport: CANARY\n",
        "    connParams: {command: x}\n",
        "  - name: b\n",
        "    transport: stdio\n",
        "    connParams: {command: x}\n",
        "    enabled: CANARY\n",
        "    CANARY-FIELD: 1\n",
        "  - name: b\n",
        "    transport: stdio\n",
        "    connParams: {command: x}\n",
    ));
    let places: Vec<&str> =
        told.iter().filter_map(|line| line.rsplit_once(": ")).map(|(place, _)| place).collect();
    assert_eq!(
        places,
        [
            "gateway.yaml:3: upstreams[0].transport",
            "gateway.yaml:8: upstreams[1].enabled",
            "gateway.yaml:9: upstreams[1].CANARY-FIELD",
        ]
    );
    assert!(!told[0].contains("CANARY") && !told[1].contains("CANARY"), "{told:?}");
    let twice = refused(concat!(
        "upstreams:\n",
        "  - {name: b, transport: stdio, connParams: {command: x}}\n",
        "  - {name: b, transport: stdio, connParams: {command: y}}\n",
    ));
    assert_eq!(twice, ["gateway.yaml:3: upstreams[1].name: stands twice in this file"]);
}

#[test]
fn a_key_has_exactly_one_secret_of_the_right_shape() {
    let told = |fields: &str| refused(&format!("keys:\n  - {{name: a, {fields}}}\n"));
    let shape = "must be mpg_ and 43 random characters of base64url";
    assert_eq!(told("mode: full"), ["gateway.yaml:2: keys[0].key: is required, or keyFile"]);
    assert_eq!(told("key: 7"), ["gateway.yaml:2: keys[0].key: must be a text"]);
    assert_eq!(told("key: CANARY"), [format!("gateway.yaml:2: keys[0].key: {shape}")]);
    let placeholder = format!("key: mpg_{}", "A".repeat(43));
    assert_eq!(told(&placeholder), [format!("gateway.yaml:2: keys[0].key: {shape}")]);
    assert_eq!(
        told(&format!("key: {KEY}, keyFile: x")),
        ["gateway.yaml:2: keys[0].keyFile: stands together with key; give one of them"]
    );
    assert_eq!(
        told("keyFile: /no/such/file"),
        ["gateway.yaml:2: keys[0].keyFile: cannot read the file: entity not found"]
    );
    assert_eq!(
        refused(&format!("keys:\n  - {{name: a, key: {KEY}}}\n  - {{name: b, key: {KEY}}}\n")),
        ["gateway.yaml:3: keys[1].key: stands twice in this file"]
    );
}

#[test]
fn a_key_may_lie_in_a_file_of_its_own() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("laptop.key");
    std::fs::write(&path, format!("{KEY}\n")).unwrap();
    let bootstrap = parse(&format!("keys:\n  - {{name: a, keyFile: '{}'}}\n", path.display())).unwrap();
    assert_eq!(bootstrap.keys[0].secret.expose(), KEY);
}

#[test]
fn a_file_that_is_too_long_is_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("gateway.yaml");
    std::fs::write(&file, vec![b'#'; 4 * 1024 * 1024 + 1]).unwrap();
    let told = Bootstrap::load(&file).err().unwrap()[0].to_string();
    assert_eq!(told, format!("{}: the file is longer than 4 MiB", file.display()));
}

/// Whatever an editor or a full disk leaves of a file: it is read or refused in one line, never a panic.
#[test]
fn a_file_cut_anywhere_is_read_or_refused() {
    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/gateway.yaml");
    let example = std::fs::read(example).expect("the example");
    for whole in [WHOLE.as_bytes(), &example] {
        for length in 0..=whole.len() {
            let Err(problems) = Bootstrap::parse(Path::new("f"), whole[..length].to_vec()) else { continue };
            assert!(!problems.is_empty());
            for problem in problems {
                let line = problem.to_string();
                assert!(line.starts_with("f:") && !line.contains('\n'), "cut at {length}: {line}");
            }
        }
    }
}
