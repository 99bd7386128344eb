//! Handles a newest segment without a readable block.
//!
//! A segment gets its name only after its content is synced. So this is damage, and the segment held acknowledged
//! frames. Recovery moves the segment to `lost/` by a rename, which needs no space, and never reuses its offsets. The
//! new name holds the bound of these offsets, so that the next start can finish a start that was interrupted.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::full;
use super::tail_scan::TailScan;
use crate::OpenError;
use crate::config::Config;
use crate::format::{FRAME_HEADER_BYTES, HoleRecord, OFFSET_MAX};
use crate::read::scan::Scanner;
use crate::storage::dir::{Dir, beyond_offsets};
use crate::storage::{Access, Context, StorageError};

/// A segment in `lost/`.
pub(super) struct UnreadableSegment {
    /// The file in `lost/`.
    pub(super) path: PathBuf,
    /// Offset of its first frame.
    pub(super) base: u64,
    /// No frame in it can have had this offset or a higher one.
    pub(super) bound: u64,
}

impl UnreadableSegment {
    fn new(dir: &Dir, base: u64, bound: u64) -> Self {
        let path = dir.lost().join(format!("{base:020}-{bound:020}.damaged"));
        Self { path, base, bound }
    }

    fn parse(dir: &Dir, name: &str) -> Option<Self> {
        let (base, bound) = name.strip_suffix(".damaged")?.split_once('-')?;
        Some(Self::new(dir, base.parse().ok()?, bound.parse().ok()?))
    }

    /// The id of its log, if its header is sound.
    pub(super) fn log_id(&self, dir: &Dir) -> Result<Option<u64>, StorageError> {
        let header = Scanner::open(&*dir.storage, &self.path)?.sound_header();
        Ok(header.map(|header| header.log_id))
    }

    /// Returns the hole record for the frames of this segment from `from_offset` on.
    pub(super) fn hole(&self, dir: &Dir, from_offset: u64) -> Result<HoleRecord, StorageError> {
        let file = dir.open(&self.path, Access::Read)?;
        let bytes = file.size().context("measure", &self.path)?;
        Ok(HoleRecord { from_offset, to_offset: self.bound, base_offset: self.base, position: 0, bytes })
    }
}

/// Moves a segment to `lost/`.
pub(super) fn move_to_lost(dir: &Dir, config: &Config, tail_scan: &TailScan) -> Result<(), OpenError> {
    let file = dir.open(&tail_scan.path, Access::Read)?;
    let bytes = file.size().context("measure", &tail_scan.path)?;
    // The file may have been longer before it was damaged.
    let bound = offset_bound(tail_scan.base, bytes.max(config.segment_bytes));
    let bound = bound.ok_or_else(|| beyond_offsets(&tail_scan.path))?;
    let unreadable = UnreadableSegment::new(dir, tail_scan.base, bound);
    full(dir, dir.move_to_lost(&tail_scan.path, &unreadable.path))?;
    tracing::error!(
        segment = %tail_scan.path.display(),
        kept_as = %unreadable.path.display(),
        bytes,
        "nothing in the newest segment can be read; its frames were acknowledged and are lost, unless the file can be restored"
    );
    Ok(())
}

/// Returns a bound that is above the offset of every frame in a segment of `bytes` at `base`. Returns `None` if the
/// bound is above [`OFFSET_MAX`].
pub(super) fn offset_bound(base: u64, bytes: u64) -> Option<u64> {
    let bound = base.checked_add(bytes / FRAME_HEADER_BYTES as u64)?.checked_add(1)?;
    (bound <= OFFSET_MAX).then_some(bound)
}

/// Returns the segment in `lost/` with the highest bound.
pub(super) fn latest(dir: &Dir) -> Result<Option<UnreadableSegment>, StorageError> {
    let lost = dir.lost();
    let names = match dir.storage.list(&lost) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.context("list", &lost)?,
    };
    let found = names.iter().filter_map(|name| UnreadableSegment::parse(dir, name));
    let latest = found.max_by_key(|unreadable| unreadable.bound);
    if let Some(latest) = &latest {
        if latest.bound > OFFSET_MAX || latest.base > latest.bound {
            return Err(beyond_offsets(&latest.path));
        }
        // The start that renamed the file may have been killed before it synced the directory.
        dir.storage.sync_dir(&lost).context("sync", &lost)?;
    }
    Ok(latest)
}
