//! Several replicas as one gateway: what a client says reaches the replica that has the rest of it.
//!
//! Most requests are served where they come in: a session is sealed in its id, keys and catalogs are
//! everywhere. What isn't is what hangs off a socket or a waiting call. Its name says where it is, as the ids
//! that clients bring back (of questions, events, streams, parked calls) hold the name of a replica
//! ([`replica`]); the rest is claimed in a [`directory`]. A request for it is handed over whole, to the
//! [`listener`] of the replica that has it, which checks the key again and answers as if it had come there
//! ([`carried`] is the request on its way, [`pass`] the proof that it comes from one of us, [`reach`] the way);
//! without such listeners it goes through Redis ([`channel`]). What is for all of them is [`told`].
//!
//! A request is handed over once: what came from a replica is served, or refused. Without a Redis there is
//! nobody to hand anything to, nothing is looked up, and streams work where they are.

mod carried;
mod channel;
mod directory;
mod listener;
mod pass;
mod reach;
mod replica;
mod seldom;
#[cfg(test)]
mod testing;
mod told;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use sql::clock::Clock;
use sql::model::Settings;
use sql::seal::Sealer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::channel::Channel;
pub use self::directory::Claim;
use self::directory::{Directory, HEARTBEAT, RENEWAL, Whereabouts};
use self::listener::Listener;
pub use self::listener::PeerService;
use self::pass::Passes;
use self::reach::Reach;
pub use self::replica::{REPLICA_BITS, ReplicaId};
pub use self::told::Told;
use self::told::{Teller, Waiting};
use crate::cache::Cache;
use crate::http_bridge::{McpRequest, Reply, ReplyBody, Via};
use crate::refusal::Refusal;
use crate::tasks::Tasks;

/// Attempts to find a name that no other replica has; a second one is needed once in a million starts.
const NAMES_TRIED_MAX: usize = 4;
/// Hand-overs of one request while those it is for come and go.
const HOLDERS_TRIED_MAX: usize = 3;
const BYTES_PER_MIB: usize = 1024 * 1024;

/// The other replicas. Clones are one.
#[derive(Clone, Default)]
pub struct Relay(Option<Arc<Shared>>);

/// What a relay is started with.
pub struct RelayOptions {
    /// Where the replicas meet.
    pub cache: Cache,
    /// The installation's keys.
    pub sealer: Sealer,
    /// The time.
    pub clock: Clock,
    /// Owner of the relay's tasks.
    pub tasks: Tasks,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Where this replica's peer listener is reached, if it has one.
    pub peer: Option<SocketAddr>,
    /// Cancelled when this replica is about to end.
    pub draining: CancellationToken,
}

struct Shared {
    own: ReplicaId,
    directory: Arc<Directory>,
    channel: Arc<Channel>,
    passes: Arc<Passes>,
    reach: Reach,
    teller: Teller,
    waiting: std::sync::Mutex<Option<Waiting>>,
    options: RelayOptions,
}

/// How far what hangs off one replica (a stream, a waiting call) is reached at the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RelayReach {
    /// It works where it is: there is no Redis by which replicas could meet.
    Here,
    /// At every replica, through Redis: up to 256 KiB a message.
    Redis,
    /// At every replica, over their peer listeners.
    Peers,
    /// It works where it is until Redis, which is lost, comes back.
    Lost,
}

/// Why a request could not be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unreached {
    /// The replica that it was for is no more, and what it had is gone with it.
    Gone,
    /// It may be there, and the request may come again.
    Unavailable,
}

impl Relay {
    /// The relay of a replica whose others are reached through a Redis; with any other cache there are none.
    pub async fn start(options: RelayOptions) -> Self {
        match options.cache.redis() {
            Some(_) => Self::among_others(options).await,
            None => Self::default(),
        }
    }

    async fn among_others(options: RelayOptions) -> Self {
        let at = Whereabouts { peer: options.peer, stays: true };
        let mut own = ReplicaId::random();
        for _ in 0..NAMES_TRIED_MAX {
            // A cache that is lost knows of no other either.
            if Directory::take_name(&options.cache, own, at).await.unwrap_or(true) {
                break;
            }
            own = ReplicaId::random();
        }
        let (teller, waiting) = told::teller();
        tracing::info!(replica.id = %own, replica.peer = options.peer.map(tracing::field::display), "one of several replicas");
        let directory = Arc::new(Directory::new(options.cache.clone(), own));
        let (cache, tasks) = (options.cache.clone(), options.tasks.clone());
        Self(Some(Arc::new(Shared {
            own,
            channel: Arc::new(Channel::new(cache, own, Arc::clone(&directory), tasks)),
            directory,
            passes: Arc::new(Passes::new(&options.sealer, options.clock.clone(), own)),
            reach: Reach::new(options.tasks.clone()),
            teller,
            waiting: std::sync::Mutex::new(Some(waiting)),
            options,
        })))
    }

    /// This replica's name; one by chance where there are no others.
    pub fn replica(&self) -> ReplicaId {
        self.0.as_ref().map_or_else(ReplicaId::random, |shared| shared.own)
    }

    /// Whether there may be others.
    pub fn has_others(&self) -> bool {
        self.0.is_some()
    }

    /// Begins to be there for the others. `hearer` takes what they tell, `is_live` says whether something
    /// hangs off a session here.
    pub fn run(
        &self,
        hearer: impl Fn(Told) + Send + 'static,
        is_live: impl Fn(Uuid) -> bool + Send + Sync + 'static,
    ) {
        let Some(shared) = &self.0 else { return };
        let options = &shared.options;
        let (tasks, stopping) = (&options.tasks, options.tasks.stopping());
        let waiting = shared.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(waiting) = waiting {
            tasks.spawn(
                "word for replicas",
                waiting.publish(options.cache.clone(), shared.own, stopping.clone()),
            );
        }
        tasks.spawn(
            "word of replicas",
            told::hear(options.cache.clone(), shared.own, hearer, stopping.clone()),
        );
        tasks.spawn("replica directory", Arc::clone(shared).be_there(is_live));
    }

    /// Serves what other replicas hand over: through the cache, and on the socket whose address they were
    /// told, if there is one.
    pub fn listen(&self, socket: Option<TcpListener>, service: PeerService) {
        let Some(shared) = &self.0 else { return };
        let listener = Arc::new(Listener::new(service, Arc::clone(&shared.passes)));
        let tasks = &shared.options.tasks;
        tasks.spawn("relay through redis", Arc::clone(&shared.channel).listen(Arc::clone(&listener)));
        if let Some(socket) = socket {
            tasks.spawn("peer listener", listener.run(socket));
        }
    }

    /// How far what hangs off one replica is reached at the others.
    pub fn reach(&self) -> RelayReach {
        let Some(shared) = &self.0 else { return RelayReach::Here };
        match (shared.options.cache.health(), shared.options.peer) {
            (Some(health), _) if !health.up => RelayReach::Lost,
            (_, Some(_)) => RelayReach::Peers,
            (_, None) => RelayReach::Redis,
        }
    }

    /// Hands a request to the replica that what it names is at; `None`: it is to be served here, because that
    /// is this replica or because the other is gone.
    pub async fn at(&self, request: &McpRequest, replica: ReplicaId) -> Option<Reply> {
        self.message_at(request, replica, &request.body).await
    }

    /// The same with one message of a request.
    pub async fn message_at(
        &self,
        request: &McpRequest,
        replica: ReplicaId,
        message: &[u8],
    ) -> Option<Reply> {
        let shared = self.for_client(request).filter(|shared| shared.own != replica)?;
        match shared.hand_over(request, replica, message).await {
            Ok(reply) => Some(reply),
            Err(Unreached::Gone) => None,
            Err(Unreached::Unavailable) => Some(unavailable(request)),
        }
    }

    /// Hands a request to the replica that has `claim`; `None`: it is to be served here, by the replica that
    /// has it from now on if no other did.
    pub async fn at_holder(&self, request: &McpRequest, claim: Claim) -> Option<Reply> {
        let shared = self.for_client(request)?;
        for _ in 0..HOLDERS_TRIED_MAX {
            let holder = shared.directory.claim(claim).await?;
            match shared.hand_over(request, holder, &request.body).await {
                Ok(reply) => return Some(reply),
                Err(Unreached::Gone) => shared.directory.is_gone(holder),
                Err(Unreached::Unavailable) => break,
            }
        }
        Some(unavailable(request))
    }

    /// Tells all others something of a session that `request` says.
    pub fn tell(&self, request: &McpRequest, told: Option<Told>) {
        if let Some((shared, told)) = self.for_client(request).zip(told) {
            shared.teller.tell(told);
        }
    }

    /// What another replica handed over goes no further.
    fn for_client(&self, request: &McpRequest) -> Option<&Arc<Shared>> {
        match request.via {
            Via::Client | Via::Console => self.0.as_ref(),
            Via::Replica => None,
        }
    }
}

fn unavailable(request: &McpRequest) -> Reply {
    Refusal::ReplicaUnavailable.respond(&request.context.request_id)
}

impl Shared {
    async fn hand_over(
        &self,
        request: &McpRequest,
        to: ReplicaId,
        message: &[u8],
    ) -> Result<Reply, Unreached> {
        let found = self.directory.whereabouts(to).await.map_err(|_| Unreached::Unavailable)?;
        let at = found.ok_or(Unreached::Gone)?;
        let packed: Bytes = carried::pack(request, message);
        let pass = self.passes.issue(to, &packed);
        let mib_max = self.options.settings.borrow().mcp_api.response_body_max_mib;
        let bytes_max = mib_max as usize * BYTES_PER_MIB;
        let asked = async {
            match at.peer {
                Some(peer) => self.reach.ask(peer, pass, packed, bytes_max).await,
                None => self.channel.ask(to, &pass, &packed, bytes_max).await,
            }
        };
        tokio::select! {
            answered = asked => answered,
            // The other replica sees the connection close, and knows what that means.
            () = request.gone.cancelled() => Ok(Reply::new(ReplyBody::Empty)),
        }
    }

    /// Says that this replica is there, and keeps what it has claimed, until it ends.
    async fn be_there(self: Arc<Self>, is_live: impl Fn(Uuid) -> bool + Send + Sync) {
        // Side by side: thousands of claims take longer to renew than a silent replica is believed in.
        tokio::select! {
            () = self.beat() => {}
            () = self.renew_regularly(is_live) => {}
        }
        // It ends by itself if this is lost.
        let _ = self.directory.leave().await;
    }

    async fn renew_regularly(&self, is_live: impl Fn(Uuid) -> bool + Send + Sync) {
        let mut renewal = tokio::time::interval(RENEWAL);
        loop {
            renewal.tick().await;
            if self.directory.renew(&is_live).await.is_err() {
                tracing::debug!("claims could not be renewed");
            }
        }
    }

    /// Says that this replica is there until it is to stop.
    async fn beat(&self) {
        let (draining, stopping) = (&self.options.draining, self.options.tasks.stopping());
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut stays = true;
        loop {
            tokio::select! {
                _ = heartbeat.tick() => {}
                () = draining.cancelled(), if stays => stays = false,
                () = stopping.cancelled() => return,
            }
            let at = Whereabouts { peer: self.options.peer, stays };
            if self.directory.say(at).await.is_err() {
                tracing::debug!("the other replicas could not be told of this one");
            }
        }
    }
}
