//! One value on its way into a database ([`Cell`]) or out of it ([`Value`]).

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

/// A value as a row has it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    /// Nothing.
    Null,
    /// A number.
    Integer(i64),
    /// A text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// A type that a value can be read as; `None` if it is another.
pub(crate) trait FromValue: Sized {
    fn from_value(value: Value<'_>) -> Option<Self>;
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}

impl FromValue for Cell {
    fn from_value(value: Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Integer(number) => Self::Integer(number),
            Value::Text(text) => Self::Text(text.to_owned()),
            Value::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
        })
    }
}

macro_rules! from_value {
    ($($target:ty => $pattern:pat => $result:expr;)+) => {$(
        impl FromValue for $target {
            fn from_value(value: Value<'_>) -> Option<Self> {
                match value {
                    $pattern => $result,
                    _ => None,
                }
            }
        }
    )+};
}
from_value! {
    i64 => Value::Integer(number) => Some(number);
    u32 => Value::Integer(number) => u32::try_from(number).ok();
    u64 => Value::Integer(number) => u64::try_from(number).ok();
    bool => Value::Integer(number @ (0 | 1)) => Some(number == 1);
    Timestamp => Value::Integer(millis) => Some(Timestamp::from_millis(millis));
    String => Value::Text(text) => Some(text.to_owned());
    Uuid => Value::Text(text) => text.parse().ok();
    IpAddr => Value::Text(text) => text.parse().ok();
    Vec<u8> => Value::Bytes(bytes) => Some(bytes.to_vec());
    Bytes => Value::Bytes(bytes) => Some(Bytes::copy_from_slice(bytes));
    [u8; 32] => Value::Bytes(bytes) => bytes.try_into().ok();
    UpstreamId => Value::Text(text) => text.parse().ok();
    ApiKeyId => Value::Text(text) => text.parse().ok();
    AdminUserId => Value::Text(text) => text.parse().ok();
    DefinitionId => Value::Text(text) => text.parse().ok();
    RuleId => Value::Text(text) => text.parse().ok();
    AuditEventId => Value::Text(text) => text.parse().ok();
    TokenId => Value::Text(text) => text.parse().ok();
    XiaozhiEndpointId => Value::Text(text) => text.parse().ok();
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
