//! What an upstream says that it can do beyond its lists, as far as the gateway acts on it.

use bytes::Bytes;

use crate::wire::edit::Object;

/// The capabilities that decide what is asked of an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offers {
    /// `completion/complete`.
    pub completions: bool,
    /// Word of resources that change: `resources/subscribe`, or `resourceSubscriptions` of 2026-07-28.
    pub subscribe: bool,
}

impl Offers {
    /// Reads the raw `capabilities`. What isn't an object offers nothing.
    pub fn of(capabilities: &Bytes) -> Self {
        let Ok(capabilities) = Object::parse(capabilities) else { return Self::default() };
        let resources = capabilities.get("resources").and_then(|raw| Object::parse(&raw).ok());
        Self {
            completions: capabilities.get("completions").is_some_and(|raw| raw.starts_with(b"{")),
            subscribe: resources.and_then(|resources| resources.get("subscribe")).as_deref() == Some(b"true"),
        }
    }

    /// What either of the two has.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            completions: self.completions || other.completions,
            subscribe: self.subscribe || other.subscribe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_declared_is_offered() {
        let offers = |text: &'static str| {
            let offers = Offers::of(&Bytes::from_static(text.as_bytes()));
            (offers.completions, offers.subscribe)
        };
        assert_eq!(offers(r#"{"completions":{},"resources":{"subscribe":true}}"#), (true, true));
        assert_eq!(offers(r#"{"completions":{},"resources":{"subscribe":false}}"#), (true, false));
        assert_eq!(offers(r#"{"resources":{}}"#), (false, false));
        for nothing in ["{}", "null", "[]", r#"{"completions":true,"resources":{"subscribe":"true"}}"#] {
            assert_eq!(offers(nothing), (false, false), "{nothing}");
        }
    }
}
