//! Pages of call records, the newest first.

use super::{COLUMNS, WITH_KINDS, read};
use crate::error::StoreError;
use crate::keyset::{self, Filter, Listing, Sort};
use crate::model::call_record::{CallMethod, CallOutcome, CallRecord};
use crate::model::page::{Page, PageRequest};
use crate::model::time::Timestamp;
use crate::statistics::StatisticsFilter;
use crate::tx::Tx;

/// How far matching records are counted: there may be hundreds of millions.
pub const COUNTED_MAX: u32 = 100_000;

const LISTING: Listing = Listing {
    table: WITH_KINDS,
    columns: COLUMNS,
    key: "id",
    key_is_number: true,
    sorts: &[Sort { name: "at", expression: "at", is_number: true }],
    descending_by_default: true,
    searched: &["exposed_name", "upstream_name"],
};

/// The records of calls that came from `from` on and before `to`. Its total is [`COUNTED_MAX`] where there are as
/// many or more.
pub async fn page(
    tx: &mut Tx,
    request: &PageRequest,
    (from, to): (Timestamp, Timestamp),
    filter: &StatisticsFilter,
) -> Result<Page<CallRecord>, StoreError> {
    let conditions = Filter::default()
        .and("at >= ?", Some(from))
        .and("at < ?", Some(to))
        .and("upstream_id = ?", filter.upstream_id)
        .and("key_id = ?", filter.key_id)
        .and("method = ?", filter.method.map(CallMethod::as_str))
        .and("exposed_name = ?", filter.exposed_name.as_ref())
        .and("outcome = ?", filter.outcome.map(CallOutcome::as_str));
    keyset::page_counted(tx, &LISTING, request, conditions, read, COUNTED_MAX).await
}
