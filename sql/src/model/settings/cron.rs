//! Whether a text can be a schedule. Shallow: the scheduler itself has the last word.

/// Names for common schedules.
const DESCRIPTORS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
/// Longer than any schedule a person writes.
const LENGTH_MAX: usize = 200;

/// Whether `text` has 5 or 6 fields of cron's characters, or is a descriptor.
pub(super) fn is_schedule(text: &str) -> bool {
    if text.len() > LENGTH_MAX {
        return false;
    }
    if text.starts_with('@') {
        return DESCRIPTORS.contains(&text);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    matches!(fields.len(), 5 | 6) && fields.iter().all(|field| is_field(field))
}

/// A list of ranges and steps: digits, names of days and months, and cron's signs.
fn is_field(field: &str) -> bool {
    let part = |part: &str| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        !range.is_empty()
            && range.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*-?#".contains(&byte))
            && step.parse::<u32>().is_ok_and(|step| step > 0)
    };
    field.split(',').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_schedulers_take() {
        for text in
            ["0 */30 * * * *", "*/5 * * * *", "0 0 1,15 * MON-FRI", "@hourly", "@daily", "0 0 12 ? * 2#1"]
        {
            assert!(is_schedule(text), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "* * * *",
            "* * * * * * *",
            "@never",
            "*/0 * * * *",
            "a;b * * * *",
            "1, * * * *",
            "/5 * * * *",
        ] {
            assert!(!is_schedule(text), "{text}");
        }
        assert!(!is_schedule(&"1,".repeat(500)));
    }
}
