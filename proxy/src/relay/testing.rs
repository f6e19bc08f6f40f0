//! Replicas of one installation, for tests: they meet in one cache, and a test says what answers at each.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sql::clock::Clock;
use sql::model::{ApiKey, Secret, Settings};
use sql::seal::{MasterKey, Sealer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use super::directory::{Directory, Whereabouts};
use super::listener::{Listener, PeerService};
use super::pass::Passes;
use super::replica::ReplicaId;
use crate::access::keys::tests::{NOW, key, policy_of};
use crate::access::{Admitted, Keys};
use crate::cache::Cache;
use crate::context::ClientContext;
use crate::facet::Facet;
use crate::http_bridge::{McpRequest, McpService, Reply, ReplyBody, Via};
use crate::tasks::Tasks;

/// One that is reached through the cache.
pub(super) const HERE: Whereabouts = Whereabouts { peer: None, stays: true };

/// What all replicas have in common.
pub(super) struct Installation {
    pub(super) cache: Cache,
    sealer: Sealer,
    clock: Clock,
    keys: Keys,
    key: ApiKey,
    secret: Secret<String>,
}

/// One of them, which does nothing by itself.
pub(super) struct Replica {
    pub(super) id: ReplicaId,
    pub(super) directory: Arc<Directory>,
    pub(super) channel: Arc<Channel>,
    pub(super) listener: Arc<Listener>,
    pub(super) passes: Arc<Passes>,
    pub(super) tasks: Tasks,
}

/// Answers with nothing.
pub(super) struct Nothing;

#[async_trait]
impl McpService for Nothing {
    async fn serve(&self, _: McpRequest) -> Reply {
        Reply::new(ReplyBody::Empty)
    }
}

impl Installation {
    pub(super) fn new() -> Self {
        let master = MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a fresh key").0;
        let ((key, secret), keys) = (key(), Keys::default());
        keys.upsert(key.clone(), policy_of(&key));
        let (cache, sealer, clock) = (Cache::default(), Sealer::new(&master), Clock::manual(NOW));
        Self { cache, sealer, clock, keys, key, secret }
    }

    /// The replica of this name, at which `mcp` answers.
    pub(super) fn replica(&self, bits: u64, mcp: impl McpService + 'static) -> Replica {
        let id = ReplicaId::from_bits(bits).expect("small");
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let passes = Arc::new(Passes::new(&self.sealer, self.clock.clone(), id));
        let directory = Arc::new(Directory::new(self.cache.clone(), id));
        let service = PeerService {
            mcp: Arc::new(mcp),
            keys: self.keys.clone(),
            settings: watch::channel(Arc::new(Settings::default())).1,
            clock: self.clock.clone(),
            tasks: tasks.clone(),
        };
        Replica {
            id,
            channel: Arc::new(Channel::new(self.cache.clone(), id, Arc::clone(&directory), tasks.clone())),
            directory,
            listener: Arc::new(Listener::new(service, Arc::clone(&passes))),
            passes,
            tasks,
        }
    }

    /// A client's request, as it comes in at one of them.
    pub(super) fn request(&self) -> McpRequest {
        let bearer = format!("Bearer {}", self.secret.expose());
        let head = http::Request::post("/mcp/http").header("authorization", bearer).body(());
        let head = head.expect("a good request").into_parts().0;
        let Facet::Mcp(path) = Facet::of(head.uri.path()) else { panic!("no endpoint") };
        McpRequest {
            head,
            body: Bytes::from_static(b"{}"),
            admitted: Admitted::for_test(self.key.clone()),
            path,
            context: ClientContext { address: "192.0.2.1".parse().expect("one"), request_id: "r".into() },
            gone: CancellationToken::new(),
            via: Via::Client,
        }
    }
}
