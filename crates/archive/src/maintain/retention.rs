//! Removes expired segments: only whole sealed segments, oldest first.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::clock::Reading;
use super::trust::{UNREADABLE, is_plausible};
use super::{Maintenance, age};
use crate::format::names::SIDE_FILE_SUFFIXES;
use crate::storage::StorageError;

/// Minimum time between two segments that expire by age. An operator who sees that too much is removed has time to stop
/// it.
const AGE_PACE: Duration = Duration::from_secs(60);

/// State of the expiry by age, apart from the clock.
pub(super) struct Aging {
    /// Frames below this offset were in the archive at the start.
    start_offset: u64,
    /// Whether the newest time that the archive held at the start has been looked for.
    has_newest: bool,
    /// Newest plausible time of the segments removed since the start, or since the last clock step.
    removed_max_ns: Option<i64>,
    /// When the last segment expired by age, in time of [`super::Clock::monotonic`].
    expired_at: Option<Duration>,
    /// Whether nothing expired by age at the last look. Only a change is logged.
    is_held: bool,
}

impl Aging {
    pub(super) fn new(start_offset: u64) -> Self {
        Self { start_offset, has_newest: false, removed_max_ns: None, expired_at: None, is_held: false }
    }
}

/// Why a segment expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// The age of its youngest frame.
    Age(Duration),
    /// Size of all segments together in bytes.
    Size(u64),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Age(age) => write!(f, "its youngest frame is {} s old", age.as_secs()),
            Self::Size(bytes) => write!(f, "the segments have {bytes} bytes together"),
        }
    }
}

impl Maintenance {
    /// Removes all expired segments.
    pub(super) fn expire(&mut self) -> Result<(), StorageError> {
        self.note_retention();
        while let Some((base, reason)) = self.expired()? {
            self.work(base);
            if self.shared.signal.is_stopped() {
                break;
            }
            self.remove(base, reason)?;
        }
        let bytes = self.segments.known_bytes() + self.shared.handover.current_bytes();
        self.published.stats.segment_bytes.store(bytes, Relaxed);
        Ok(())
    }

    /// Takes a retention that was set while the archive runs.
    pub(super) fn note_retention(&mut self) {
        if let Some(retention) = self.control.take_retention() {
            self.retention = retention;
        }
    }

    /// Whether all segments, including the one being written, exceed the size limit and there is a sealed segment to
    /// remove.
    pub(super) fn is_over_size(&self) -> bool {
        let bytes = self.segments.known_bytes() + self.shared.handover.current_bytes();
        self.segments.len() > 0 && self.retention.bytes.is_some_and(|limit| bytes > limit) && !self.is_held()
    }

    /// Whether a reader that [`Tuning::hold`](crate::Tuning::hold) speaks for needs the oldest segment.
    fn is_held(&self) -> bool {
        let end =
            self.segments.first().and_then(|base| self.segments.after(base)).unwrap_or(self.listed_base);
        end > self.control.keep_from()
    }

    fn expired(&mut self) -> Result<Option<(u64, Reason)>, StorageError> {
        let Some(base) = self.segments.first() else {
            return Ok(None);
        };
        let bytes = self.segments.total_bytes(&self.dir)? + self.shared.handover.current_bytes();
        if self.is_held() {
            return Ok(None);
        }
        if self.retention.bytes.is_some_and(|limit| bytes > limit) {
            return Ok(Some((base, Reason::Size(bytes))));
        }
        Ok(self.outlived(base).map(|age| (base, Reason::Age(age))))
    }

    /// Returns the age of the oldest segment, `base`, if it exceeds the limit. Returns `None` while the clock is not
    /// trusted, or while [`AGE_PACE`] has not passed since the last expiry by age.
    fn outlived(&mut self, base: u64) -> Option<Duration> {
        let limit = self.retention.age?;
        // The age below is computed from the same reading as the clock check.
        let now = self.note_clock();
        let is_early = |at: Duration| now.boot < at + AGE_PACE;
        if self.trust.hold(now).is_some() || self.aging.expired_at.is_some_and(is_early) {
            return None;
        }
        let own_ns = self.segments.received_max_ns(&self.dir, base, now.wall_ns, &self.shared.signal)?;
        let received_ns = self.aging.removed_max_ns.map_or(own_ns, |before_ns| own_ns.max(before_ns));
        let age = u64::try_from(i128::from(now.wall_ns) - i128::from(received_ns)).ok()?;
        let age = Duration::from_nanos(age);
        (age > limit).then_some(age)
    }

    /// Compares the clocks. Logs and publishes whether segments can expire by age.
    pub(super) fn note_clock(&mut self) -> Reading {
        let now = Reading::of(&*self.clock);
        let step_ns = self.trust.compare(now);
        if self.control.take_clock_confirmation() {
            self.trust.confirm(now);
        }
        if step_ns.is_some() {
            // Times that were implausible before the step may be plausible after it.
            self.aging.removed_max_ns = None;
            self.segments.forget_times();
        }
        self.find_newest(now);
        let hold = self.retention.age.and_then(|_| self.trust.hold(now));
        match &hold {
            Some(hold) if step_ns.is_some() || !self.aging.is_held => {
                tracing::warn!(reason = hold.reason, "nothing expires by age for now");
            }
            None if self.aging.is_held => tracing::info!("the clock is trusted: segments expire by age"),
            _ => {}
        }
        self.aging.is_held = hold.is_some();
        self.control.set_age_hold(hold);
        now
    }

    /// Looks once for the newest time that the archive held at the start.
    fn find_newest(&mut self, now: Reading) {
        // No time is plausible by a clock that was never set.
        if self.aging.has_newest || self.retention.age.is_none() || !is_plausible(now.wall_ns, now.wall_ns) {
            return;
        }
        let newest = age::newest_ns(&self.dir, self.aging.start_offset, now.wall_ns, &self.shared.signal);
        if newest.as_ref().is_err_and(StorageError::is_too_many_files) {
            // A later call can look for the time. Segments expire by age only long after the start.
            return;
        }
        self.aging.has_newest = true;
        self.trust.set_newest(newest.unwrap_or_else(|error| {
            tracing::warn!(%error, "the newest time of the archive cannot be read: the wall clock must agree with the boot-time clock for 24 h");
            Some(UNREADABLE)
        }));
    }

    fn remove(&mut self, base: u64, reason: Reason) -> Result<(), StorageError> {
        let bytes = self.segments.bytes(&self.dir, base)?;
        let next = self.segments.after(base).unwrap_or(self.listed_base);
        let is_settled = self.segments.is_settled(base, self.steps.len());
        self.dir.remove(&self.dir.segment(base))?;
        self.dir.sync()?;
        let received_ns = self.segments.remove(base);
        self.aging.removed_max_ns = self.aging.removed_max_ns.max(received_ns);
        if matches!(reason, Reason::Age(_)) {
            self.aging.expired_at = Some(self.clock.monotonic());
        }
        self.publish();
        // After a crash at this point, maintenance finds the side files without their segment and removes them.
        for ending in SIDE_FILE_SUFFIXES {
            self.dir.remove(&self.dir.side_file(base, ending))?;
        }
        let stats = &self.published.stats;
        stats.expired_segments.fetch_add(1, Relaxed);
        stats.expired_frames.fetch_add(next - base, Relaxed);
        stats.expired_bytes.fetch_add(bytes, Relaxed);
        tracing::info!(
            segment = %self.dir.segment(base).display(),
            from_offset = base,
            to_offset = next,
            bytes,
            %reason,
            "segment expired"
        );
        if !is_settled {
            tracing::warn!(
                from_offset = base,
                to_offset = next,
                "the segment expired before all maintenance steps were done; the failures were logged before"
            );
        }
        Ok(())
    }
}
