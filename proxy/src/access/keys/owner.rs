//! Whose a secret is that opens nothing: for whoever notes who was turned away.

use std::sync::Arc;

use sql::model::{ApiKey, PlaintextKey};

use super::Keys;

impl Keys {
    /// Whose secret it is, valid or not.
    pub(in crate::access) fn owner(&self, shown: &PlaintextKey) -> Option<Arc<ApiKey>> {
        self.0.secrets.get(&shown.hash()).map(|secret| Arc::clone(&secret.caller.key))
    }
}
