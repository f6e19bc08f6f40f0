//! One value on its way into or out of a database.

use std::error::Error;
use std::net::IpAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use rusqlite::types::{ToSqlOutput, ValueRef};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::model::ids::{
    AdminUserId, ApiKeyId, AuditEventId, DefinitionId, RuleId, TokenId, UpstreamId, XiaozhiEndpointId,
};
use crate::model::time::Timestamp;

/// What both databases can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Nothing.
    Null,
    /// A number, a moment in milliseconds, or 0 and 1 for no and yes.
    Integer(i64),
    /// A text: a name, an id, a word, JSON.
    Text(String),
    /// Bytes: hashes, and JSON of others that must stay as it came.
    Bytes(Vec<u8>),
}

impl Cell {
    pub(super) fn has_nul(&self) -> bool {
        matches!(self, Self::Text(text) if text.contains('\0'))
    }
}

/// The parameters of a statement, in the order of their numbers.
macro_rules! cells {
    ($($value:expr),* $(,)?) => { vec![$($crate::db::Cell::from($value)),*] };
}
pub(crate) use cells;

macro_rules! cell_from {
    ($($source:ty => |$value:ident| $cell:expr;)+) => {$(
        impl From<$source> for Cell {
            fn from($value: $source) -> Self {
                $cell
            }
        }
    )+};
}
cell_from! {
    i64 => |value| Cell::Integer(value);
    u32 => |value| Cell::Integer(value.into());
    // A count beyond what 63 bits hold means "no end", and the largest number says so as well.
    u64 => |value| Cell::Integer(i64::try_from(value).unwrap_or(i64::MAX));
    bool => |value| Cell::Integer(value.into());
    Timestamp => |value| Cell::Integer(value.millis());
    &str => |value| Cell::Text(value.to_owned());
    &String => |value| Cell::Text(value.clone());
    String => |value| Cell::Text(value);
    Uuid => |value| Cell::Text(value.to_string());
    IpAddr => |value| Cell::Text(value.to_string());
    Vec<u8> => |value| Cell::Bytes(value);
    &Bytes => |value| Cell::Bytes(value.to_vec());
    &[u8; 32] => |value| Cell::Bytes(value.to_vec());
    UpstreamId => |value| value.uuid().into();
    ApiKeyId => |value| value.uuid().into();
    AdminUserId => |value| value.uuid().into();
    DefinitionId => |value| value.uuid().into();
    RuleId => |value| value.uuid().into();
    AuditEventId => |value| value.uuid().into();
    TokenId => |value| value.uuid().into();
    XiaozhiEndpointId => |value| value.uuid().into();
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A type that a cell can be read as; `None` if it holds something else.
pub(crate) trait FromCell: Sized {
    fn from_cell(cell: &Cell) -> Option<Self>;
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            other => T::from_cell(other).map(Some),
        }
    }
}

impl FromCell for Cell {
    fn from_cell(cell: &Cell) -> Option<Self> {
        Some(cell.clone())
    }
}

macro_rules! from_cell {
    ($($target:ty => $pattern:pat => $value:expr;)+) => {$(
        impl FromCell for $target {
            fn from_cell(cell: &Cell) -> Option<Self> {
                match cell {
                    $pattern => $value,
                    _ => None,
                }
            }
        }
    )+};
}
from_cell! {
    i64 => Cell::Integer(number) => Some(*number);
    u32 => Cell::Integer(number) => u32::try_from(*number).ok();
    u64 => Cell::Integer(number) => u64::try_from(*number).ok();
    bool => Cell::Integer(number @ (0 | 1)) => Some(*number == 1);
    Timestamp => Cell::Integer(millis) => Some(Timestamp::from_millis(*millis));
    String => Cell::Text(text) => Some(text.clone());
    Uuid => Cell::Text(text) => text.parse().ok();
    IpAddr => Cell::Text(text) => text.parse().ok();
    Vec<u8> => Cell::Bytes(bytes) => Some(bytes.clone());
    Bytes => Cell::Bytes(bytes) => Some(Bytes::copy_from_slice(bytes));
    [u8; 32] => Cell::Bytes(bytes) => bytes.as_slice().try_into().ok();
    UpstreamId => Cell::Text(text) => text.parse().ok();
    ApiKeyId => Cell::Text(text) => text.parse().ok();
    AdminUserId => Cell::Text(text) => text.parse().ok();
    DefinitionId => Cell::Text(text) => text.parse().ok();
    RuleId => Cell::Text(text) => text.parse().ok();
    AuditEventId => Cell::Text(text) => text.parse().ok();
    TokenId => Cell::Text(text) => text.parse().ok();
    XiaozhiEndpointId => Cell::Text(text) => text.parse().ok();
}

impl rusqlite::ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// A cell was given for a parameter of another type: a defect in a statement.
#[derive(Debug, thiserror::Error)]
#[error("a parameter of type {0} was given another type")]
struct WrongType(Type);

impl ToSql for Cell {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Integer(number) if *ty == Type::INT8 => out.put_i64(*number),
            Self::Text(text) if *ty == Type::TEXT => out.put_slice(text.as_bytes()),
            Self::Bytes(bytes) if *ty == Type::BYTEA => out.put_slice(bytes),
            _ => return Err(Box::new(WrongType(ty.clone()))),
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::BYTEA].contains(ty)
    }

    to_sql_checked!();
}
