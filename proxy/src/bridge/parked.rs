//! A modern client's call at a legacy upstream that asks in the middle of it.
//!
//! A legacy upstream puts real requests to its client and waits; a modern client is only ever answered.
//! So the call is parked: the client is answered that input is required (multi round-trip requests,
//! 2026-07-28), with a sealed state that names the call, and when it comes back with the answers the
//! call goes on where it stood. `state` is what the client carries, `call` the call itself, `questions`
//! what it asks, `answers` what the client is told.
//!
//! A parked call lives in one process and nowhere else: its state names the replica that it is at. It is never made twice: a state whose call is
//! gone is answered as expired. The one request that is made again is that of an upstream which has
//! refused it until its user has visited a page (2025-11-25, -32042), because nothing was carried out.

mod answers;
mod call;
mod questions;
mod state;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::json;
use sql::clock::Clock;
use sql::model::{ApiKeyId, Timestamp, Upstream};
use sql::seal::Sealer;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::call::{Attended, Kept, ParkedCall};
use self::state::{Binding, NotTaken, State};
use super::degraded::{Degradations, Marks, Reason};
use super::{ErrorObject, modern_to_legacy};
use crate::downstream::abilities::Abilities;
use crate::downstream::conversation::{AskRefused, Conversation, Outbox};
use crate::relay::ReplicaId;
use crate::tasks::Tasks;
use crate::upstream::call::{Answer, CallError};
use crate::wire::edit::Object;
use crate::wire::text::Text;

/// How long a call waits for its client: a person reads a form and fills it, and then no more.
const PARKED_MAX: Duration = Duration::from_mins(10);

/// Calls of one key that may be parked: each holds a place at its upstream.
const PARKED_PER_KEY_MAX: usize = 32;

/// Calls that may be parked in all; each costs a task and what it was told so far.
const PARKED_TOTAL_MAX: usize = 1024;

const METHOD_NOT_FOUND: i64 = -32601;
const INTERNAL_ERROR: i64 = -32603;
/// Of 2025-11-25 alone.
const URL_ELICITATION_REQUIRED: i64 = -32042;

/// What comes of a call at an upstream.
type Outcome = Result<Answer, CallError>;

/// All parked calls of this process. Clones share them.
#[derive(Clone)]
pub struct Parking {
    shared: Arc<Shared>,
}

struct Shared {
    sealer: Sealer,
    clock: Clock,
    tasks: Tasks,
    degraded: Degradations,
    replica: ReplicaId,
    places: Mutex<HashMap<Uuid, Place>>,
}

/// Where a call is found that was parked once. It has its place until it is over.
struct Place {
    key: ApiKeyId,
    round: u32,
    /// Whom to ask for the call; none while a client attends it.
    waits: Option<oneshot::Sender<oneshot::Sender<ParkedCall>>>,
}

/// One request of a modern client for something of a legacy upstream.
pub struct Visit<'a> {
    /// Whose the subject is.
    pub upstream: &'a Upstream,
    /// Who asks.
    pub key: ApiKeyId,
    /// Cancelled when the key that was shown is no longer valid.
    pub revoked: &'a CancellationToken,
    /// What the client declared with this request.
    pub abilities: Abilities,
    /// The method.
    pub method: &'static str,
    /// The params as the client sent them.
    pub params: &'a Bytes,
    /// The token that the client wants progress under, raw.
    pub progress_token: Option<Bytes>,
    /// Towards the client.
    pub conversation: &'a Conversation,
    /// Cancelled when the client leaves.
    pub cancel: &'a CancellationToken,
}

impl Visit<'_> {
    fn binding(&self) -> Binding {
        Binding::of(self.key, self.method, self.params)
    }
}

/// A call at a legacy upstream that has just begun, and that may outlive the request it began with.
pub struct Begun {
    /// What the upstream says meanwhile.
    pub outbox: Outbox,
    /// What may have got lost on the way.
    pub marks: Marks,
    /// Ends the call; the upstream is told.
    pub cancel: CancellationToken,
    /// What comes of it. Dropping it ends the call as well.
    pub answer: BoxFuture<'static, Outcome>,
}

/// What a request's `requestState` means.
pub enum Shown {
    /// There is none.
    Nothing,
    /// We didn't make it: only an upstream of the modern era may know it.
    Foreign,
    /// It names a parked call.
    Parked(Ticket),
    /// The client has done what the upstream wanted first: the request is to be made again.
    Again,
}

/// The right to go on with a parked call.
pub struct Ticket {
    call: Uuid,
    round: u32,
}

/// Why a call isn't where a ticket says.
enum Missed {
    /// It has gone on with this state already.
    Used,
    /// It is over, or was never in this process.
    Gone,
}

impl Parking {
    /// Nothing is parked yet.
    pub fn new(
        sealer: Sealer,
        clock: Clock,
        tasks: Tasks,
        degraded: Degradations,
        replica: ReplicaId,
    ) -> Self {
        let places = Mutex::default();
        Self { shared: Arc::new(Shared { sealer, clock, tasks, degraded, replica, places }) }
    }

    /// The replica that has the call which this `requestState`, a raw value, names, if that is another. What
    /// else is to be said of the state, that replica says.
    pub fn elsewhere(&self, state: &Bytes) -> Option<ReplicaId> {
        let shown = Text::read(state)?;
        let state = State::open(&self.shared.sealer, shown.as_str()).ok()?;
        state.parked_at().filter(|replica| *replica != self.shared.replica)
    }

    /// Reads the `requestState` that the client brought back, a raw value; an answer if it can't be taken.
    pub fn read(&self, visit: &Visit<'_>, state: &Bytes) -> Result<Shown, Answer> {
        let Some(shown) = Text::read(state) else { return Ok(Shown::Foreign) };
        let Ok(state) = State::open(&self.shared.sealer, shown.as_str()) else { return Ok(Shown::Foreign) };
        match state.check(&visit.binding(), self.shared.clock.now()) {
            Ok(()) => {}
            Err(NotTaken::Expired) => return Err(self.expired(visit)),
            Err(not_taken) => return Err(answers::invalid(&not_taken)),
        }
        if let Some(call) = state.call {
            return Ok(Shown::Parked(Ticket { call, round: state.round }));
        }
        let params = Object::parse(visit.params).map_err(|bad| answers::invalid(&bad))?;
        if answers::all_accepted(&params)? {
            Ok(Shown::Again)
        } else {
            Err(answers::not_accepted(visit.upstream))
        }
    }

    /// What is answered to a state that nobody knows, where the upstream can't have made it.
    pub fn unknown_state() -> Answer {
        answers::invalid(&NotTaken::Invalid)
    }

    /// Follows a call that has just begun. `brought` is what the client answers ahead, the raw value of
    /// its `inputResponses`.
    pub async fn begin(&self, visit: &Visit<'_>, begun: Begun, brought: Option<&Bytes>) -> Outcome {
        let Ok(brought) = brought.map(Object::parse).transpose() else {
            return Ok(answers::invalid(&questions::BadResponses::not_an_object()));
        };
        let call = ParkedCall::new(begun, visit.progress_token.clone(), brought);
        self.follow(visit, call).await
    }

    /// Goes on with a parked call.
    pub async fn resume(&self, visit: &Visit<'_>, ticket: &Ticket) -> Outcome {
        let params = match Object::parse(visit.params) {
            Ok(params) => params,
            Err(bad) => return Ok(answers::invalid(&bad)),
        };
        let responses = match questions::responses(&params) {
            Ok(responses) => responses,
            Err(bad) => return Ok(answers::invalid(&bad)),
        };
        let mut call = match self.take(visit.key, ticket).await {
            Ok(call) => call,
            Err(Missed::Used) => return Ok(answers::invalid(&NotTaken::Used)),
            Err(Missed::Gone) => return Ok(self.expired(visit)),
        };
        if let Err(bad) = call.questions.check(&responses) {
            // The client may try again with the same state.
            return match self.park(visit, call) {
                Ok(()) => Ok(answers::invalid(&bad)),
                Err(call) => {
                    call.give_up();
                    Ok(self.expired(visit))
                }
            };
        }
        call.round += 1;
        call.questions.answer(&responses, visit.abilities);
        self.follow(visit, call).await
    }

    /// How many calls have a place: they wait for their clients, or are attended once more.
    pub fn len(&self) -> usize {
        self.places().len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.places().is_empty()
    }

    async fn follow(&self, visit: &Visit<'_>, mut call: ParkedCall) -> Outcome {
        loop {
            match call.attend(visit).await {
                Attended::Over(outcome) => {
                    let answer = self.translate(visit, &call, outcome?);
                    return Ok(answers::annotated(answer, &call.marks.reasons()));
                }
                Attended::Asks => {
                    let state = self.state(visit, Some(call.id), call.round);
                    let requests = call.questions.to_input_requests(visit.abilities);
                    match self.park(visit, call) {
                        Ok(()) => return Ok(Answer::Result(answers::input_required(requests, &state))),
                        Err(returned) => {
                            call = *returned;
                            let message = "too many calls wait for their clients".into();
                            call.questions.refuse(&AskRefused { code: INTERNAL_ERROR, message });
                        }
                    }
                }
            }
        }
    }

    /// The upstream's answer as the client takes it.
    fn translate(&self, visit: &Visit<'_>, call: &ParkedCall, answer: Answer) -> Answer {
        let lacking = call.questions.lacking();
        let code = match &answer {
            Answer::Error(raw) => ErrorObject::read(raw).map(|error| error.code),
            Answer::Result(_) => None,
        };
        match (code, &answer) {
            (Some(URL_ELICITATION_REQUIRED), Answer::Error(raw)) => match answers::pages_first(raw) {
                Some(requests) => self.ask_first(visit, requests),
                None => modern_to_legacy::answer(answer, visit.method),
            },
            // It says no more than what it was told itself.
            (Some(METHOD_NOT_FOUND), _) if !lacking.is_empty() => {
                answers::missing_capability(&questions::required(lacking), None)
            }
            // A tool that failed for it: what 2026-07-28 has for that, and the tool's own words with it.
            (None, Answer::Result(raw)) if !lacking.is_empty() && answers::is_failure(raw) => {
                answers::missing_capability(&questions::required(lacking), Some(raw))
            }
            _ => modern_to_legacy::answer(answer, visit.method),
        }
    }

    /// The upstream wants its user to visit pages before it carries out the request, of which nothing is
    /// left to wait for.
    fn ask_first(&self, visit: &Visit<'_>, requests: Bytes) -> Answer {
        if !visit.abilities.elicitation_url {
            return answers::missing_capability(&json!({ "elicitation": { "url": {} } }), None);
        }
        Answer::Result(answers::input_required(requests, &self.state(visit, None, 0)))
    }

    fn state(&self, visit: &Visit<'_>, call: Option<Uuid>, round: u32) -> String {
        let lifetime_ms = i64::try_from(PARKED_MAX.as_millis()).unwrap_or(i64::MAX);
        let expires_at = Timestamp::from_millis(self.shared.clock.now().millis().saturating_add(lifetime_ms));
        let call = call.map(|call| (call, self.shared.replica));
        State::new(call, round, visit.binding(), expires_at).seal(&self.shared.sealer)
    }

    /// Leaves the call to a task of its own until its client comes back; gives it back if there is no room.
    /// A call that was parked before has kept its place.
    fn park(&self, visit: &Visit<'_>, mut call: ParkedCall) -> Result<(), Box<ParkedCall>> {
        let (give, waits) = oneshot::channel();
        {
            let mut places = self.places();
            if let Some(place) = places.get_mut(&call.id) {
                place.round = call.round;
                place.waits = Some(give);
            } else {
                let of_key = places.values().filter(|place| place.key == visit.key).count();
                if places.len() >= PARKED_TOTAL_MAX || of_key >= PARKED_PER_KEY_MAX {
                    tracing::info!(
                        parked.total = places.len(),
                        parked.of_key = of_key,
                        "no room to park a call"
                    );
                    return Err(Box::new(call));
                }
                places.insert(call.id, Place { key: visit.key, round: call.round, waits: Some(give) });
                call.presence = Some(Presence { parking: self.clone(), id: call.id });
            }
        }
        let ends = Ends { revoked: visit.revoked.clone(), stopping: self.shared.tasks.stopping().clone() };
        self.shared.tasks.spawn("parked call", keep(call, waits, ends));
        Ok(())
    }

    /// The parked call, if it is still there and waits in this round: to one, however many come.
    async fn take(&self, key: ApiKeyId, ticket: &Ticket) -> Result<ParkedCall, Missed> {
        let waits = {
            let mut places = self.places();
            let place = places.get_mut(&ticket.call).filter(|place| place.key == key).ok_or(Missed::Gone)?;
            if place.round != ticket.round {
                return Err(Missed::Used);
            }
            place.waits.take().ok_or(Missed::Used)?
        };
        let (hand_over, handed_over) = oneshot::channel();
        waits.send(hand_over).map_err(|_| Missed::Gone)?;
        handed_over.await.map_err(|_| Missed::Gone)
    }

    fn expired(&self, visit: &Visit<'_>) -> Answer {
        self.shared.degraded.count(visit.upstream.id, Reason::ParkedCallGone);
        answers::expired(visit.upstream)
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Uuid, Place>> {
        // Every change is one map operation, so a panic elsewhere can't leave it half done.
        self.shared.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's place, which goes with the call.
struct Presence {
    parking: Parking,
    id: Uuid,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.parking.places().remove(&self.id);
    }
}

/// What ends a parked call from outside.
struct Ends {
    revoked: CancellationToken,
    stopping: CancellationToken,
}

/// Keeps a call until its client comes back, or until it has waited long enough.
async fn keep(mut call: ParkedCall, mut waits: oneshot::Receiver<oneshot::Sender<ParkedCall>>, ends: Ends) {
    let deadline = tokio::time::sleep(PARKED_MAX);
    tokio::pin!(deadline);
    let why = loop {
        tokio::select! {
            biased;
            () = ends.revoked.cancelled() => break "its key is no longer valid",
            hand_over = &mut waits => {
                let Ok(hand_over) = hand_over else { break "nobody can come back for it" };
                if let Err(call) = hand_over.send(call) {
                    call.give_up(); // The client left at this very moment.
                }
                return;
            }
            () = ends.stopping.cancelled() => break "the gateway ends",
            () = &mut deadline => break "its client did not come back",
            kept = call.keep() => match kept {
                Kept::On => {}
                Kept::TimedOut => break "it took too long in all",
            },
        }
    };
    tracing::info!(call.id = %call.id, "a parked call was given up: {why}");
    call.give_up();
}

#[cfg(test)]
mod tests;
