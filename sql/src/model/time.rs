//! A moment: milliseconds since 1970 inside, RFC 3339 in UTC outside.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The last millisecond that RFC 3339 can write, at the end of the year 9999.
const MILLIS_MAX: i64 = 253_402_300_799_999;
/// The first one, at the start of the year 0.
const MILLIS_MIN: i64 = -62_167_219_200_000;

/// A moment in milliseconds since 1970-01-01T00:00:00Z, within the years 0 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment so many milliseconds after 1970; what lies outside the years 0 to 9999 is brought to the nearer end.
    pub const fn from_millis(millis: i64) -> Self {
        if millis > MILLIS_MAX {
            Self(MILLIS_MAX)
        } else if millis < MILLIS_MIN {
            Self(MILLIS_MIN)
        } else {
            Self(millis)
        }
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, as JWTs count.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The moment so much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(millis_of(duration)))
    }

    /// The moment so much earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(millis_of(duration)))
    }

    /// The last moment not after this one that is a multiple of `step` away from 1970. A step of nothing changes nothing.
    #[must_use]
    pub fn floor_to(self, step: Duration) -> Self {
        let step = millis_of(step);
        if step == 0 { self } else { Self::from_millis(self.0.div_euclid(step).saturating_mul(step)) }
    }

    /// The first moment of the month, in UTC, that this moment lies in.
    #[must_use]
    pub fn month_start(self) -> Self {
        let date = self.to_utc().date();
        let first = date.replace_day(1).expect("every month has a first day");
        Self::from_millis(first.midnight().assume_utc().unix_timestamp().saturating_mul(1_000))
    }

    /// The first moment of the month after that one.
    #[must_use]
    pub fn next_month_start(self) -> Self {
        // 31 days after the first is in the next month, whichever month it is.
        self.month_start().plus(Duration::from_hours(31 * 24)).month_start()
    }

    /// Year and month, in UTC.
    pub fn year_and_month(self) -> (i32, u8) {
        let date = self.to_utc().date();
        (date.year(), u8::from(date.month()))
    }

    fn to_utc(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.seconds())
            .expect("a timestamp lies within the years 0 to 9999")
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }
}

fn millis_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.to_utc();
        let (year, month, day) = seconds.to_calendar_date();
        let (hour, minute, second) = seconds.to_hms();
        let milli = self.0.rem_euclid(1_000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z",
            month = u8::from(month)
        )
    }
}

/// A text that isn't a date and time of RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a date and time like 2026-01-02T03:04:05Z")]
pub struct NotATimestamp;

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| NotATimestamp)?;
        let millis = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        i64::try_from(millis).map(Self::from_millis).map_err(|_| NotATimestamp)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_written_in_utc_with_milliseconds() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_767_323_045_678, "2026-01-02T03:04:05.678Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        }
    }

    #[test]
    fn reads_other_offsets_and_refuses_the_rest() {
        assert_eq!("2026-01-02T05:04:05+02:00".parse(), Ok(Timestamp::from_millis(1_767_323_045_000)));
        for text in ["", "2026-01-02", "2026-01-02T03:04:05", "1767323045", "2026-13-02T03:04:05Z"] {
            assert_eq!(text.parse::<Timestamp>(), Err(NotATimestamp), "{text}");
        }
    }

    #[test]
    fn counts_from_an_earlier_moment_and_never_below_zero() {
        let early = Timestamp::from_millis(1_000);
        let late = early.plus(Duration::from_secs(2));
        assert_eq!(late.since(early), Duration::from_secs(2));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.minus(Duration::from_secs(2)), early);
    }

    proptest! {
        #[test]
        fn survives_json(millis in MILLIS_MIN..=MILLIS_MAX) {
            let moment = Timestamp::from_millis(millis);
            let json = serde_json::to_string(&moment).expect("a string");
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).expect("its own output"), moment);
        }
    }
}
