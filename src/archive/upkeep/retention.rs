//! What expires: whole sealed segments, oldest first, never one before an older one.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Upkeep;
use crate::archive::dir::SIDE_FILES;
use crate::archive::storage::StorageError;

/// Why a segment expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Its youngest frame is this old.
    Age(Duration),
    /// All segments together have this many bytes.
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

impl Upkeep {
    /// Removes what has expired.
    pub(super) fn expire(&mut self) -> Result<(), StorageError> {
        self.note_retention();
        while let Some((base, reason)) = self.expired()? {
            self.work(base);
            if self.link.is_stopped() {
                break;
            }
            self.remove(base, reason)?;
        }
        let bytes = self.segments.known_bytes() + self.link.current_bytes();
        self.outlets.stats.segment_bytes.store(bytes, Relaxed);
        Ok(())
    }

    /// Goes by what was set while the archive runs.
    pub(super) fn note_retention(&mut self) {
        if let Some(retention) = self.link.take_retention() {
            self.retention = retention;
        }
    }

    /// Whether the segment being written has grown beyond what the size allows.
    pub(super) fn is_over_size(&self) -> bool {
        let bytes = self.segments.known_bytes() + self.link.current_bytes();
        self.segments.len() > 0 && self.retention.bytes.is_some_and(|limit| bytes > limit)
    }

    fn expired(&mut self) -> Result<Option<(u64, Reason)>, StorageError> {
        let Some(base) = self.segments.first() else {
            return Ok(None);
        };
        let bytes = self.segments.total_bytes(&self.dir)? + self.link.current_bytes();
        if self.retention.bytes.is_some_and(|limit| bytes > limit) {
            return Ok(Some((base, Reason::Size(bytes))));
        }
        Ok(self.outlived(base).map(|age| (base, Reason::Age(age))))
    }

    /// The age of the segment `base` if it is beyond the limit and ages can be told.
    fn outlived(&mut self, base: u64) -> Option<Duration> {
        let limit = self.retention.age?;
        let now_ns = self.guard.wall_ns(&*self.clock)?;
        let received_ns = self.segments.received_max_ns(&self.dir, base, &self.link)?;
        let age = u64::try_from(i128::from(now_ns) - i128::from(received_ns)).ok()?;
        let age = Duration::from_nanos(age);
        (age > limit).then_some(age)
    }

    fn remove(&mut self, base: u64, reason: Reason) -> Result<(), StorageError> {
        let bytes = self.segments.bytes(&self.dir, base)?;
        let next = self.segments.after(base).unwrap_or_else(|| self.link.current_base());
        let is_settled = self.segments.is_settled(base, self.steps.len());
        self.dir.remove(&self.dir.segment(base))?;
        self.dir.sync()?;
        self.segments.remove(base);
        self.publish();
        // After a crash in between, they are found without their segment.
        for ending in SIDE_FILES {
            self.dir.remove(&self.dir.side_file(base, ending))?;
        }
        let stats = &self.outlets.stats;
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
                "it expired although not all of its upkeep was done: what failed was logged before"
            );
        }
        Ok(())
    }
}
