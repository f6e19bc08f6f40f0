//! Settings: the table of defaults and ranges, and strict changes.

use serde_json::json;

use super::*;

fn pointers_of(errors: &[FieldError]) -> Vec<&str> {
    errors.iter().map(|error| error.pointer.as_str()).collect()
}

#[test]
fn the_defaults_are_valid_and_every_setting_has_a_range() {
    assert_eq!(Settings::default().validate(), []);
    let document = Settings::default().document();
    let mut keys = Vec::new();
    for (group, settings) in document.as_object().expect("groups") {
        for key in settings.as_object().expect("keys").keys() {
            keys.push(format!("/{group}/{key}"));
        }
    }
    let mut ranges = check::pointers();
    keys.sort();
    ranges.sort();
    assert_eq!(keys, ranges);
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let patch = json!({"mcp_api": {"mode": "smart"}, "auth": {"session_timeout_s": 300}});
    let changed = Settings::default().merge_patch(&patch).expect("valid");
    assert_eq!(changed.mcp_api.mode, Mode::Smart);
    assert_eq!(changed.auth.session_timeout_s, 300);
    assert_eq!(changed.sync, Sync::default());
}

#[test]
fn null_brings_back_a_default_of_a_key_or_a_group() {
    let changed = json!({"naming": {"length_max": 100}, "limits": {"session_ttl_s": 60}});
    let changed = Settings::default().merge_patch(&changed).expect("valid");
    let back = changed.merge_patch(&json!({"naming": {"length_max": null}, "limits": null}));
    assert_eq!(back, Ok(Settings::default()));
}

#[test]
fn every_error_is_reported_at_once_at_its_place() {
    let patch = json!({
        "auth": {"session_timeout_s": 299, "no/such": 1},
        "sync": {"cron": "often"},
        "mcp_api": {"mode": "tiny", "smart_discovery_limit": "50"},
        "limits": 3,
        "connection": {"retry_multiplier": 0.5},
        "other": {},
    });
    let errors = Settings::default().merge_patch(&patch).expect_err("all of it is wrong");
    let mut pointers = pointers_of(&errors);
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/auth/no~1such",
            "/auth/session_timeout_s",
            "/connection/retry_multiplier",
            "/limits",
            "/mcp_api/mode",
            "/mcp_api/smart_discovery_limit",
            "/other",
            "/sync/cron",
        ]
    );
}

#[test]
fn a_patch_that_is_no_object_is_refused() {
    let errors = Settings::default().merge_patch(&json!([])).expect_err("not an object");
    assert_eq!(pointers_of(&errors), [""]);
}

#[test]
fn whole_numbers_stay_whole_and_the_multiplier_need_not() {
    assert!(Settings::default().merge_patch(&json!({"naming": {"length_max": 64.5}})).is_err());
    assert!(Settings::default().merge_patch(&json!({"naming": {"length_max": -1}})).is_err());
    let changed = Settings::default().merge_patch(&json!({"connection": {"retry_multiplier": 3}}));
    assert_eq!(changed.map(|settings| settings.connection.retry_multiplier), Ok(3.0));
}

#[test]
fn a_stored_document_may_lack_keys_and_hold_newer_ones() {
    let stored = json!({"auth": {"session_timeout_s": 600, "newer": 1}, "newer_group": {}});
    let read: Settings = serde_json::from_value(stored).expect("lenient");
    assert_eq!(read.auth.session_timeout_s, 600);
    assert_eq!(read.limits, Limits::default());
}

#[test]
fn values_outside_their_range_are_found_in_a_whole_document() {
    let mut settings = Settings::default();
    settings.limits.sessions_per_upstream = 0;
    settings.statistics.records_max = Some(0);
    assert_eq!(
        pointers_of(&settings.validate()),
        ["/statistics/records_max", "/limits/sessions_per_upstream"]
    );
}
