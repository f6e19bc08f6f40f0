//! Pages of a list: continued after the last row by its sort key, so that rows which come and go
//! neither repeat nor skip others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::db::{Cell, Row};
use crate::error::StoreError;
use crate::model::page::{Page, PageRequest};
use crate::tx::Tx;

/// Characters of a search; more finds nothing.
const SEARCH_CHARS_MAX: usize = 200;

/// A list that has pages.
pub(crate) struct Listing {
    pub(crate) table: &'static str,
    /// The columns of a row.
    pub(crate) columns: &'static str,
    /// A unique column that settles equal sort keys.
    pub(crate) key: &'static str,
    /// Whether that column is a number; else it is a text.
    pub(crate) key_is_number: bool,
    /// What may be sorted by; the first is the default.
    pub(crate) sorts: &'static [Sort],
    pub(crate) descending_by_default: bool,
    /// The columns that a search looks at.
    pub(crate) searched: &'static [&'static str],
}

/// One thing to sort by.
pub(crate) struct Sort {
    /// What the outside calls it.
    pub(crate) name: &'static str,
    /// An expression that is never NULL.
    pub(crate) expression: &'static str,
    /// Whether it is a number; else it is a text.
    pub(crate) is_number: bool,
}

/// The conditions of a page, all of which hold.
#[derive(Default)]
pub(crate) struct Filter {
    conditions: Vec<String>,
    cells: Vec<Cell>,
}

impl Filter {
    /// Adds `condition`, whose `?` stands for `value`, unless there is no value.
    pub(crate) fn and<T: Into<Cell>>(mut self, condition: &str, value: Option<T>) -> Self {
        if let Some(value) = value {
            let parameter = self.bind(value.into());
            self.conditions.push(condition.replace('?', &parameter));
        }
        self
    }

    /// Adds that one of `columns` holds `text`, whatever its case, unless there is no text.
    pub(crate) fn searching(mut self, columns: &[&str], text: Option<&str>) -> Self {
        self.search(columns, text);
        self
    }

    /// The condition, and its parameters.
    pub(crate) fn into_parts(self) -> (String, Vec<Cell>) {
        (self.sql(), self.cells)
    }

    fn search(&mut self, columns: &[&str], text: Option<&str>) {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return };
        let mut pattern = String::from("%");
        // No stored text has a NUL, and Postgres takes none.
        let text = text.chars().filter(|character| *character != '\0').take(SEARCH_CHARS_MAX);
        for character in text.map(|character| character.to_ascii_lowercase()) {
            if matches!(character, '%' | '_' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern.push('%');
        let parameter = self.bind(pattern.into());
        // Both sides in lower case: whether LIKE itself minds the case differs between the dialects.
        let like = |column: &&str| format!("LOWER({column}) LIKE {parameter} ESCAPE '\\'");
        self.conditions.push(format!("({})", columns.iter().map(like).collect::<Vec<_>>().join(" OR ")));
    }

    fn bind(&mut self, cell: Cell) -> String {
        self.cells.push(cell);
        format!("${}", self.cells.len())
    }

    fn sql(&self) -> String {
        if self.conditions.is_empty() { "1 = 1".to_owned() } else { self.conditions.join(" AND ") }
    }
}

/// Where a page ended: what it was sorted by, and the last row's sort key and unique key.
struct Cursor {
    sort: String,
    value: Cell,
    key: Cell,
}

/// One page of `listing`, each row read by `read`. Rows that can't be read are passed over.
pub(crate) async fn page<T>(
    tx: &mut Tx,
    listing: &Listing,
    request: &PageRequest,
    filter: Filter,
    read: impl Fn(&Row) -> Result<T, StoreError>,
) -> Result<Page<T>, StoreError> {
    page_counted(tx, listing, request, filter, read, u32::MAX).await
}

/// [`page`] of a table that is too long to be counted: the total stops at `counted_max`.
pub(crate) async fn page_counted<T>(
    tx: &mut Tx,
    listing: &Listing,
    request: &PageRequest,
    mut filter: Filter,
    read: impl Fn(&Row) -> Result<T, StoreError>,
    counted_max: u32,
) -> Result<Page<T>, StoreError> {
    let (sort, descending) = listing.sort(request.sort.as_deref())?;
    filter.search(listing.searched, request.search.as_deref());
    let (table, conditions) = (listing.table, filter.sql());
    let count = if counted_max == u32::MAX {
        format!("SELECT COUNT(*) AS total FROM {table} WHERE {conditions}")
    } else {
        format!(
            "SELECT COUNT(*) AS total FROM (SELECT 1 AS one FROM {table} WHERE {conditions} LIMIT {counted_max}) AS counted"
        )
    };
    let total = tx.query_one(listing.table, &count, filter.cells.clone()).await?.get("total")?;

    let sort_word = format!("{}{}", if descending { "-" } else { "" }, sort.name);
    if let Some(cursor) = &request.cursor {
        let cursor = Cursor::read(cursor, sort.is_number, listing.key_is_number);
        let cursor = cursor.filter(|cursor| cursor.sort == sort_word).ok_or(StoreError::InvalidCursor)?;
        let (value, key) = (filter.bind(cursor.value), filter.bind(cursor.key));
        let beyond = if descending { "<" } else { ">" };
        filter.conditions.push(format!("({}, {}) {beyond} ({value}, {key})", sort.expression, listing.key));
    }
    let limit = request.limit.clamp(1, PageRequest::LIMIT_MAX);
    let (conditions, parameter) = (filter.sql(), filter.bind(i64::from(limit + 1).into()));
    let direction = if descending { "DESC" } else { "ASC" };
    let select = format!(
        "SELECT {columns}, {expression} AS sort_key, {key} AS unique_key FROM {table} WHERE {conditions}
         ORDER BY {expression} {direction}, {key} {direction} LIMIT {parameter}",
        columns = listing.columns,
        expression = sort.expression,
        key = listing.key,
        table = listing.table,
    );
    let mut rows = tx.query(listing.table, &select, filter.cells).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next_cursor = match rows.last() {
        Some(last) if more => Some(Cursor::after(sort_word, last)?.write()),
        _ => None,
    };
    Ok(Page { items: tx.readable(&rows, read)?, next_cursor, total })
}

impl Listing {
    /// What a request sorts by, and whether backwards.
    fn sort(&self, wanted: Option<&str>) -> Result<(&'static Sort, bool), StoreError> {
        let Some(wanted) = wanted else { return Ok((&self.sorts[0], self.descending_by_default)) };
        let (name, descending) = wanted.strip_prefix('-').map_or((wanted, false), |name| (name, true));
        let sort = self.sorts.iter().find(|sort| sort.name == name).ok_or(StoreError::InvalidSort)?;
        Ok((sort, descending))
    }
}

impl Cursor {
    fn after(sort: String, row: &Row) -> Result<Self, StoreError> {
        Ok(Self { sort, value: row.get("sort_key")?, key: row.get("unique_key")? })
    }

    fn write(&self) -> String {
        let json = |cell: &Cell| match cell {
            Cell::Integer(number) => Value::from(*number),
            Cell::Text(text) => Value::from(text.as_str()),
            Cell::Null | Cell::Bytes(_) => Value::Null,
        };
        let parts = Value::from(vec![self.sort.clone().into(), json(&self.value), json(&self.key)]);
        URL_SAFE_NO_PAD.encode(parts.to_string())
    }

    /// Reads a cursor, which may come from anybody: at worst it names a place that isn't there.
    fn read(text: &str, value_is_number: bool, key_is_number: bool) -> Option<Self> {
        let cell = |value: Value, is_number: bool| match value {
            Value::Number(number) if is_number => number.as_i64().map(Cell::from),
            Value::String(text) if !is_number && !text.contains('\0') => Some(Cell::from(text)),
            _ => None,
        };
        let parts: [Value; 3] = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let [sort, value, key] = parts;
        Some(Self {
            sort: sort.as_str()?.to_owned(),
            value: cell(value, value_is_number)?,
            key: cell(key, key_is_number)?,
        })
    }
}
