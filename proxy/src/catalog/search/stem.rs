//! English words without their endings, so that `creating` finds `create` and `queries` finds `query`.
//!
//! Light on purpose: a stem is only ever compared with other stems, so it needn't be a word, but two
//! words that mean different things must not meet often. What the endings don't show (`payment` and
//! `pay`) is for the glossary. Words beyond ASCII stay as they are.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// The shortest beginning that an ending may leave: below it the ending is most often part of the word
/// (`need`, `ring`, `bus`).
const REST_MIN: usize = 3;

/// Forms that no ending tells.
const IRREGULAR: &str = "paid pay|sent send|wrote write|written write|bought buy|sold sell|made make|found find|\
    got get|ran run|took take|taken take|gave give|given give|told tell|said say|kept keep|built build|held hold|\
    spent spend|broke break|broken break|chose choose|chosen choose|began begin|begun begin|went go|gone go|drove drive|\
    driven drive|flew fly|flown fly|slept sleep|met meet|lost lose|won win|drew draw|drawn draw|shown show|seen see|\
    saw see|hidden hide|hid hide|forgot forget|forgotten forget|read read|heard hear|spoke speak|spoken speak|\
    sang sing|ate eat|eaten eat|grew grow|knew know|known know|led lead|lent lend|rose rise|shot shoot|stole steal|\
    stolen steal|taught teach|thought think|understood understand|owed owe|children child|men man|women woman|\
    mice mouse|indices index|matrices matrix|analyses analysis";

static BY_FORM: LazyLock<HashMap<&str, &str>> =
    LazyLock::new(|| IRREGULAR.split('|').filter_map(|pair| pair.trim().split_once(' ')).collect());

/// The stem of a lower-case word.
pub(super) fn stem(word: &str) -> Cow<'_, str> {
    if word.len() < REST_MIN || !word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return word.into();
    }
    let word = BY_FORM.get(word).copied().unwrap_or(word);
    let singular = singular(word);
    let bare = without_suffix(&singular).unwrap_or(&singular);
    // What is left of `creating` and of `create` is the same only without the last letter.
    let bare = bare.strip_suffix('e').filter(|rest| rest.len() >= REST_MIN).unwrap_or(bare);
    match bare.strip_suffix('y').filter(|rest| rest.len() >= REST_MIN) {
        Some(rest) => format!("{rest}i").into(),
        None if bare.len() == word.len() => word.into(),
        None => bare.to_owned().into(),
    }
}

fn singular(word: &str) -> Cow<'_, str> {
    if let Some(rest) = word.strip_suffix("ies").filter(|rest| rest.len() >= 2) {
        return format!("{rest}y").into();
    }
    for ending in ["sses", "shes", "ches", "xes", "zes"] {
        if word.ends_with(ending) {
            return word[..word.len() - 2].into();
        }
    }
    match word.strip_suffix('s') {
        Some(rest) if !rest.ends_with(['s', 'u', 'i']) && rest.len() >= REST_MIN => rest.into(),
        _ => word.into(),
    }
}

fn without_suffix(word: &str) -> Option<&str> {
    // `creation`, `deletion`: the `t` belongs to the verb.
    if let Some(rest) = word.strip_suffix("ion").filter(|rest| rest.ends_with('t') && rest.len() > REST_MIN) {
        return Some(rest);
    }
    let rest = word.strip_suffix("ing").or_else(|| word.strip_suffix("ed"))?;
    if rest.len() < REST_MIN || !rest.bytes().any(|byte| b"aeiouy".contains(&byte)) {
        return None;
    }
    // `running`, but not `billing`.
    let [.., before, last] = rest.as_bytes() else { return Some(rest) };
    let is_doubled = before == last && !b"aeioulsz".contains(last);
    Some(if is_doubled { &rest[..rest.len() - 1] } else { rest })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_of_one_word_have_one_stem() {
        for forms in [
            &["create", "creates", "created", "creating", "creation"][..],
            &["query", "queries", "querying", "queried"],
            &["file", "files", "filing"],
            &["run", "runs", "running"],
            &["bill", "bills", "billed", "billing"],
            &["branch", "branches"],
            &["delete", "deleting", "deletion"],
            &["search", "searches", "searched", "searching"],
            &["address", "addresses"],
            &["box", "boxes"],
        ] {
            let first = stem(forms[0]);
            for form in forms {
                assert_eq!(stem(form), first, "{form}");
            }
        }
    }

    #[test]
    fn what_only_looks_like_an_ending_stays() {
        for word in ["need", "ring", "bus", "status", "access", "is", "s3", "größen", "feed", "string"] {
            assert_eq!(stem(word), word);
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_stem(word in any::<String>()) {
            prop_assert!(stem(&word).len() <= word.len());
        }
    }
}
