//! Texts as words.
//!
//! An identifier is split where people see its words: `listPullRequests`, `list_pull_requests` and
//! `HTTPServer2` read as they would with spaces. Words are lower case and lose their endings. Chinese,
//! Japanese and Korean have no spaces: there every pair of neighbours is a term, and every character.

use super::glossary::GLOSSARY;
use super::stem::stem;

/// Longest word that is looked at, in characters: what is longer is data and not a word.
const WORD_CHARS_MAX: usize = 40;

/// A stretch of a text, of one kind of script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Run {
    /// A word in lower case, with its ending.
    Word(String),
    /// Characters of a script without spaces.
    Dense(Vec<char>),
}

impl Run {
    /// Whether it has a word of who wants to know something.
    pub(super) fn is_asking(&self) -> bool {
        match self {
            Self::Word(word) => GLOSSARY.is_asking(word),
            Self::Dense(letters) => (1..=3)
                .any(|n| letters.windows(n).any(|some| GLOSSARY.is_asking(&some.iter().collect::<String>()))),
        }
    }
}

/// Takes a text apart.
pub(super) fn runs(text: &str) -> Vec<Run> {
    let mut runs = Runs::default();
    for letter in text.chars().map(narrow) {
        if is_dense(letter) {
            runs.end_chunk();
            runs.dense.push(letter);
        } else if letter.is_alphanumeric() {
            runs.end_dense();
            runs.chunk.push(letter);
        } else {
            runs.end_chunk();
            runs.end_dense();
        }
    }
    runs.end_chunk();
    runs.end_dense();
    runs.done
}

/// Hands every term of a text to `take`.
pub(super) fn terms(text: &str, mut take: impl FnMut(&str)) {
    for run in runs(text) {
        match run {
            Run::Word(word) => take(&stem(&word)),
            Run::Dense(letters) => {
                let mut term = String::new();
                for n in [1, 2] {
                    for few in letters.windows(n) {
                        term.clear();
                        term.extend(few);
                        take(&term);
                    }
                }
            }
        }
    }
}

#[derive(Default)]
struct Runs {
    done: Vec<Run>,
    /// Letters and digits, in the case they came in.
    chunk: Vec<char>,
    dense: Vec<char>,
}

impl Runs {
    fn end_dense(&mut self) {
        if !self.dense.is_empty() {
            self.done.push(Run::Dense(std::mem::take(&mut self.dense)));
        }
    }

    fn end_chunk(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let chunk = std::mem::take(&mut self.chunk);
        let mut start = 0;
        for at in 1..=chunk.len() {
            if at == chunk.len() || is_boundary(&chunk, at) {
                self.word(&chunk[start..at]);
                start = at;
            }
        }
        // `s3` and `oauth2` are words of their own.
        let has = |is_it: fn(&char) -> bool| chunk.iter().any(is_it);
        if has(|letter| letter.is_numeric()) && has(|letter| letter.is_alphabetic()) {
            self.word(&chunk);
        }
    }

    fn word(&mut self, letters: &[char]) {
        if letters.len() <= WORD_CHARS_MAX {
            self.done.push(Run::Word(letters.iter().flat_map(|letter| letter.to_lowercase()).collect()));
        }
    }
}

/// Whether a word begins at `at`, which is neither the begin nor the end.
fn is_boundary(chunk: &[char], at: usize) -> bool {
    let (before, here) = (chunk[at - 1], chunk[at]);
    let begins_after_capitals = || chunk.get(at + 1).is_some_and(|next| next.is_lowercase());
    before.is_numeric() != here.is_numeric()
        || (before.is_lowercase() && here.is_uppercase())
        || (before.is_uppercase() && here.is_uppercase() && begins_after_capitals())
}

/// The ordinary form of a character that East Asian keyboards also write in full width.
fn narrow(letter: char) -> char {
    match u32::from(letter) {
        code @ 0xff01..=0xff5e => char::from_u32(code - 0xfee0).unwrap_or(letter),
        _ => letter,
    }
}

/// Whether a script has no spaces: Han, kana and hangul.
fn is_dense(letter: char) -> bool {
    matches!(
        u32::from(letter),
        0x3005..=0x3007 | 0x3040..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xac00..=0xd7af
            | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        terms(text, |term| all.push(term.to_owned()));
        all
    }

    #[test]
    fn an_identifier_reads_as_its_words_whatever_joins_them() {
        for text in [
            "listPullRequest",
            "ListPullRequest",
            "list_pull_request",
            "list-pull.request",
            "LIST pull/request",
        ] {
            assert_eq!(all(text), ["list", "pull", "request"], "{text}");
        }
        assert_eq!(all("getHTTPUrl"), ["get", "http", "url"]);
        assert_eq!(all("s3Object"), ["s", "3", "object", "s3object"]);
        assert_eq!(all("oauth2"), ["oauth", "2", "oauth2"]);
    }

    #[test]
    fn chinese_is_characters_and_pairs() {
        assert_eq!(all("查天气"), ["查", "天", "气", "查天", "天气"]);
        assert_eq!(all("用API查"), ["用", "api", "查"]);
        assert_eq!(all("ＡＰＩ"), ["api"], "full width is the same word");
    }

    #[test]
    fn what_is_no_word_is_left_out() {
        assert!(all(" .,;-—!？。🙂").is_empty());
        assert!(all(&"x".repeat(WORD_CHARS_MAX + 1)).is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart(text in any::<String>()) {
            terms(&text, |term| assert!(!term.is_empty()));
        }
    }
}
