//! A histogram of latencies: small, mergeable, and right to 3.2 %.
//!
//! The buckets are those of a floating-point number with four bits after its first one: whole microseconds below
//! 16, and from there on 16 equal buckets between each power of two and the next. A value is answered as the
//! middle of its bucket, so it is off by half the width of a bucket at most: 1/32 of the value ([`ERROR_MAX`]).
//! Only buckets that hold something are kept; written out, each takes two or three bytes.

/// By how much of itself a latency that is read from a histogram may be off.
pub const ERROR_MAX: f64 = 1.0 / 32.0;

/// Bits of a value that tell its bucket, beside its magnitude.
const PRECISION_BITS: u32 = 4;
/// Buckets between one power of two and the next.
const PER_OCTAVE: u16 = 1 << PRECISION_BITS;
/// The bucket of the greatest number of 64 bits is the last.
const BUCKET_MAX: u16 = bucket_of(u64::MAX);

/// How many calls took how long. Microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies {
    /// How many lie in each bucket that isn't empty, in the order of the buckets. There are few, and they are read
    /// and merged as often as added to.
    buckets: Vec<(u16, u64)>,
}

impl Latencies {
    /// Adds one latency. Microseconds.
    pub fn record(&mut self, us: u64) {
        self.add(bucket_of(us), 1);
    }

    /// Adds what another histogram holds.
    pub fn merge(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
            return;
        }
        for (bucket, count) in &other.buckets {
            self.add(*bucket, *count);
        }
    }

    fn add(&mut self, bucket: u16, count: u64) {
        match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(place) => self.buckets[place].1 = self.buckets[place].1.saturating_add(count),
            Err(place) => self.buckets.insert(place, (bucket, count)),
        }
    }

    /// How many latencies it holds.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The latency that this many per mille of all don't exceed (nearest rank), in microseconds, off by no more than
    /// [`ERROR_MAX`] of itself. `None`: it is empty.
    pub fn percentile(&self, per_mille: u16) -> Option<u64> {
        let count = u128::from(self.count());
        let rank = (count * u128::from(per_mille)).div_ceil(1_000).max(1);
        let mut seen = 0_u128;
        self.buckets.iter().find_map(|(bucket, count)| {
            seen += u128::from(*count);
            (seen >= rank).then(|| middle_of(*bucket))
        })
    }

    /// For the database: pairs of numbers in the order of the buckets, how far on the next bucket is and what it
    /// holds, each in groups of seven bits, the lowest first, the highest bit saying that another follows.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.buckets.len() * 3);
        let mut last = 0;
        for (bucket, count) in &self.buckets {
            put(&mut bytes, u64::from(bucket - last));
            put(&mut bytes, *count);
            last = *bucket;
        }
        bytes
    }

    /// Reads what [`Latencies::to_bytes`] wrote. `None`: it didn't write this.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        // Two bytes a bucket at least.
        let mut buckets = Vec::with_capacity(bytes.len() / 2);
        let mut bucket = 0_u16;
        while !bytes.is_empty() {
            let step = u16::try_from(take(&mut bytes)?).ok()?;
            bucket = bucket.checked_add(step).filter(|bucket| *bucket <= BUCKET_MAX)?;
            // Each bucket once: the next one lies further on.
            if step == 0 && !buckets.is_empty() {
                return None;
            }
            buckets.push((bucket, take(&mut bytes)?));
        }
        Some(Self { buckets })
    }
}

/// Which bucket a value lies in.
#[expect(clippy::cast_possible_truncation, reason = "shifted, five bits are left")]
const fn bucket_of(us: u64) -> u16 {
    if us < PER_OCTAVE as u64 {
        return us as u16;
    }
    let shift = u64::BITS - 1 - us.leading_zeros() - PRECISION_BITS;
    shift as u16 * PER_OCTAVE + (us >> shift) as u16
}

/// The middle of a bucket.
fn middle_of(bucket: u16) -> u64 {
    if bucket < 2 * PER_OCTAVE {
        return bucket.into();
    }
    let shift = bucket / PER_OCTAVE - 1;
    let first = u64::from(bucket % PER_OCTAVE + PER_OCTAVE) << shift;
    first + ((1 << shift) - 1) / 2
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7F);
        if bits.leading_zeros() < shift {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Latencies {
        let mut latencies = Latencies::default();
        for us in values {
            latencies.record(*us);
        }
        latencies
    }

    #[test]
    fn small_values_are_exact_and_buckets_follow_each_other() {
        for us in 0..32 {
            assert_eq!(of(&[us]).percentile(500), Some(us));
        }
        let mut last = 0;
        for us in (0..100_000).chain((100_000..100_000_000).step_by(1_000)) {
            let bucket = bucket_of(us);
            assert!(bucket == last || bucket == last + 1, "{us}");
            last = bucket;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKET_MAX);
    }

    #[test]
    fn percentiles_are_by_rank() {
        let latencies = of(&(1..=20).collect::<Vec<_>>());
        for (per_mille, us) in [(0, 1), (500, 10), (501, 11), (950, 19), (990, 20), (1_000, 20)] {
            assert_eq!(latencies.percentile(per_mille), Some(us), "{per_mille}");
        }
        assert_eq!(Latencies::default().percentile(500), None);
    }

    #[test]
    fn what_was_not_written_is_not_read() {
        for bytes in [&[1][..], &[1, 0x80], &[0xFF, 0xFF, 0x7F, 1], &[1, 1, 0, 1], &[0x80; 12]] {
            assert_eq!(Latencies::from_bytes(bytes), None, "{bytes:?}");
        }
        assert_eq!(Latencies::from_bytes(&[]), Some(Latencies::default()));
    }

    #[test]
    fn a_busy_quarter_of_an_hour_is_small() {
        // From a tenth of a millisecond to ten seconds, each bucket full.
        let mut latencies = Latencies::default();
        for us in (100..10_000_000).step_by(97) {
            latencies.record(us);
        }
        assert!(latencies.to_bytes().len() < 1_024, "{}", latencies.to_bytes().len());
    }

    proptest! {
        #[test]
        fn a_value_is_off_by_no_more_than_is_said(us in any::<u64>(), magnitude in 0..64_u32) {
            let us = us >> magnitude;
            let read = of(&[us]).percentile(500).expect("it holds one");
            let off = us.abs_diff(read);
            prop_assert!(u128::from(off) * 32 <= u128::from(us), "{us} is read as {read}");
        }

        #[test]
        fn survives_the_database_and_merges(
            one in prop::collection::vec(0..10_000_000_u64, 0..50),
            two in prop::collection::vec(any::<u64>(), 0..50),
        ) {
            let mut merged = Latencies::from_bytes(&of(&one).to_bytes()).expect("its own");
            merged.merge(&Latencies::from_bytes(&of(&two).to_bytes()).expect("its own"));
            let all: Vec<u64> = one.into_iter().chain(two).collect();
            prop_assert_eq!(merged.count(), all.len() as u64);
            prop_assert_eq!(merged, of(&all));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Latencies::from_bytes(&bytes).map(|read| read.percentile(990));
        }
    }
}
