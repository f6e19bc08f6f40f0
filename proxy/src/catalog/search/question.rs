//! A question as what is looked for: its words, and for each every way to say it.

use super::Index;
use super::glossary::{GLOSSARY, Meaning};
use super::stem::stem;
use super::words::{Run, runs};

/// Characters of a question that are looked at: nobody asks for longer, and its cost is bounded.
const QUERY_CHARS_MAX: usize = 400;
/// Words of a question that are looked at, for the same reason.
const GROUPS_MAX: usize = 40;
/// Words of a question that may be misspelt: for each, every word of the index is looked at.
const GUESSES_MAX: usize = 12;

/// What a word counts that means the same as the one asked for, in the same language.
const SYNONYM: f32 = 0.7;
/// The same in the other language, where the asked word itself can hardly stand.
const TRANSLATION: f32 = 0.75;
/// Two words that are one to the tool, or the other way around.
const JOINED: f32 = 0.9;
/// A word that is a letter away.
const TYPO: f32 = 0.6;
/// A pair of Chinese characters that no dictionary knows as a word.
const PAIR: f32 = 0.7;
/// A Chinese character alone.
const LETTER: f32 = 0.4;
/// A word that says little.
const LIGHT: f32 = 0.45;
/// That something is asked, for tools that tell something.
const ASKED: f32 = 0.3;
/// A word of a question: every way to say it, of which the best counts.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) weight: f32,
    pub(super) terms: Vec<(u32, f32)>,
    /// Ways that need several terms, which all must be there.
    pub(super) phrases: Vec<(Vec<u32>, f32)>,
}

impl Index {
    /// The words of a question, widened. Words that no tool has in any way still count as asked.
    pub(super) fn groups(&self, question: &str) -> Vec<Group> {
        let end = question.char_indices().nth(QUERY_CHARS_MAX).map_or(question.len(), |(end, _)| end);
        let mut groups = Vec::new();
        let mut words: Vec<&str> = Vec::new();
        let runs = runs(&question[..end]);
        for run in &runs {
            match run {
                Run::Word(word) => words.push(word),
                Run::Dense(letters) => {
                    self.english(&std::mem::take(&mut words), &mut groups);
                    self.chinese(letters, &mut groups);
                }
            }
        }
        self.english(&words, &mut groups);
        if runs.iter().any(Run::is_asking) {
            let mut group = Group::new(ASKED);
            GLOSSARY.telling.iter().for_each(|term| self.add(&mut group, term, 1.0));
            groups.push(group);
        }
        groups.truncate(GROUPS_MAX);
        groups
    }

    fn english(&self, words: &[&str], groups: &mut Vec<Group>) {
        let stems: Vec<String> = words.iter().map(|word| stem(word).into_owned()).collect();
        // Where the group of each word is; those that say nothing have none.
        let mut places: Vec<(usize, Option<usize>)> = Vec::new();
        for (n, (word, stem)) in words.iter().zip(&stems).enumerate() {
            if GLOSSARY.is_empty(word) {
                places.push((n, None));
                continue;
            }
            let mut group = Group::new(if GLOSSARY.is_light(word) { LIGHT } else { 1.0 });
            self.add(&mut group, stem, 1.0);
            for meaning in GLOSSARY.english(stem) {
                self.widen(&mut group, meaning, SYNONYM, TRANSLATION);
            }
            if group.is_silent() && groups.len() < GUESSES_MAX {
                self.guess(&mut group, stem);
            }
            places.push((n, Some(groups.len())));
            groups.push(group);
        }
        // Two words that mean something together: neighbours, some of which say nothing alone (`sign in`),
        // and those with nothing between them that says something (`place to stay`).
        let spoken: Vec<_> = places.iter().copied().filter(|(_, place)| place.is_some()).collect();
        for pair in places.windows(2).chain(spoken.windows(2)) {
            let (one, other) = (pair[0], pair[1]);
            let (a, b) = (&stems[one.0], &stems[other.0]);
            let joined = self.term(&format!("{a}{b}")).filter(|_| a.len() + b.len() > 3);
            let both = format!("{a} {b}");
            for place in [one.1, other.1].into_iter().flatten() {
                let group = &mut groups[place];
                group.terms.extend(joined.map(|term| (term, JOINED)));
                for meaning in GLOSSARY.english(&both) {
                    // Together they say more than either did.
                    group.weight = group.weight.max(1.0);
                    self.widen(group, meaning, JOINED, TRANSLATION);
                }
            }
        }
    }

    /// A stretch of Chinese: first the words that the glossary knows, then pairs of what is between them.
    fn chinese(&self, letters: &[char], groups: &mut Vec<Group>) {
        let mut unknown = 0;
        let mut at = 0;
        while at < letters.len() {
            let Some((length, meanings)) = GLOSSARY.chinese(&letters[at..]) else {
                at += 1;
                continue;
            };
            self.unknown(&letters[unknown..at], groups);
            let word = &letters[at..at + length];
            let mut meanings = meanings.peekable();
            if meanings.peek().is_some() {
                let mut widened = Group::default();
                for meaning in meanings {
                    self.widen(&mut widened, meaning, TRANSLATION, SYNONYM);
                }
                let is_light = GLOSSARY.is_light(&word.iter().collect::<String>());
                // A character alone is most often a part of a longer word.
                let weight = if is_light || length == 1 { LIGHT } else { 1.0 };
                self.dense(word, weight, &widened, groups);
            }
            at += length;
            unknown = at;
        }
        self.unknown(&letters[unknown..], groups);
    }

    fn unknown(&self, letters: &[char], groups: &mut Vec<Group>) {
        for pair in letters.windows(2) {
            self.dense(pair, PAIR, &Group::default(), groups);
        }
        if letters.len() == 1 {
            self.dense(letters, LETTER, &Group::default(), groups);
        }
    }

    /// A Chinese word as its pairs, which together count as one word.
    fn dense(&self, word: &[char], weight: f32, widened: &Group, groups: &mut Vec<Group>) {
        let size = word.len().min(2);
        let pairs = word.windows(size);
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let share = weight / pairs.len() as f32;
        for pair in pairs {
            let mut group =
                Group { weight: share, terms: widened.terms.clone(), phrases: widened.phrases.clone() };
            self.add(&mut group, &pair.iter().collect::<String>(), 1.0);
            groups.push(group);
        }
    }

    fn add(&self, group: &mut Group, term: &str, weight: f32) {
        group.terms.extend(self.term(term).map(|term| (term, weight)));
    }

    fn widen(&self, group: &mut Group, meaning: &Meaning, english: f32, chinese: f32) {
        for stems in &meaning.english {
            self.phrase(group, stems.iter().cloned(), english);
        }
        for phrase in &meaning.chinese {
            let size = phrase.len().min(2);
            let weight = if size == 1 { chinese * LETTER } else { chinese };
            self.phrase(group, phrase.windows(size).map(|pair| pair.iter().collect()), weight);
        }
    }

    fn phrase(&self, group: &mut Group, texts: impl Iterator<Item = String>, weight: f32) {
        let Some(terms) = texts.map(|text| self.term(&text)).collect::<Option<Vec<u32>>>() else { return };
        match terms[..] {
            [] => {}
            [term] => group.terms.push((term, weight)),
            _ => group.phrases.push((terms, weight)),
        }
    }

    /// What may be meant by a word that no tool has: two words written as one, or a slip of the finger.
    fn guess(&self, group: &mut Group, unknown: &str) {
        if unknown.len() < 5 {
            return;
        }
        for (at, _) in unknown.char_indices().skip(3) {
            let (head, tail) = unknown.split_at(at);
            if let (Some(head), Some(tail)) = (self.term(&stem(head)), self.term(tail))
                && unknown.len() - at >= 3
            {
                group.terms.extend([(head, JOINED), (tail, JOINED)]);
            }
        }
        let first = unknown.chars().next();
        for (n, term) in (0u32..).zip(&self.vocabulary) {
            if term.chars().next() == first && is_near(term, unknown) {
                group.terms.push((n, TYPO));
            }
        }
    }
}

impl Group {
    fn new(weight: f32) -> Self {
        Self { weight, ..Self::default() }
    }

    fn is_silent(&self) -> bool {
        self.terms.is_empty() && self.phrases.is_empty()
    }
}

/// Whether one letter too many, too few, another or two exchanged make one text of the other.
fn is_near(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let (one, other) = (&one[same..], &other[same..]);
    match (one, other) {
        ([], []) => true,
        ([a, b, one @ ..], [c, d, other @ ..]) if (a, b, one) == (d, c, other) => true,
        ([_, rest @ ..], _) if rest == other => true,
        (_, [_, rest @ ..]) if rest == one => true,
        ([_, one @ ..], [_, other @ ..]) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_away_is_near() {
        for (a, b) in [
            ("weather", "wether"),
            ("weather", "waether"),
            ("weather", "weathers"),
            ("mail", "maik"),
            ("a", "a"),
        ] {
            assert!(is_near(a, b) && is_near(b, a), "{a} {b}");
        }
        for (a, b) in [("weather", "feature"), ("mail", "lima"), ("ab", "ba c"), ("abcd", "acbe")] {
            assert!(!is_near(a, b) && !is_near(b, a), "{a} {b}");
        }
    }
}
