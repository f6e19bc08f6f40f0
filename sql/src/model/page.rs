//! One page of a list.

/// Which page is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// How many items at most; the store brings it into 1 to [`PageRequest::LIMIT_MAX`].
    pub limit: u32,
    /// Where the page before ended: its `next_cursor`, opaque.
    pub cursor: Option<String>,
    /// Only what holds this text, whatever its case.
    pub search: Option<String>,
    /// The field to sort by, in camelCase; descending with `-` in front.
    pub sort: Option<String>,
}

impl PageRequest {
    /// Items without a stated limit.
    pub const LIMIT_DEFAULT: u32 = 50;
    /// Items on one page; a page is held in memory and shown to a person.
    pub const LIMIT_MAX: u32 = 200;
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { limit: Self::LIMIT_DEFAULT, cursor: None, search: None, sort: None }
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Where the next page begins; none on the last.
    pub next_cursor: Option<String>,
    /// How many items match in all.
    pub total: u64,
}

impl<T> Page<T> {
    /// The same page of other items.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(f).collect(),
            next_cursor: self.next_cursor,
            total: self.total,
        }
    }
}
