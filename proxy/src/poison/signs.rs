//! The signs of deception in one text, and the text without them.

use std::sync::LazyLock;

use regex::Regex;

/// Characters of one text. Descriptions of honest tools have a few thousand at most; more is a place to hide.
const TEXT_CHARS_MAX: usize = 8_192;

/// Taking one thing out may put another together; after so many rounds a text is emptied.
const ROUNDS_MAX: usize = 8;

/// What is hidden or dressed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Characters that nobody sees: zero-width ones, tags, runs of variation selectors.
    Invisible,
    /// Characters that turn the direction of the text.
    Direction,
    /// Terminal escapes, and other control characters.
    Control,
    /// A comment of HTML.
    Comment,
    /// Marks of a system's own words, such as `<IMPORTANT>`.
    Marker,
    /// What only a model is told: to ignore what it was told, to keep something from its user.
    Order,
    /// More text than a description has.
    TooLong,
    /// Deeper than is looked.
    TooDeep,
}

impl Sign {
    /// Every sign.
    pub const ALL: [Self; 8] = [
        Self::Invisible,
        Self::Direction,
        Self::Control,
        Self::Comment,
        Self::Marker,
        Self::Order,
        Self::TooLong,
        Self::TooDeep,
    ];

    /// The code of its finding.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Invisible => "INVISIBLE_TEXT",
            Self::Direction => "TEXT_DIRECTION",
            Self::Control => "CONTROL_CHARACTERS",
            Self::Comment => "HTML_COMMENT",
            Self::Marker => "PROMPT_MARKER",
            Self::Order => "PROMPT_ORDER",
            Self::TooLong => "TEXT_TOO_LONG",
            Self::TooDeep => "TOO_DEEP",
        }
    }

    /// The same for a person.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Invisible => "it has characters that nobody sees and a model reads",
            Self::Direction => "it has characters that turn the direction of text",
            Self::Control => "it has control characters or terminal escapes",
            Self::Comment => "it has a comment of HTML, which a model reads",
            Self::Marker => "it has marks of a system's own words, such as <IMPORTANT>",
            Self::Order => "it tells a model to ignore what it was told, or to keep something from its user",
            Self::TooLong => "it has a text of more than 8192 characters",
            Self::TooDeep => "it is nested deeper than can be looked through",
        }
    }
}

/// Terminal escapes with their parameters (ECMA-48), then whatever else is a control character but for white space.
static CONTROL: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"(?:\x1b\[|\x{9b})[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}]",
    )
});

static DIRECTION: LazyLock<Regex> = LazyLock::new(|| compiled(r"[\x{202a}-\x{202e}\x{2066}-\x{2069}]"));

/// Tags (Unicode block E0000) and the supplementary variation selectors carry text; the others of these have no
/// shape. A single variation selector after a character is how emoji are written.
static INVISIBLE: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"[\x{200b}\x{2060}-\x{2064}\x{feff}\x{180e}\x{115f}\x{1160}\x{3164}\x{ffa0}\x{e0000}-\x{e01ef}]|[\x{fe00}-\x{fe0f}]{2,}",
    )
});

/// Joiners belong between letters of some scripts and within emoji: never between what is plain ASCII, and never
/// two in a row.
static JOINER: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"(^|[\x00-\x7f])[\x{200c}\x{200d}]+($|[\x00-\x7f])|[\x{200c}\x{200d}]{2,}"));

/// A comment that doesn't end hides all that follows.
static COMMENT: LazyLock<Regex> = LazyLock::new(|| compiled(r"(?s)<!--.*?(?:--!?>|$)"));

/// Words in which the prompts of models mark what is theirs, and which nobody uses as a mere placeholder.
const MARKED: [&str; 4] = ["important", "instruction", "instructions", "critical"];

/// The same, which some use so: they count where they enclose something.
const ENCLOSING: [&str; 5] = ["system", "secret", "hidden", "assistant", "override"];

/// Marks with what they enclose, then those that stand alone.
static MARKER: LazyLock<Regex> = LazyLock::new(|| {
    let words = MARKED.iter().chain(&ENCLOSING);
    let enclosed: Vec<_> =
        words.map(|word| format!(r"<\s*{word}\b[^>]{{0,64}}>.*?<\s*/\s*{word}\s*>")).collect();
    let (enclosed, alone) = (enclosed.join("|"), MARKED.join("|"));
    compiled(&format!(
        r"(?is){enclosed}|<\s*/?\s*(?:{alone})\b[^>]{{0,64}}>|<\|[a-z_]{{1,32}}\|>|\[/?inst\]|<</?sys>>"
    ))
});

static ORDER: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"(?ix)\b(?:ignore|disregard|forget|override)\s+(?:(?:all|any|the|your|of|these)\s+){0,3}
            (?:previous|prior|above|earlier|preceding|system)\s+(?:instruction|prompt|rule|message|direction)s?\b
        |\b(?:do\s+not|don['’]t|never|without)\s+(?:(?:tell|telling|mention|mentioning|inform|informing|reveal|
            revealing|notify|notifying|show|showing|explain|explaining)\s+)(?:(?:this|it|that|any|of|to)\s+){0,3}
            (?:the\s+)?user\b
        |(?:忽略|无视|忘记)(?:之前|以上|先前|上述|前面)的?(?:所有|全部)?的?(?:指令|指示|提示|规则)
        |不要(?:告诉|告知|通知|提醒)用户",
    )
});

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a literal of ours is a pattern")
}

/// What a text may have of, by its bytes alone: most texts are short or plain, and aren't matched at all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Control characters, or anything beyond ASCII.
    Unprintable,
    /// Anything beyond ASCII.
    Foreign,
    /// Brackets.
    Brackets,
    /// Enough to say anything.
    Words,
}

impl Where {
    fn is_in(self, text: &str) -> bool {
        let has = |is_one: fn(u8) -> bool| text.bytes().any(is_one);
        match self {
            Self::Unprintable => has(|byte| !byte.is_ascii() || byte.is_ascii_control()),
            Self::Foreign => !text.is_ascii(),
            Self::Brackets => has(|byte| matches!(byte, b'<' | b'[')),
            Self::Words => text.len() > WORDS_BYTES_MIN,
        }
    }
}

/// No order is shorter.
const WORDS_BYTES_MIN: usize = 15;

/// What is cut out for each sign, in the order in which it is.
fn patterns() -> [(Sign, Where, &'static LazyLock<Regex>); 7] {
    [
        (Sign::Control, Where::Unprintable, &CONTROL),
        (Sign::Direction, Where::Foreign, &DIRECTION),
        (Sign::Invisible, Where::Foreign, &INVISIBLE),
        (Sign::Invisible, Where::Foreign, &JOINER),
        (Sign::Comment, Where::Brackets, &COMMENT),
        (Sign::Marker, Where::Brackets, &MARKER),
        (Sign::Order, Where::Words, &ORDER),
    ]
}

/// The signs of a text, one perhaps twice.
pub(super) fn signs_of(text: &str) -> impl Iterator<Item = Sign> {
    let long = is_long(text).then_some(Sign::TooLong);
    let found =
        patterns().into_iter().filter(|(_, place, pattern)| place.is_in(text) && pattern.is_match(text));
    found.map(|(sign, ..)| sign).chain(long)
}

fn is_long(text: &str) -> bool {
    text.len() > TEXT_CHARS_MAX && text.chars().nth(TEXT_CHARS_MAX).is_some()
}

/// A text without any of them.
pub(super) fn clean(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..ROUNDS_MAX {
        if signs_of(&text).next().is_none() {
            return text;
        }
        for (.., pattern) in patterns() {
            // What a joiner stands beside stays; no other pattern has groups.
            text = pattern.replace_all(&text, "$1$2").into_owned();
        }
        if is_long(&text) {
            text = text.chars().take(TEXT_CHARS_MAX - 1).chain(['…']).collect();
        }
    }
    String::new()
}
