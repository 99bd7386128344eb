//! What upkeep knows of the sealed segments.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{PASS_EVERY, Retry, age};
use crate::archive::dir::{Dir, SIDE_FILES};
use crate::archive::storage::StorageError;

/// The sealed segments by base.
#[derive(Default)]
pub(super) struct Segments(BTreeMap<u64, Sealed>);

#[derive(Default)]
struct Sealed {
    steps_done: usize,
    retry: Retry,
    /// Of the segment and its side files.
    bytes: Option<u64>,
    /// When its youngest frame was received; `None` inside: no frame in it can be read.
    received_max_ns: Option<Option<i64>>,
}

impl Segments {
    /// Takes the bases there are; what is known of those that stay is kept.
    pub(super) fn set(&mut self, bases: impl Iterator<Item = u64>) {
        let mut known = std::mem::take(&mut self.0);
        self.0 = bases.map(|base| (base, known.remove(&base).unwrap_or_default())).collect();
    }

    pub(super) fn remove(&mut self, base: u64) {
        self.0.remove(&base);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.0.keys().next().copied()
    }

    pub(super) fn after(&self, base: u64) -> Option<u64> {
        self.0.range(base + 1..).next().map(|(base, _)| *base)
    }

    pub(super) fn bases(&self) -> Vec<u64> {
        self.0.keys().copied().collect()
    }

    /// The step of `base` that comes next, unless all of the `count` are done or the last failure is too fresh.
    pub(super) fn due_step(&self, base: u64, count: usize, now: Duration) -> Option<usize> {
        let sealed = self.0.get(&base)?;
        (sealed.steps_done < count && sealed.retry.is_due(now)).then_some(sealed.steps_done)
    }

    pub(super) fn is_settled(&self, base: u64, count: usize) -> bool {
        self.0.get(&base).is_none_or(|sealed| sealed.steps_done >= count)
    }

    pub(super) fn step_done(&mut self, base: u64) {
        if let Some(sealed) = self.0.get_mut(&base) {
            sealed.steps_done += 1;
            sealed.retry = Retry::default();
            // Steps leave side files.
            sealed.bytes = None;
        }
    }

    /// Takes note of a failure and returns the pause after it.
    pub(super) fn step_failed(&mut self, base: u64, now: Duration) -> Duration {
        self.0.get_mut(&base).map_or(PASS_EVERY, |sealed| sealed.retry.failed(now))
    }

    /// How many have a step that failed last time.
    pub(super) fn failing(&self) -> u64 {
        self.0.values().filter(|sealed| sealed.retry.failures > 0).count() as u64
    }

    /// Until the first step that failed is due again.
    pub(super) fn retry_pause(&self, now: Duration) -> Duration {
        let failing = self.0.values().filter(|sealed| sealed.retry.failures > 0);
        failing.map(|sealed| sealed.retry.pause(now)).min().unwrap_or(Duration::MAX)
    }

    /// Bytes of `base` and its side files.
    pub(super) fn bytes(&mut self, dir: &Dir, base: u64) -> Result<u64, StorageError> {
        let Some(sealed) = self.0.get_mut(&base) else {
            return Ok(0);
        };
        if let Some(bytes) = sealed.bytes {
            return Ok(bytes);
        }
        let mut bytes = dir.size(&dir.segment(base))?;
        for ending in SIDE_FILES {
            bytes += dir.size(&dir.side_file(base, ending))?;
        }
        sealed.bytes = Some(bytes);
        Ok(bytes)
    }

    /// Bytes of all.
    pub(super) fn total_bytes(&mut self, dir: &Dir) -> Result<u64, StorageError> {
        let unknown: Vec<u64> =
            self.0.iter().filter(|(_, it)| it.bytes.is_none()).map(|(base, _)| *base).collect();
        for base in unknown {
            self.bytes(dir, base)?;
        }
        Ok(self.known_bytes())
    }

    /// The same, as far as it was measured before.
    pub(super) fn known_bytes(&self) -> u64 {
        self.0.values().filter_map(|sealed| sealed.bytes).sum()
    }

    /// When the youngest frame of `base` was received. A segment without a readable frame is as young as the next one.
    pub(super) fn received_max_ns(&mut self, dir: &Dir, base: u64) -> Option<i64> {
        self.0.range_mut(base..).find_map(|(base, sealed)| {
            *sealed.received_max_ns.get_or_insert_with(|| {
                age::received_max_ns(dir, *base).unwrap_or_else(|error| {
                    tracing::warn!(%error, "the age of this segment is unknown: it expires with the next one");
                    None
                })
            })
        })
    }
}
