//! What an admin agreed to of an upstream's definitions, and what is different since (threat T22).
//!
//! A fingerprint is of what a model acts on, in a canonical form: another order of members or other whitespace is
//! the same. A pin outlives its definition, so that one that goes and comes back changed has changed, and it is
//! bound to where the upstream is. What was there before anybody looked is trusted as it was found. Pure but for
//! the fingerprints' hashes.

use std::collections::{HashMap, HashSet};

use ring::digest::{Context, SHA256, digest};
use serde_json::{Map, Value};
use sql::model::{ConnParams, Definition, Kind, ListDiff, Pin, Review, Timestamp, Upstream};

/// What a model acts on of a tool.
const OF_TOOL: [&str; 6] = ["name", "title", "description", "inputSchema", "outputSchema", "annotations"];
/// The same of a prompt.
const OF_PROMPT: [&str; 4] = ["name", "title", "description", "arguments"];
/// The same of a resource.
const OF_RESOURCE: [&str; 6] = ["uri", "name", "title", "description", "mimeType", "annotations"];
/// The same of a template.
const OF_TEMPLATE: [&str; 6] = ["uriTemplate", "name", "title", "description", "mimeType", "annotations"];

/// The largest whole number that a JSON reader may take for exact.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The members of a definition that a model acts on, its name first.
pub fn fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Tool => &OF_TOOL,
        Kind::Prompt => &OF_PROMPT,
        Kind::Resource => &OF_RESOURCE,
        Kind::ResourceTemplate => &OF_TEMPLATE,
    }
}

/// The fingerprint of what a model acts on of a definition. One that isn't JSON has the one of its bytes.
pub fn fingerprint(kind: Kind, body: &[u8]) -> [u8; 32] {
    fingerprint_of(fields(kind), body)
}

/// The same but for the name: of two that are one thing under two names it is the same.
fn nameless_fingerprint(kind: Kind, body: &[u8]) -> [u8; 32] {
    fingerprint_of(&fields(kind)[1..], body)
}

fn fingerprint_of(fields: &[&str], body: &[u8]) -> [u8; 32] {
    let mut canonical = Vec::with_capacity(body.len());
    match serde_json::from_slice::<Map<String, Value>>(body) {
        Ok(members) => {
            let acted_on = members.into_iter().filter(|(name, _)| fields.contains(&name.as_str()));
            write_canonical(&Value::Object(acted_on.collect()), &mut canonical);
        }
        Err(_) => canonical.extend(body),
    }
    sha256(&canonical)
}

/// Which members that a model acts on differ between two definitions.
pub fn changed_fields(kind: Kind, before: &[u8], after: &[u8]) -> Vec<&'static str> {
    let members = |body| serde_json::from_slice::<Map<String, Value>>(body).unwrap_or_default();
    let (before, after) = (members(before), members(after));
    let canonical = |value: Option<&Value>| {
        let mut text = Vec::new();
        if let Some(value) = value {
            write_canonical(value, &mut text);
        }
        text
    };
    let differs = |name: &&&str| canonical(before.get(**name)) != canonical(after.get(**name));
    fields(kind).iter().filter(differs).copied().collect()
}

/// JSON with its members in order and its numbers in one spelling (RFC 8785).
fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push(b'{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                out.extend(Value::String(name.clone()).to_string().into_bytes());
                out.push(b':');
                write_canonical(value, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_canonical(item, out);
            }
            out.push(b']');
        }
        Value::Number(number) => match number.as_f64() {
            // 1, 1.0 and 1e0 are one number.
            Some(float) if float.fract() == 0.0 && float.abs() < EXACT_MAX => {
                out.extend(format!("{float:.0}").into_bytes());
            }
            _ => out.extend(number.to_string().into_bytes()),
        },
        other => out.extend(other.to_string().into_bytes()),
    }
}

/// A fingerprint of where an upstream is: its URL, or what is started for it.
pub fn identity(upstream: &Upstream) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    // Lengths in front, so that no two lists of texts read the same.
    let mut text = |text: &str| {
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    match &upstream.conn_params {
        ConnParams::Stdio { command, args, .. } => {
            text("command");
            text(command);
            for argument in args {
                text(argument.expose());
            }
        }
        ConnParams::Http { url, .. } => {
            text("url");
            text(url);
        }
    }
    sized(hash.finish().as_ref())
}

/// What was fetched of one list, beside what was there.
pub(crate) struct Taken<'a> {
    /// The upstream, as it is now.
    pub(crate) upstream: &'a Upstream,
    /// Which list.
    pub(crate) kind: Kind,
    /// What was stored.
    pub(crate) stored: &'a [Definition],
    /// How what was fetched differs from that.
    pub(crate) difference: &'a ListDiff,
    /// When it was fetched.
    pub(crate) now: Timestamp,
}

/// The pins that are new or no longer as they are `known`.
pub(crate) fn repinned(taken: &Taken<'_>, known: Vec<Pin>) -> Vec<Pin> {
    let identity = identity(taken.upstream);
    let known: HashMap<String, Pin> = known.into_iter().map(|pin| (pin.upstream_name.clone(), pin)).collect();
    // On first sight everything is as it should be.
    let is_first = known.is_empty() && taken.stored.is_empty();
    let changed: HashMap<&str, &Definition> =
        taken.difference.changed.iter().map(|item| (item.upstream_name.as_str(), item)).collect();
    let removed: HashSet<_> = taken.difference.removed.iter().collect();
    let (gone, left): (Vec<_>, Vec<_>) = taken.stored.iter().partition(|item| removed.contains(&item.id));
    let mut pins = Vec::new();
    let mut note = |former: Option<&Pin>, pin: Pin| {
        if former != Some(&pin) {
            pins.push(pin);
        }
    };
    for former in left {
        let item = changed.get(former.upstream_name.as_str()).copied().unwrap_or(former);
        let pin = known.get(&former.upstream_name);
        // What is as it was, where it was, needn't be looked at again.
        let is_settled = pin.is_some_and(|pin| pin.review.is_none() && pin.identity == identity);
        if is_settled && item.hash == former.hash {
            continue;
        }
        let agreed = pin.cloned().unwrap_or_else(|| fresh(former, identity));
        note(pin, taken.compared(agreed, Some(former), item, identity));
    }
    for item in &taken.difference.added {
        let pin = known.get(&item.upstream_name);
        let mut next = match pin {
            Some(pin) => taken.compared(pin.clone(), None, item, identity),
            None => fresh(item, identity),
        };
        if pin.is_none()
            && !is_first
            && let Some(former) = taken.renamed(item, &gone)
        {
            next.review = Some(Review::Renamed);
            next.found_at = Some(taken.now);
            next.approved = Some(former.body.clone());
        }
        note(pin, next);
    }
    for former in gone {
        let pin = known.get(&former.upstream_name);
        let mut next = pin.cloned().unwrap_or_else(|| fresh(former, identity));
        // Kept to be shown beside what may come back in its place.
        if next.approved.is_none() {
            next.approved = Some(former.body.clone());
        }
        note(pin, next);
    }
    pins
}

/// Agrees to a definition as it is.
pub fn agreed(upstream: &Upstream, item: &Definition) -> Pin {
    fresh(item, identity(upstream))
}

fn fresh(item: &Definition, identity: [u8; 32]) -> Pin {
    Pin {
        upstream_id: item.upstream_id,
        kind: item.kind,
        upstream_name: item.upstream_name.clone(),
        identity,
        pin: fingerprint(item.kind, &item.body),
        approved: None,
        review: None,
        found_at: None,
    }
}

impl Taken<'_> {
    /// The pin after `item` came; `former` is what stood in its place until now.
    fn compared(
        &self,
        mut pin: Pin,
        former: Option<&Definition>,
        item: &Definition,
        identity: [u8; 32],
    ) -> Pin {
        let says_the_same = fingerprint(self.kind, &item.body) == pin.pin;
        let review = match pin.review {
            Some(Review::Renamed) => Some(Review::Renamed),
            _ if !says_the_same => Some(Review::Changed),
            _ if pin.identity != identity => Some(Review::Moved),
            _ => None,
        };
        if says_the_same && review != Some(Review::Renamed) {
            pin.approved = None;
        } else if pin.approved.is_none() {
            let agreed = former.filter(|former| fingerprint(self.kind, &former.body) == pin.pin);
            pin.approved = agreed.map(|former| former.body.clone());
        }
        pin.found_at = review.map(|_| pin.found_at.unwrap_or(self.now));
        pin.review = review;
        pin
    }

    /// What went away as `item` came, and says the same under another name.
    fn renamed<'d>(&self, item: &Definition, gone: &[&'d Definition]) -> Option<&'d Definition> {
        if gone.is_empty() {
            return None;
        }
        let says = nameless_fingerprint(self.kind, &item.body);
        gone.iter().copied().find(|former| nameless_fingerprint(self.kind, &former.body) == says)
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    sized(digest(&SHA256, bytes).as_ref())
}

fn sized(hash: &[u8]) -> [u8; 32] {
    hash.try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests;
