//! Which tools fit a question: the local search of smart mode.
//!
//! BM25 over several fields (a word in the name counts more than one in the description), with the terms
//! of [`words`]: split identifiers, stems, pairs of Chinese characters. A question is widened before it
//! is asked: by what means the same in either language ([`glossary`]), by words that were joined or
//! split (`web hook`), and, for a word that no tool has, by words a letter away. Of all ways to say one
//! word of the question only the best counts, and a tool that answers more of its words goes first.
//!
//! The index is our own and no crate: those weigh one text per document, where here a name, a title and a
//! parameter count differently, and what a term counts in a tool is settled when the index is built, so
//! that a question only adds numbers up. Equal scores keep the order of the list. [`indexes`] keeps what was
//! built.

#[cfg(test)]
pub(crate) mod benchmark;
mod building;
mod glossary;
pub mod indexes;
mod question;
mod stem;
mod words;

use std::sync::Arc;

use self::building::Building;

/// How much of the score depends on how many of the words were answered.
const COVERAGE: f32 = 0.6;

/// What of a tool is searched.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// As clients call it.
    pub name: &'a str,
    /// Its title, or nothing.
    pub title: &'a str,
    /// Its description, or nothing.
    pub description: &'a str,
    /// The names of its parameters.
    pub parameters: &'a [String],
    /// The name of its upstream.
    pub upstream: &'a str,
    /// The tags of its upstream.
    pub tags: &'a [String],
}

/// The searchable form of a list of tools.
pub struct Index {
    /// In order, so that the number of a term is found by bisection.
    vocabulary: Vec<Box<str>>,
    /// Where the postings of each term begin; one more than there are terms.
    starts: Vec<u32>,
    postings: Vec<Posting>,
    names: Vec<Arc<str>>,
}

/// A term in a tool, and what it counts there.
#[derive(Debug, Clone, Copy)]
struct Posting {
    document: u32,
    score: f32,
}

impl Index {
    /// Builds the index of these tools; they are found in this order where they fit alike.
    pub fn of<'a>(documents: impl IntoIterator<Item = Document<'a>>) -> Self {
        let mut building = Building::default();
        let mut names = Vec::new();
        for document in documents {
            building.add(&document);
            names.push(document.name.into());
        }
        building.finish(names)
    }

    /// The names of at most `limit` tools that fit a question, the best first.
    pub fn search(&self, question: &str, limit: usize) -> Vec<&Arc<str>> {
        let groups = self.groups(question);
        let asked: f32 = groups.iter().map(|group| group.weight).sum();
        let mut scores = vec![Score::default(); self.names.len()];
        for group in &groups {
            let mut touched = Vec::new();
            for (term, weight) in &group.terms {
                for posting in self.postings_of(*term) {
                    say(&mut scores, &mut touched, *posting, *weight);
                }
            }
            for (phrase, weight) in &group.phrases {
                for posting in self.all_of(phrase) {
                    say(&mut scores, &mut touched, posting, *weight);
                }
            }
            for document in touched {
                let score = &mut scores[document as usize];
                score.sum += group.weight * std::mem::take(&mut score.best);
                score.answered += group.weight;
            }
        }
        let total = |score: &Score| score.sum * (1.0 - COVERAGE + COVERAGE * score.answered / asked);
        let found = scores.iter().enumerate().filter(|(_, score)| score.answered > 0.0);
        let mut found: Vec<(f32, usize)> = found.map(|(n, score)| (total(score), n)).collect();
        let order = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if found.len() > limit && limit > 0 {
            found.select_nth_unstable_by(limit - 1, order);
        }
        found.truncate(limit);
        found.sort_unstable_by(order);
        found.into_iter().map(|(_, n)| &self.names[n]).collect()
    }

    /// About how much memory it holds, in bytes.
    pub fn bytes(&self) -> usize {
        let words: usize = self.vocabulary.iter().map(|term| term.len() + size_of::<Box<str>>()).sum();
        let names: usize = self.names.iter().map(|name| name.len() + 2 * size_of::<Arc<str>>()).sum();
        words + names + self.postings.len() * size_of::<Posting>() + self.starts.len() * size_of::<u32>()
    }

    fn postings_of(&self, term: u32) -> &[Posting] {
        let n = term as usize;
        &self.postings[self.starts[n] as usize..self.starts[n + 1] as usize]
    }

    /// The tools that have every one of these terms, with what the strongest counts.
    fn all_of(&self, terms: &[u32]) -> Vec<Posting> {
        let Some((first, others)) = terms.split_first() else { return Vec::new() };
        let mut all = self.postings_of(*first).to_vec();
        for other in others {
            let other = self.postings_of(*other);
            all.retain_mut(|posting| {
                let found = other.binary_search_by_key(&posting.document, |posting| posting.document);
                let found = found.ok().map(|at| other[at].score);
                posting.score = posting.score.max(found.unwrap_or_default());
                found.is_some()
            });
        }
        all
    }

    fn term(&self, text: &str) -> Option<u32> {
        let n = self.vocabulary.binary_search_by(|term| (**term).cmp(text)).ok()?;
        u32::try_from(n).ok()
    }
}

/// What a tool has gathered.
#[derive(Debug, Clone, Copy, Default)]
struct Score {
    best: f32,
    sum: f32,
    answered: f32,
}

/// Counts a way to say a word, unless a better one was counted.
fn say(scores: &mut [Score], touched: &mut Vec<u32>, posting: Posting, weight: f32) {
    let score = &mut scores[posting.document as usize];
    if score.best == 0.0 {
        touched.push(posting.document);
    }
    score.best = score.best.max(posting.score * weight);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn index(tools: &[(&str, &str)]) -> Index {
        let document = |(name, description): &(&'static str, &'static str)| Document {
            name,
            title: "",
            description,
            parameters: &[],
            upstream: "",
            tags: &[],
        };
        let tools: Vec<(&'static str, &'static str)> =
            tools.iter().map(|(a, b)| (leak(a), leak(b))).collect();
        Index::of(tools.iter().map(document))
    }

    fn leak(text: &str) -> &'static str {
        Box::leak(text.to_owned().into_boxed_str())
    }

    fn first(index: &Index, question: &str) -> Option<String> {
        index.search(question, 1).first().map(ToString::to_string)
    }

    #[test]
    fn a_tool_is_found_by_its_name_however_it_is_written() {
        let index = index(&[("createIssue", ""), ("list_pull_requests", ""), ("weather.get", "")]);
        for (question, name) in [
            ("create issue", "createIssue"),
            ("creating issues", "createIssue"),
            ("create_issue", "createIssue"),
            ("pull request", "list_pull_requests"),
            ("PullRequests", "list_pull_requests"),
            ("wether", "weather.get"),
            ("新建问题", "createIssue"),
            ("帮我查一下天气", "weather.get"),
        ] {
            assert_eq!(first(&index, question).as_deref(), Some(name), "{question}");
        }
        assert_eq!(first(&index, "xylophone"), None);
        assert_eq!(first(&index, ""), None);
        assert!(index.search("create", 0).is_empty());
    }

    #[test]
    fn chinese_tools_are_found_in_english_and_in_chinese() {
        let index = index(&[("faSong", "发送一封电子邮件"), ("chaKuaidi", "查询快递物流"), ("x", "日历")]);
        assert_eq!(first(&index, "send an email").as_deref(), Some("faSong"));
        assert_eq!(first(&index, "发邮件").as_deref(), Some("faSong"));
        assert_eq!(first(&index, "快递到哪了").as_deref(), Some("chaKuaidi"));
        assert_eq!(first(&index, "calendar").as_deref(), Some("x"));
    }

    #[test]
    fn equal_tools_keep_their_order() {
        let index = index(&[("read_a", "same"), ("read_b", "same"), ("read_c", "same")]);
        assert_eq!(
            index.search("same", 3).iter().map(|name| &***name).collect::<Vec<_>>(),
            ["read_a", "read_b", "read_c"]
        );
        assert_eq!(index.search("same", 2).len(), 2);
    }

    /// The true figure is measured by `cargo bench --bench search`; a debug build on a busy machine is
    /// only kept from being absurd.
    #[test]
    fn five_thousand_tools_are_searched_at_once() {
        let names: Vec<String> = (0..5000)
            .map(|n| {
                format!(
                    "{}_{}_{n}",
                    ["list", "get", "create"][n % 3],
                    ["issue", "mail", "file", "event"][n % 4]
                )
            })
            .collect();
        let index = Index::of(names.iter().map(|name| Document {
            name,
            title: "",
            description: "List or get or create issues, mails, files and events of the team.",
            parameters: &[],
            upstream: "tools of the team",
            tags: &[],
        }));
        let started = Instant::now();
        for _ in 0..10 {
            assert_eq!(
                index.search("please create a new event for the team and list the files", 50).len(),
                50
            );
        }
        let took = started.elapsed() / 10;
        assert!(took < Duration::from_millis(100), "{took:?}");
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_search(
            tools in prop::collection::vec((any::<String>(), any::<String>()), 0..8),
            question in any::<String>(),
            limit in 0usize..10,
        ) {
            let documents = tools.iter().map(|(name, description)| Document {
                name, title: description, description, parameters: &[], upstream: name, tags: &[],
            });
            let index = Index::of(documents);
            let found = index.search(&question, limit);
            prop_assert!(found.len() <= limit.min(tools.len()));
            let again = index.search(&question, limit);
            prop_assert_eq!(&found, &again);
            for (name, _) in &tools {
                index.search(name, limit);
            }
        }
    }
}
