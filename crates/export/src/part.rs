//! The frames of one segment that are to be exported, and how they are read.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ExportFormat;
use super::day::Day;
use super::error::ExportError;
use super::pace::Pace;
use archive::segments::segment_name;
use archive::{DiskStorage, Filter, Item, Reader, StoredFrame};

/// The frames of a segment that are to be exported.
pub(super) struct Part<'a> {
    /// The archive's directory.
    pub(super) dir: &'a Path,
    /// The segment's first offset, by which its files are named.
    pub(super) base: u64,
    /// Which frames; its offsets end where the segment ends at the latest.
    pub(super) filter: &'a Filter,
    pub(super) format: ExportFormat,
    pub(super) log_id: Option<u64>,
    /// Bytes the files may take.
    pub(super) need: u64,
    pub(super) stop: &'a AtomicBool,
    pub(super) pace: &'a Pace,
    /// Told of the frames exported so far.
    pub(super) rows: &'a dyn Fn(u64),
}

/// The frames of one day within a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// From the first to behind the last; frames of other days may lie between.
    offsets: Range<u64>,
    pub(super) rows: u64,
    /// Over what tells frames apart, so that two passes can be compared.
    digest: u64,
}

impl Span {
    pub(super) fn note(&mut self, stored: &StoredFrame) {
        if self.rows == 0 {
            self.offsets.start = stored.offset;
        }
        self.offsets.end = stored.offset + 1;
        self.rows += 1;
        let frame = &stored.frame;
        for part in [stored.offset, frame.sequence, frame.received_ns as u64, frame.payload.len() as u64] {
            // FNV-1a, a word at a time.
            self.digest = (self.digest ^ part).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(29);
        }
    }
}

impl Part<'_> {
    /// # Errors
    /// [`ExportError::Gone`] when retention has taken the segment.
    pub(super) fn is_there(&self) -> Result<(), ExportError> {
        if self.dir.join(segment_name(self.base)).exists() {
            return Ok(());
        }
        Err(ExportError::Gone { dir: self.dir.to_owned(), base: self.base })
    }

    /// Reads the frames of `day` once more; they must be those of `span`.
    ///
    /// # Errors
    /// [`ExportError::Changed`] or [`ExportError::Gone`] when they are not.
    pub(super) fn again(
        &self,
        day: Day,
        span: &Span,
        mut each: impl FnMut(&StoredFrame) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let filter = Filter {
            from_offset: span.offsets.start,
            to_offset: Some(span.offsets.end),
            limit: None,
            ..self.filter.clone()
        };
        let mut seen = Span::default();
        self.read(filter, |item| match item {
            Item::Frame(stored) if Day::of(stored.frame.received_ns) == day => {
                seen.note(&stored);
                each(&stored)
            }
            _ => Ok(()),
        })?;
        if seen == *span {
            return Ok(());
        }
        self.is_there()?;
        Err(ExportError::Changed { base: self.base })
    }

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
