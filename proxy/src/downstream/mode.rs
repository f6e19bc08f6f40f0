//! Which mode a client is in: its path says, else its key, else the setting.

use sql::model::{ApiKey, KeyMode, Mode, Settings};

use crate::facet::PathMode;

/// What decides the mode of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeOf {
    /// A legacy session keeps the mode that it began in: its client has read that list of tools.
    Session(Mode),
    /// A modern client has no session, so each of its requests is in the mode that is in force then.
    Path(Option<PathMode>),
}

impl ModeOf {
    /// The mode now, for a client with this key.
    pub fn now(self, key: &ApiKey, settings: &Settings) -> Mode {
        match self {
            Self::Session(mode) => mode,
            Self::Path(Some(PathMode::Smart)) => Mode::Smart,
            Self::Path(Some(PathMode::Full)) => Mode::Full,
            Self::Path(None) => match key.mode {
                KeyMode::Smart => Mode::Smart,
                KeyMode::Full => Mode::Full,
                KeyMode::Inherit => settings.mcp_api.mode,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::keys::tests::key;

    #[test]
    fn the_path_says_else_the_key_else_the_setting() {
        for (path, of_key, setting, expected) in [
            (None, KeyMode::Inherit, Mode::Full, Mode::Full),
            (None, KeyMode::Inherit, Mode::Smart, Mode::Smart),
            (None, KeyMode::Full, Mode::Smart, Mode::Full),
            (None, KeyMode::Smart, Mode::Full, Mode::Smart),
            (Some(PathMode::Smart), KeyMode::Full, Mode::Full, Mode::Smart),
            (Some(PathMode::Full), KeyMode::Smart, Mode::Smart, Mode::Full),
        ] {
            let key = ApiKey { mode: of_key, ..key().0 };
            let mut settings = Settings::default();
            settings.mcp_api.mode = setting;
            assert_eq!(ModeOf::Path(path).now(&key, &settings), expected, "{path:?} {of_key} {setting}");
            assert_eq!(ModeOf::Session(Mode::Smart).now(&key, &settings), Mode::Smart);
        }
    }
}
