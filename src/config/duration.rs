//! Lengths of time as a person writes them: `500ms`, `25s`, `5m`, `1h`.

use std::time::Duration;

/// The units, the longest first, each in milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a whole number and its unit.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "not a duration like 25s, 500ms, 5m or 1h";
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(EXPECTED)?;
    let total_ms = number.checked_mul(*unit_ms).ok_or("too long")?;
    Ok(Duration::from_millis(total_ms))
}

/// Writes it in the longest unit that holds it in whole numbers.
pub(super) fn show(duration: Duration) -> String {
    let total_ms = duration.as_millis();
    if total_ms == 0 {
        return "0s".to_owned();
    }
    UNITS.iter().find(|(_, unit_ms)| total_ms.is_multiple_of(u128::from(*unit_ms))).map_or_else(
        || format!("{total_ms}ms"),
        |(name, unit_ms)| format!("{}{name}", total_ms / u128::from(*unit_ms)),
    )
}
