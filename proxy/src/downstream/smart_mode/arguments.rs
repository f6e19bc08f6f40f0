//! The arguments of a discovery tool, read one by one; what is wrong is said in words for a model.

use serde_json::{Map, Value};

/// Arguments that weren't read yet.
pub(super) struct Arguments(Map<String, Value>);

impl Arguments {
    /// Reads the raw value; none are as good as an empty object. `None`: it isn't an object.
    pub(super) fn read(raw: Option<&[u8]>) -> Option<Self> {
        let Some(raw) = raw else { return Some(Self(Map::new())) };
        let given: Option<Map<String, Value>> = serde_json::from_slice(raw).ok()?;
        Some(Self(given.unwrap_or_default()))
    }

    /// A text. Some models write out what they leave out, as null.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{key:?} must be a string")),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>, String> {
        let Some(given) = self.take(key) else { return Ok(None) };
        serde_json::from_value(given).map(Some).map_err(|_| format!("{key:?} must be an array of strings"))
    }

    /// `limit`: how many are wanted, of at most `max`, which is also what is given to who doesn't say.
    pub(super) fn limit(&mut self, max: u32) -> Result<usize, String> {
        let max = f64::from(max);
        let wanted = match self.take("limit") {
            None => max,
            // Some clients write every number with a point.
            Some(Value::Number(number)) => number.as_f64().unwrap_or_default(),
            Some(_) => 0.0,
        };
        if wanted < 1.0 || wanted.fract() != 0.0 {
            return Err("\"limit\" must be a whole number, at least 1".to_owned());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and `max`")]
        Ok(wanted.min(max) as usize)
    }

    /// Says what was given and isn't known: most likely it is misspelt, and a call without it means something else.
    pub(super) fn end(self, tool: &str) -> Result<(), String> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(unknown) => Err(format!("{tool} has no argument {unknown:?}")),
        }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key).filter(|value| !value.is_null())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Arguments {
        Arguments::read(Some(text.as_bytes())).expect("an object")
    }

    #[test]
    fn a_limit_is_a_whole_number_up_to_the_most() {
        for (given, expected) in [
            ("{}", Ok(50)),
            (r#"{"limit":null}"#, Ok(50)),
            (r#"{"limit":7}"#, Ok(7)),
            (r#"{"limit":7.0}"#, Ok(7)),
            (r#"{"limit":1e300}"#, Ok(50)),
            (r#"{"limit":0}"#, Err(())),
            (r#"{"limit":-1}"#, Err(())),
            (r#"{"limit":1.5}"#, Err(())),
            (r#"{"limit":"7"}"#, Err(())),
        ] {
            assert_eq!(arguments(given).limit(50).map_err(drop), expected, "{given}");
        }
    }

    #[test]
    fn what_is_left_over_is_named() {
        let mut some = arguments(r#"{"query":"x","limits":3}"#);
        assert_eq!(some.text("query"), Ok(Some("x".to_owned())));
        assert!(some.end("search_tools").is_err_and(|text| text.contains("limits")));
        assert_eq!(Arguments::read(None).expect("as good as empty").end("list_tools"), Ok(()));
        assert!(Arguments::read(Some(b"[]")).is_none());
        assert!(arguments(r#"{"names":[1]}"#).texts("names").is_err());
    }
}
