//! Reading an upstream from a body: a whole one, or a merge patch on a stored one.
//!
//! There is one parser. A patch is applied to what the client would have written for the stored
//! upstream ([`wire::settable`]), and the result is read like a new one, with the stored secrets at
//! hand for the placeholders in it.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use sql::model::{Isolation, NewUpstream, Secret, SyncSwitches, Timestamp, Transport, Upstream, UpstreamId};
use utoipa::ToSchema;

use super::{conn_params, wire};
use crate::App;
use crate::doc;
use crate::error::ApiError;
use crate::fields::{self, Fields, Problems, flag, integer, parsed, text};
use crate::merge::merge;

/// The longest credential, in characters: a signed token with many claims has some 4,000.
const CREDENTIAL_CHARS_MAX: usize = 16_384;

/// Tags are for people; more than this nobody reads.
const TAGS_MAX: usize = 20;

/// The largest place in the order, either way.
const SORT_ORDER_MAX: i64 = 1_000_000_000;

/// The longest idle time of a call, as for the setting.
const CALL_TIMEOUT_S_MAX: u32 = 3_600;

/// The longest prefix: half of the shortest `naming.length_max` that makes sense.
const NAME_PREFIX_CHARS_MAX: usize = 32;

/// An upstream as a client writes it.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewUpstream)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct UpstreamBody {
    /// Unique, 1 to 100 characters.
    name: String,
    /// How it is spoken to; `sse` is the HTTP+SSE of 2024-11-05.
    #[schema(schema_with = doc::transport)]
    transport: Transport,
    /// How it is reached.
    conn_params: ConnParamsBody,
    /// What `${credential}` stands for; without it in `connParams`, it is sent as a bearer token.
    credential: Option<String>,
    /// Whether it is connected and its lists are shown; true if not said.
    enabled: Option<bool>,
    /// Its place among the upstreams; the last if not said.
    sort_order: Option<i64>,
    /// Whether the schedule syncs it; true if not said.
    auto_sync: Option<bool>,
    /// What stands before its exposed names.
    name_prefix: Option<String>,
    /// Who shares a session with it: everyone, the clients of one key, or nobody; `shared` if not said.
    #[schema(schema_with = doc::isolation)]
    isolation: Option<Isolation>,
    /// Which era of the protocol it is spoken to in; `auto` if not said.
    #[schema(schema_with = doc::protocol)]
    protocol: Option<sql::model::Protocol>,
    /// The longest silence of a call, 1 to 3,600; the setting if not said.
    call_timeout_s: Option<u32>,
    /// Words to find it by.
    tags: Option<Vec<String>>,
    /// What happens when a definition changes; `allow` if not said.
    #[schema(schema_with = doc::on_tool_change)]
    on_tool_change: Option<sql::model::OnToolChange>,
    /// Whether invisible characters, comments and words for models alone are stripped from its definitions; false if not said.
    sanitize: Option<bool>,
    /// Which lists are fetched; all if not said.
    sync: Option<SyncBody>,
}

/// A merge patch (RFC 7396) on an upstream: absent fields stay, `null` brings back the default or
/// clears. With another `transport`, `connParams` starts empty.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UpstreamPatch)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct UpstreamPatch {
    /// Unique, 1 to 100 characters.
    name: Option<String>,
    /// How it is spoken to.
    #[schema(schema_with = doc::transport)]
    transport: Option<Transport>,
    /// How it is reached. `{"secret": true}` keeps a stored secret.
    conn_params: Option<ConnParamsBody>,
    /// Absent keeps it, `null` clears it.
    credential: Option<String>,
    /// Whether it is connected and its lists are shown.
    enabled: Option<bool>,
    /// Its place among the upstreams.
    sort_order: Option<i64>,
    /// Whether the schedule syncs it.
    auto_sync: Option<bool>,
    /// What stands before its exposed names.
    name_prefix: Option<String>,
    /// Who shares a session.
    #[schema(schema_with = doc::isolation)]
    isolation: Option<Isolation>,
    /// Which era of the protocol it is spoken to in.
    #[schema(schema_with = doc::protocol)]
    protocol: Option<sql::model::Protocol>,
    /// The longest silence of a call.
    call_timeout_s: Option<u32>,
    /// Words to find it by.
    tags: Option<Vec<String>>,
    /// What happens when a definition changes.
    #[schema(schema_with = doc::on_tool_change)]
    on_tool_change: Option<sql::model::OnToolChange>,
    /// Whether invisible characters, comments and words for models alone are stripped from its definitions.
    sanitize: Option<bool>,
    /// Which lists are fetched.
    sync: Option<SyncBody>,
}

/// `command`, `args`, `env` and `cwd` for stdio; `url` and `headers` for the others.
#[derive(ToSchema)]
#[schema(as = ConnParams)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct ConnParamsBody {
    /// The program; never passed through a shell.
    command: Option<String>,
    /// Its arguments.
    args: Option<Vec<ConnValue>>,
    /// What its environment holds besides the basics.
    env: Option<BTreeMap<String, ConnValue>>,
    /// Its working directory, absolute.
    cwd: Option<String>,
    /// An address with scheme `http` or `https`, without user and fragment; for `websocket` also `ws` or `wss`.
    url: Option<String>,
    /// Headers sent with each request.
    headers: Option<BTreeMap<String, ConnValue>>,
}

/// A text, or a secret that is sealed and never shown again.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) enum ConnValue {
    /// Shown to admins; may hold `${credential}`.
    Plain(String),
    /// Sealed.
    Secret(SecretValue),
}

/// A secret.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct SecretValue {
    /// The secret itself, when it is set. Answers have `true`; sent back, that keeps what is stored.
    secret: SecretOrKept,
}

/// A new secret, or `true` for the stored one.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) enum SecretOrKept {
    /// The secret.
    New(String),
    /// Always `true`.
    Kept(bool),
}

/// Which lists are fetched.
#[derive(ToSchema)]
#[schema(as = SyncSwitches)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct SyncBody {
    /// Tools; true if not said.
    tools: Option<bool>,
    /// Prompts; true if not said.
    prompts: Option<bool>,
    /// Resources and their templates; true if not said.
    resources: Option<bool>,
}

/// What was read.
pub(super) struct Input {
    /// The upstream; its place is 0 if the body doesn't say one.
    pub(super) new: NewUpstream,
    /// Whether the body says its place.
    pub(super) placed: bool,
}

/// Reads a whole upstream. `stored` has the secrets that placeholders keep.
pub(super) fn parse(app: &App, value: Json, stored: Option<&Upstream>) -> Result<Input, ApiError> {
    let mut problems = Problems::default();
    let input = read(value, stored, &mut problems);
    if let Some(input) = &input {
        // Asked even when other fields are wrong, so that all is said at once; looks nothing up.
        let nowhere = UpstreamId::from_uuid(uuid::Uuid::nil());
        let upstream = Upstream::create(input.new.clone(), nowhere, Timestamp::from_millis(0));
        problems.extend(app.control.check_spec(&upstream));
    }
    problems.unless_any(input)
}

/// Reads a whole upstream without asking the data plane's policy.
pub(super) fn parse_unasked(value: Json) -> Result<Input, ApiError> {
    parse_over(value, None)
}

/// The same, with the stored upstream that has what placeholders stand for.
pub(super) fn parse_over(value: Json, stored: Option<&Upstream>) -> Result<Input, ApiError> {
    let mut problems = Problems::default();
    let input = read(value, stored, &mut problems);
    problems.unless_any(input)
}

/// Reads a merge patch on `stored`.
pub(super) fn parse_patch(app: &App, patch: Json, stored: &Upstream) -> Result<NewUpstream, ApiError> {
    let Json::Object(patch) = patch else {
        return Err(ApiError::field("", "must be an object"));
    };
    let mut whole = wire::settable(stored);
    let moves = patch.get("transport").is_some_and(|transport| *transport != whole["transport"]);
    if moves {
        // What reached it by one transport says nothing about another.
        whole["connParams"] = Json::Object(Map::new());
    }
    merge(&mut whole, Json::Object(patch));
    let stored_place = stored.sort_order;
    let input = parse(app, whole, Some(stored))?;
    let sort_order = if input.placed { input.new.sort_order } else { stored_place };
    Ok(NewUpstream { sort_order, ..input.new })
}

fn read(value: Json, stored: Option<&Upstream>, problems: &mut Problems) -> Option<Input> {
    let mut fields = Fields::open(value, "", problems)?;
    let name = fields.required("name", problems, fields::name(1..=100));
    let transport = fields.required("transport", problems, parsed);
    let conn_params = if let Some(transport) = transport {
        conn_params::read(&mut fields, transport, stored, problems)
    } else {
        // Without a transport nobody knows what they should be.
        fields.take("connParams");
        None
    };
    let credential = credential(&mut fields, stored, problems);
    let sort_order = fields.optional("sortOrder", problems, integer(-SORT_ORDER_MAX..=SORT_ORDER_MAX));
    let placed = sort_order.is_some();
    let defaults = NewUpstream::named("", Transport::Stdio, conn_params::nowhere());
    let rest = NewUpstream {
        enabled: fields.optional("enabled", problems, flag).unwrap_or(defaults.enabled),
        sort_order: sort_order.unwrap_or(defaults.sort_order),
        auto_sync: fields.optional("autoSync", problems, flag).unwrap_or(defaults.auto_sync),
        name_prefix: fields.optional("namePrefix", problems, name_prefix).unwrap_or_default(),
        isolation: fields.optional("isolation", problems, parsed).unwrap_or(defaults.isolation),
        protocol: fields.optional("protocol", problems, parsed).unwrap_or(defaults.protocol),
        call_timeout_s: fields.optional("callTimeoutS", problems, integer(1..=CALL_TIMEOUT_S_MAX)),
        tags: tags(&mut fields, problems).unwrap_or_default(),
        on_tool_change: fields.optional("onToolChange", problems, parsed).unwrap_or(defaults.on_tool_change),
        sanitize: fields.optional("sanitize", problems, flag).unwrap_or(defaults.sanitize),
        sync: sync(&mut fields, problems).unwrap_or_default(),
        credential,
        ..defaults
    };
    fields.close(problems);
    let new = NewUpstream {
        name: name.unwrap_or_default(),
        transport: transport?,
        conn_params: conn_params?,
        ..rest
    };
    Some(Input { new, placed })
}

fn credential(
    fields: &mut Fields,
    stored: Option<&Upstream>,
    problems: &mut Problems,
) -> Option<Secret<String>> {
    fields.optional("credential", problems, |value| match value {
        value if value == wire::placeholder() => stored
            .and_then(|upstream| upstream.credential.clone())
            .ok_or_else(|| "no credential is stored that could be kept".to_owned()),
        value => text(1..=CREDENTIAL_CHARS_MAX)(value).map(Secret::new),
    })
}

fn name_prefix(value: Json) -> Result<String, String> {
    let prefix = text(0..=NAME_PREFIX_CHARS_MAX)(value)?;
    let fits = prefix.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if fits { Ok(prefix) } else { Err("must have letters, digits, _, . and - only".into()) }
}

fn tags(fields: &mut Fields, problems: &mut Problems) -> Option<Vec<String>> {
    let pointer = fields.at("tags");
    let value = fields.take("tags")?;
    let tags = fields::list(value, &pointer, TAGS_MAX, problems, |value, pointer, problems| {
        fields::name(1..=40)(value).map_err(|message| problems.add(pointer, message)).ok()
    })?;
    let mut seen = std::collections::HashSet::new();
    for (index, tag) in tags.iter().enumerate() {
        if !seen.insert(tag) {
            problems.add(format!("{pointer}/{index}"), "is there already");
        }
    }
    Some(tags)
}

fn sync(fields: &mut Fields, problems: &mut Problems) -> Option<SyncSwitches> {
    let pointer = fields.at("sync");
    let mut switches = Fields::open(fields.take("sync")?, &pointer, problems)?;
    let mut switch = |name| switches.optional(name, problems, flag).unwrap_or(true);
    let read =
        SyncSwitches { tools: switch("tools"), prompts: switch("prompts"), resources: switch("resources") };
    switches.close(problems);
    Some(read)
}
