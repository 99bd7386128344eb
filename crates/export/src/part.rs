//! Selects and reads the frames of one segment that are exported.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ExportFormat;
use super::day::Day;
use super::error::ExportError;
use super::is_gone;
use super::pace::Pace;
use archive::inspect::segment_name;
use archive::{DiskStorage, Filter, Item, Reader, StoredFrame};

/// The frames of one segment that are exported.
pub(super) struct Part<'a> {
    /// The archive's directory.
    pub(super) dir: &'a Path,
    /// The segment's first offset. The files are named after it.
    pub(super) base: u64,
    /// The filter of the frames. Its offsets end at the end of the segment or before.
    pub(super) filter: &'a Filter,
    pub(super) format: ExportFormat,
    pub(super) log_id: Option<u64>,
    /// Estimate of the bytes of the files.
    pub(super) need: u64,
    pub(super) stop: &'a AtomicBool,
    pub(super) pace: &'a Pace,
    /// Receives the number of frames exported so far.
    pub(super) on_rows: &'a dyn Fn(u64),
}

/// The frames of one day within a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DayFrames {
    /// From the first frame of the day to behind its last frame. Frames of other days may lie between them.
    offsets: Range<u64>,
    pub(super) rows: u64,
    /// Checksum of the fields that identify each frame. It is used to compare two passes.
    digest: u64,
}

impl DayFrames {
    pub(super) fn note(&mut self, stored: &StoredFrame) {
        if self.rows == 0 {
            self.offsets.start = stored.offset;
        }
        self.offsets.end = stored.offset + 1;
        self.rows += 1;
        let frame = &stored.frame;
        for part in [stored.offset, frame.sequence, frame.received_ns as u64, frame.payload.len() as u64] {
            // FNV-1a over words, with a rotation.
            self.digest = (self.digest ^ part).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(29);
        }
    }
}

impl Part<'_> {
    /// Checks that the segment still exists.
    ///
    /// # Errors
    /// [`ExportError::Gone`] if retention has removed the segment.
    pub(super) fn check_exists(&self) -> Result<(), ExportError> {
        if is_gone(&self.dir.join(segment_name(self.base))) {
            return Err(ExportError::Gone { dir: self.dir.to_owned(), base: self.base });
        }
        Ok(())
    }

    /// Reads the frames of `day` a second time. They must be the frames of `expected`.
    ///
    /// # Errors
    /// [`ExportError::Changed`] or [`ExportError::Gone`] if they are not.
    pub(super) fn read_again(
        &self,
        day: Day,
        expected: &DayFrames,
        mut each: impl FnMut(&StoredFrame) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let filter = Filter {
            from_offset: expected.offsets.start,
            to_offset: Some(expected.offsets.end),
            limit: None,
            ..self.filter.clone()
        };
        let mut seen = DayFrames::default();
        self.read(filter, |item| match item {
            Item::Frame(stored) if Day::of(stored.frame.received_ns) == day => {
                seen.note(&stored);
                each(&stored)
            }
            _ => Ok(()),
        })?;
        if seen == *expected {
            return Ok(());
        }
        self.check_exists()?;
        Err(ExportError::Changed { base: self.base })
    }

    /// Reads the frames that `filter` takes, at the pace of the export, until `stop` is set.
    pub(super) fn read(
        &self,
        filter: Filter,
        mut each: impl FnMut(Item) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        for item in Reader::open_log(Arc::new(DiskStorage), self.dir, filter, self.log_id)? {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ExportError::Stopped);
            }
            let item = item?;
            if let Item::Frame(stored) = &item {
                self.pace.frame(stored.frame.payload.len());
            }
            each(item)?;
        }
        Ok(())
    }
}
