//! What a rule matches: one name exactly, or the whole of a name by a regular expression.
//!
//! Expressions are of the RE2 family (crate `regex`): a match takes time linear in the name, whatever the
//! expression. What it may cost to keep one is bounded here, so that no pattern that is saved can use up the
//! memory of the gateway.

use regex::{Captures, Regex, RegexBuilder};

pub use sql::model::rule::PATTERN_BYTES_MAX;

/// What one compiled expression may take, and its cache as much again. Bytes: `[a-z_]{1,64}` takes 20 thousand,
/// and an owner may have hundreds of rules.
const PROGRAM_BYTES_MAX: usize = 1024 * 1024;

/// Groups within groups; the parser works through them one level after the other.
const NESTING_MAX: u32 = 64;

/// A pattern that can be matched.
#[derive(Debug, Clone)]
pub struct Pattern(Matcher);

#[derive(Debug, Clone)]
enum Matcher {
    Exact(Box<str>),
    Whole(Regex),
}

/// Why a pattern can't be used; the text is for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// It has no characters, and would match nothing.
    #[error("the pattern is empty")]
    Empty,
    /// It is longer than [`PATTERN_BYTES_MAX`].
    #[error("the pattern is longer than {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    /// It would take too much memory.
    #[error("the expression is too large: use smaller repetitions")]
    TooLarge,
    /// It isn't an expression.
    #[error("the expression is not valid: {0}")]
    Invalid(String),
}

impl Pattern {
    /// Reads a pattern. With `is_regex` it has to match the whole of a name; otherwise it is the name, in its case.
    ///
    /// Takes milliseconds for a large expression: many of them belong on the blocking pool.
    pub fn compile(pattern: &str, is_regex: bool) -> Result<Self, BadPattern> {
        if pattern.is_empty() {
            return Err(BadPattern::Empty);
        }
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(BadPattern::TooLong);
        }
        if !is_regex {
            return Ok(Self(Matcher::Exact(pattern.into())));
        }
        // By itself first: `a)|(b` is an expression only between the parentheses below, and then not one that
        // has to match the whole. Without room for a program this ends as soon as it is parsed.
        if let Err(error @ regex::Error::Syntax(_)) = builder(pattern).size_limit(0).build() {
            return Err(bad(&error));
        }
        let whole = format!(r"\A(?:{pattern})\z");
        match builder(&whole).size_limit(PROGRAM_BYTES_MAX).build() {
            Ok(regex) => Ok(Self(Matcher::Whole(regex))),
            Err(error) => Err(bad(&error)),
        }
    }

    /// Whether it matches the whole of `name`.
    pub fn matches(&self, name: &str) -> bool {
        match &self.0 {
            Matcher::Exact(exact) => **exact == *name,
            Matcher::Whole(regex) => regex.is_match(name),
        }
    }

    /// The number of a group by its name in the pattern.
    pub(super) fn group_named(&self, name: &str) -> Option<usize> {
        match &self.0 {
            Matcher::Exact(_) => None,
            Matcher::Whole(regex) => regex.capture_names().position(|group| group == Some(name)),
        }
    }

    /// How many groups it has; the whole match is not one of them.
    pub(super) fn groups(&self) -> usize {
        match &self.0 {
            Matcher::Exact(_) => 0,
            Matcher::Whole(regex) => regex.captures_len() - 1,
        }
    }

    /// What the groups matched in a name that matches.
    pub(super) fn captures<'n>(&self, name: &'n str) -> Option<Captures<'n>> {
        match &self.0 {
            Matcher::Exact(_) => None,
            Matcher::Whole(regex) => regex.captures(name),
        }
    }
}

fn builder(pattern: &str) -> RegexBuilder {
    let mut builder = RegexBuilder::new(pattern);
    builder.nest_limit(NESTING_MAX).dfa_size_limit(PROGRAM_BYTES_MAX);
    builder
}

fn bad(error: &regex::Error) -> BadPattern {
    match error {
        regex::Error::CompiledTooBig(_) => BadPattern::TooLarge,
        // The parser draws the place below the pattern; its last line says what is wrong.
        other => {
            let text = other.to_string();
            let last = text.lines().next_back().unwrap_or_default().trim();
            BadPattern::Invalid(last.strip_prefix("error: ").unwrap_or(last).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn regex(pattern: &str) -> Pattern {
        Pattern::compile(pattern, true).expect("it compiles")
    }

    #[test]
    fn an_exact_pattern_is_one_name_in_its_case() {
        let exact = Pattern::compile("get_.*", false).expect("any text");
        assert!(exact.matches("get_.*") && !exact.matches("get_x") && !exact.matches("GET_.*"));
    }

    #[test]
    fn an_expression_matches_the_whole_of_a_name_or_nothing() {
        let either = regex("a|ab");
        assert!(either.matches("a") && either.matches("ab"));
        assert!(!either.matches("abc") && !either.matches("xab") && !either.matches("ab\n"));
        assert!(!regex("^get$").matches("get\n"), "an end is the end");
        assert!(regex("(?i)GET_.*").matches("get_x"));
        assert!(regex("(?x)a # one\n | b").matches("b"));
        assert!(Pattern::compile("(?x)a # one", true).is_err(), "a comment has to end");
    }

    #[test]
    fn an_expression_can_not_reach_out_of_what_it_is_put_into() {
        for pattern in ["a)|(b", ")", "(", "a)(?:", r"a\", "[a", "(?P<n>a", "a{2,1}", "*"] {
            assert!(
                matches!(Pattern::compile(pattern, true), Err(BadPattern::Invalid(_))),
                "{pattern} is refused"
            );
        }
    }

    #[test]
    fn a_person_is_told_what_is_wrong() {
        let bad = |pattern: &str| Pattern::compile(pattern, true).expect_err("it is bad").to_string();
        assert_eq!(bad("(a"), "the expression is not valid: unclosed group");
        assert!(bad(&"x".repeat(PATTERN_BYTES_MAX + 1)).contains("1024 bytes"));
        assert!(Pattern::compile(&"x".repeat(PATTERN_BYTES_MAX), true).is_ok());
        assert_eq!(Pattern::compile("", false).err(), Some(BadPattern::Empty));
        assert!(Pattern::compile(r"(a)\1", true).is_err(), "no back-references");
    }

    #[test]
    fn huge_expressions_are_refused_at_once() {
        let started = Instant::now();
        for pattern in ["(((a{100}){100}){100})", r"\w{1000}", r"(\pL{500}){500}"] {
            assert_eq!(Pattern::compile(pattern, true).err(), Some(BadPattern::TooLarge), "{pattern}");
        }
        let deep = format!("{}a{}", "(".repeat(300), ")".repeat(300));
        assert!(Pattern::compile(&deep, true).is_err());
        // Each in a few milliseconds; the rest of the time is for a slow machine and a debug build.
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }

    #[test]
    fn no_expression_takes_more_than_linear_time() {
        let evil = regex("(a+)+$");
        let name = format!("{}!", "a".repeat(1_000_000));
        let started = Instant::now();
        assert!(!evil.matches(&name));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}
