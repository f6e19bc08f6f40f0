//! What the gateway remembers, as plain values: no driver, no runtime, no protocol.

pub(crate) mod closed_set;

pub mod admin_user;
pub mod api_key;
pub mod audit_event;
pub mod call_batch;
pub mod call_record;
pub mod definition;
pub mod field_error;
pub mod ids;
pub mod key_usage;
pub mod latencies;
pub mod oauth;
pub mod page;
pub mod pin;
pub mod rollup;
pub mod rule;
pub mod secret;
pub mod session;
pub mod settings;
pub mod time;
pub mod upstream;
pub mod xiaozhi_endpoint;

pub use self::admin_user::{AdminToken, AdminUser};
pub use self::api_key::{ApiKey, KeyMode, PlaintextKey, PreviousSecret, RateLimit};
pub use self::audit_event::{Actor, AuditEvent, Outcome};
pub use self::call_batch::{CallBatch, CallKind, MeasuredCall};
pub use self::call_record::{CallMethod, CallOutcome, CallRecord, CallRecordId, CallTransport};
pub use self::closed_set::UnknownWord;
pub use self::definition::{Claim, Definition, Era, Finding, Kind, ListDiff, ListState, UpstreamInfo};
pub use self::field_error::FieldError;
pub use self::ids::{
    AdminUserId, ApiKeyId, AuditEventId, DefinitionId, RuleId, TokenId, UpstreamId, XiaozhiEndpointId,
};
pub use self::key_usage::{KeyUsage, QuotaSpan};
pub use self::latencies::Latencies;
pub use self::oauth::{OAuthAuthorization, OAuthClient, OAuthGrant};
pub use self::page::{Page, PageRequest};
pub use self::pin::{Pin, Review};
pub use self::rollup::{Rollup, RollupSpan, Tally};
pub use self::rule::{
    AliasRule, DamagedRule, FilterAction, FilterRule, MatchOn, OwnerKind, OwnerRules, RuleKind, RuleKinds,
    RuleOwner,
};
pub use self::secret::Secret;
pub use self::session::{ClientSession, SessionState};
pub use self::settings::{Limits, Mode, Settings};
pub use self::time::Timestamp;
pub use self::upstream::{
    ConnParams, Isolation, NewUpstream, OnToolChange, Protocol, SyncSwitches, Transport, Upstream, Value,
};
pub use self::xiaozhi_endpoint::{XiaozhiEndpoint, XiaozhiFault, XiaozhiReport, XiaozhiState};
