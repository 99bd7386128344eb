//! Describes the segments of a directory. Reads frames only of the newest segment.

use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::format::names::segment_name;
use crate::read::index;
use crate::read::scan::{HeaderState, ScanStep, Scanner};
use crate::storage::dir::list_segments;
use crate::{DiskStorage, ReadError, StorageError};

/// Information about a segment from its name, header and index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Name of the file.
    pub name: String,
    /// Offset of the first frame, by the name of the file.
    pub base_offset: u64,
    /// Offset behind the last frame. Older segments: the base of the next segment by its name. Newest segment: read
    /// from the file.
    pub next_offset: u64,
    /// Length of the file in bytes, including space allocated ahead.
    pub bytes: u64,
    /// Content of the header, or `None` if the header is damaged.
    pub header: Option<HeaderInfo>,
    /// Earliest and latest receive time in unix nanoseconds, from the index. `None` if no valid index exists.
    pub received_ns: Option<RangeInclusive<i64>>,
}

/// The content of a segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderInfo {
    /// Offset of the first frame. The name of the file should say the same.
    pub base_offset: u64,
    /// When the segment was created, unix nanoseconds.
    pub created_ns: i64,
}

/// The segments that a directory held when it was listed, oldest first. See [`segments`].
#[derive(Debug)]
pub struct Segments {
    /// The archive's directory.
    dir: PathBuf,
    /// The bases of the segments, ascending.
    bases: Vec<u64>,
    /// Index into `bases` of the segment to describe next.
    at: usize,
}

/// Lists the segments of the archive directory `dir`. The iterator then describes them one by one.
///
/// Reads the newest segment in full, and only the headers of the others. Skips segments that retention removes
/// meanwhile. After an error the iterator continues with the next segment.
///
/// # Errors
/// [`StorageError`] if the directory cannot be listed. Items: [`ReadError`] if a segment cannot be read or has another
/// version of the format.
pub fn segments(dir: &Path) -> Result<Segments, StorageError> {
    Ok(Segments { dir: dir.to_owned(), bases: list_segments(&DiskStorage, dir)?, at: 0 })
}

impl Iterator for Segments {
    type Item = Result<SegmentInfo, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let base = *self.bases.get(self.at)?;
            self.at += 1;
            if let Some(described) = self.describe(base, self.bases.get(self.at).copied()).transpose() {
                return Some(described);
            }
        }
    }
}

impl Segments {
    /// Describes the segment `base`. `next` is the base of the following segment. Returns `None` if retention has
    /// removed `base`.
    fn describe(&self, base: u64, next: Option<u64>) -> Result<Option<SegmentInfo>, ReadError> {
        let Some(scanner) = self.open(base)? else {
            return Ok(None);
        };
        let header = header(&scanner)?;
        let bytes = scanner.size()?;
        let received_ns = self.received_ns(&scanner, bytes);
        let next_offset = match next {
            Some(next) => next,
            None => end_of(scanner, base)?,
        };
        let name = segment_name(base);
        Ok(Some(SegmentInfo { name, base_offset: base, next_offset, bytes, header, received_ns }))
    }

    /// Opens the segment `base`. Returns `None` if retention has removed it.
    fn open(&self, base: u64) -> Result<Option<Scanner>, StorageError> {
        match Scanner::open(&DiskStorage, &self.dir.join(segment_name(base))) {
            Err(error) if error.source.kind() == ErrorKind::NotFound && self.is_expired(base)? => Ok(None),
            result => result.map(Some),
        }
    }

    /// Whether every existing segment lies behind `base`. Retention removes the oldest segments first.
    fn is_expired(&self, base: u64) -> Result<bool, StorageError> {
        Ok(list_segments(&DiskStorage, &self.dir)?.first().is_some_and(|oldest| *oldest > base))
    }

    /// Returns the receive times from the index of the segment.
    fn received_ns(&self, scanner: &Scanner, segment_len: u64) -> Option<RangeInclusive<i64>> {
        let segment = scanner.sound_header()?;
        let times = index::header(&DiskStorage, &self.dir, &segment, segment_len)?.times;
        Some(times.min_ns..=times.max_ns)
    }
}

fn header(scanner: &Scanner) -> Result<Option<HeaderInfo>, ReadError> {
    match scanner.header() {
        HeaderState::Sound(header) => {
            Ok(Some(HeaderInfo { base_offset: header.base_offset, created_ns: header.created_ns }))
        }
        HeaderState::Damaged => Ok(None),
        HeaderState::Version(found) => Err(ReadError::Version { path: scanner.path().to_owned(), found }),
    }
}

/// Returns the offset behind the last whole block, or `base` if there is no block.
pub(super) fn end_of(mut scanner: Scanner, base: u64) -> Result<u64, StorageError> {
    let mut next = base;
    loop {
        match scanner.next()? {
            ScanStep::Block(header, _) => next = next.max(header.next_offset()),
            ScanStep::Damage(_) => {}
            ScanStep::End(_) => return Ok(next),
        }
    }
}
