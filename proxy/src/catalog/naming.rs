//! Under which name a definition is exposed.
//!
//! The wanted name is the upstream's prefix and the alias or the upstream's own name, made to fit what clients
//! accept. Names that two definitions want are settled by *claims*: the first to claim keeps the
//! name for as long as its upstream exists, so no later change of order, and no new, lost or
//! disabled upstream, renames a tool that clients know. What is here is pure; `sql::names` keeps
//! the claims, and [`settle`] joins the two.

pub mod settle;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use ring::digest::{SHA256, digest};
use sql::model::definition::is_storable_name;
use sql::model::{Claim, Kind, UpstreamId};

use super::rules::{Alias, SharedRules};

/// Hex digits of a hash that make a name its own.
const HASH_DIGITS: usize = 8;

/// What the names of one upstream's definitions are made of.
pub struct Naming<'a> {
    /// The upstream's prefix.
    pub prefix: &'a str,
    /// The rules of the upstream and of all.
    pub rules: &'a SharedRules,
    /// How long the name of a tool or prompt may be. Characters.
    pub length_max: usize,
}

impl Naming<'_> {
    /// The name that a definition asks for.
    ///
    /// A tool or prompt: prefix, and alias or upstream name, fitted to `[A-Za-z0-9_.-]` and to `length_max`.
    /// A name that fitting changed ends in `-` and 8 hex digits of the SHA-256 of the upstream name, so that
    /// two names that fit to the same text stay apart. Resources are known by URI, which nothing is put in
    /// front of, and which an alias may replace by another. Templates keep theirs: what they expand to
    /// couldn't be told to their upstream under another.
    pub fn wanted(&self, kind: Kind, upstream_name: &str) -> String {
        let alias = self.rules.alias(kind, upstream_name).and_then(|alias| alias.name);
        match kind {
            Kind::Tool | Kind::Prompt => {
                let name = alias.as_deref().unwrap_or(upstream_name);
                fitted(&format!("{}{name}", self.prefix), upstream_name, self.length_max)
            }
            Kind::Resource => alias
                .filter(|uri| may_stand_for(uri, upstream_name))
                .unwrap_or_else(|| upstream_name.to_owned()),
            Kind::ResourceTemplate => upstream_name.to_owned(),
        }
    }
}

/// The name that a key's alias gives a tool or prompt in that key's view, fitted like any other. `None`: the
/// alias gives none, or the item is known by a URI, which stays the same for every key, since what its upstream
/// says of it names it so.
pub fn wanted_by_key(kind: Kind, alias: &Alias, upstream_name: &str, length_max: usize) -> Option<String> {
    let name = alias.name.as_deref().filter(|_| matches!(kind, Kind::Tool | Kind::Prompt))?;
    Some(fitted(name, upstream_name, length_max))
}

/// Whether an alias is a URI that clients can read the resource at. An interface (MCP Apps) has to stay one.
fn may_stand_for(uri: &str, upstream_uri: &str) -> bool {
    let has_scheme = uri.split_once(':').is_some_and(|(scheme, _)| !scheme.is_empty());
    let is_clean = !uri.contains(|c: char| c.is_whitespace() || c.is_control());
    let both_or_neither = uri.starts_with(UI_SCHEME) == upstream_uri.starts_with(UI_SCHEME);
    has_scheme && is_clean && both_or_neither && is_storable_name(uri)
}

/// The name of a definition whose wanted name is held by another: unique by the upstream's identity.
pub fn contested(
    kind: Kind,
    wanted: &str,
    upstream: UpstreamId,
    upstream_name: &str,
    length_max: usize,
) -> String {
    let own = hex_of(&[upstream.uuid().as_bytes(), upstream_name.as_bytes()]);
    match kind {
        Kind::Tool | Kind::Prompt => with_suffix(wanted, &format!("__{own}"), length_max),
        Kind::Resource | Kind::ResourceTemplate => Mark::new(wanted, &own).put(wanted),
    }
}

/// The scheme that clients know a tool's interface by (MCP Apps): they read no other.
const UI_SCHEME: &str = "ui://";

/// What makes a contested URI its upstream's own: a scheme in front, or for a `ui://` URI, which has to stay
/// one, a first part of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    at: usize,
    text: Box<str>,
}

impl Mark {
    fn new(uri: &str, own: &str) -> Self {
        if uri.starts_with(UI_SCHEME) {
            Self { at: UI_SCHEME.len(), text: format!("mpg+{own}/").into() }
        } else {
            Self { at: 0, text: format!("mpg+{own}:").into() }
        }
    }

    /// The mark that makes the exposed URI, or template, of the upstream's; `None` where they are the same.
    pub fn between(upstream_name: &str, exposed_name: &str) -> Option<Self> {
        let length = exposed_name.len().checked_sub(upstream_name.len()).filter(|length| *length > 0)?;
        let at = if upstream_name.starts_with(UI_SCHEME) { UI_SCHEME.len() } else { 0 };
        let text = exposed_name.get(at..at + length)?;
        let mark = Self { at, text: text.into() };
        (mark.put(upstream_name) == exposed_name).then_some(mark)
    }

    /// A URI of the upstream as clients know it.
    pub fn put(&self, uri: &str) -> String {
        // The expansion of a template may lack what the template begins with; then there is no such scheme.
        let (head, tail) = uri.split_at_checked(self.at).unwrap_or(("", uri));
        format!("{head}{}{tail}", self.text)
    }

    /// A URI as clients know it, as the upstream does; `None` if the mark isn't there.
    pub fn take<'a>(&self, uri: &'a str) -> Option<Cow<'a, str>> {
        let (head, tail) = uri.split_at_checked(self.at)?;
        let tail = tail.strip_prefix(&*self.text)?;
        Some(if head.is_empty() { tail.into() } else { format!("{head}{tail}").into() })
    }
}

fn fitted(full: &str, upstream_name: &str, length_max: usize) -> String {
    let clean: String = full.chars().map(|c| if is_name_char(c) { c } else { '_' }).collect();
    if clean == full && clean.len() <= length_max && !clean.is_empty() {
        return clean;
    }
    with_suffix(&clean, &format!("-{}", hex_of(&[upstream_name.as_bytes()])), length_max)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

/// `name` cut so that it fits *including* the suffix. Names are ASCII here, so bytes are characters.
fn with_suffix(name: &str, suffix: &str, length_max: usize) -> String {
    let keep = name.len().min(length_max.saturating_sub(suffix.len()));
    format!("{}{suffix}", &name[..keep])
}

fn hex_of(parts: &[&[u8]]) -> String {
    let hash = digest(&SHA256, &parts.concat());
    let mut digits = String::with_capacity(HASH_DIGITS);
    for byte in hash.as_ref().iter().take(HASH_DIGITS / 2) {
        // Writing to a string can't fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// Who holds which name, for one kind of definition.
pub struct Claims {
    kind: Kind,
    length_max: usize,
    holders: HashMap<String, (UpstreamId, String)>,
    held: HashMap<(UpstreamId, String), Claim>,
}

impl Claims {
    /// The claims of `kind` as the store has them.
    pub fn new(kind: Kind, length_max: usize, stored: impl IntoIterator<Item = Claim>) -> Self {
        let mut claims = Self { kind, length_max, holders: HashMap::new(), held: HashMap::new() };
        for claim in stored {
            claims.hold(claim);
        }
        claims
    }

    /// Gives up the claims of these definitions of an upstream whose wanted name changed, so that names
    /// which are freed can go to others. Each comes with the name that it wants, and is to be settled next.
    pub fn let_go_of_unwanted<'a>(
        &mut self,
        upstream: UpstreamId,
        wishes: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        for (name, wanted) in wishes {
            let item = (upstream, name.to_owned());
            if self.held.get(&item).is_some_and(|claim| !self.lasts(claim, wanted)) {
                self.let_go(&item);
            }
        }
    }

    /// The claim of one definition: the one it has, unless its wanted name changed (a new prefix, another
    /// alias), else a new one, which is to be stored in place of any former one.
    pub fn settle(&mut self, upstream: UpstreamId, upstream_name: &str, wanted: &str) -> Settled {
        let item = (upstream, upstream_name.to_owned());
        match self.held.get(&item) {
            Some(claim) if self.lasts(claim, wanted) => return Settled::Kept(claim.exposed_name.clone()),
            Some(_) => self.let_go(&item),
            None => {}
        }
        let claim = Claim {
            kind: self.kind,
            exposed_name: self.free_name(wanted, upstream, upstream_name),
            upstream_id: upstream,
            upstream_name: upstream_name.to_owned(),
            wanted: wanted.to_owned(),
        };
        self.hold(claim.clone());
        Settled::New(claim)
    }

    /// Who holds a name.
    pub fn holder(&self, exposed_name: &str) -> Option<&(UpstreamId, String)> {
        self.holders.get(exposed_name)
    }

    /// The claim of a definition.
    pub fn of(&self, upstream: UpstreamId, upstream_name: &str) -> Option<&Claim> {
        self.held.get(&(upstream, upstream_name.to_owned()))
    }

    /// Every claim, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Claim> {
        self.held.values()
    }

    /// Whether a claim goes on: it is for the name that is wanted, and what came of that isn't too long by now.
    fn lasts(&self, claim: &Claim, wanted: &str) -> bool {
        let is_uri = matches!(self.kind, Kind::Resource | Kind::ResourceTemplate);
        claim.wanted == wanted && (is_uri || claim.exposed_name.len() <= self.length_max)
    }

    fn free_name(&self, wanted: &str, upstream: UpstreamId, upstream_name: &str) -> String {
        let mut candidate = wanted.to_owned();
        let mut salt = upstream_name.to_owned();
        while self.holders.contains_key(&candidate) {
            candidate = contested(self.kind, wanted, upstream, &salt, self.length_max);
            // A second round needs two names with the same 32 bits of hash, by chance or by malice.
            salt.push('+');
        }
        candidate
    }

    fn hold(&mut self, claim: Claim) {
        let item = (claim.upstream_id, claim.upstream_name.clone());
        self.holders.insert(claim.exposed_name.clone(), item.clone());
        self.held.insert(item, claim);
    }

    /// Gives up the claim of a definition, if it has one.
    pub fn let_go(&mut self, item: &(UpstreamId, String)) {
        if let Some(claim) = self.held.remove(item) {
            self.holders.remove(&claim.exposed_name);
        }
    }
}

/// The outcome of [`Claims::settle`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The name it has already.
    Kept(String),
    /// A claim to be stored, in place of any former one of the same definition.
    New(Claim),
}

impl Settled {
    /// The name under which clients know the definition.
    pub fn exposed_name(&self) -> &str {
        match self {
            Self::Kept(name) => name,
            Self::New(claim) => &claim.exposed_name,
        }
    }
}

#[cfg(test)]
mod tests;
