//! The variables that stand in a file for what is sealed: each for one secret of one server.
//!
//! A client asks its user for a variable once, and gives it to every server that names it: two secrets under one
//! name would hand the secret of one server to another.

use std::collections::{BTreeMap, BTreeSet};

/// The names that are taken in a file.
#[derive(Default)]
pub(super) struct Taken(BTreeSet<String>);

/// The variables of one server of the file.
pub(super) struct Variables<'a> {
    taken: &'a mut Taken,
    prefix: String,
    own: BTreeMap<String, String>,
}

impl<'a> Variables<'a> {
    /// Of the server of this name.
    pub(super) fn of(server: &str, taken: &'a mut Taken) -> Self {
        Self { taken, prefix: shouted(server), own: BTreeMap::new() }
    }

    /// The variable of what stands at `place`, which names it within the server. It is called after the server
    /// and `name`.
    pub(super) fn named(&mut self, place: &str, name: &str) -> String {
        let wanted = format!("{}_{}", self.prefix, shouted(name));
        self.called(place, wanted.clone(), &wanted)
    }

    /// The same for what clients take from a variable of its own `name`; called after the server as well if
    /// another has that name.
    pub(super) fn same(&mut self, place: &str, name: &str) -> String {
        let otherwise = format!("{name}_{}", self.prefix);
        self.called(place, name.to_owned(), &otherwise)
    }

    fn called(&mut self, place: &str, wanted: String, otherwise: &str) -> String {
        if let Some(name) = self.own.get(place) {
            return name.clone();
        }
        let numbered = (2..).map(|number: u32| format!("{otherwise}_{number}"));
        let name = std::iter::once(wanted)
            .chain([otherwise.to_owned()])
            .chain(numbered)
            .find(|name| !self.taken.0.contains(name))
            .expect("a file has fewer names than there are numbers");
        self.taken.0.insert(name.clone());
        self.own.insert(place.to_owned(), name.clone());
        name
    }
}

/// A name as the name of a variable.
fn shouted(name: &str) -> String {
    let mut shouted: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    if shouted.starts_with(|c: char| c.is_ascii_digit()) {
        shouted.insert(0, '_');
    }
    shouted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_one_secret() {
        let mut taken = Taken::default();
        let mut first = Variables::of("a-b", &mut taken);
        assert_eq!(first.same("env API_KEY", "API_KEY"), "API_KEY");
        assert_eq!(first.named("header X-T", "X-T"), "A_B_X_T");
        assert_eq!(first.named("query X_T", "X_T"), "A_B_X_T_2");
        assert_eq!(first.named("header X-T", "X-T"), "A_B_X_T", "the same place once more");
        let mut second = Variables::of("a_b", &mut taken);
        assert_eq!(second.same("env API_KEY", "API_KEY"), "API_KEY_A_B");
        assert_eq!(second.named("header X-T", "X-T"), "A_B_X_T_3");
        let mut third = Variables::of("a.b", &mut taken);
        assert_eq!(third.same("env API_KEY", "API_KEY"), "API_KEY_A_B_2");
    }
}
