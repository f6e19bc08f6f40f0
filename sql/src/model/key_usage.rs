//! How many messages a key sent in a day or a month, which is what its quotas count.

use std::time::Duration;

use time::{Date, OffsetDateTime};

use super::ids::ApiKeyId;
use super::time::Timestamp;

const DAY: Duration = Duration::from_hours(24);
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

super::closed_set::closed_set! {
    /// What a quota is for: a day or a month, both in UTC.
    pub enum QuotaSpan {
        /// From midnight to midnight.
        Day = "day",
        /// From the first of a month to the first of the next.
        Month = "month",
    }
}

impl QuotaSpan {
    /// When the span that `now` lies in began.
    pub fn start(self, now: Timestamp) -> Timestamp {
        let day = now.millis().div_euclid(DAY_MILLIS) * DAY_MILLIS;
        let since_first = match self {
            Self::Day => 0,
            Self::Month => i64::from(date(now).day() - 1),
        };
        Timestamp::from_millis(day - since_first * DAY_MILLIS)
    }

    /// When the span that `now` lies in ends: the start of the next.
    pub fn end(self, now: Timestamp) -> Timestamp {
        let days = match self {
            Self::Day => 1,
            Self::Month => u32::from(date(now).month().length(date(now).year())),
        };
        self.start(now).plus(DAY * days)
    }
}

/// A timestamp lies within the years that a date has.
fn date(now: Timestamp) -> Date {
    let day = OffsetDateTime::from_unix_timestamp(now.seconds());
    day.unwrap_or(OffsetDateTime::UNIX_EPOCH).date()
}

/// Messages of a key in one day or month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage {
    /// Whose.
    pub key_id: ApiKeyId,
    /// In what.
    pub span: QuotaSpan,
    /// When that began.
    pub starts_at: Timestamp,
    /// How many.
    pub messages: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_begin_at_midnight_in_utc() {
        let table = [
            (QuotaSpan::Day, "2026-11-22T22:30:00Z", "2026-11-22T00:00:00.000Z", "2026-11-23T00:00:00.000Z"),
            (QuotaSpan::Day, "2026-11-22T00:00:00Z", "2026-11-22T00:00:00.000Z", "2026-11-23T00:00:00.000Z"),
            (
                QuotaSpan::Month,
                "2026-11-22T22:30:00Z",
                "2026-11-01T00:00:00.000Z",
                "2026-12-01T00:00:00.000Z",
            ),
            (
                QuotaSpan::Month,
                "2028-02-29T23:59:59Z",
                "2028-02-01T00:00:00.000Z",
                "2028-03-01T00:00:00.000Z",
            ),
            (
                QuotaSpan::Month,
                "2026-12-31T23:59:59Z",
                "2026-12-01T00:00:00.000Z",
                "2027-01-01T00:00:00.000Z",
            ),
            (
                QuotaSpan::Month,
                "1969-12-31T23:59:59Z",
                "1969-12-01T00:00:00.000Z",
                "1970-01-01T00:00:00.000Z",
            ),
        ];
        for (span, now, start, end) in table {
            let now: Timestamp = now.parse().unwrap();
            assert_eq!((span.start(now).to_string(), span.end(now).to_string()), (start.into(), end.into()));
        }
    }
}
