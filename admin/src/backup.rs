//! A backup of everything an admin configured, as one JSON document: `mpg-backup/v1`.
//!
//! Reading order: `document` writes one; `envelope` holds its secrets, under a passphrase or not at all; `read`
//! checks one that came back, all of it, before anything is done; `restore` makes the store say what it says; `desk`
//! is how the REST API and the commands go about either.
//!
//! A backup is strict. Its digest covers every value, so that one that was altered, or cut short, is refused. It
//! holds keys as hashes, nothing of the admins, and no secret in the clear (threat T29). Restoring never makes or
//! changes an admin.

mod desk;
mod document;
mod envelope;
mod read;
mod restore;

use serde_json::{Map, Number, Value};

pub(crate) use self::desk::{NotChecked, Policy, checked, exported, restore, restored};
pub(crate) use self::document::{Contents, document};
pub use self::envelope::{PASSPHRASE_CHARS_MAX, PASSPHRASE_CHARS_MIN};
pub(crate) use self::read::{Backup, Refused};
pub(crate) use self::restore::NotRestored;
pub use self::restore::{Change, Mode, Restored};

/// What every backup of this form says it is.
const FORMAT: &str = "mpg-backup/v1";

/// The member that covers the others.
const DIGEST: &str = "sha256";

/// The largest backup, in bytes: 10,000 upstreams with their names are about half of it.
pub const BACKUP_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Items of each kind in a backup: far beyond any installation, and quick to check.
const ITEMS_MAX: usize = 100_000;

/// SHA-256, in hex, of a value with its members in order: however it was laid out, the same value has the same.
pub(crate) fn digest(value: &Value) -> String {
    let text = sorted(value).to_string();
    hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
}

/// The value with the members of every object in the order of their names, and whole numbers without a fraction:
/// a program that reads and writes a backup may spell `2.0` as `2`.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            let pairs = names.into_iter().filter_map(|name| Some((name.clone(), sorted(members.get(name)?))));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Number(number) => whole(number).map_or_else(|| value.clone(), Value::from),
        value => value.clone(),
    }
}

/// A number with a fraction of nothing.
fn whole(number: &Number) -> Option<i64> {
    let real = number.as_f64().filter(|_| number.is_f64())?;
    // As text, since no cast between the two is exact for all.
    format!("{real:.0}").parse().ok().filter(|_| real.fract() == 0.0)
}

/// What stands in a backup where a secret was.
fn secret_mark() -> Value {
    serde_json::json!({"secret": true})
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        // One way to write it, so that equal backups are equal texts.
        .map(|c| {
            c.to_digit(16).filter(|_| !c.is_ascii_uppercase()).and_then(|digit| u8::try_from(digit).ok())
        })
        .collect();
    let digits = digits?;
    (digits.len() % 2 == 0).then(|| digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn however_it_was_written_the_same_value_has_the_same_digest() {
        let ours = json!({"b": 2.0, "a": [1.5, {"d": -3.0, "c": "2.0"}], "e": 1e300});
        let theirs: Value =
            serde_json::from_str(r#"{ "e": 1e300, "a": [1.5, {"c": "2.0", "d": -3}], "b": 2 }"#).unwrap();
        assert_eq!(digest(&ours), digest(&theirs));
        for other in [json!({"b": "2.0"}), json!({"b": 2.5})] {
            assert_ne!(digest(&json!({"b": 2})), digest(&other));
        }
    }
}
