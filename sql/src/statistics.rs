//! Reading sums of calls: of any range of time, out of as few rows as there are for it.
//!
//! A range is covered by quarters of an hour, and at its ends by minutes where these are still kept. Where they
//! aren't, it begins and ends on the quarter.

use std::time::Duration;

use crate::db::{Cell, Row, cells};
use crate::error::StoreError;
use crate::model::call_record::{CallMethod, CallOutcome};
use crate::model::ids::{ApiKeyId, UpstreamId};
use crate::model::latencies::Latencies;
use crate::model::rollup::{Rollup, RollupSpan, Tally};
use crate::model::time::Timestamp;
use crate::rollups::{KEY, TABLE};
use crate::tx::Tx;

/// How long minutes are kept.
pub const MINUTES_KEPT: Duration = Duration::from_hours(48);

/// Rows that are read at once: some megabytes, however much there is.
const ROWS_AT_ONCE: u32 = 5_000;

/// Which calls. What isn't said may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatisticsFilter {
    /// At this upstream.
    pub upstream_id: Option<UpstreamId>,
    /// By this key.
    pub key_id: Option<ApiKeyId>,
    /// Of what.
    pub method: Option<CallMethod>,
    /// Of what clients call this.
    pub exposed_name: Option<String>,
    /// That ended like this.
    pub outcome: Option<CallOutcome>,
}

/// A range of time as there are sums for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cover {
    /// The first moment of it.
    pub from: Timestamp,
    /// The first moment after it.
    pub to: Timestamp,
    /// Which sums, in the order of time: spans that begin at the first moment or later, and before the second.
    pieces: Vec<(RollupSpan, Timestamp, Timestamp)>,
}

impl Cover {
    /// The sums for `from` to `to`, whole minutes around them or, further back than minutes are kept, whole quarters.
    pub fn of(from: Timestamp, to: Timestamp, now: Timestamp) -> Self {
        let (from, to) = Self::bounds(from, to, now);
        let (first, last) = (RollupSpan::Quarter.start_from(from), RollupSpan::Quarter.start(to));
        // Nothing has come after now, so that the rest of the last quarter can be read with it.
        let last = if to > now { RollupSpan::Quarter.start_from(to) } else { last };
        let pieces = if first < last {
            vec![
                (RollupSpan::Minute, from, first),
                (RollupSpan::Quarter, first, last),
                (RollupSpan::Minute, last, to),
            ]
        } else {
            vec![(RollupSpan::Minute, from, to)]
        };
        Self { from, to, pieces: pieces.into_iter().filter(|(_, from, to)| from < to).collect() }
    }

    /// The same, of minutes alone. `None`: they aren't kept for so long.
    pub fn of_minutes(from: Timestamp, to: Timestamp, now: Timestamp) -> Option<Self> {
        let (from, to) = (RollupSpan::Minute.start(from), RollupSpan::Minute.start_from(to));
        let pieces = vec![(RollupSpan::Minute, from, to)];
        (from >= minutes_from(now)).then_some(Self { from, to, pieces })
    }

    fn bounds(from: Timestamp, to: Timestamp, now: Timestamp) -> (Timestamp, Timestamp) {
        let span =
            |at: Timestamp| if at < minutes_from(now) { RollupSpan::Quarter } else { RollupSpan::Minute };
        (span(from).start(from), span(to).start_from(to))
    }
}

/// From where on there are minutes: a whole quarter.
fn minutes_from(now: Timestamp) -> Timestamp {
    RollupSpan::Quarter.start_from(now.minus(MINUTES_KEPT))
}

/// Gives `take` every sum of a range, in no particular order. Rows that can't be read are passed over.
pub async fn each(
    tx: &mut Tx,
    cover: &Cover,
    filter: &StatisticsFilter,
    mut take: impl FnMut(Rollup),
) -> Result<(), StoreError> {
    for (span, from, to) in &cover.pieces {
        let mut after: Option<Vec<Cell>> = None;
        loop {
            let (sql, cells) = statement(*span, *from, *to, filter, after);
            let rows = tx.query(TABLE, &sql, cells).await?;
            tx.readable(&rows, read)?.into_iter().for_each(&mut take);
            after = match rows.last() {
                Some(last) if rows.len() == ROWS_AT_ONCE as usize => Some(key_of(last)?),
                _ => break,
            };
        }
    }
    Ok(())
}

/// The rows of a piece that come after a key, in the order of keys.
fn statement(
    span: RollupSpan,
    from: Timestamp,
    to: Timestamp,
    filter: &StatisticsFilter,
    after: Option<Vec<Cell>>,
) -> (String, Vec<Cell>) {
    let mut cells = cells![span.as_str(), from, to];
    let mut conditions = vec!["span = $1 AND starts_at >= $2 AND starts_at < $3".to_owned()];
    let wanted = [
        ("upstream_id", filter.upstream_id.map(Cell::from)),
        ("key_id", filter.key_id.map(Cell::from)),
        ("method", filter.method.map(|method| method.as_str().into())),
        ("exposed_name", filter.exposed_name.as_ref().map(Cell::from)),
        ("outcome", filter.outcome.map(|outcome| outcome.as_str().into())),
    ];
    for (column, cell) in wanted {
        if let Some(cell) = cell {
            cells.push(cell);
            conditions.push(format!("{column} = ${}", cells.len()));
        }
    }
    if let Some(key) = after {
        let first = cells.len() + 1;
        let numbers: Vec<_> = (first..first + key.len()).map(|number| format!("${number}")).collect();
        conditions.push(format!("({KEY}) > ({})", numbers.join(", ")));
        cells.extend(key);
    }
    let sql = format!(
        "SELECT {KEY}, calls, bytes_in, bytes_out, latency_us, latencies FROM call_rollups
        WHERE {} ORDER BY {KEY} LIMIT {ROWS_AT_ONCE}",
        conditions.join(" AND ")
    );
    (sql, cells)
}

fn key_of(row: &Row) -> Result<Vec<Cell>, StoreError> {
    KEY.split(", ").map(|column| row.get::<Cell>(column)).collect()
}

fn read(row: &Row) -> Result<Rollup, StoreError> {
    let latencies: Vec<u8> = row.get("latencies")?;
    Ok(Rollup {
        starts_at: row.get("starts_at")?,
        upstream_id: row.get("upstream_id")?,
        method: row.parse("method")?,
        exposed_name: row.get("exposed_name")?,
        key_id: row.get("key_id")?,
        outcome: row.parse("outcome")?,
        tally: Tally {
            calls: row.get("calls")?,
            bytes_in: row.get("bytes_in")?,
            bytes_out: row.get("bytes_out")?,
            latency_us: row.get("latency_us")?,
            latencies: Latencies::from_bytes(&latencies).ok_or_else(|| row.corrupt("latencies"))?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// The pieces, as `m` or `q` and the minutes of the day.
    fn pieces(cover: &Cover) -> Vec<String> {
        let clock = |at: &Timestamp| at.to_string()[8..16].to_owned();
        let piece = |(span, from, to): &(RollupSpan, Timestamp, Timestamp)| {
            format!("{} {}..{}", &span.as_str()[..1], clock(from), clock(to))
        };
        cover.pieces.iter().map(piece).collect()
    }

    #[test]
    fn a_range_is_covered_by_quarters_and_at_its_ends_by_minutes() {
        let now = at("2026-01-10T12:07:30Z");
        let cover = |from: &str, to: &str| pieces(&Cover::of(at(from), at(to), now));
        // The last hour: the quarter that runs is read as one.
        assert_eq!(
            cover("2026-01-10T11:07:30Z", "2026-01-10T12:07:30Z"),
            ["m 10T11:07..10T11:15", "q 10T11:15..10T12:15"]
        );
        // An hour of yesterday.
        assert_eq!(
            cover("2026-01-09T11:14:59Z", "2026-01-09T12:16:01Z"),
            ["m 09T11:14..09T11:15", "q 09T11:15..09T12:15", "m 09T12:15..09T12:17"]
        );
        assert_eq!(cover("2026-01-09T11:01:00Z", "2026-01-09T11:02:00Z"), ["m 09T11:01..09T11:02"]);
        assert_eq!(cover("2026-01-09T11:10:00Z", "2026-01-09T11:20:00Z"), ["m 09T11:10..09T11:20"]);
        // Longer ago there are quarters alone.
        assert_eq!(cover("2026-01-02T11:10:00Z", "2026-01-02T11:20:00Z"), ["q 02T11:00..02T11:30"]);
        assert_eq!(
            cover("2026-01-02T11:10:00Z", "2026-01-09T11:20:00Z"),
            ["q 02T11:00..09T11:15", "m 09T11:15..09T11:20"]
        );
        assert_eq!(cover("2026-01-02T11:10:00Z", "2026-01-02T11:10:00Z"), ["q 02T11:00..02T11:15"]);
    }

    #[test]
    fn a_range_is_never_covered_twice_and_never_has_a_hole() {
        let now = at("2026-01-10T12:07:30Z");
        for from in 0..400_u32 {
            for length in [0, 1, 7, 14, 15, 16, 29, 44, 61, 1_439, 4_000] {
                let from =
                    now.minus(Duration::from_hours(49)).plus(Duration::from_secs(17 * u64::from(from)));
                let to = from.plus(Duration::from_secs(60 * length));
                let cover = Cover::of(from, to, now);
                assert!(cover.from <= from && cover.to >= to, "{from} {to}");
                let mut reached = cover.from;
                for (span, start, end) in &cover.pieces {
                    assert_eq!((reached, span.start(*start)), (*start, *start), "{from} {to}");
                    assert!(*span == RollupSpan::Quarter || *start >= minutes_from(now), "{from} {to}");
                    reached = *end;
                }
                assert!(reached >= cover.to && (reached == cover.to || reached > now), "{from} {to}");
            }
        }
    }

    #[test]
    fn minutes_are_there_for_two_days() {
        let now = at("2026-01-10T12:07:30Z");
        assert!(Cover::of_minutes(at("2026-01-08T12:15:00Z"), now, now).is_some());
        assert!(Cover::of_minutes(at("2026-01-08T12:14:59Z"), now, now).is_none());
    }
}
