//! The parameters that all statistics have in common: a range of time, and which calls.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use sql::model::{CallMethod, CallOutcome, Timestamp};
use sql::statistics::StatisticsFilter;
use utoipa::IntoParams;

use crate::doc;
use crate::error::ApiError;
use crate::fields::Problems;

/// The range if none is said.
const RANGE_DEFAULT: Duration = Duration::from_hours(24);

/// The longest range: as long as anything is kept (ten years of retention), and some more.
const RANGE_MAX: Duration = Duration::from_hours(24 * 366 * 11);

/// The longest name; stored ones are cut to half of it.
const NAME_BYTES_MAX: usize = 1_024;

/// `?from=&to=` and which calls; read as texts so that a bad one has a JSON pointer.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatsQuery {
    /// Calls that came at this time or later (RFC 3339); a day before `to` if not said.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<String>,
    /// Calls that came before this time (RFC 3339); now if not said.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<String>,
    /// Only calls to this upstream.
    #[param(value_type = Option<uuid::Uuid>)]
    upstream_id: Option<String>,
    /// Only calls by this key.
    #[param(value_type = Option<uuid::Uuid>)]
    key_id: Option<String>,
    /// Only calls of what clients call this, to the letter.
    name: Option<String>,
    /// Only calls of this method.
    #[param(schema_with = doc::call_method)]
    method: Option<String>,
    /// Only calls that ended like this.
    #[param(schema_with = doc::call_outcome)]
    outcome: Option<String>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) filter: StatisticsFilter,
}

impl StatsQuery {
    /// Reads all of it; everything that is wrong is said at once.
    pub(crate) fn parse(self, now: Timestamp, mut problems: Problems) -> Result<Asked, ApiError> {
        let to = parsed(self.to.as_deref(), "/to", &mut problems);
        let to = to.unwrap_or(now);
        let from = parsed(self.from.as_deref(), "/from", &mut problems);
        let from = from.unwrap_or_else(|| to.minus(RANGE_DEFAULT));
        if from >= to {
            problems.add("/from", "must lie before `to`");
        } else if to.since(from) > RANGE_MAX {
            problems.add("/from", "must lie at most eleven years before `to`");
        }
        if self.name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX || name.contains('\0')) {
            problems.add("/name", format!("must have at most {NAME_BYTES_MAX} bytes, and no NUL"));
        }
        let filter = StatisticsFilter {
            upstream_id: id(self.upstream_id.as_deref(), "/upstreamId", "an upstream", &mut problems),
            key_id: id(self.key_id.as_deref(), "/keyId", "a key", &mut problems),
            method: word(self.method.as_deref(), "/method", CallMethod::WORDS, &mut problems),
            outcome: word(self.outcome.as_deref(), "/outcome", CallOutcome::WORDS, &mut problems),
            exposed_name: self.name,
        };
        problems.unless_any(Some(Asked { from, to, filter }))
    }
}

fn parsed(text: Option<&str>, pointer: &str, problems: &mut Problems) -> Option<Timestamp> {
    match text?.parse::<Timestamp>() {
        Ok(at) => Some(at),
        Err(error) => {
            problems.add(pointer, error.to_string());
            None
        }
    }
}

fn id<T: FromStr>(text: Option<&str>, pointer: &str, what: &str, problems: &mut Problems) -> Option<T> {
    let read = text?.parse().ok();
    if read.is_none() {
        problems.add(pointer, format!("must be the id of {what}"));
    }
    read
}

/// A word of a closed set.
pub(super) fn word<T: FromStr>(
    text: Option<&str>,
    pointer: &str,
    words: &[&str],
    problems: &mut Problems,
) -> Option<T> {
    let read = text?.parse().ok();
    if read.is_none() {
        problems.add(pointer, format!("must be one of {}", words.join(", ")));
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_day_is_asked_for_unless_something_else_is() {
        let asked = StatsQuery::default().parse(now(), Problems::default()).unwrap();
        assert_eq!((asked.from, asked.to), (now().minus(RANGE_DEFAULT), now()));
        let to = Some("2026-02-01T00:00:00+05:30".into());
        let asked = StatsQuery { to, ..StatsQuery::default() }.parse(now(), Problems::default()).unwrap();
        assert_eq!(asked.from.to_string(), "2026-01-30T18:30:00.000Z");
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let query = StatsQuery {
            from: Some("yesterday".into()),
            to: Some("1".into()),
            upstream_id: Some("u".into()),
            key_id: Some("k".into()),
            name: Some("\0".into()),
            method: Some("tools/list".into()),
            outcome: Some("fine".into()),
        };
        let Err(ApiError::Invalid(errors)) = query.parse(now(), Problems::default()) else {
            panic!("it is wrong")
        };
        let mut pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/from", "/keyId", "/method", "/name", "/outcome", "/to", "/upstreamId"]);
        let from = Some("2026-03-01T12:00:00Z".into());
        let empty = StatsQuery { from, ..StatsQuery::default() };
        assert!(empty.parse(now(), Problems::default()).is_err());
    }
}
