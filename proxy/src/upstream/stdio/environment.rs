//! What a child is started with: its arguments and an environment built afresh.
//!
//! A child gets the four variables without which programs don't work, and what its upstream names. It
//! gets nothing else of the gateway's own environment, which holds the gateway's secrets.

use std::collections::BTreeMap;
use std::ffi::OsString;

use sql::model::{Secret, Value};

/// What every child inherits: where programs, the home and temporary files are, and the language.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// Where programs are looked for if the gateway itself has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Stands for the upstream's credential in an argument or variable.
const CREDENTIAL: &str = "${credential}";

/// An upstream uses `${credential}`, and none is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("uses ${{credential}}, and no credential is set")]
pub(super) struct NoCredential;

/// The variables that every child gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseEnvironment(Vec<(&'static str, OsString)>);

impl BaseEnvironment {
    /// Taken from the gateway's own variables; `lookup` is `std::env::var_os`, or a test's table.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let found = INHERITED.iter().filter_map(|name| Some((*name, lookup(name)?)));
        let mut variables: Vec<_> = found.collect();
        if !variables.iter().any(|(name, _)| *name == "PATH") {
            variables.push(("PATH", DEFAULT_PATH.into()));
        }
        Self(variables)
    }

    /// The whole environment of one child.
    pub(super) fn with(
        &self,
        named: &BTreeMap<String, Value>,
        credential: Option<&Secret<String>>,
    ) -> Result<Vec<(OsString, OsString)>, NoCredential> {
        let base = self.0.iter().filter(|(name, _)| !named.contains_key(*name));
        let mut all: Vec<(OsString, OsString)> =
            base.map(|(name, value)| ((*name).into(), value.clone())).collect();
        for (name, value) in named {
            all.push((name.into(), fill(value, credential)?.into()));
        }
        Ok(all)
    }
}

/// A value with the credential in the place of `${credential}`.
pub(super) fn fill(value: &Value, credential: Option<&Secret<String>>) -> Result<String, NoCredential> {
    let text = value.expose();
    if !text.contains(CREDENTIAL) {
        return Ok(text.to_owned());
    }
    Ok(text.replace(CREDENTIAL, credential.ok_or(NoCredential)?.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(set: &[(&str, &str)]) -> BaseEnvironment {
        BaseEnvironment::from_lookup(|name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn t19_passes_on_nothing_but_the_four_and_what_is_named() {
        let base =
            environment(&[("HOME", "/home/a"), ("MPG_ENCRYPTION_KEY", "CANARY"), ("SHELL", "/bin/sh")]);
        let named = BTreeMap::from([
            ("TOKEN".to_owned(), Value::Secret("Bearer ${credential}".into())),
            ("HOME".to_owned(), Value::Plain("/srv".into())),
        ]);
        let all = base.with(&named, Some(&"s3cret".into())).expect("a credential is set");
        let expected = [("PATH", DEFAULT_PATH), ("HOME", "/srv"), ("TOKEN", "Bearer s3cret")];
        assert_eq!(all, expected.map(|(name, value)| (name.into(), value.into())));
    }

    #[test]
    fn a_missing_credential_is_said_not_sent() {
        let named = BTreeMap::from([("TOKEN".to_owned(), Value::Plain("${credential}".into()))]);
        assert_eq!(environment(&[]).with(&named, None), Err(NoCredential));
        assert_eq!(fill(&Value::Plain("${other}".into()), None).as_deref(), Ok("${other}"));
    }
}
