//! Words of tools that mean the same, in English and Chinese.
//!
//! Who asks for a tool seldom uses the words of its author: one says `remove`, the other `delete`, a
//! third 删除. `glossary.tsv` has a line for each meaning: English words, a tab, Chinese ones. A word may
//! have several meanings, and a line several words joined by `_`. An entry with `~` is understood but not looked for,
//! since in most tools it means something else: `share` may be a stock, but `share_file` has none. The glossary widens what is asked and
//! never what is searched, so that what a tool says of itself counts most.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::stem::stem;

/// Longest Chinese entry, in characters: what segmentation looks ahead.
pub(super) const PHRASE_CHARS_MAX: usize = 6;

/// English words that say nothing of what is wanted.
const EMPTY_WORDS: &str = "a an the this that these those there here it its i me my mine we us our you your he \
    she his her they them their to of in on at by for from with into onto about as is are was were be been am \
    do does did done doing can could would should will shall may might must have has had having and or but if so \
    then than please just want wanted need needs needed like let lets help how what which who whom whose when \
    where why some any all every each there s t d ll re ve m not no yes also too very up out off \
    using use used via give given tell able currently right now something someone thing things tool tools \
    whether because after before between across per over under through during";

/// Words that say little: any tool does something, now or then.
const LIGHT_WORDS: &str = "make take give bring put tell say see go look come keep hold find show new next last first own \
    team people person somebody everybody today tomorrow tonight yesterday day week weekend month year hour minute time \
    monday tuesday wednesday thursday friday saturday sunday two three four five ten hundred thousand more most best \
    good big much many set latest recent google";

/// The same in Chinese.
const LIGHT_PHRASES: &str = "今天 今日 明天 明日 昨天 今晚 晚上 早上 上午 下午 周五 周一 周末 本周 这周 下周 本月 这个月 月份 上个月 \
    新 最近 最新 近期 做 搞 弄 找 看 查 搜 改 加 三 五 好 公司 同事 大家 线上";

/// Words of a question that wants to know something rather than have it changed.
const ASKING_WORDS: &str = "what which who whose when where how any list show";

/// The same in Chinese.
const ASKING_PHRASES: &str =
    "什么 哪些 哪个 有哪些 有没有 多少 几 怎么样 如何 谁 查一下 看看 看一下 查 吗 好不好";

/// What tools that tell something do.
const TELLING: &str = "get list search query show fetch 查询 获取 列出 查看 搜索";

/// The same in Chinese, of words that say nothing. Longest first isn't needed: the longest match wins.
const EMPTY_PHRASES: &str = "的 了 吗 呢 吧 啊 我 你 您 他 她 它 我们 你们 他们 我的 你的 请 请问 请帮 请帮我 帮 帮我 帮忙 帮我们 \
    把 将 给 给我 在 里 里面 中 上 下 是 有 有没有 有哪些 哪些 哪个 什么 怎么 怎样 如何 为什么 多少 几 个 一个 一下 一份 一条 \
    一张 一些 一篇 一封 一段 这 那 这个 那个 这些 那些 这段 这张 这份 这篇 这条 这封 所有 全部 每个 想 想要 我想 我要 要 需要 \
    可以 能 能不能 能否 和 与 或 以及 并 从 到 对 用 使用 通过 关于 以 为 让 使 被 还 也 都 就 再 现在 目前 当前 某 某个 \
    指定 相关 进行 一 之 其 该 此 个人 工具 看看 看一下 查一下 帮忙看 下面 里的 上的 中的 叫 叫做 名为 名叫";

/// One meaning.
pub(super) struct Meaning {
    /// English: each entry as the stems of its words.
    pub(super) english: Vec<Vec<String>>,
    /// Chinese.
    pub(super) chinese: Vec<Vec<char>>,
}

/// Everything, found by word.
pub(super) struct Glossary {
    meanings: Vec<Meaning>,
    /// By stems joined with a space.
    by_english: HashMap<String, Vec<usize>>,
    by_chinese: HashMap<Vec<char>, Vec<usize>>,
    empty_words: HashSet<&'static str>,
    light_words: HashSet<&'static str>,
    asking_words: HashSet<&'static str>,
    /// What tools that tell something do, as terms.
    pub(super) telling: Vec<String>,
}

/// Read once.
pub(super) static GLOSSARY: LazyLock<Glossary> =
    LazyLock::new(|| Glossary::read(include_str!("glossary.tsv")));

impl Glossary {
    fn read(text: &str) -> Self {
        let mut glossary = Self {
            meanings: Vec::new(),
            by_english: HashMap::new(),
            by_chinese: HashMap::new(),
            empty_words: EMPTY_WORDS.split_whitespace().collect(),
            light_words: words(LIGHT_WORDS, LIGHT_PHRASES).collect(),
            asking_words: words(ASKING_WORDS, ASKING_PHRASES).collect(),
            telling: TELLING.split_whitespace().map(|word| stem(word).into_owned()).collect(),
        };
        for phrase in words(EMPTY_PHRASES, ASKING_PHRASES).chain(LIGHT_PHRASES.split_whitespace()) {
            glossary.by_chinese.entry(phrase.chars().collect()).or_default();
        }
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (english, chinese) = line.split_once('\t').unwrap_or((line, ""));
            let n = glossary.meanings.len();
            let mut meaning = Meaning { english: Vec::new(), chinese: Vec::new() };
            for entry in english.split_whitespace() {
                let bare = entry.trim_start_matches('~');
                let stems: Vec<String> = bare.split('_').map(|word| stem(word).into_owned()).collect();
                glossary.by_english.entry(stems.join(" ")).or_default().push(n);
                if bare == entry {
                    meaning.english.push(stems);
                }
            }
            for entry in chinese.split_whitespace() {
                let bare = entry.trim_start_matches('~');
                let phrase: Vec<char> = bare.chars().collect();
                glossary.by_chinese.entry(phrase.clone()).or_default().push(n);
                if bare == entry {
                    meaning.chinese.push(phrase);
                }
            }
            glossary.meanings.push(meaning);
        }
        glossary
    }

    /// Whether a word in lower case says nothing of what is wanted.
    pub(super) fn is_empty(&self, word: &str) -> bool {
        self.empty_words.contains(word)
    }

    /// Whether it says little.
    pub(super) fn is_light(&self, word: &str) -> bool {
        self.light_words.contains(word)
    }

    /// Whether who says it wants to know something.
    pub(super) fn is_asking(&self, word: &str) -> bool {
        self.asking_words.contains(word)
    }

    /// What stems, joined with a space, mean.
    pub(super) fn english(&self, stems: &str) -> impl Iterator<Item = &Meaning> {
        self.by_english.get(stems).into_iter().flatten().map(|n| &self.meanings[*n])
    }

    /// The longest entry that `letters` begin with, in characters, and what it means: nothing, where it
    /// is one that says nothing of what is wanted.
    pub(super) fn chinese<'a>(
        &'a self,
        letters: &[char],
    ) -> Option<(usize, impl Iterator<Item = &'a Meaning> + use<'a>)> {
        let longest = letters.len().min(PHRASE_CHARS_MAX);
        let (length, found) = (1..=longest)
            .rev()
            .find_map(|length| Some((length, self.by_chinese.get(&letters[..length])?)))?;
        Some((length, found.iter().map(|n| &self.meanings[*n])))
    }
}

fn words(english: &'static str, chinese: &'static str) -> impl Iterator<Item = &'static str> {
    english.split_whitespace().chain(chinese.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_well_formed_and_no_word_stands_twice_in_it() {
        for (n, line) in include_str!("glossary.tsv").lines().enumerate() {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            assert!(words.len() > 1, "line {}: {line}", n + 1);
            assert_eq!(line.matches('\t').count(), 1, "line {}: {line}", n + 1);
            let (english, chinese) = line.split_once('\t').expect("a tab");
            assert!(english.is_ascii() && english == english.to_lowercase(), "line {}: {line}", n + 1);
            assert!(chinese.split_whitespace().all(|phrase| phrase.chars().count() <= PHRASE_CHARS_MAX));
            words.sort_unstable();
            words.dedup();
            assert_eq!(words.len(), line.split_whitespace().count(), "line {}: {line}", n + 1);
        }
    }

    #[test]
    fn the_longest_entry_wins() {
        let letters: Vec<char> = "日历事件".chars().collect();
        let (length, meanings) = GLOSSARY.chinese(&letters).expect("it is known");
        assert_eq!(length, 2);
        assert!(meanings.flat_map(|meaning| &meaning.english).any(|english| english == &["calendar"]));
        assert!(GLOSSARY.chinese(&['鱻']).is_none());
    }
}
