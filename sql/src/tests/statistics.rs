//! Reading sums: of the calls that are asked for, and of no others.

use std::time::Duration;

use super::call_records::{insert, record};
use super::harness::{TestDatabase, on_each_database};
use crate::call_records;
use crate::model::call_record::{CallMethod, CallOutcome, CallRecord};
use crate::model::page::PageRequest;
use crate::model::time::Timestamp;
use crate::statistics::{self, Cover, StatisticsFilter};

async fn calls(db: &TestDatabase, from: Timestamp, to: Timestamp, filter: &StatisticsFilter) -> u64 {
    let mut tx = db.store.read().await.expect("reads");
    let mut calls = 0;
    let cover = Cover::of(from, to, db.now());
    statistics::each(&mut tx, &cover, filter, |sum| calls += sum.tally.calls).await.expect("reads");
    calls
}

on_each_database! {
    async fn a_range_has_the_calls_that_came_in_it(db) {
        let now = db.now();
        let ages = [1_u64, 14, 16, 59, 61, 47 * 60, 49 * 60, 24 * 60 * 30];
        for (id, minutes) in (0_i64..).zip(ages) {
            insert(db, &[record(now.minus(Duration::from_mins(minutes)), id)]).await;
        }
        let any = StatisticsFilter::default();
        for (minutes, expected) in [(15, 2), (60, 4), (24 * 60, 5), (48 * 60, 6), (7 * 24 * 60, 7), (60 * 24 * 60, 8)] {
            let from = now.minus(Duration::from_mins(minutes));
            assert_eq!(calls(db, from, now, &any).await, expected, "the last {minutes} minutes");
        }
        let (from, to) = (now.minus(Duration::from_mins(62)), now.minus(Duration::from_mins(15)));
        assert_eq!(calls(db, from, to, &any).await, 3);
    }

    async fn a_filter_takes_what_it_names(db) {
        let now = db.now();
        let base = record(now, 0);
        let records = [
            base.clone(),
            CallRecord { exposed_name: "other".into(), ..record(now, 1) },
            CallRecord { method: CallMethod::GetPrompt, ..record(now, 2) },
            CallRecord { outcome: CallOutcome::Ok, ..record(now, 3) },
        ];
        insert(db, &records).await;
        let any = StatisticsFilter::default();
        for (filter, expected) in [
            (any.clone(), 4),
            (StatisticsFilter { upstream_id: Some(base.upstream_id), ..any.clone() }, 1),
            (StatisticsFilter { key_id: Some(base.key_id), ..any.clone() }, 1),
            (StatisticsFilter { exposed_name: Some("other".into()), ..any.clone() }, 1),
            (StatisticsFilter { method: Some(CallMethod::CallTool), ..any.clone() }, 3),
            (StatisticsFilter { outcome: Some(CallOutcome::ToolError), ..any.clone() }, 3),
            (StatisticsFilter { outcome: Some(CallOutcome::Ok), exposed_name: Some("other".into()), ..any.clone() }, 0),
        ] {
            let from = now.minus(Duration::from_mins(5));
            assert_eq!(calls(db, from, now.plus(Duration::from_secs(1)), &filter).await, expected, "{filter:?}");
        }
    }

    async fn more_sums_than_are_read_at_once_are_all_read(db) {
        let now = db.now();
        for part in 0..6_i64 {
            let records: Vec<_> = (0..1_000).map(|n| record(now, part * 1_000 + n)).collect();
            insert(db, &records).await;
        }
        let any = StatisticsFilter::default();
        assert_eq!(calls(db, now.minus(Duration::from_mins(5)), now.plus(Duration::from_secs(1)), &any).await, 6_000);
    }
}
on_each_database! {
    async fn call_records_have_pages_and_filters(db) {
        let now = db.now();
        let records: Vec<_> = (0..25).map(|id| CallRecord {
            outcome: if id % 5 == 0 { CallOutcome::Timeout } else { CallOutcome::Ok },
            exposed_name: format!("tool_{id}"),
            ..record(now.minus(Duration::from_millis(id / 2)), i64::try_from(id).expect("small"))
        }).collect();
        insert(db, &records).await;
        let range = (now.minus(Duration::from_secs(1)), now.plus(Duration::from_secs(1)));
        let page = async |cursor: Option<String>, search: Option<&str>, filter: StatisticsFilter| {
            let request = PageRequest { limit: 10, cursor, search: search.map(str::to_owned), sort: None };
            let mut tx = db.store.read().await.expect("reads");
            call_records::page(&mut tx, &request, range, &filter).await.expect("reads")
        };
        let (mut cursor, mut seen) = (None, Vec::new());
        loop {
            let page = page(cursor, None, StatisticsFilter::default()).await;
            assert_eq!(page.total, 25);
            seen.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let order = |record: &CallRecord| std::cmp::Reverse((record.at, record.id));
        let mut sorted = records.clone();
        sorted.sort_by_key(order);
        assert_eq!(seen, sorted);
        let timeouts = StatisticsFilter { outcome: Some(CallOutcome::Timeout), ..StatisticsFilter::default() };
        assert_eq!(page(None, None, timeouts).await.total, 5);
        assert_eq!(page(None, Some("OOL_2"), StatisticsFilter::default()).await.total, 6);
        let named = StatisticsFilter { exposed_name: Some("tool_7".into()), ..StatisticsFilter::default() };
        assert_eq!(page(None, None, named).await.items.len(), 1);
    }
}
