//! One of something for each kind of list.

use sql::model::Kind;

/// How many kinds there are.
const KINDS: usize = 4;

/// One `T` for each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PerKind<T>([T; KINDS]);

impl<T> PerKind<T> {
    /// Makes one for each.
    pub(crate) fn of(mut make: impl FnMut(Kind) -> T) -> Self {
        Self([make(Kind::Tool), make(Kind::Prompt), make(Kind::Resource), make(Kind::ResourceTemplate)])
    }

    /// That of `kind`.
    pub(crate) fn get(&self, kind: Kind) -> &T {
        &self.0[kind as usize]
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, kind: Kind) -> &mut T {
        &mut self.0[kind as usize]
    }

    /// Each with its kind.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Kind, &T)> {
        Kind::ALL.iter().copied().zip(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own() {
        let words = PerKind::of(Kind::as_str);
        assert_eq!(Kind::ALL.len(), KINDS);
        assert!(words.iter().all(|(kind, word)| *word == kind.as_str() && words.get(kind) == word));
    }
}
