//! Counts of durations, in buckets that are a quarter of an octave wide. Writing and reading need no lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// This shift turns nanoseconds into the unit of the buckets: 1,024 ns, about a microsecond.
const UNIT_SHIFT: u32 = 10;
/// The last bucket counts all durations from 2^27 units (137 s) on.
const EXPONENT_MAX: u32 = 27;
/// Four buckets for the durations of 0 to 3 units, then four buckets per octave.
const BUCKETS: usize = 4 * EXPONENT_MAX as usize;

/// Counts of durations.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts `times` durations of `ns` nanoseconds.
    pub fn record(&self, ns: u64, times: u64) {
        self.buckets[bucket(ns)].fetch_add(times, Relaxed);
        self.sum_ns.fetch_add(ns.saturating_mul(times), Relaxed);
    }

    /// Returns a snapshot of the counts.
    #[must_use]
    pub fn snapshot(&self) -> Counts {
        let buckets = self.buckets.iter().map(|count| count.load(Relaxed)).collect();
        Counts { buckets, sum_ns: self.sum_ns.load(Relaxed) }
    }
}

/// The bucket of a duration. The highest three bits, and the number of bits below them, select the bucket.
fn bucket(ns: u64) -> usize {
    let units = ns >> UNIT_SHIFT;
    if units < 4 {
        return units as usize;
    }
    let exponent = units.ilog2();
    let quarter = (units >> (exponent - 2)) & 3;
    ((exponent - 1) as usize * 4 + quarter as usize).min(BUCKETS - 1)
}

/// The end of a bucket in nanoseconds: every duration in the bucket is shorter.
fn end_ns(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    let units = if next < 4 { next } else { (4 + next % 4) << (next / 4 - 1) };
    units << UNIT_SHIFT
}

/// A snapshot of a [`Histogram`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    buckets: Vec<u64>,
    /// Sum of all durations, nanoseconds.
    pub sum_ns: u64,
}

impl Counts {
    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The counts since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let earlier = |index: usize| before.buckets.get(index).copied().unwrap_or(0);
        let buckets =
            self.buckets.iter().enumerate().map(|(index, count)| count.saturating_sub(earlier(index)));
        Self { buckets: buckets.collect(), sum_ns: self.sum_ns.saturating_sub(before.sum_ns) }
    }

    /// An upper bound, at most a quarter too high, of the duration that `share` (0 to 1) of the durations do
    /// not exceed; `None` if there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let wanted = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let is_reached = |count: &u64| {
            seen += count;
            seen >= wanted
        };
        let bucket = self.buckets.iter().position(is_reached)?;
        Some(Duration::from_nanos(end_ns(bucket)))
    }

    /// The ends of the octaves from a quarter of a millisecond to 34 s, each with the number of shorter
    /// durations.
    pub fn octaves(&self) -> impl Iterator<Item = (Duration, u64)> {
        let mut seen = 0;
        let cumulated = self.buckets.iter().enumerate().map(move |(bucket, count)| {
            seen += count;
            (bucket, seen)
        });
        cumulated
            .filter(|(bucket, _)| bucket % 4 == 3 && (27..=95).contains(bucket))
            .map(|(bucket, seen)| (Duration::from_nanos(end_ns(bucket)), seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_below_the_end_of_its_bucket_and_not_below_the_one_before() {
        for ns in (0..200_000)
            .step_by(7)
            .chain((17..37).flat_map(|shift| [(1 << shift) - 1, 1 << shift, 3 << shift]))
        {
            let at = bucket(ns);
            assert!(ns < end_ns(at), "{ns} in {at}");
            assert!(at == 0 || ns >= end_ns(at - 1), "{ns} in {at}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_at_most_a_quarter_too_high() {
        let histogram = Histogram::default();
        (1..=1_000).for_each(|ms| histogram.record(ms * 1_000_000, 1));
        let counts = histogram.snapshot();
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let ms = counts.quantile(share).unwrap().as_secs_f64() * 1e3;
            assert!(ms >= exact && ms <= exact * 1.26, "{share}: {ms}");
        }
        assert_eq!(Counts::default().quantile(0.5), None);
        assert_eq!(Histogram::default().snapshot().quantile(0.5), None);
    }

    #[test]
    fn a_difference_holds_the_values_recorded_between() {
        let histogram = Histogram::default();
        histogram.record(5_000_000, 3);
        let before = histogram.snapshot();
        histogram.record(40_000_000, 2);
        let between = histogram.snapshot().since(&before);
        assert_eq!((between.count(), between.sum_ns), (2, 80_000_000));
        assert!(between.quantile(0.01).unwrap() > Duration::from_millis(39));
    }

    #[test]
    fn octaves_are_cumulative() {
        let histogram = Histogram::default();
        for ns in [100_000, 300_000, 50_000_000, 90_000_000_000] {
            histogram.record(ns, 1);
        }
        let octaves: Vec<_> = histogram.snapshot().octaves().collect();
        assert_eq!(octaves[0], (Duration::from_nanos(256 << 10), 1));
        assert_eq!(octaves[1].1, 2);
        let (end, last) = *octaves.last().unwrap();
        assert!((30..40).contains(&end.as_secs()) && last == 3, "{end:?} {last}");
    }
}
