//! Which values a setting takes, and how a change is applied to the document.

use serde_json::{Map, Value};

use super::super::field_error::FieldError;
use super::{Limits, Mode, RedisLost, Settings, cron};

/// What a setting accepts.
enum Accepts {
    /// A whole number within these bounds.
    Whole(u64, u64),
    /// A number within these bounds.
    Number(f64, f64),
    /// A whole number within these bounds, or nothing.
    OptionalWhole(u64, u64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Yes or no.
    Switch,
    /// A schedule.
    Cron,
}
use Accepts::{Cron, Number, OptionalWhole, Switch, Whole, Word};

/// No limit of the product lies above it; keeps sums of limits far from overflow.
const COUNT_MAX: u64 = 1_000_000;
/// Beyond it, a table is no longer a table of recent calls.
const RECORDS_MAX: u64 = 10_000_000_000;

/// Every setting and what it accepts. A test compares it with the structs.
const SETTINGS: &[(&str, Accepts)] = &[
    ("/auth/session_timeout_s", Whole(300, 86_400)),
    ("/sync/cron", Cron),
    ("/sync/timeout_s", Whole(5, 300)),
    ("/connection/connect_timeout_s", Whole(1, 300)),
    ("/connection/retry_initial_backoff_s", Whole(1, 60)),
    ("/connection/retry_multiplier", Number(1.0, 10.0)),
    ("/connection/retry_max_backoff_s", Whole(1, 3_600)),
    ("/connection/failure_threshold", Whole(1, 100)),
    ("/aggregation/upstream_call_timeout_s", Whole(1, 3_600)),
    ("/aggregation/call_total_timeout_s", Whole(1, 86_400)),
    ("/naming/length_max", Whole(16, 128)),
    ("/mcp_api/mode", Word(Mode::WORDS)),
    ("/mcp_api/smart_discovery_limit", Whole(1, 200)),
    ("/mcp_api/request_body_max_mib", Whole(1, 256)),
    ("/mcp_api/response_body_max_mib", Whole(1, 256)),
    ("/statistics/enabled", Switch),
    ("/statistics/retention_days", Whole(1, 3_650)),
    ("/statistics/top_limit_default", Whole(1, 100)),
    ("/statistics/records_max", OptionalWhole(1, RECORDS_MAX)),
    ("/audit/retention_days", Whole(1, 3_650)),
    ("/audit/page_size_default", Whole(1, 200)),
    ("/limits/streams_per_key", Whole(1, COUNT_MAX)),
    ("/limits/connections_total", Whole(1, COUNT_MAX)),
    ("/limits/calls_in_flight_per_key", Whole(1, COUNT_MAX)),
    ("/limits/sessions_per_upstream", Whole(1, 10_000)),
    ("/limits/session_ttl_s", Whole(60, Limits::SESSION_TTL_S_MAX)),
    ("/limits/redis_lost", Word(RedisLost::WORDS)),
];

impl Accepts {
    /// What is expected, if `value` isn't it.
    fn violation(&self, value: &Value) -> Option<String> {
        match self {
            Whole(min, max) => {
                let fits = value.as_u64().is_some_and(|number| (*min..=*max).contains(&number));
                (!fits).then(|| format!("must be a whole number from {min} to {max}"))
            }
            OptionalWhole(min, max) => {
                let fits =
                    value.is_null() || value.as_u64().is_some_and(|number| (*min..=*max).contains(&number));
                (!fits).then(|| format!("must be a whole number from {min} to {max}, or null"))
            }
            Number(min, max) => {
                let fits = value.as_f64().is_some_and(|number| (*min..=*max).contains(&number));
                (!fits).then(|| format!("must be a number from {min} to {max}"))
            }
            Word(words) => {
                let fits = value.as_str().is_some_and(|word| words.contains(&word));
                (!fits).then(|| format!("must be one of {}", words.join(", ")))
            }
            Switch => (!value.is_boolean()).then(|| "must be true or false".into()),
            Cron => {
                let fits = value.as_str().is_some_and(cron::is_schedule);
                (!fits).then(|| "must be 5 or 6 cron fields, or a descriptor such as @hourly".into())
            }
        }
    }
}

/// What of a whole document isn't accepted.
pub(super) fn violations(document: &Value) -> Vec<FieldError> {
    let check = |(pointer, accepts): &(&str, Accepts)| {
        let message = accepts.violation(document.pointer(pointer).unwrap_or(&Value::Null))?;
        Some(FieldError::new(*pointer, message))
    };
    SETTINGS.iter().filter_map(check).collect()
}

/// `current` changed by `patch`, if every key exists and every value is accepted.
pub(super) fn merge(current: &Value, defaults: &Value, patch: &Value) -> Result<Settings, Vec<FieldError>> {
    let mut merged = current.clone();
    let mut errors = Vec::new();
    apply(&mut merged, defaults, patch, "", &mut errors);
    // A key that doesn't exist changed nothing, so the rest is checked all the same: all errors at once.
    errors.extend(violations(&merged));
    if !errors.is_empty() {
        return Err(errors);
    }
    serde_json::from_value(merged).map_err(|_| vec![FieldError::new("", "must be a document of settings")])
}

/// Applies `patch` to the object at `pointer`. Groups and keys lie two levels deep, so this ends.
fn apply(target: &mut Value, defaults: &Value, patch: &Value, pointer: &str, errors: &mut Vec<FieldError>) {
    let (Some(target), Some(patch)) = (target.as_object_mut(), patch.as_object()) else {
        errors.push(FieldError::new(pointer, "must be an object"));
        return;
    };
    for (key, change) in patch {
        let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
        apply_key(target, &defaults[key], (key, change), &pointer, errors);
    }
}

fn apply_key(
    target: &mut Map<String, Value>,
    default: &Value,
    (key, change): (&String, &Value),
    pointer: &str,
    errors: &mut Vec<FieldError>,
) {
    match target.get_mut(key) {
        None => errors.push(FieldError::new(pointer, "is no setting")),
        Some(current) if change.is_null() => *current = default.clone(),
        Some(current) if current.is_object() => apply(current, default, change, pointer, errors),
        Some(current) => *current = change.clone(),
    }
}

#[cfg(test)]
pub(super) fn pointers() -> Vec<String> {
    SETTINGS.iter().map(|(pointer, _)| (*pointer).to_owned()).collect()
}
