//! What every operation can reach.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use proxy::catalog::naming::settle as naming;
use proxy::control::Control;
use sql::model::{Secret, Settings, UpstreamId};
use sql::{Store, StoreError, Tx};
use tokio::sync::{Mutex, Semaphore, watch};

use crate::Deps;
use crate::api::audit::export::EXPORTS_MAX;
use crate::api::events::WATCHERS_MAX;
use crate::audit::Fingerprint;
use crate::idempotency::Idempotency;
use crate::log_ring::LogRing;
use crate::password::Hasher;
use crate::session::Tokens;
use crate::throttle::Throttle;

/// The state of the router. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

/// See the fields of [`Deps`] for those that come from outside.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) control: Control,
    settings: watch::Receiver<Arc<Settings>>,
    /// The last lines of the gateway's log.
    pub(crate) logs: LogRing,
    /// Room for consoles that watch.
    pub(crate) watchers: Arc<Semaphore>,
    /// Room for exports of the audit log.
    pub(crate) exporting: Arc<Semaphore>,
    /// The settings that the environment fixes, as `group.key`.
    pub(crate) locked: Vec<String>,
    pub(crate) setup_token: Option<Secret<String>>,
    pub(crate) public_url: Option<String>,
    pub(crate) version: &'static str,
    /// Signs and verifies tokens.
    pub(crate) tokens: Tokens,
    /// Hashes and verifies passwords.
    pub(crate) hasher: Hasher,
    /// Counts guesses of passwords.
    pub(crate) throttle: Throttle,
    /// Remembers answers to creates.
    pub(crate) idempotency: Idempotency,
    /// Tells secrets apart without showing them.
    pub(crate) fingerprint: Fingerprint,
    /// Held while somebody registers, so that strangers at once cost one hash and not fifty.
    pub(crate) registering: Mutex<()>,
}

impl App {
    /// The state, with passwords hashed at `password_cost`.
    pub(crate) fn new(deps: Deps, password_cost: u32) -> Self {
        let clock = deps.store.clock().clone();
        Self(Arc::new(Parts {
            tokens: Tokens::new(deps.store.sealer(), deps.store.instance_id(), clock),
            hasher: Hasher::new(password_cost),
            throttle: Throttle::new(deps.store.clone()),
            idempotency: Idempotency::new(deps.store.clone()),
            fingerprint: Fingerprint::new(deps.store.sealer()),
            registering: Mutex::new(()),
            store: deps.store,
            control: deps.control,
            settings: deps.settings,
            locked: deps.locked,
            logs: deps.logs,
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            exporting: Arc::new(Semaphore::new(EXPORTS_MAX)),
            setup_token: deps.setup_token,
            public_url: deps.public_url,
            version: deps.version,
        }))
    }

    /// Settles the names of every upstream anew, in the transaction that changes what they depend on.
    pub(crate) async fn resettle_all(&self, tx: &mut Tx) -> Result<(), StoreError> {
        naming::resettle(tx, naming::Scope::All, self.name_length_max()).await
    }

    /// The same for one upstream.
    pub(crate) async fn resettle(&self, tx: &mut Tx, upstream: UpstreamId) -> Result<(), StoreError> {
        naming::resettle(tx, naming::Scope::Upstream(upstream), self.name_length_max()).await
    }

    /// The greatest length of a name, by the settings in force. Characters.
    pub(crate) fn name_length_max(&self) -> u32 {
        self.settings.borrow().naming.length_max
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    /// Lines of a ranking that doesn't say how many, by the settings in force.
    pub(crate) fn top_limit(&self) -> u32 {
        self.settings.borrow().statistics.top_limit_default
    }

    /// How long a new token lives.
    pub(crate) fn session_timeout(&self) -> Duration {
        Duration::from_secs(self.settings.borrow().auth.session_timeout_s.into())
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
