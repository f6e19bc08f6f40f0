//! The name that an alias gives, with what its pattern's groups matched.
//!
//! `$1` to `$9` and `${name}` (or `${12}`) stand for groups; a digit ends a reference, so `$1_x` is group 1 and
//! then `_x`. A group that took no part in the match is empty. Any other `$` is itself.

use super::pattern::Pattern;

/// A target longer than this is no name. Bytes.
pub const TARGET_BYTES_MAX: usize = 1024;

/// What an expansion may come to before it is cut: more than any name that is kept. Bytes.
const EXPANDED_BYTES_MAX: usize = 4096;

/// A target name that can be filled in.
#[derive(Debug, Clone)]
pub struct Target(Vec<Piece>);

#[derive(Debug, Clone)]
enum Piece {
    Text(Box<str>),
    Group(usize),
}

/// Why a target name can't be used; the text is for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// It has no characters.
    #[error("the target name is empty")]
    Empty,
    /// It is longer than [`TARGET_BYTES_MAX`].
    #[error("the target name is longer than {TARGET_BYTES_MAX} bytes")]
    TooLong,
    /// It refers to a group that its pattern doesn't have.
    #[error("the pattern has no group {0}")]
    NoSuchGroup(String),
}

impl Target {
    /// Reads the target name of an alias with this pattern.
    pub fn compile(target: &str, pattern: &Pattern) -> Result<Self, BadTarget> {
        if target.is_empty() {
            return Err(BadTarget::Empty);
        }
        if target.len() > TARGET_BYTES_MAX {
            return Err(BadTarget::TooLong);
        }
        let mut pieces = Vec::new();
        let mut rest = target;
        while let Some(at) = rest.find('$') {
            let (text, reference) = rest.split_at(at);
            let (group, length) = match group(reference, pattern)? {
                Some((group, length)) => (Some(group), length),
                None => (None, 1),
            };
            let kept = if group.is_some() { text } else { &rest[..=at] };
            if !kept.is_empty() {
                pieces.push(Piece::Text(kept.into()));
            }
            pieces.extend(group.map(Piece::Group));
            rest = &reference[length..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Self(pieces))
    }

    /// The name that `name`, which `pattern` matches, gets. `None`: it comes to nothing.
    pub(super) fn expand(&self, pattern: &Pattern, name: &str) -> Option<String> {
        let captures = pattern.captures(name);
        let mut expanded = String::new();
        for piece in &self.0 {
            let text = match piece {
                Piece::Text(text) => text,
                Piece::Group(group) => {
                    let captured = captures.as_ref().and_then(|captures| captures.get(*group));
                    captured.map_or("", |captured| captured.as_str())
                }
            };
            let room = EXPANDED_BYTES_MAX - expanded.len();
            expanded.push_str(&text[..text.floor_char_boundary(room)]);
        }
        (!expanded.is_empty()).then_some(expanded)
    }
}

/// The group that a text which begins with `$` refers to, and how long the reference is.
fn group(reference: &str, pattern: &Pattern) -> Result<Option<(usize, usize)>, BadTarget> {
    let Some(name) = reference.strip_prefix("${") else {
        let digit = reference.as_bytes().get(1).filter(|digit| (b'1'..=b'9').contains(digit));
        return match digit {
            Some(digit) => numbered(usize::from(digit - b'0'), pattern).map(|group| Some((group, 2))),
            None => Ok(None),
        };
    };
    let Some((name, _)) = name.split_once('}') else { return Ok(None) };
    let group = match name.parse() {
        Ok(number) => numbered(number, pattern)?,
        Err(_) => pattern.group_named(name).ok_or_else(|| BadTarget::NoSuchGroup(name.to_owned()))?,
    };
    Ok(Some((group, "${}".len() + name.len())))
}

fn numbered(number: usize, pattern: &Pattern) -> Result<usize, BadTarget> {
    let exists = (1..=pattern.groups()).contains(&number);
    exists.then_some(number).ok_or_else(|| BadTarget::NoSuchGroup(number.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(pattern: &str, target: &str, name: &str) -> Option<String> {
        let pattern = Pattern::compile(pattern, true).expect("it compiles");
        Target::compile(target, &pattern).expect("it is a target").expand(&pattern, name)
    }

    #[test]
    fn groups_are_filled_in() {
        let get = |target: &str| expanded("get_(.*)_(?<what>.*)", target, "get_user_name").unwrap();
        assert_eq!(get("read_$1"), "read_user");
        assert_eq!(get("$1_x"), "user_x");
        assert_eq!(get("$12"), "user2");
        assert_eq!(get("${what}.${1}"), "name.user");
        assert_eq!(get("$2$1$2"), "nameusername");
        assert_eq!(get("a$"), "a$");
        assert_eq!(get("$x$$1${"), "$x$user${");
        assert_eq!(get("$0"), "$0");
    }

    #[test]
    fn a_group_that_took_no_part_is_empty() {
        assert_eq!(expanded("(a)|(b)", "$1-$2", "b").as_deref(), Some("-b"));
        assert_eq!(expanded("(a)?b", "$1", "b"), None);
    }

    #[test]
    fn a_group_that_is_not_there_is_refused() {
        let bad = |pattern: &str, is_regex, target: &str| {
            let pattern = Pattern::compile(pattern, is_regex).expect("it compiles");
            Target::compile(target, &pattern).expect_err("it is bad")
        };
        assert_eq!(bad("(a)", true, "$2"), BadTarget::NoSuchGroup("2".into()));
        assert_eq!(bad("(a)", true, "${no}").to_string(), "the pattern has no group no");
        assert_eq!(bad("a", false, "$1"), BadTarget::NoSuchGroup("1".into()));
        assert_eq!(bad("a", false, ""), BadTarget::Empty);
        assert_eq!(bad("a", false, &"é".repeat(TARGET_BYTES_MAX)), BadTarget::TooLong);
    }

    #[test]
    fn an_expansion_is_bounded_and_stays_text() {
        let name = "é".repeat(1000);
        let long = expanded("(.*)", &"$1".repeat(100), &name).unwrap();
        assert!(long.len() <= EXPANDED_BYTES_MAX && long.chars().all(|c| c == 'é'));
    }
}
