//! Schemas of values that the model owns, for the OpenAPI document.

use proxy::control::{ConnectionState, OAuthState};
use proxy::jobs::JobOutcome;
use serde_json::Value;
use sql::audit_log::Fault;
use sql::model::{
    CallMethod, CallOutcome, CallTransport, Era, FilterAction, Isolation, KeyMode, Kind, MatchOn, Mode,
    OnToolChange, Outcome, OwnerKind, Protocol, Review, RuleKind, Transport, XiaozhiFault,
};
use utoipa::openapi::schema::{Array, ArrayBuilder, Object, ObjectBuilder, SchemaType, Type};

use crate::api::xiaozhi;

fn words(words: &'static [&'static str]) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.iter().copied())).build()
}

/// One of the words, or null, which is there where there is none.
fn words_or_null(words: &'static [&'static str]) -> Object {
    let kinds = SchemaType::from_iter([Type::String, Type::Null]);
    let values = words.iter().copied().map(Value::from).chain([Value::Null]);
    ObjectBuilder::new().schema_type(kinds).enum_values(Some(values)).build()
}

pub(crate) fn transport() -> Object {
    words(Transport::WORDS)
}

pub(crate) fn isolation() -> Object {
    words(Isolation::WORDS)
}

pub(crate) fn protocol() -> Object {
    words(Protocol::WORDS)
}

pub(crate) fn on_tool_change() -> Object {
    words(OnToolChange::WORDS)
}

pub(crate) fn key_mode() -> Object {
    words(KeyMode::WORDS)
}

pub(crate) fn kind() -> Object {
    words(Kind::WORDS)
}

pub(crate) fn owner_kind() -> Object {
    words(OwnerKind::WORDS)
}

pub(crate) fn match_on() -> Object {
    words(MatchOn::WORDS)
}

pub(crate) fn filter_action() -> Object {
    words(FilterAction::WORDS)
}

pub(crate) fn rule_kind() -> Object {
    words(RuleKind::WORDS)
}

pub(crate) fn rule_kinds() -> Array {
    ArrayBuilder::new().items(words(RuleKind::WORDS)).build()
}

pub(crate) fn outcome() -> Object {
    words(Outcome::WORDS)
}

pub(crate) fn audit_fault() -> Object {
    words_or_null(Fault::WORDS)
}

pub(crate) fn review() -> Object {
    words(Review::WORDS)
}

pub(crate) fn review_or_none() -> Object {
    words_or_null(Review::WORDS)
}

pub(crate) fn call_method() -> Object {
    words(CallMethod::WORDS)
}

pub(crate) fn call_outcome() -> Object {
    words(CallOutcome::WORDS)
}

pub(crate) fn call_transport() -> Object {
    words(CallTransport::WORDS)
}

pub(crate) fn era() -> Object {
    words(Era::WORDS)
}

pub(crate) fn mode() -> Object {
    words(Mode::WORDS)
}

pub(crate) fn job_outcome() -> Object {
    words_or_null(JobOutcome::WORDS)
}

pub(crate) fn connection_state() -> Object {
    words(ConnectionState::WORDS)
}

pub(crate) fn oauth_state() -> Object {
    words(OAuthState::WORDS)
}

pub(crate) fn xiaozhi_state() -> Object {
    words(&xiaozhi::STATES)
}

pub(crate) fn xiaozhi_fault() -> Object {
    words_or_null(XiaozhiFault::WORDS)
}
