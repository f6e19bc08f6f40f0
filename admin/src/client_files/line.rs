//! What will run, as a person reads it: one line that a shell would understand the same way, without secrets.

use super::server::{Given, Reach};
use crate::audit::redact_url;

/// What stands in the place of a secret.
const HIDDEN: &str = "[secret]";

/// The line: environment, program and arguments; or the address. `secret` says of each value, by its pointer in
/// an upstream's body, whether it is to be sealed.
pub(crate) fn of(reach: &Reach, secret: &dyn Fn(&str) -> bool) -> String {
    match reach {
        Reach::Command { command, args, env, .. } => {
            let mut words: Vec<String> = env
                .iter()
                .map(|(name, value)| format!("{name}={}", shown(value, secret(&env_pointer(name)))))
                .collect();
            words.push(quoted(command));
            words.extend(
                args.iter().enumerate().map(|(index, value)| shown(value, secret(&arg_pointer(index)))),
            );
            words.join(" ")
        }
        Reach::Address { url, .. } => redact_url(&url.text),
    }
}

/// Where an argument stands in the body of an upstream.
pub(crate) fn arg_pointer(index: usize) -> String {
    format!("/connParams/args/{index}")
}

/// Where a value of the environment stands.
pub(crate) fn env_pointer(name: &str) -> String {
    crate::fields::pointer_to("/connParams/env", name)
}

/// Where a header stands.
pub(crate) fn header_pointer(name: &str) -> String {
    crate::fields::pointer_to("/connParams/headers", name)
}

fn shown(value: &Given, secret: bool) -> String {
    if secret { HIDDEN.to_owned() } else { quoted(&value.text) }
}

/// As a shell needs it; what has nothing special stays as it is.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "@%+=:,./_-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_word_is_one_word_and_no_secret_is_shown() {
        let reach = Reach::Command {
            command: "npx".into(),
            args: ["-y", "a b", "", ";$(id)", "it's", "CANARY"].map(Given::read).into(),
            env: BTreeMap::from([
                ("TOKEN".to_owned(), Given::read("CANARY")),
                ("M".to_owned(), Given::read("x")),
            ]),
            cwd: None,
        };
        let line = of(&reach, &|pointer| ["/connParams/args/5", "/connParams/env/TOKEN"].contains(&pointer));
        assert_eq!(line, r"M=x TOKEN=[secret] npx -y 'a b' '' ';$(id)' 'it'\''s' [secret]");
    }
}
