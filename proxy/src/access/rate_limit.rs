//! How many messages a key may send: in a window, in a day, in a month.
//!
//! The limit is GCRA: `limit` messages in a window, with a burst of the same size, which refills evenly.
//! One unit a message on every transport, taken before the body is read; a batch costs one more for each
//! further message, taken when it is known how many there are. [`local`] is the budget of one process,
//! [`shared`] the one that all replicas share in Redis. A message that the limit lets pass then counts in
//! the key's quotas ([`quota`](super::quota)). The budget lives with the key in [`Keys`](super::Keys), so it
//! is as bounded as the keys are, and survives a change of anything but itself.

mod local;
pub(super) mod shared;

use std::num::NonZeroU32;
use std::sync::Arc;

use sql::model::{ApiKeyId, RateLimit, Timestamp};

use self::local::Local;
use self::shared::{Shared, Sharing};
use super::{Admitted, Caller};
use crate::refusal::Refusal;

/// The budget of one key.
#[derive(Debug)]
pub(super) enum Limiter {
    /// Of this process alone.
    Local(Local),
    /// Of all replicas. Counted, because what is leased of it is looked after by a task.
    Shared(Arc<Shared>),
}

/// Admits a caller who sends one message: takes one unit of the key's budget.
pub async fn admit_message(caller: Caller, now: Timestamp) -> Result<Admitted, Refusal> {
    take(&caller, 1, now).await?;
    Ok(Admitted { caller })
}

/// Admits a caller who sends no message: opens a stream, or ends a session.
pub fn admit_without_message(caller: Caller) -> Admitted {
    Admitted { caller }
}

impl Admitted {
    /// Takes a message's unit, where it could not be taken when the request came.
    pub async fn charge(&self, now: Timestamp) -> Result<(), Refusal> {
        take(&self.caller, 1, now).await
    }

    /// Takes what a batch costs beyond its first message, all or nothing.
    pub async fn charge_further(&self, messages: u32, now: Timestamp) -> Result<(), Refusal> {
        take(&self.caller, messages, now).await
    }
}

async fn take(caller: &Caller, messages: u32, now: Timestamp) -> Result<(), Refusal> {
    let Some(messages) = NonZeroU32::new(messages) else { return Ok(()) };
    match &caller.budget.limiter {
        None => {}
        Some(Limiter::Local(local)) => local.take(messages)?,
        Some(Limiter::Shared(shared)) => match shared.try_take(messages) {
            Some(taken) => taken?,
            // Beside the request's own future, which every request has and this few need.
            None => Box::pin(shared.ask(messages)).await?,
        },
    }
    // After the limit: what it refuses uses up no quota.
    caller.budget.usage.take(messages, &caller.key, now)
}

impl Limiter {
    /// A full budget, or what is left of a shared one.
    pub(super) fn new(key: ApiKeyId, limit: RateLimit, sharing: Option<&Arc<Sharing>>) -> Self {
        match sharing {
            None => Self::Local(Local::new(limit)),
            Some(sharing) => Self::Shared(Arc::new(Shared::new(key, limit, Arc::clone(sharing)))),
        }
    }

    /// Whether this is the budget that `limit` means.
    pub(super) fn is_for(&self, limit: RateLimit) -> bool {
        limit
            == match self {
                Self::Local(local) => local.limit(),
                Self::Shared(shared) => shared.limit(),
            }
    }
}
