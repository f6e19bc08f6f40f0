//! How an index is made of the words of its tools.

use std::collections::HashMap;
use std::sync::Arc;

use super::words::terms;
use super::{Document, Index, Posting};

/// How fast more of a word stops counting more (a usual value).
const K1: f32 = 2.0;
/// How much a long field weakens its words. Less than usual: a long description isn't about less.
const B: f32 = 0.4;

/// Characters of a description that are indexed. What a tool does stands at the beginning; a manual
/// further down is found for everything.
const DESCRIPTION_CHARS_MAX: usize = 2000;
/// Parameters of a tool that are indexed.
const PARAMETERS_MAX: usize = 64;
/// The fields, with what a word in each counts.
const FIELDS: usize = 5;
const WEIGHTS: [f32; FIELDS] = [2.2, 1.5, 1.0, 0.35, 0.9];

/// An index while it is made.
#[derive(Default)]
pub(super) struct Building {
    terms: HashMap<Box<str>, u32>,
    /// How often each term stands in each field of each tool.
    counts: Vec<HashMap<u32, [u16; FIELDS]>>,
    lengths: Vec<[u32; FIELDS]>,
}

impl Building {
    pub(super) fn add(&mut self, document: &Document<'_>) {
        let mut counts = HashMap::new();
        let mut lengths = [0; FIELDS];
        let description = document.description;
        let end =
            description.char_indices().nth(DESCRIPTION_CHARS_MAX).map_or(description.len(), |(end, _)| end);
        let mut field = |field: usize, text: &str| {
            terms(text, |term| {
                let fresh = u32::try_from(self.terms.len()).unwrap_or(u32::MAX);
                let number = match self.terms.get(term) {
                    Some(number) => *number,
                    None => *self.terms.entry(term.into()).or_insert(fresh),
                };
                let count: &mut [u16; FIELDS] = counts.entry(number).or_default();
                count[field] = count[field].saturating_add(1);
                lengths[field] += 1;
            });
        };
        field(0, document.name);
        field(1, document.title);
        field(2, &description[..end]);
        document.parameters.iter().take(PARAMETERS_MAX).for_each(|name| field(3, name));
        field(4, document.upstream);
        document.tags.iter().for_each(|tag| field(4, tag));
        self.counts.push(counts);
        self.lengths.push(lengths);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of words and tools are far below 2^24")]
    pub(super) fn finish(self, names: Vec<Arc<str>>) -> Index {
        let documents = self.counts.len().max(1) as f32;
        let mut averages = [0.0_f32; FIELDS];
        for lengths in &self.lengths {
            averages.iter_mut().zip(lengths).for_each(|(sum, length)| *sum += *length as f32 / documents);
        }
        let mut ordered: Vec<(Box<str>, u32)> = self.terms.into_iter().collect();
        ordered.sort_unstable();
        let mut place = vec![0u32; ordered.len()];
        for (n, (_, number)) in (0u32..).zip(&ordered) {
            place[*number as usize] = n;
        }
        let mut by_term: Vec<Vec<Posting>> = vec![Vec::new(); ordered.len()];
        for (document, (counts, lengths)) in (0u32..).zip(self.counts.iter().zip(&self.lengths)) {
            for (number, counts) in counts {
                let mut weighted = 0.0;
                for field in 0..FIELDS {
                    let norm = 1.0 - B + B * lengths[field] as f32 / averages[field].max(1.0);
                    weighted += WEIGHTS[field] * f32::from(counts[field]) / norm;
                }
                let score = weighted * (K1 + 1.0) / (weighted + K1);
                by_term[place[*number as usize] as usize].push(Posting { document, score });
            }
        }
        let mut starts = Vec::with_capacity(by_term.len() + 1);
        let mut postings = Vec::with_capacity(by_term.iter().map(Vec::len).sum());
        for term in by_term {
            starts.push(u32::try_from(postings.len()).unwrap_or(u32::MAX));
            let having = term.len() as f32;
            let rarity = (1.0 + (documents - having + 0.5) / (having + 0.5)).ln();
            postings
                .extend(term.into_iter().map(|posting| Posting { score: posting.score * rarity, ..posting }));
        }
        starts.push(u32::try_from(postings.len()).unwrap_or(u32::MAX));
        let vocabulary = ordered.into_iter().map(|(term, _)| term).collect();
        Index { vocabulary, starts, postings, names }
    }
}
