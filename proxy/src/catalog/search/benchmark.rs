//! How well the search finds: questions as people and models put them, over a thousand tools in English
//! and Chinese, all written for this.
//!
//! `tools/*.tsv`: a line with `@` names an upstream and its tags; below it stand its tools: name,
//! description, parameters. `questions.tsv`: a question, and the tools of which each is a right answer. A
//! question is answered if one of them is among the first five.
//!
//! The questions were written after the tools and before the search was tried on them, and were left as
//! they are: it was the search, and most of all its glossary, that changed where they weren't answered.
//! `unseen.tsv` has more of the same kind, written after that, which nothing was ever changed for: they
//! tell what the search is worth to others.

use std::collections::HashSet;

use super::{Document, Index};

const TOOLS: [&str; 6] = [
    include_str!("benchmark/tools/code.tsv"),
    include_str!("benchmark/tools/talk.tsv"),
    include_str!("benchmark/tools/data.tsv"),
    include_str!("benchmark/tools/ops.tsv"),
    include_str!("benchmark/tools/business.tsv"),
    include_str!("benchmark/tools/life.tsv"),
];
const CHINESE_TOOLS: &str = include_str!("benchmark/tools/chinese.tsv");
const QUESTIONS: &str = include_str!("benchmark/questions.tsv");
const UNSEEN: &str = include_str!("benchmark/unseen.tsv");

/// Of so many tools that are shown, one is to be right.
const SHOWN: usize = 5;
/// The share of questions that are to be answered, in percent.
const RECALL_MIN: usize = 90;
/// The same of those that the search has never seen.
const UNSEEN_RECALL_MIN: usize = 85;

struct Tool {
    name: &'static str,
    description: &'static str,
    parameters: Vec<String>,
    upstream: &'static str,
    tags: Vec<String>,
}

fn tools() -> Vec<Tool> {
    let mut tools = Vec::new();
    let (mut upstream, mut tags) = ("", Vec::new());
    for line in TOOLS.into_iter().chain([CHINESE_TOOLS]).flat_map(str::lines) {
        let mut columns = line.split('\t');
        let (first, second) = (columns.next().unwrap_or_default(), columns.next().expect("a second column"));
        if let Some(name) = first.strip_prefix('@') {
            (upstream, tags) = (name, second.split(' ').map(str::to_owned).collect());
            continue;
        }
        let parameters = columns.next().unwrap_or_default().split(',').map(str::to_owned).collect();
        tools.push(Tool { name: first, description: second, parameters, upstream, tags: tags.clone() });
    }
    tools
}

/// What a thousand tools say of themselves, for whoever wants ordinary texts.
pub(crate) fn descriptions() -> Vec<&'static str> {
    tools().iter().map(|tool| tool.description).collect()
}

fn index(tools: &[Tool]) -> Index {
    Index::of(tools.iter().map(|tool| Document {
        name: tool.name,
        title: "",
        description: tool.description,
        parameters: &tool.parameters,
        upstream: tool.upstream,
        tags: &tool.tags,
    }))
}

fn questions(text: &'static str) -> Vec<(&'static str, Vec<&'static str>)> {
    let line = |line: &'static str| {
        let (question, answers) = line.split_once('\t').expect("a question and its answers");
        (question, answers.split(' ').collect())
    };
    text.lines().map(line).collect()
}

fn is_chinese(text: &str) -> bool {
    text.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter))
}

#[test]
fn the_benchmark_is_what_it_says() {
    let tools = tools();
    let names: HashSet<&str> = tools.iter().map(|tool| tool.name).collect();
    assert_eq!(names.len(), tools.len(), "names are unique");
    assert!(tools.len() >= 1000, "{} tools", tools.len());
    let upstreams: HashSet<&str> = tools.iter().map(|tool| tool.upstream).collect();
    assert!(upstreams.len() >= 40, "{} upstreams", upstreams.len());
    let questions = questions(QUESTIONS);
    assert!(questions.len() >= 300, "{} questions", questions.len());
    let chinese = questions.iter().filter(|(question, _)| is_chinese(question)).count();
    assert!(chinese * 3 >= questions.len(), "{chinese} are Chinese");
    for (question, answers) in questions.iter().chain(&self::questions(UNSEEN)) {
        for answer in answers {
            assert!(names.contains(answer), "{question}: there is no {answer}");
        }
    }
}

#[test]
fn nine_of_ten_questions_are_answered_among_the_first_five() {
    let recall = recall(QUESTIONS);
    assert!(recall >= RECALL_MIN, "{recall} %");
}

#[test]
fn questions_that_the_search_has_never_seen_are_answered_as_well() {
    let recall = recall(UNSEEN);
    assert!(recall >= UNSEEN_RECALL_MIN, "{recall} %");
}

/// The share of questions that are answered, in percent, rounded down; the rest is printed.
fn recall(text: &'static str) -> usize {
    let tools = tools();
    let index = index(&tools);
    let questions = questions(text);
    // Without Chinese, and with.
    let (mut asked, mut answered, mut first) = ([0, 0], [0, 0], 0);
    for (question, answers) in &questions {
        let found = index.search(question, SHOWN);
        let place = found.iter().position(|name| answers.contains(&&***name));
        let language = usize::from(is_chinese(question));
        asked[language] += 1;
        answered[language] += usize::from(place.is_some());
        first += usize::from(place == Some(0));
        if place.is_none() {
            println!("not found: {question}: {answers:?}, but {found:?}");
        }
    }
    let total = answered[0] + answered[1];
    println!(
        "recall@{SHOWN}: {total} of {} ({}‰); without Chinese {} of {}, with {} of {}; first: {first}",
        questions.len(),
        total * 1000 / questions.len(),
        answered[0],
        asked[0],
        answered[1],
        asked[1]
    );
    total * 100 / questions.len()
}
