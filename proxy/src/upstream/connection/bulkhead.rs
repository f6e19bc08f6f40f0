//! How many calls may be in flight at one upstream, and how many more may wait for a place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::metrics::drops::{self, Queue};
use crate::upstream::call::{Call, CallError};

/// Calls in flight at one upstream: a slow one holds no more than this of the gateway.
pub(crate) const CALLS_MAX: usize = 256;
/// Calls that wait for a place: as many as one full turn of those in flight.
const WAITING_MAX: usize = 256;

/// The places.
pub(super) struct Bulkhead {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Bulkhead {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(CALLS_MAX)), waiting: AtomicUsize::new(0) }
    }

    /// Takes a place, or waits for one within the call's own time.
    pub(super) async fn enter(&self, call: &Call) -> Result<OwnedSemaphorePermit, CallError> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let busy = CallError::Busy { limit: CALLS_MAX };
        let Some(_turn) = Turn::take(&self.waiting) else { return Err(busy) };
        tokio::select! {
            biased;
            () = call.cancel.cancelled() => Err(CallError::Cancelled),
            place = Arc::clone(&self.places).acquire_owned() => place.map_err(|_| busy),
            () = sleep(call.idle_timeout.min(call.total_timeout)) => Err(CallError::Busy { limit: CALLS_MAX }),
        }
    }

    /// Calls that have a place.
    pub(super) fn taken(&self) -> usize {
        CALLS_MAX - self.places.available_permits()
    }
}

/// A turn in the queue, given back when it ends.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let turn = Self(waiting);
        let before = waiting.fetch_add(1, Ordering::SeqCst);
        let has_room = before < WAITING_MAX;
        if !has_room {
            drops::count(Queue::Bulkhead, 1);
        }
        has_room.then_some(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures::future::{FutureExt, join_all};

    use super::*;

    #[tokio::test]
    async fn places_and_turns_are_bounded_and_given_back() {
        let bulkhead = Bulkhead::new();
        let call = Call::own("m", Bytes::new(), Duration::from_mins(1), 1);
        let held = join_all((0..CALLS_MAX).map(|_| bulkhead.enter(&call))).await;
        assert!(held.iter().all(Result::is_ok));
        let mut queue: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(bulkhead.enter(&call))).collect();
        assert!(queue.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
        assert!(matches!(bulkhead.enter(&call).await, Err(CallError::Busy { limit: CALLS_MAX })));
        drop(held);
        let places = join_all(queue).await;
        assert_eq!((places.iter().filter(|place| place.is_ok()).count(), bulkhead.taken()), (256, 256));
        drop(places);
        assert_eq!((bulkhead.taken(), bulkhead.waiting.load(Ordering::SeqCst)), (0, 0));
    }
}
