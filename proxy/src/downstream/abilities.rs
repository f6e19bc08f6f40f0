//! What a client can be asked: the capabilities it declared that the gateway acts on.

use serde_json::Value;
use serde_json::value::RawValue;

/// The client capabilities that decide whether a request is put to a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a capability that a client has or lacks")]
pub struct Abilities {
    /// `sampling/createMessage`.
    pub sampling: bool,
    /// `elicitation/create` with a form.
    pub elicitation_form: bool,
    /// `elicitation/create` with a URL (2025-11-25).
    pub elicitation_url: bool,
    /// `roots/list`.
    pub roots: bool,
}

impl Abilities {
    /// All that the gateway relays.
    pub const ALL: Self = Self { sampling: true, elicitation_form: true, elicitation_url: true, roots: true };

    /// None of it, which is also what is taken for granted of a client that says nothing.
    pub const NONE: Self =
        Self { sampling: false, elicitation_form: false, elicitation_url: false, roots: false };

    /// Reads the raw `capabilities` of `initialize`, or the `clientCapabilities` of a modern request.
    /// What isn't an object declares nothing.
    pub fn of(capabilities: &str) -> Self {
        let declared: Value = serde_json::from_str(capabilities).unwrap_or_default();
        let elicitation = declared.get("elicitation").filter(|value| value.is_object());
        let url = elicitation.is_some_and(|value| value.get("url").is_some());
        // An empty object means forms (2025-06-18, and 2025-11-25 for compatibility).
        let form = elicitation.is_some_and(|value| value.get("form").is_some() || !url);
        Self {
            sampling: declared.get("sampling").is_some_and(Value::is_object),
            elicitation_form: form,
            elicitation_url: url,
            roots: declared.get("roots").is_some_and(Value::is_object),
        }
    }

    /// Whether a request may be put to the client; `params` decide between the kinds of elicitation.
    pub fn admit(self, method: &str, params: Option<&[u8]>) -> bool {
        match method {
            "sampling/createMessage" => self.sampling,
            "roots/list" => self.roots,
            "elicitation/create" if is_url_mode(params) => self.elicitation_url,
            "elicitation/create" => self.elicitation_form,
            "ping" => true,
            _ => false,
        }
    }

    /// The capabilities as a client would declare them.
    pub fn to_json(self) -> Box<RawValue> {
        let mut declared = serde_json::Map::new();
        if self.sampling {
            declared.insert("sampling".into(), Value::Object(serde_json::Map::new()));
        }
        if self.elicitation_form || self.elicitation_url {
            let mut kinds = serde_json::Map::new();
            if self.elicitation_form {
                kinds.insert("form".into(), Value::Object(serde_json::Map::new()));
            }
            if self.elicitation_url {
                kinds.insert("url".into(), Value::Object(serde_json::Map::new()));
            }
            declared.insert("elicitation".into(), Value::Object(kinds));
        }
        if self.roots {
            declared.insert("roots".into(), Value::Object(serde_json::Map::new()));
        }
        serde_json::value::to_raw_value(&declared).expect("a map of maps is valid JSON")
    }
}

fn is_url_mode(params: Option<&[u8]>) -> bool {
    #[derive(serde::Deserialize)]
    struct Mode<'a> {
        #[serde(borrow)]
        mode: Option<std::borrow::Cow<'a, str>>,
    }
    params
        .and_then(|raw| serde_json::from_slice::<Mode<'_>>(raw).ok())
        .and_then(|params| params.mode)
        .is_some_and(|mode| mode == "url")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_elicitation_means_forms() {
        let abilities = Abilities::of(r#"{"elicitation":{}}"#);
        assert!(abilities.elicitation_form && !abilities.elicitation_url);
        assert!(abilities.admit("elicitation/create", Some(br#"{"message":"x"}"#)));
        assert!(!abilities.admit("elicitation/create", Some(br#"{"mode":"url"}"#)));
    }

    #[test]
    fn url_alone_does_not_mean_forms() {
        let abilities = Abilities::of(r#"{"elicitation":{"url":{}}}"#);
        assert!(!abilities.elicitation_form && abilities.elicitation_url);
    }

    #[test]
    fn nothing_declared_is_nothing_asked() {
        for declared in ["{}", "null", "[]", "not json", r#"{"sampling":true}"#] {
            assert_eq!(Abilities::of(declared), Abilities::default(), "{declared}");
        }
        assert!(!Abilities::default().admit("sampling/createMessage", None));
        assert!(!Abilities::default().admit("anything/else", None));
    }

    #[test]
    fn survives_being_reduced() {
        let full = r#"{"sampling":{"x":1},"elicitation":{"form":{},"url":{}},"roots":{"listChanged":true}}"#;
        let abilities = Abilities::of(full);
        assert_eq!(Abilities::of(abilities.to_json().get()), abilities);
    }
}
