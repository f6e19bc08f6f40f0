//! `GET /api/admin/stats/timeseries`

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sql::model::{Tally, Timestamp};
use sql::statistics::{self, Cover, MINUTES_KEPT};
use utoipa::{IntoParams, ToSchema};

use super::query::{Asked, StatsQuery};
use super::{LatencyView, is_error};
use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::fields::Problems;

/// How far points may lie apart, in seconds: what divides a day, and from a quarter of an hour on every time zone.
const STEPS_S: [u32; 9] = [60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400];

/// The shortest step of which there are sums for the whole retention.
const QUARTER_S: u32 = 900;

/// Points of one answer: more than a wide screen has room for.
const POINTS_MAX: u32 = 2_000;

/// Points that are aimed at if no step is said.
const POINTS_WANTED: u32 = 150;

/// The farthest that a clock on earth is from UTC.
const OFFSET_MINUTES_MAX: i64 = 14 * 60;

/// How the range is divided.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DivisionQuery {
    /// How far points lie apart, in seconds: 60, 300, 900, 1800, 3600, 10800, 21600, 43200 or 86400. If not said,
    /// what makes some 150 points. Less than 900 is possible for the last two days.
    #[param(value_type = Option<u32>)]
    step_s: Option<String>,
    /// The offset of the clock by which hours and days begin, such as `+05:30`; `Z` if not said. A whole number of
    /// quarters of an hour.
    tz: Option<String>,
}

/// How calls went over time.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StatsTimeseries)]
pub(crate) struct TimeseriesView {
    /// The first moment that is counted.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// The first moment after it that isn't.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// How far points lie apart, in seconds.
    step_s: u32,
    /// The points, in order, also where nothing came. The first and the last may lie partly outside the range, and
    /// count what lies in it.
    points: Vec<PointView>,
}

/// The calls of one step.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StatsPoint)]
pub(crate) struct PointView {
    /// When it begins.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// How many calls came.
    calls: u64,
    /// How many of them failed.
    errors: u64,
    /// What clients sent, in bytes.
    bytes_in: u64,
    /// What clients were given, in bytes.
    bytes_out: u64,
    #[serde(flatten)]
    latency: LatencyView,
}

/// How a range is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Division {
    step_s: u32,
    offset_minutes: i64,
}

/// Read how calls went over time
#[utoipa::path(get, path = "/api/admin/stats/timeseries", tag = "stats", params(StatsQuery, DivisionQuery),
    responses((status = 200, body = TimeseriesView, example = json!({
        "from": "2026-11-23T09:00:00.000Z", "to": "2026-11-23T10:00:00.000Z", "stepS": 1_800,
        "points": [
            {"at": "2026-11-23T09:00:00.000Z", "calls": 12, "errors": 1, "bytesIn": 4_800, "bytesOut": 36_000,
                "p50Ms": 11.2, "p95Ms": 38.4, "p99Ms": 38.4},
            {"at": "2026-11-23T09:30:00.000Z", "calls": 0, "errors": 0, "bytesIn": 0, "bytesOut": 0,
                "p50Ms": null, "p95Ms": null, "p99Ms": null}
        ]
    }))))]
pub(crate) async fn timeseries(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<StatsQuery>,
    Query(division): Query<DivisionQuery>,
) -> Result<Json<TimeseriesView>, ApiError> {
    let now = app.store.clock().now();
    let mut problems = Problems::default();
    let (step_s, offset_minutes) = division.parse(&mut problems);
    let asked = query.parse(now, problems)?;
    let (cover, step_s) = covered(&asked, step_s, now)?;
    let division = Division { step_s, offset_minutes };
    let mut points: BTreeMap<Timestamp, (Tally, u64)> = BTreeMap::new();
    let mut tx = app.store.read().await?;
    statistics::each(&mut tx, &cover, &asked.filter, |sum| {
        let (tally, errors) = points.entry(division.start(sum.starts_at)).or_default();
        tally.merge(&sum.tally);
        if is_error(sum.outcome) {
            *errors += sum.tally.calls;
        }
    })
    .await?;
    drop(tx);
    let starts = division.starts(cover.from, cover.to);
    let points = starts.map(|at| {
        let (tally, errors) = points.remove(&at).unwrap_or_default();
        let (bytes_in, bytes_out) = (tally.bytes_in, tally.bytes_out);
        PointView { at, calls: tally.calls, errors, bytes_in, bytes_out, latency: LatencyView::of(&tally) }
    });
    Ok(Json(TimeseriesView { from: cover.from, to: cover.to, step_s, points: points.collect() }))
}

/// The sums for what is asked, and how far points lie apart.
fn covered(asked: &Asked, step_s: Option<u32>, now: Timestamp) -> Result<(Cover, u32), ApiError> {
    let minutes = Cover::of_minutes(asked.from, asked.to, now);
    let range_s = asked.to.since(asked.from).as_secs();
    let step_s = step_s.unwrap_or_else(|| {
        let step = |step: &&u32| {
            (**step >= QUARTER_S || minutes.is_some())
                && range_s / u64::from(**step) <= u64::from(POINTS_WANTED)
        };
        STEPS_S.iter().find(step).copied().unwrap_or(86_400)
    });
    if range_s / u64::from(step_s) > u64::from(POINTS_MAX) {
        return Err(ApiError::field("/stepS", format!("makes more than {POINTS_MAX} points of this range")));
    }
    if step_s >= QUARTER_S {
        return Ok((Cover::of(asked.from, asked.to, now), step_s));
    }
    let hours = MINUTES_KEPT.as_secs() / 3_600;
    let message = format!("must be {QUARTER_S} or more for a range that began more than {hours} hours ago");
    Ok((minutes.ok_or_else(|| ApiError::field("/stepS", message))?, step_s))
}

impl DivisionQuery {
    fn parse(&self, problems: &mut Problems) -> (Option<u32>, i64) {
        let step_s =
            self.step_s.as_deref().map(|text| text.parse().ok().filter(|step| STEPS_S.contains(step)));
        if step_s == Some(None) {
            let steps: Vec<_> = STEPS_S.iter().map(ToString::to_string).collect();
            problems.add("/stepS", format!("must be one of {}", steps.join(", ")));
        }
        let offset = self.tz.as_deref().map(offset_minutes);
        if offset == Some(None) {
            problems
                .add("/tz", "must be an offset such as +05:30, a whole number of quarters of an hour, or Z");
        }
        (step_s.flatten(), offset.flatten().unwrap_or_default())
    }
}

/// `+05:30`, `-03:00`, `Z`. A plus sign in a query may have come as a blank.
fn offset_minutes(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, clock) = match text.split_at_checked(1)? {
        ("+" | " ", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return None,
    };
    let (hours, minutes) = clock.split_once(':')?;
    let number = |text: &str| text.parse::<u8>().ok().filter(|_| text.len() == 2 && !text.starts_with('+'));
    let (hours, minutes) = (i64::from(number(hours)?), i64::from(number(minutes)?));
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= OFFSET_MINUTES_MAX && total % 15 == 0).then_some(sign * total)
}

impl Division {
    fn step(self) -> Duration {
        Duration::from_secs(self.step_s.into())
    }

    /// The beginning, by the clock of the time zone, of the step that a moment lies in.
    fn start(self, at: Timestamp) -> Timestamp {
        let offset_ms = self.offset_minutes * 60_000;
        let local = Timestamp::from_millis(at.millis() + offset_ms).floor_to(self.step());
        Timestamp::from_millis(local.millis() - offset_ms)
    }

    /// The beginnings of all steps that lie in a range, wholly or partly.
    fn starts(self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> {
        let first = self.start(from);
        std::iter::successors(Some(first), move |at| Some(at.plus(self.step())))
            .take_while(move |at| *at < to)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::scene::{busy, call, store};
    use super::*;
    use crate::testing::Scene;

    fn calls(answer: &Value) -> u64 {
        answer["points"].as_array().unwrap().iter().map(|point| point["calls"].as_u64().unwrap()).sum()
    }

    #[test]
    fn offsets_are_quarters_of_an_hour() {
        for (text, minutes) in [
            ("Z", Some(0)),
            ("+05:30", Some(330)),
            (" 05:45", Some(345)),
            ("-03:00", Some(-180)),
            ("+14:00", Some(840)),
            ("+14:15", None),
            ("+05:20", None),
            ("+5:30", None),
            ("05:30", None),
            ("", None),
            ("+0\u{661}:00", None),
        ] {
            assert_eq!(offset_minutes(text), minutes, "{text}");
        }
    }

    #[tokio::test]
    async fn every_step_has_its_calls_and_empty_ones_are_there() {
        let (scene, ..) = busy().await;
        for step in ["", "&stepS=60", "&stepS=900", "&stepS=86400"] {
            let answer = scene.get(&format!("/api/admin/stats/timeseries?tz=Z{step}")).await;
            assert_eq!(answer.status, 200, "{}", answer.json);
            assert_eq!(calls(&answer.json), 30, "{step}");
        }
        let answer = scene.get("/api/admin/stats/timeseries?stepS=60&name=echo").await;
        let points = answer.json["points"].as_array().unwrap();
        assert!((1_440..=1_441).contains(&points.len()), "{}", points.len());
        let last = &points[points.len() - 1];
        assert_eq!((&last["calls"], &last["errors"]), (&json!(1), &json!(1)));
        assert_eq!(
            points.iter().filter(|point| point["calls"] == 0 && point["p50Ms"].is_null()).count(),
            points.len() - 20
        );
    }

    /// Half past five in India: a day there begins at half past six in the evening of London.
    #[tokio::test]
    async fn days_begin_by_the_clock_of_the_time_zone() {
        let scene = Scene::logged_in().await;
        let (upstream, key) = (scene.upstream("a").await, scene.key("k").await.0);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let call = |time| call(upstream.parse().unwrap(), key.parse().unwrap(), "echo", at(time), 1);
        let times =
            ["2025-06-10T18:29:59Z", "2025-06-10T18:30:00Z", "2025-06-11T18:29:59Z", "2025-06-11T18:30:00Z"];
        store(&scene, &times.map(call)).await;
        let days = async |tz: &str| {
            let range = "from=2025-06-10T00:00:00Z&to=2025-06-12T00:00:00Z&stepS=86400";
            let answer = scene.get(&format!("/api/admin/stats/timeseries?{range}&tz={tz}")).await;
            let points = answer.json["points"].as_array().unwrap().clone();
            points
                .iter()
                .map(|point| (point["at"].as_str().unwrap().to_owned(), point["calls"].as_u64().unwrap()))
                .collect::<Vec<_>>()
        };
        let expected = [
            ("2025-06-09T18:30:00.000Z", 1),
            ("2025-06-10T18:30:00.000Z", 2),
            ("2025-06-11T18:30:00.000Z", 1),
        ];
        assert_eq!(days("%2B05:30").await, expected.map(|(at, calls)| (at.to_owned(), calls)));
        let expected = [("2025-06-10T00:00:00.000Z", 2), ("2025-06-11T00:00:00.000Z", 2)];
        assert_eq!(days("Z").await, expected.map(|(at, calls)| (at.to_owned(), calls)));
    }

    #[tokio::test]
    async fn refuses_what_there_are_no_sums_for() {
        let (scene, ..) = busy().await;
        let path = "/api/admin/stats/timeseries";
        for (query, pointers) in [
            ("?stepS=61", vec!["/stepS"]),
            ("?tz=Europe/Berlin&stepS=x&from=x", vec!["/stepS", "/tz", "/from"]),
            ("?from=2025-06-01T00:00:00Z&stepS=60", vec!["/stepS"]),
            ("?from=2024-06-01T00:00:00Z&stepS=900", vec!["/stepS"]),
        ] {
            let answer = scene.get(&format!("{path}{query}")).await;
            assert_eq!(
                (answer.status, answer.pointers()),
                (422, pointers.into_iter().map(String::from).collect()),
                "{query}"
            );
        }
    }
}
