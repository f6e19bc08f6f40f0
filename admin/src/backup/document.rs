//! Writing a backup: what the store says, as a document.

use std::collections::BTreeMap;

use proxy::pinning;
use serde_json::{Value, json};
use sql::model::{
    AliasRule, ApiKey, Claim, ConnParams, FilterRule, Kind, Pin, Secret, Settings, Timestamp, Upstream,
    Value as Stored, XiaozhiEndpoint,
};
use sql::{StoreError, Tx, api_keys, names, pins, rules, settings, upstreams, xiaozhi_endpoints};

use super::envelope::{self, NotOpened};
use super::{DIGEST, FORMAT, digest, hex};
use crate::api::{keys, rules as rule_api, upstreams as upstream_api, xiaozhi};
use crate::fields::pointer_to;

/// What a backup is made of, read in one transaction.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Contents {
    pub(crate) settings: Option<Settings>,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) keys: Vec<ApiKey>,
    pub(crate) aliases: Vec<AliasRule>,
    pub(crate) filters: Vec<FilterRule>,
    pub(crate) names: Vec<Claim>,
    pub(crate) pins: Vec<Pin>,
    pub(crate) xiaozhi: Vec<XiaozhiEndpoint>,
}

impl Contents {
    /// Everything that is stored.
    pub(crate) async fn load(tx: &mut Tx) -> Result<Self, StoreError> {
        let mut contents = Self {
            settings: settings::load(tx).await?.map(|(settings, _)| settings),
            upstreams: upstreams::list(tx).await?,
            keys: api_keys::list(tx).await?,
            pins: pins::all(tx).await?,
            xiaozhi: xiaozhi_endpoints::list(tx).await?,
            ..Self::default()
        };
        for owner in rules::all(tx).await?.owners.into_values() {
            contents.aliases.extend(owner.aliases);
            contents.filters.extend(owner.filters);
        }
        for kind in Kind::ALL {
            contents.names.extend(names::claims(tx, *kind).await?);
        }
        Ok(contents)
    }
}

/// The document, its secrets sealed if there is a passphrase. Takes a noticeable time then.
pub(crate) fn document(
    contents: &Contents,
    version: &str,
    now: Timestamp,
    passphrase: Option<&Secret<String>>,
) -> Result<Value, NotOpened> {
    let mut document = json!({
        "format": FORMAT,
        "createdAt": now,
        "gateway": version,
        "settings": contents.settings.as_ref().map(Settings::document),
        "upstreams": contents.upstreams.iter().map(upstream).collect::<Vec<_>>(),
        "keys": contents.keys.iter().map(key).collect::<Vec<_>>(),
        "aliasRules": contents.aliases.iter().map(|rule| stamped(rule_api::settable(rule), rule.id, rule.created_at)).collect::<Vec<_>>(),
        "filterRules": contents.filters.iter().map(|rule| stamped(rule_api::settable(rule), rule.id, rule.created_at)).collect::<Vec<_>>(),
        "names": contents.names.iter().map(name).collect::<Vec<_>>(),
        "pins": contents.pins.iter().map(|pin| agreed(pin, &contents.upstreams)).collect::<Vec<_>>(),
        "xiaozhi": contents.xiaozhi.iter().map(endpoint).collect::<Vec<_>>(),
    });
    let mut sealed = Value::Null;
    if let Some(passphrase) = passphrase {
        let secrets: BTreeMap<String, BTreeMap<String, &str>> = contents
            .upstreams
            .iter()
            .map(|upstream| (upstream.id.to_string(), secrets(upstream)))
            .filter(|(_, secrets)| !secrets.is_empty())
            .collect();
        let addresses: BTreeMap<String, &str> = contents
            .xiaozhi
            .iter()
            .map(|endpoint| (endpoint.id.to_string(), endpoint.url.expose().as_str()))
            .collect();
        let plain = json!({ "upstreams": secrets, "xiaozhi": addresses }).to_string();
        let plain = zeroize::Zeroizing::new(plain);
        let envelope = envelope::seal(plain.as_bytes(), passphrase, &digest(&document))?;
        sealed = json!(envelope);
    }
    document["secrets"] = sealed;
    document[DIGEST] = digest(&document).into();
    Ok(document)
}

fn stamped(mut body: Value, id: impl std::fmt::Display, created_at: Timestamp) -> Value {
    body["id"] = id.to_string().into();
    body["createdAt"] = json!(created_at);
    body
}

fn upstream(upstream: &Upstream) -> Value {
    stamped(upstream_api::settable(upstream), upstream.id, upstream.created_at)
}

fn key(key: &ApiKey) -> Value {
    let mut body = stamped(keys::settable(key), key.id, key.created_at);
    body["prefix"] = key.prefix.clone().into();
    body["hash"] = hex(&key.hash).into();
    body["previous"] = json!(
        key.previous.as_ref().map(|previous| json!({"hash": hex(&previous.hash), "until": previous.until}))
    );
    body
}

fn name(claim: &Claim) -> Value {
    json!({
        "kind": claim.kind.as_str(),
        "exposedName": claim.exposed_name,
        "upstreamId": claim.upstream_id,
        "upstreamName": claim.upstream_name,
        "wanted": claim.wanted,
    })
}

/// What was agreed to. Where the upstream was then isn't said as a fingerprint, which would let its secret
/// arguments be guessed: only whether it is still there.
fn agreed(pin: &Pin, upstreams: &[Upstream]) -> Value {
    let owner = upstreams.iter().find(|upstream| upstream.id == pin.upstream_id);
    json!({
        "upstreamId": pin.upstream_id,
        "kind": pin.kind.as_str(),
        "upstreamName": pin.upstream_name,
        "elsewhere": owner.is_none_or(|upstream| pinning::identity(upstream) != pin.identity),
        "pin": hex(&pin.pin),
        "approved": pin.approved.as_ref().map(|body| String::from_utf8_lossy(body).into_owned()),
        "review": pin.review,
        "foundAt": pin.found_at,
    })
}

/// An endpoint, a mark in place of its address: the token in it is all it takes.
fn endpoint(endpoint: &XiaozhiEndpoint) -> Value {
    let mut body = stamped(xiaozhi::settable(endpoint), endpoint.id, endpoint.created_at);
    body["url"] = super::secret_mark();
    body
}

/// The secrets of an upstream, by pointer into its body.
fn secrets(upstream: &Upstream) -> BTreeMap<String, &str> {
    let mut values: Vec<(String, &Stored)> = Vec::new();
    match &upstream.conn_params {
        ConnParams::Stdio { args, env, .. } => {
            values.extend(
                args.iter().enumerate().map(|(index, value)| (format!("/connParams/args/{index}"), value)),
            );
            values.extend(env.iter().map(|(name, value)| (pointer_to("/connParams/env", name), value)));
        }
        ConnParams::Http { headers, .. } => {
            values
                .extend(headers.iter().map(|(name, value)| (pointer_to("/connParams/headers", name), value)));
        }
    }
    let sealed =
        values.into_iter().filter(|(_, value)| value.is_secret()).map(|(at, value)| (at, value.expose()));
    let credential =
        upstream.credential.as_ref().map(|secret| ("/credential".to_owned(), secret.expose().as_str()));
    sealed.chain(credential).collect()
}
