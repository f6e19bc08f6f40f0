//! Under which name a definition is exposed.
//!
//! The wanted name is the upstream's prefix and the upstream's own name, made to fit what clients
//! accept. Names that two definitions want are settled by *claims*: the first to claim keeps the
//! name for as long as its upstream exists, so no later change of order, and no new, lost or
//! disabled upstream, renames a tool that clients know. Everything here is pure; `sql::names` keeps
//! the claims.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use ring::digest::{SHA256, digest};
use sql::model::{Claim, Kind, UpstreamId};

/// Hex digits of a hash that make a name its own.
const HASH_DIGITS: usize = 8;

/// The name that a definition asks for: prefix and upstream name, fitted to `[A-Za-z0-9_.-]` and to
/// `length_max` characters. A name that fitting changed ends in `-` and 8 hex digits of the SHA-256
/// of the upstream name, so that two names that fit to the same text stay apart. Resources are
/// known by URI, which is never altered.
pub fn wanted(kind: Kind, prefix: &str, upstream_name: &str, length_max: usize) -> String {
    match kind {
        Kind::Tool | Kind::Prompt => fitted(&format!("{prefix}{upstream_name}"), upstream_name, length_max),
        Kind::Resource | Kind::ResourceTemplate => upstream_name.to_owned(),
    }
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
    /// which are freed can go to others of the same list. Each of them is to be settled next.
    pub fn let_go_of_unwanted<'a>(
        &mut self,
        prefix: &str,
        upstream: UpstreamId,
        upstream_names: impl IntoIterator<Item = &'a str>,
    ) {
        for name in upstream_names {
            let item = (upstream, name.to_owned());
            let wanted = wanted(self.kind, prefix, name, self.length_max);
            if self.held.get(&item).is_some_and(|claim| claim.wanted != wanted) {
                self.let_go(&item);
            }
        }
    }

    /// The claim of one definition: the one it has, unless its wanted name changed (a new prefix),
    /// else a new one. `Err` carries the claim that is to be stored in place of any former one.
    pub fn settle(&mut self, prefix: &str, upstream: UpstreamId, upstream_name: &str) -> Settled {
        let wanted = wanted(self.kind, prefix, upstream_name, self.length_max);
        let item = (upstream, upstream_name.to_owned());
        match self.held.get(&item) {
            Some(claim) if claim.wanted == wanted => return Settled::Kept(claim.exposed_name.clone()),
            Some(_) => self.let_go(&item),
            None => {}
        }
        let claim = Claim {
            kind: self.kind,
            exposed_name: self.free_name(&wanted, upstream, upstream_name),
            upstream_id: upstream,
            upstream_name: upstream_name.to_owned(),
            wanted,
        };
        self.hold(claim.clone());
        Settled::New(claim)
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

    fn let_go(&mut self, item: &(UpstreamId, String)) {
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
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use sql::clock::Clock;

    use super::*;

    const LENGTH_MAX: usize = 64;

    fn upstream() -> UpstreamId {
        UpstreamId::new(&Clock::system())
    }

    fn settle(claims: &mut Claims, upstream: UpstreamId, name: &str) -> String {
        claims.settle("", upstream, name).exposed_name().to_owned()
    }

    #[test]
    fn a_plain_name_stays_as_it_is() {
        assert_eq!(wanted(Kind::Tool, "", "read_file", LENGTH_MAX), "read_file");
        assert_eq!(wanted(Kind::Tool, "fs-", "read.file", LENGTH_MAX), "fs-read.file");
    }

    #[test]
    fn a_name_that_fitting_changed_says_so() {
        let chinese = wanted(Kind::Tool, "", "读文件", LENGTH_MAX);
        assert!(chinese.starts_with("___-") && chinese.len() == 12, "{chinese}");
        assert_ne!(chinese, wanted(Kind::Tool, "", "写文件", LENGTH_MAX));
        let long = wanted(Kind::Tool, "", &"x".repeat(200), LENGTH_MAX);
        assert_eq!(long.len(), LENGTH_MAX);
    }

    #[test]
    fn the_first_to_claim_keeps_the_name() {
        let (first, second) = (upstream(), upstream());
        let mut claims = Claims::new(Kind::Tool, LENGTH_MAX, []);
        assert_eq!(settle(&mut claims, first, "search"), "search");
        let other = settle(&mut claims, second, "search");
        assert!(other.starts_with("search__") && other.len() == "search__".len() + HASH_DIGITS, "{other}");
        assert_eq!(settle(&mut claims, first, "search"), "search");
    }

    #[test]
    fn a_new_prefix_is_a_new_claim_and_frees_the_old_name() {
        let (first, second) = (upstream(), upstream());
        let mut claims = Claims::new(Kind::Tool, LENGTH_MAX, []);
        settle(&mut claims, first, "search");
        assert_eq!(claims.settle("web-", first, "search").exposed_name(), "web-search");
        assert_eq!(settle(&mut claims, second, "search"), "search");
    }

    #[test]
    fn a_name_that_a_new_prefix_frees_goes_to_another_of_the_same_list() {
        let id = upstream();
        let mut claims = Claims::new(Kind::Tool, LENGTH_MAX, []);
        let names = ["x", "px"];
        for name in names {
            settle(&mut claims, id, name);
        }
        claims.let_go_of_unwanted("p", id, names);
        let exposed = names.map(|name| claims.settle("p", id, name).exposed_name().to_owned());
        assert_eq!(exposed, ["px", "ppx"]);
    }

    #[test]
    fn a_contested_uri_gets_a_scheme_of_ours() {
        let (first, second) = (upstream(), upstream());
        let mut claims = Claims::new(Kind::Resource, LENGTH_MAX, []);
        assert_eq!(settle(&mut claims, first, "file:///a"), "file:///a");
        let other = settle(&mut claims, second, "file:///a");
        assert!(other.starts_with("mpg+") && other.ends_with(":file:///a"), "{other}");
    }

    #[test]
    fn a_contested_interface_stays_one() {
        let id = upstream();
        let exposed = contested(Kind::Resource, "ui://clock/a", id, "ui://clock/a", LENGTH_MAX);
        assert!(exposed.starts_with("ui://mpg+") && exposed.ends_with("/clock/a"), "{exposed}");
    }

    #[test]
    fn a_mark_is_put_and_taken() {
        for (upstreams, exposed) in [("t://{id}", "mpg+00:t://{id}"), ("ui://{id}", "ui://mpg+00/{id}")] {
            let mark = Mark::between(upstreams, exposed).expect("they differ");
            assert_eq!(
                (mark.put(upstreams), mark.take(exposed)),
                (exposed.to_owned(), Some(upstreams.into()))
            );
            assert_eq!(mark.take(upstreams), None);
        }
        assert_eq!(Mark::between("a:b", "a:b"), None);
    }

    proptest! {
        #[test]
        fn names_are_unique_fit_and_last(names in prop::collection::vec("[a-c ]{1,3}|[a-z]{60,80}|.{1,8}", 1..40)) {
            let upstreams = [upstream(), upstream(), upstream()];
            let mut claims = Claims::new(Kind::Tool, LENGTH_MAX, []);
            let mut stored = HashMap::new();
            for (i, name) in names.iter().enumerate() {
                let id = upstreams[i % upstreams.len()];
                if let Settled::New(claim) = claims.settle("p_", id, name) {
                    stored.insert((id, name.clone()), claim);
                }
            }
            let exposed: HashSet<_> = stored.values().map(|claim| claim.exposed_name.clone()).collect();
            prop_assert_eq!(exposed.len(), stored.len());
            prop_assert!(exposed.iter().all(|name| name.len() <= LENGTH_MAX && name.chars().all(is_name_char)));
            // After a restart, in any order, each has the name it had.
            let mut again = Claims::new(Kind::Tool, LENGTH_MAX, stored.values().cloned());
            for ((id, name), claim) in &stored {
                prop_assert_eq!(again.settle("p_", *id, name), Settled::Kept(claim.exposed_name.clone()));
            }
        }
    }
}
