//! How many messages a key may send in a day and in a month, both in UTC.
//!
//! Counted here and added up in the store every few seconds ([`crate::data_plane`]), from where the counts of
//! other replicas come back: so a call waits for nobody, and replicas together may pass a quota by what comes
//! in between. The counts go by the wall's clock. A span that has begun is left for a later one alone, so a
//! clock that jumps to and fro resets nothing twice; only a clock that was wrong by more than a day
//! is followed back.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sql::model::{ApiKey, ApiKeyId, KeyUsage, QuotaSpan, Timestamp};

use crate::refusal::Refusal;

/// How far back a clock must be to have been wrong before, rather than to be wrong now.
const FOLLOWED_BACK_AFTER: Duration = Duration::from_hours(24);

/// Counts that may wait for a store that is lost: two a day, so a year of it.
const OWED_MAX: usize = 730;

/// What one key used.
#[derive(Debug, Default)]
pub(super) struct Usage {
    day: AtomicU64,
    month: AtomicU64,
    /// When the day ends, in milliseconds; the month ends with one of its days. 0: none has begun.
    ends: AtomicI64,
    books: Mutex<Books>,
}

/// What the store knows of it.
#[derive(Debug, Default)]
struct Books {
    day: Page,
    month: Page,
    /// Of spans that are over.
    owed: Vec<(QuotaSpan, Timestamp, u64)>,
}

/// A day or a month.
#[derive(Debug)]
struct Page {
    starts: Timestamp,
    /// Of what was counted here: what the store has, or is being told.
    known: u64,
}

/// What a key used in the current day and month, by all replicas as far as this one knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Messages of this day.
    pub day: u64,
    /// When it ends.
    pub day_ends: Timestamp,
    /// Messages of this month.
    pub month: u64,
    /// When it ends.
    pub month_ends: Timestamp,
}

impl Usage {
    /// Counts messages, unless that would pass a quota of the key.
    pub(super) fn take(&self, messages: NonZeroU32, key: &ApiKey, now: Timestamp) -> Result<(), Refusal> {
        if now.millis() >= self.ends.load(Ordering::Acquire) {
            self.turn_page(now);
        }
        let messages = u64::from(messages.get());
        // The month first: if both are used up, that is what the caller has to wait for.
        if !count(&self.month, messages, key.quota_per_month) {
            return Err(exceeded(QuotaSpan::Month, key.quota_per_month, now));
        }
        if !count(&self.day, messages, key.quota_per_day) {
            self.month.fetch_sub(messages, Ordering::Relaxed);
            return Err(exceeded(QuotaSpan::Day, key.quota_per_day, now));
        }
        Ok(())
    }

    /// What was used, as it stands.
    pub(super) fn used(&self, now: Timestamp) -> Used {
        self.turn_page_if_due(now);
        Used {
            day: self.day.load(Ordering::Relaxed),
            day_ends: QuotaSpan::Day.end(now),
            month: self.month.load(Ordering::Relaxed),
            month_ends: QuotaSpan::Month.end(now),
        }
    }

    /// Takes what the store doesn't know yet. It counts as known from now on: who takes it must write it,
    /// or bring it back by [`Usage::not_written`].
    pub(super) fn unwritten(&self, key_id: ApiKeyId, now: Timestamp) -> Vec<KeyUsage> {
        self.turn_page_if_due(now);
        let mut books = self.books();
        let mut unwritten = std::mem::take(&mut books.owed);
        for (span, used) in [(QuotaSpan::Day, &self.day), (QuotaSpan::Month, &self.month)] {
            let page = books.page(span);
            let new = used.load(Ordering::Relaxed).saturating_sub(page.known);
            if new > 0 {
                page.known += new;
                unwritten.push((span, page.starts, new));
            }
        }
        let usage = |(span, starts_at, messages)| KeyUsage { key_id, span, starts_at, messages };
        unwritten.into_iter().map(usage).collect()
    }

    /// Takes in what the store has: what is more than it was told from here is of other replicas.
    pub(super) fn stored(&self, sum: &KeyUsage, now: Timestamp) {
        self.turn_page_if_due(now);
        let mut books = self.books();
        let page = books.page(sum.span);
        if page.starts == sum.starts_at && sum.messages > page.known {
            self.counter(sum.span).fetch_add(sum.messages - page.known, Ordering::Relaxed);
            page.known = sum.messages;
        }
    }

    /// Takes back what could not be written.
    pub(super) fn not_written(&self, usage: &KeyUsage) {
        let mut books = self.books();
        let page = books.page(usage.span);
        if page.starts == usage.starts_at {
            page.known = page.known.saturating_sub(usage.messages);
        } else if books.owed.len() < OWED_MAX {
            books.owed.push((usage.span, usage.starts_at, usage.messages));
        }
    }

    fn turn_page_if_due(&self, now: Timestamp) {
        let ends = self.ends.load(Ordering::Acquire);
        let began = Timestamp::from_millis(ends).minus(Duration::from_hours(24));
        if now.millis() >= ends || now < began.minus(FOLLOWED_BACK_AFTER) {
            self.turn_page(now);
        }
    }

    /// Begins the day, and the month if it is another, that `now` lies in.
    fn turn_page(&self, now: Timestamp) {
        let mut books = self.books();
        for span in [QuotaSpan::Day, QuotaSpan::Month] {
            let starts = span.start(now);
            let page = books.page(span);
            if page.starts == starts {
                continue;
            }
            let counted = self.counter(span).swap(0, Ordering::Relaxed);
            let left = Page { starts, known: 0 };
            let Page { starts, known } = std::mem::replace(page, left);
            if counted > known && books.owed.len() < OWED_MAX {
                books.owed.push((span, starts, counted - known));
            }
        }
        self.ends.store(QuotaSpan::Day.end(now).millis(), Ordering::Release);
    }

    fn counter(&self, span: QuotaSpan) -> &AtomicU64 {
        match span {
            QuotaSpan::Day => &self.day,
            QuotaSpan::Month => &self.month,
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn page(&mut self, span: QuotaSpan) -> &mut Page {
        match span {
            QuotaSpan::Day => &mut self.day,
            QuotaSpan::Month => &mut self.month,
        }
    }
}

impl Default for Page {
    fn default() -> Self {
        Self { starts: Timestamp::from_millis(0), known: 0 }
    }
}

fn count(used: &AtomicU64, messages: u64, quota: Option<u64>) -> bool {
    let Some(quota) = quota else {
        used.fetch_add(messages, Ordering::Relaxed);
        return true;
    };
    let more = |used: u64| used.checked_add(messages).filter(|used| *used <= quota);
    used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

fn exceeded(span: QuotaSpan, quota: Option<u64>, now: Timestamp) -> Refusal {
    let (start, end) = (span.start(now), span.end(now));
    Refusal::QuotaExceeded {
        retry_after: end.since(now),
        quota: quota.unwrap_or_default(),
        span,
        window_s: end.since(start).as_secs(),
    }
}

#[cfg(test)]
mod tests {
    use sql::Clock;
    use sql::model::PlaintextKey;

    use super::*;

    struct Scene {
        clock: Clock,
        key: ApiKey,
        usage: Usage,
    }

    /// An hour before a month ends.
    fn scene(per_day: Option<u64>, per_month: Option<u64>) -> Scene {
        let now: Timestamp = "2026-11-30T23:00:00Z".parse().unwrap();
        let mut key = ApiKey::create(ApiKeyId::at(now), "k", &PlaintextKey::generate(), now);
        (key.quota_per_day, key.quota_per_month) = (per_day, per_month);
        Scene { clock: Clock::manual(now), key, usage: Usage::default() }
    }

    impl Scene {
        fn take(&self, messages: u32) -> Result<(), Refusal> {
            self.usage.take(NonZeroU32::new(messages).unwrap(), &self.key, self.clock.now())
        }

        fn used(&self) -> (u64, u64) {
            let used = self.usage.used(self.clock.now());
            (used.day, used.month)
        }

        fn unwritten(&self) -> Vec<(QuotaSpan, String, u64)> {
            let unwritten = self.usage.unwritten(self.key.id, self.clock.now());
            let shown = |usage: &KeyUsage| (usage.span, usage.starts_at.to_string(), usage.messages);
            unwritten.iter().map(shown).collect()
        }

        fn sum(&self, span: QuotaSpan, messages: u64) -> KeyUsage {
            KeyUsage { key_id: self.key.id, span, starts_at: span.start(self.clock.now()), messages }
        }

        fn jump(&self, hours: i64) {
            let clock = &self.clock;
            if hours > 0 {
                clock.advance(Duration::from_hours(hours.unsigned_abs()));
            } else {
                clock.set_back(Duration::from_hours(hours.unsigned_abs()));
            }
        }
    }

    #[test]
    fn a_quota_is_used_up_and_says_until_when() {
        let scene = scene(Some(3), None);
        assert_eq!((scene.take(1), scene.take(2)), (Ok(()), Ok(())));
        let refusal = scene.take(1).unwrap_err();
        let (retry_after, span) = (Duration::from_hours(1), QuotaSpan::Day);
        assert_eq!(refusal, Refusal::QuotaExceeded { retry_after, quota: 3, span, window_s: 86_400 });
        assert_eq!(scene.used(), (3, 3), "what is refused isn't counted");
        scene.jump(1);
        assert_eq!(scene.take(3), Ok(()));
        assert_eq!(scene.used(), (3, 3), "another month, too");
    }

    #[test]
    fn a_batch_is_covered_whole_or_not_at_all_by_both_quotas() {
        let scene = scene(Some(10), Some(4));
        assert!(scene.take(3).is_ok() && scene.take(2).is_err());
        assert_eq!(scene.used(), (3, 3));
        let Err(Refusal::QuotaExceeded { span, window_s, .. }) = scene.take(2) else { panic!("refused") };
        assert_eq!((span, window_s), (QuotaSpan::Month, 30 * 86_400));
        assert!(scene.take(1).is_ok());
    }

    #[test]
    fn what_is_counted_is_written_once_and_in_its_own_day() {
        let scene = scene(None, None);
        scene.take(2).unwrap();
        let november = |messages| {
            vec![
                (QuotaSpan::Day, "2026-11-30T00:00:00.000Z".to_owned(), messages),
                (QuotaSpan::Month, "2026-11-01T00:00:00.000Z".to_owned(), messages),
            ]
        };
        assert_eq!(scene.unwritten(), november(2));
        assert_eq!(scene.unwritten(), []);
        scene.take(3).unwrap();
        scene.jump(1);
        scene.take(1).unwrap();
        let mut expected = november(3);
        expected.push((QuotaSpan::Day, "2026-12-01T00:00:00.000Z".to_owned(), 1));
        expected.push((QuotaSpan::Month, "2026-12-01T00:00:00.000Z".to_owned(), 1));
        assert_eq!(scene.unwritten(), expected);
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let scene = scene(None, None);
        scene.take(2).unwrap();
        for usage in scene.usage.unwritten(scene.key.id, scene.clock.now()) {
            scene.usage.not_written(&usage);
        }
        scene.take(1).unwrap();
        let lost = scene.usage.unwritten(scene.key.id, scene.clock.now());
        assert_eq!(lost.iter().map(|usage| usage.messages).collect::<Vec<_>>(), [3, 3]);
        scene.jump(1);
        scene.take(1).unwrap();
        for usage in &lost {
            scene.usage.not_written(usage);
        }
        let messages: Vec<u64> = scene.unwritten().into_iter().map(|(.., messages)| messages).collect();
        assert_eq!(messages, [3, 3, 1, 1]);
    }

    #[test]
    fn the_counts_of_other_replicas_come_back_with_the_sums() {
        let scene = scene(Some(10), None);
        scene.usage.stored(&scene.sum(QuotaSpan::Day, 5), scene.clock.now());
        assert_eq!(scene.used(), (5, 0));
        scene.take(2).unwrap();
        assert_eq!(scene.unwritten().len(), 2);
        // While it was being written, another message came here, and two on another replica.
        scene.take(1).unwrap();
        scene.usage.stored(&scene.sum(QuotaSpan::Day, 9), scene.clock.now());
        assert_eq!(scene.used(), (10, 3));
        assert!(scene.take(1).is_err());
        // A sum that is older than what is known changes nothing; nor does that of another day.
        scene.usage.stored(&scene.sum(QuotaSpan::Day, 1), scene.clock.now());
        let yesterday = KeyUsage { starts_at: Timestamp::from_millis(0), ..scene.sum(QuotaSpan::Day, 99) };
        scene.usage.stored(&yesterday, scene.clock.now());
        assert_eq!(scene.used(), (10, 3));
    }

    #[test]
    fn a_clock_that_jumps_to_and_fro_resets_nothing_twice_f17() {
        let scene = scene(Some(3), None);
        scene.take(3).unwrap();
        scene.jump(1);
        scene.take(2).unwrap();
        scene.jump(-1);
        assert_eq!(scene.used().0, 2, "the new day goes on");
        scene.take(1).unwrap();
        assert!(scene.take(1).is_err());
        scene.jump(1);
        assert!(scene.take(1).is_err(), "and isn't begun a second time");
        assert_eq!(scene.unwritten().iter().map(|(.., messages)| messages).sum::<u64>(), 12);
    }

    #[test]
    fn a_clock_that_was_wrong_by_days_is_followed_back_f17() {
        let scene = scene(Some(3), None);
        scene.jump(24 * 365);
        scene.take(3).unwrap();
        scene.jump(-24 * 365);
        assert_eq!(scene.used().0, 0);
        scene.usage.stored(&scene.sum(QuotaSpan::Day, 3), scene.clock.now());
        assert!(scene.take(1).is_err(), "what the store knows of this day counts");
    }
}
