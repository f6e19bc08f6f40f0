//! The parameters that lists have in common, and the page they answer with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sql::model::{Page, PageRequest};
use utoipa::{IntoParams, ToSchema};

use crate::error::ApiError;

/// The longest search: it is compared with names.
pub(crate) const SEARCH_CHARS_MAX: usize = 200;

/// The longest cursor: an id, a revision, or a sort key with an id.
const CURSOR_BYTES_MAX: usize = 4_096;

/// `?limit=&cursor=&search=&sort=`, read as texts so that a bad one has a JSON pointer.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// How many items at most, 1 to 200; 50 if not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
    /// Only what holds this text, whatever its case.
    search: Option<String>,
    /// The field to sort by; descending with `-` in front.
    sort: Option<String>,
}

impl ListQuery {
    /// What is asked for, if it can be sorted by one of `sorts`.
    pub(crate) fn parse(self, sorts: &[&str]) -> Result<PageRequest, ApiError> {
        self.parse_with(sorts, PageRequest::LIMIT_DEFAULT)
    }

    /// The same, with another number of items where none is said.
    pub(crate) fn parse_with(self, sorts: &[&str], limit_default: u32) -> Result<PageRequest, ApiError> {
        let mut problems = crate::fields::Problems::default();
        let limit = match self.limit.as_deref().map(str::parse::<u32>) {
            None => limit_default,
            Some(Ok(limit)) if (1..=PageRequest::LIMIT_MAX).contains(&limit) => limit,
            Some(_) => {
                problems
                    .add("/limit", format!("must be a whole number from 1 to {}", PageRequest::LIMIT_MAX));
                PageRequest::LIMIT_DEFAULT
            }
        };
        if self.cursor.as_ref().is_some_and(|cursor| cursor.len() > CURSOR_BYTES_MAX) {
            problems.add("/cursor", "is not a cursor of this list");
        }
        if self.search.as_ref().is_some_and(|search| search.chars().count() > SEARCH_CHARS_MAX) {
            problems.add("/search", format!("must have at most {SEARCH_CHARS_MAX} characters"));
        }
        if let Some(sort) = &self.sort
            && !sorts.contains(&sort.trim_start_matches('-'))
        {
            problems.add("/sort", format!("must be one of {}, with or without -", sorts.join(", ")));
        }
        let search = self.search.filter(|search| !search.is_empty());
        problems.unless_any(Some(PageRequest { limit, cursor: self.cursor, search, sort: self.sort }))
    }
}

/// A parameter that is `true` or `false`, if it is there.
pub(crate) fn switch(pointer: &str, value: Option<&str>) -> Result<Option<bool>, ApiError> {
    match value {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(ApiError::field(pointer, "must be true or false")),
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed<T> {
    /// The items, in order.
    items: Vec<T>,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
    /// How many items match in all.
    total: u64,
}

impl<T> From<Page<T>> for Listed<T> {
    fn from(page: Page<T>) -> Self {
        Self { items: page.items, next_cursor: page.next_cursor, total: page.total }
    }
}

/// One page of a list that is held whole. `key` names an item for as long as it exists.
pub(crate) fn page_of<T>(
    items: Vec<T>,
    request: &PageRequest,
    key: impl Fn(&T) -> String,
) -> Result<Page<T>, ApiError> {
    let total = items.len() as u64;
    let start = match &request.cursor {
        None => 0,
        Some(cursor) => {
            let last = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let place = last.and_then(|last| items.iter().position(|item| key(item) == last));
            place
                .ok_or_else(|| ApiError::field("/cursor", "is not a cursor of this list, or not any more"))?
                + 1
        }
    };
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let more = items.len() > start.saturating_add(limit);
    let items: Vec<T> = items.into_iter().skip(start).take(limit).collect();
    let next_cursor = items.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(key(last)));
    Ok(Page { items, next_cursor, total })
}
