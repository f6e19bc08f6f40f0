//! Reading a backup: every value of it is checked by the parser that checks it when an admin writes it.

use std::collections::{BTreeMap, BTreeSet};

use proxy::pinning;
use serde::Deserialize;
use serde_json::{Map, Value};
use sql::model::{
    ApiKey, ApiKeyId, FieldError, Kind, Pin, PlaintextKey, PreviousSecret, Review, RuleOwner, Secret,
    Settings, Timestamp, Upstream, UpstreamId, XiaozhiEndpoint,
};

use super::envelope::{self, Envelope};
use super::{Contents, DIGEST, FORMAT, ITEMS_MAX, digest, unhex};
use crate::api::{keys, rules, upstreams, xiaozhi};
use crate::error::ApiError;
use crate::fields::{Fields, Problems, flag, parsed, pointer_to};

/// What a document has, and nothing else.
const MEMBERS: [&str; 13] = [
    "aliasRules",
    "createdAt",
    "filterRules",
    "format",
    "gateway",
    "keys",
    "names",
    "pins",
    "secrets",
    "settings",
    DIGEST,
    "upstreams",
    "xiaozhi",
];

/// A backup that was read and found to be in order.
#[derive(Debug)]
pub(crate) struct Backup {
    /// What it holds. An upstream lacks the secrets that nobody gave.
    pub(crate) contents: Contents,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// Which release made it.
    pub(crate) gateway: String,
    /// Whether its secrets were sealed in it, and opened.
    pub(crate) has_secrets: bool,
    /// The upstreams and endpoints, by name, whose secrets are neither in it nor stored: upstreams are restored
    /// without, endpoints are left out, since nothing is known of where they are.
    pub(crate) without_secrets: Vec<String>,
}

/// Everything that is wrong with a backup, by pointer into it.
pub(crate) type Refused = Vec<FieldError>;

/// What an envelope held.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opened {
    /// By upstream, and pointer into its body.
    upstreams: BTreeMap<String, BTreeMap<String, String>>,
    /// The address of each endpoint.
    xiaozhi: BTreeMap<String, String>,
}

/// Reads a document. `stored` has the secrets of what is there, for a backup that has none. Takes a noticeable
/// time if there is a passphrase.
pub(crate) fn read(
    document: Value,
    passphrase: Option<&Secret<String>>,
    stored: &Contents,
) -> Result<Backup, Refused> {
    let Value::Object(mut members) = document else {
        return Err(vec![FieldError::new("", "must be an object")]);
    };
    if members.get("format").and_then(Value::as_str) != Some(FORMAT) {
        return Err(vec![FieldError::new("/format", format!("must be {FORMAT}"))]);
    }
    let unknown = members.keys().filter(|name| !MEMBERS.contains(&name.as_str()));
    let missing = MEMBERS.iter().filter(|name| !members.contains_key(**name));
    let mut odd: Refused =
        unknown.map(|name| FieldError::new(pointer_to("", name), "is not a known member")).collect();
    odd.extend(missing.map(|name| FieldError::new(pointer_to("", name), "is required")));
    if !odd.is_empty() {
        return Err(odd);
    }
    let said = members.remove(DIGEST);
    let whole = Value::Object(members);
    if said.as_ref().and_then(Value::as_str) != Some(digest(&whole).as_str()) {
        return Err(vec![FieldError::new(
            pointer_to("", DIGEST),
            "is another one: the backup was altered or is not whole",
        )]);
    }
    let Value::Object(mut members) = whole else { return Err(Vec::new()) };
    let sealed = members.remove("secrets").filter(|sealed| !sealed.is_null());
    let rest = Value::Object(members);
    let opened = sealed.map(|sealed| open(sealed, passphrase, &digest(&rest))).transpose()?;
    let Value::Object(members) = rest else { return Err(Vec::new()) };
    contents(members, opened, stored)
}

fn open(sealed: Value, passphrase: Option<&Secret<String>>, bound_to: &str) -> Result<Opened, Refused> {
    let refused = |message: String| vec![FieldError::new("/secrets", message)];
    let envelope: Envelope =
        serde_json::from_value(sealed).map_err(|_| refused("isn't an envelope of this form".into()))?;
    let Some(passphrase) = passphrase else {
        return Err(refused("are sealed: the passphrase is required".into()));
    };
    let plain =
        envelope::open(&envelope, passphrase, bound_to).map_err(|error| refused(error.to_string()))?;
    serde_json::from_slice(&plain).map_err(|_| refused("aren't of this form".into()))
}

struct Reader<'a> {
    problems: Problems,
    opened: Option<Opened>,
    stored: &'a Contents,
    without_secrets: Vec<String>,
}

fn contents(
    mut members: Map<String, Value>,
    opened: Option<Opened>,
    stored: &Contents,
) -> Result<Backup, Refused> {
    let has_secrets = opened.is_some();
    let mut reader = Reader { problems: Problems::default(), opened, stored, without_secrets: Vec::new() };
    let mut take = |name: &str| members.remove(name).unwrap_or_default();
    let settings = reader.settings(&take("settings"));
    let upstreams = reader.list(take("upstreams"), "upstreams", Reader::upstream);
    let keys = reader.list(take("keys"), "keys", Reader::key);
    let aliases = reader.list(take("aliasRules"), "aliasRules", |reader, pointer, body| {
        reader.rule(pointer, body, rules::restored_alias)
    });
    let filters = reader.list(take("filterRules"), "filterRules", |reader, pointer, body| {
        reader.rule(pointer, body, rules::restored_filter)
    });
    let names = reader.list(take("names"), "names", Reader::name);
    let pins =
        reader.list(take("pins"), "pins", |reader, pointer, body| reader.pin(pointer, body, &upstreams));
    let xiaozhi = reader.list(take("xiaozhi"), "xiaozhi", Reader::endpoint);
    let created_at = parsed::<Timestamp>(take("createdAt"));
    let gateway = take("gateway").as_str().map(str::to_owned);
    let contents = Contents { settings, upstreams, keys, aliases, filters, names, pins, xiaozhi };
    reader.refer(&contents);
    if let Err(message) = &created_at {
        reader.problems.add("/createdAt", message.clone());
    }
    if gateway.is_none() {
        reader.problems.add("/gateway", "must be a text");
    }
    let Reader { problems, without_secrets, .. } = reader;
    let made = created_at.ok().zip(gateway);
    let (created_at, gateway) = problems.unless_any(made).map_err(field_errors)?;
    Ok(Backup { contents, created_at, gateway, has_secrets, without_secrets })
}

fn field_errors(error: ApiError) -> Refused {
    match error {
        ApiError::Invalid(errors) => errors,
        error => vec![FieldError::new("", error.to_string())],
    }
}

impl Reader<'_> {
    fn settings(&mut self, value: &Value) -> Option<Settings> {
        if value.is_null() {
            return None;
        }
        match Settings::default().merge_patch(value) {
            Ok(settings) => Some(settings),
            Err(errors) => {
                self.extend("/settings", errors);
                None
            }
        }
    }

    fn extend(&mut self, pointer: &str, errors: Refused) {
        let below = |error: FieldError| FieldError::new(format!("{pointer}{}", error.pointer), error.message);
        self.problems.extend(errors.into_iter().map(below));
    }

    fn list<T>(
        &mut self,
        value: Value,
        name: &str,
        mut item: impl FnMut(&mut Self, &str, Map<String, Value>) -> Option<T>,
    ) -> Vec<T> {
        let pointer = pointer_to("", name);
        let Value::Array(values) = value else {
            self.problems.add(pointer, "must be a list");
            return Vec::new();
        };
        if values.len() > ITEMS_MAX {
            self.problems.add(pointer, format!("must have at most {ITEMS_MAX} items"));
            return Vec::new();
        }
        let mut items = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            let at = format!("{pointer}/{index}");
            match value {
                Value::Object(body) => items.extend(item(self, &at, body)),
                _ => self.problems.add(at, "must be an object"),
            }
        }
        items
    }

    /// A member that some type can read.
    fn taken<T>(&mut self, pointer: &str, body: &mut Map<String, Value>, name: &str) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let read = parsed(body.remove(name).unwrap_or_default());
        read.map_err(|message| self.problems.add(pointer_to(pointer, name), message)).ok()
    }

    fn hash(&mut self, pointer: &str, value: Option<&Value>) -> Option<[u8; 32]> {
        let hash = value.and_then(Value::as_str).and_then(unhex).and_then(|bytes| bytes.try_into().ok());
        if hash.is_none() {
            self.problems.add(pointer, "must be SHA-256 in hex");
        }
        hash
    }

    fn upstream(&mut self, pointer: &str, mut body: Map<String, Value>) -> Option<Upstream> {
        let id = self.taken(pointer, &mut body, "id")?;
        let created_at = self.taken(pointer, &mut body, "createdAt")?;
        let mut body = Value::Object(body);
        // A secret is for one place: what names another is given none that is stored.
        let stored = self.stored.upstreams.iter().find(|stored| stored.id == id && is_for(stored, &body));
        if let Some(opened) = &self.opened {
            for (at, secret) in opened.upstreams.get(&id.to_string()).into_iter().flatten() {
                match body.pointer_mut(at) {
                    Some(place) if at == "/credential" => *place = secret.as_str().into(),
                    Some(place) => *place = serde_json::json!({ "secret": secret }),
                    None => self.problems.add("/secrets", "have a place that the backup doesn't"),
                }
            }
        }
        let read = upstreams::restored(body.clone(), stored).or_else(|_| {
            // What is neither in the backup nor stored is left empty, and said.
            let mut emptied = body;
            if without(&mut emptied) {
                let name = emptied["name"].as_str().unwrap_or_default().to_owned();
                self.without_secrets.push(name);
            }
            upstreams::restored(emptied, None)
        });
        match read {
            Ok(new) => Some(Upstream::create(new, id, created_at)),
            Err(error) => {
                self.extend(pointer, field_errors(error));
                None
            }
        }
    }

    fn key(&mut self, pointer: &str, mut body: Map<String, Value>) -> Option<ApiKey> {
        let id: ApiKeyId = self.taken(pointer, &mut body, "id")?;
        let created_at = self.taken(pointer, &mut body, "createdAt")?;
        let prefix: String = self.taken(pointer, &mut body, "prefix")?;
        if prefix.len() != 12 || !prefix.starts_with("mpg_") || !prefix.is_ascii() {
            self.problems.add(pointer_to(pointer, "prefix"), "must be the first 12 characters of a key");
        }
        let hash = self.hash(&pointer_to(pointer, "hash"), body.remove("hash").as_ref())?;
        let previous = match body.remove("previous") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let at = pointer_to(pointer, "previous");
                let mut fields = Fields::open(value, &at, &mut self.problems)?;
                let until = fields.required("until", &mut self.problems, parsed);
                let hash = fields.take("hash");
                fields.close(&mut self.problems);
                let hash = self.hash(&pointer_to(&at, "hash"), hash.as_ref())?;
                Some(PreviousSecret { hash, until: until? })
            }
        };
        let blank = ApiKey::create(id, "", &PlaintextKey::generate(), created_at);
        match keys::declared(Value::Object(body), blank) {
            Ok(key) => Some(ApiKey { prefix, hash, previous, ..key }),
            Err(error) => {
                self.extend(pointer, field_errors(error));
                None
            }
        }
    }

    fn rule<R>(
        &mut self,
        pointer: &str,
        mut body: Map<String, Value>,
        read: fn(Value, sql::model::RuleId, Timestamp) -> Result<R, ApiError>,
    ) -> Option<R> {
        let id = self.taken(pointer, &mut body, "id")?;
        let created_at = self.taken(pointer, &mut body, "createdAt")?;
        match read(Value::Object(body), id, created_at) {
            Ok(rule) => Some(rule),
            Err(error) => {
                self.extend(pointer, field_errors(error));
                None
            }
        }
    }

    fn name(&mut self, pointer: &str, body: Map<String, Value>) -> Option<sql::model::Claim> {
        let mut fields = Fields::open(Value::Object(body), pointer, &mut self.problems)?;
        let problems = &mut self.problems;
        let kind = fields.required("kind", problems, parsed::<Kind>);
        let exposed_name = fields.required("exposedName", problems, item_name);
        let upstream_id = fields.required("upstreamId", problems, parsed);
        let upstream_name = fields.required("upstreamName", problems, item_name);
        let wanted = fields.required("wanted", problems, item_name);
        fields.close(problems);
        Some(sql::model::Claim {
            kind: kind?,
            exposed_name: exposed_name?,
            upstream_id: upstream_id?,
            upstream_name: upstream_name?,
            wanted: wanted?,
        })
    }

    /// An endpoint; one whose address nobody knows is left out.
    fn endpoint(&mut self, pointer: &str, mut body: Map<String, Value>) -> Option<XiaozhiEndpoint> {
        let id = self.taken(pointer, &mut body, "id")?;
        let created_at = self.taken(pointer, &mut body, "createdAt")?;
        if body.get("url") != Some(&super::secret_mark()) {
            self.problems.add(pointer_to(pointer, "url"), "must be the mark of a secret");
            return None;
        }
        let stored = self.stored.xiaozhi.iter().find(|endpoint| endpoint.id == id);
        let sealed = self.opened.as_ref().and_then(|opened| opened.xiaozhi.get(&id.to_string()));
        let Some(url) = sealed.or(stored.map(|endpoint| endpoint.url.expose())) else {
            self.without_secrets
                .push(body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned());
            return None;
        };
        body.insert("url".into(), url.as_str().into());
        let nobody = ApiKeyId::at(created_at);
        let blank = XiaozhiEndpoint::create(id, "", String::new().into(), nobody, created_at);
        match xiaozhi::declared(Value::Object(body), &blank) {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                self.extend(pointer, field_errors(error));
                None
            }
        }
    }

    fn pin(&mut self, pointer: &str, body: Map<String, Value>, upstreams: &[Upstream]) -> Option<Pin> {
        let mut fields = Fields::open(Value::Object(body), pointer, &mut self.problems)?;
        let problems = &mut self.problems;
        let upstream_id = fields.required("upstreamId", problems, parsed::<UpstreamId>);
        let kind = fields.required("kind", problems, parsed::<Kind>);
        let upstream_name = fields.required("upstreamName", problems, item_name);
        let elsewhere = fields.required("elsewhere", problems, flag);
        let approved = fields.optional("approved", problems, |value| match value {
            Value::String(text) => Ok(text),
            _ => Err("must be a text".to_owned()),
        });
        let review = fields.optional("review", problems, parsed::<Review>);
        let found_at = fields.optional("foundAt", problems, parsed::<Timestamp>);
        let pin = fields.take("pin");
        fields.close(problems);
        let pin = self.hash(&pointer_to(pointer, "pin"), pin.as_ref())?;
        let upstream_id = upstream_id?;
        let owner = upstreams.iter().find(|upstream| upstream.id == upstream_id);
        // What was agreed to elsewhere stays so: no upstream has this identity.
        let identity = owner.filter(|_| elsewhere == Some(false)).map_or([0; 32], pinning::identity);
        Some(Pin {
            upstream_id,
            kind: kind?,
            upstream_name: upstream_name?,
            identity,
            pin,
            approved: approved.map(Into::into),
            review,
            found_at,
        })
    }

    /// Whether everything that refers to something refers to something in the backup, and nothing is there twice.
    fn refer(&mut self, contents: &Contents) {
        let upstreams: BTreeSet<_> = contents.upstreams.iter().map(|upstream| upstream.id).collect();
        let keys: BTreeSet<_> = contents.keys.iter().map(|key| key.id).collect();
        let names = |all: Vec<&str>| all.len() == all.iter().collect::<BTreeSet<_>>().len();
        for (pointer, unique) in [
            (
                "/upstreams",
                upstreams.len() == contents.upstreams.len()
                    && names(contents.upstreams.iter().map(|one| one.name.as_str()).collect()),
            ),
            (
                "/keys",
                keys.len() == contents.keys.len()
                    && names(contents.keys.iter().map(|one| one.name.as_str()).collect()),
            ),
            (
                "/xiaozhi",
                contents.xiaozhi.iter().map(|one| one.id).collect::<BTreeSet<_>>().len()
                    == contents.xiaozhi.len()
                    && names(contents.xiaozhi.iter().map(|one| one.name.as_str()).collect()),
            ),
        ] {
            if !unique {
                self.problems.add(pointer, "has an id or a name twice");
            }
        }
        let hashes: BTreeSet<_> = contents.keys.iter().map(|key| key.hash).collect();
        if hashes.len() != contents.keys.len() {
            self.problems.add("/keys", "has a secret twice");
        }
        let known = |owner: RuleOwner| match owner {
            RuleOwner::All => true,
            RuleOwner::Upstream(id) => upstreams.contains(&id),
            RuleOwner::Key(id) => keys.contains(&id),
        };
        let aliases = contents.aliases.iter().map(|rule| ("/aliasRules", rule.id, rule.owner));
        let filters = contents.filters.iter().map(|rule| ("/filterRules", rule.id, rule.owner));
        let mut ids = BTreeSet::new();
        for (pointer, id, owner) in aliases.chain(filters) {
            if !known(owner) {
                self.problems.add(pointer, "has a rule of an owner that isn't in the backup");
            }
            if !ids.insert((pointer, id)) {
                self.problems.add(pointer, "has an id twice");
            }
        }
        let mut pinned = BTreeSet::new();
        for pin in &contents.pins {
            if !upstreams.contains(&pin.upstream_id) {
                self.problems.add("/pins", "has a pin of an upstream that isn't in the backup");
            }
            if !pinned.insert((pin.kind, pin.upstream_id, &pin.upstream_name)) {
                self.problems.add("/pins", "has an item twice");
            }
        }
        let mut claimed = BTreeSet::new();
        let mut items = BTreeSet::new();
        for claim in &contents.names {
            let item = (claim.kind, claim.upstream_id, &claim.upstream_name);
            if !upstreams.contains(&claim.upstream_id) {
                self.problems.add("/names", "has a name of an upstream that isn't in the backup");
            }
            if !claimed.insert((claim.kind, &claim.exposed_name)) || !items.insert(item) {
                self.problems.add("/names", "has a name or an item twice");
            }
        }
    }
}

/// What an item may be called.
fn item_name(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) if sql::model::definition::is_storable_name(&text) => Ok(text),
        _ => Err("must be a name".to_owned()),
    }
}

/// Whether a body goes where a stored upstream does: to the same address, or by the same command.
fn is_for(stored: &Upstream, body: &Value) -> bool {
    let stored = upstreams::settable(stored);
    ["/transport", "/connParams/url", "/connParams/command", "/connParams/args"]
        .iter()
        .all(|at| stored.pointer(at) == body.pointer(at))
}

/// Empties what stands for a secret, and says whether there was any.
fn without(body: &mut Value) -> bool {
    let placeholder = super::secret_mark();
    let mut emptied = false;
    if body["credential"] == placeholder {
        body["credential"] = Value::Null;
        emptied = true;
    }
    for member in ["args", "env", "headers"] {
        let Some(values) = body.get_mut("connParams").and_then(|params| params.get_mut(member)) else {
            continue;
        };
        let values: Vec<&mut Value> = match values {
            Value::Array(values) => values.iter_mut().collect(),
            Value::Object(values) => values.values_mut().collect(),
            _ => Vec::new(),
        };
        for value in values.into_iter().filter(|value| **value == placeholder) {
            *value = serde_json::json!({"secret": ""});
            emptied = true;
        }
    }
    emptied
}
