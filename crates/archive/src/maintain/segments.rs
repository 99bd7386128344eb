//! Keeps what maintenance knows about the sealed segments.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{PASS_EVERY, Retry, age};
use crate::format::names::SIDE_FILE_SUFFIXES;
use crate::log::MaintenanceSignal;
use crate::storage::StorageError;
use crate::storage::dir::Dir;

/// The sealed segments that maintenance works on. The key is the base of the segment: the offset of its first frame.
#[derive(Default)]
pub(super) struct SealedSegments(BTreeMap<u64, Sealed>);

/// What maintenance knows of a sealed segment.
#[derive(Default)]
struct Sealed {
    /// One bit for each completed step, by the number of the step.
    done: u32,
    /// Whether maintenance has compared the segment's header with its name and with the id of the log. A segment whose
    /// header cannot be read passes this check.
    is_checked: bool,
    /// When its steps may be tried again after a failure.
    retry: Retry,
    /// Size of the segment and its side files; `None` while it is not measured.
    bytes: Option<u64>,
    /// When its youngest frame was received, in unix nanoseconds. The outer `None` means not known yet. The inner
    /// `None` means that the segment has no readable frame with a plausible time.
    received_max_ns: Option<Option<i64>>,
}

impl SealedSegments {
    /// Replaces the set of bases. Keeps what is known about segments that stay.
    pub(super) fn set(&mut self, bases: impl Iterator<Item = u64>) {
        let mut known = std::mem::take(&mut self.0);
        self.0 = bases.map(|base| (base, known.remove(&base).unwrap_or_default())).collect();
    }

    /// Whether the header of the segment `base` was already compared with its name and with the id of the log.
    pub(super) fn is_checked(&self, base: u64) -> bool {
        self.0.get(&base).is_some_and(|sealed| sealed.is_checked)
    }

    /// Marks all segments as checked, see [`Self::is_checked`].
    pub(super) fn mark_all_checked(&mut self) {
        self.0.values_mut().for_each(|sealed| sealed.is_checked = true);
    }

    /// Removes `base`. Returns when its youngest frame was received, if that is known.
    pub(super) fn remove(&mut self, base: u64) -> Option<i64> {
        self.0.remove(&base)?.received_max_ns.flatten()
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

    /// Whether maintenance must work on `base` at `now`: fewer than all `count` steps are done, and the pause after the
    /// last failure has passed.
    pub(super) fn is_due(&self, base: u64, count: usize, now: Duration) -> bool {
        let is_due = self.0.get(&base).is_some_and(|sealed| sealed.retry.is_due(now));
        is_due && !self.is_settled(base, count)
    }

    /// Whether all `count` steps of `base` are done. Also true if `base` is unknown.
    pub(super) fn is_settled(&self, base: u64, count: usize) -> bool {
        self.0.get(&base).is_none_or(|sealed| sealed.done.count_ones() as usize >= count)
    }

    /// Whether the step with this number is done for `base`. Also true if `base` is unknown.
    pub(super) fn is_done(&self, base: u64, step: usize) -> bool {
        self.0.get(&base).is_none_or(|sealed| sealed.done & (1 << step) != 0)
    }

    /// Records that the step with this number is done for `base`.
    pub(super) fn mark_step_done(&mut self, base: u64, step: usize) {
        if let Some(sealed) = self.0.get_mut(&base) {
            sealed.done |= 1 << step;
            // A step may have written side files, so the size must be measured again.
            sealed.bytes = None;
        }
    }

    /// Sets the failures of `base` to zero.
    pub(super) fn clear_failures(&mut self, base: u64) {
        if let Some(sealed) = self.0.get_mut(&base) {
            sealed.retry = Retry::default();
        }
    }

    /// Records a failure of `base`. Returns the pause before the next attempt.
    pub(super) fn record_failure(&mut self, base: u64, now: Duration) -> Duration {
        self.0.get_mut(&base).map_or(PASS_EVERY, |sealed| sealed.retry.failed(now))
    }

    /// Number of segments with a step that failed at its last attempt.
    pub(super) fn failing_count(&self) -> u64 {
        self.0.values().filter(|sealed| sealed.retry.failures > 0).count() as u64
    }

    /// Time from `now` until a segment with a failed step is tried again. `Duration::MAX` if no step has failed.
    pub(super) fn retry_pause(&self, now: Duration) -> Duration {
        let failing = self.0.values().filter(|sealed| sealed.retry.failures > 0);
        failing.map(|sealed| sealed.retry.pause(now)).min().unwrap_or(Duration::MAX)
    }

    /// Bytes of the segment `base` and its side files.
    pub(super) fn bytes(&mut self, dir: &Dir, base: u64) -> Result<u64, StorageError> {
        let Some(sealed) = self.0.get_mut(&base) else {
            return Ok(0);
        };
        if let Some(bytes) = sealed.bytes {
            return Ok(bytes);
        }
        let mut bytes = dir.size(&dir.segment(base))?;
        for ending in SIDE_FILE_SUFFIXES {
            bytes += dir.size(&dir.side_file(base, ending))?;
        }
        sealed.bytes = Some(bytes);
        Ok(bytes)
    }

    /// Bytes of all segments and their side files. Measures those that are not known yet.
    pub(super) fn total_bytes(&mut self, dir: &Dir) -> Result<u64, StorageError> {
        let unknown: Vec<u64> =
            self.0.iter().filter(|(_, it)| it.bytes.is_none()).map(|(base, _)| *base).collect();
        for base in unknown {
            self.bytes(dir, base)?;
        }
        Ok(self.known_bytes())
    }

    /// Bytes of all segments that were measured before.
    pub(super) fn known_bytes(&self) -> u64 {
        self.0.values().filter_map(|sealed| sealed.bytes).sum()
    }

    /// Drops all cached times. Needed when the wall clock was set: the old clock decided which times were plausible.
    pub(super) fn forget_times(&mut self) {
        self.0.values_mut().for_each(|sealed| sealed.received_max_ns = None);
    }

    /// Returns when the youngest frame of `base` was received, in unix nanoseconds. Ignores times that are not
    /// plausible at `now_ns`. If the segment has no readable frame or no plausible time, the function returns the time
    /// of the next segment that has one.
    pub(super) fn received_max_ns(
        &mut self,
        dir: &Dir,
        base: u64,
        now_ns: i64,
        signal: &MaintenanceSignal,
    ) -> Option<i64> {
        self.0.range_mut(base..).find_map(|(base, sealed)| {
            if let Some(known) = sealed.received_max_ns {
                return known;
            }
            match age::received_max_ns(dir, *base, u64::MAX, now_ns, signal) {
                Ok(received_ns) => *sealed.received_max_ns.insert(received_ns),
                // Too many files are open. The failure is not cached, so a later call tries this segment again.
                Err(error) if error.is_too_many_files() => None,
                Err(error) => {
                    tracing::warn!(%error, "the age of this segment is unknown: it expires together with the next segment");
                    *sealed.received_max_ns.insert(None)
                }
            }
        })
    }
}
