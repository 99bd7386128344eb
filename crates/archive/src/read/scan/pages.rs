//! Reads over bad sectors: unreadable pages read as zeros, which never pass a checksum.

use std::io;
use std::ops::Range;

use crate::storage::{StorageFile, read_full_at};

/// Size of the pieces in which the file is read around a bad sector.
const PAGE_BYTES: u64 = 4_096;
/// Reads of bad pages before a scan gives up. More bad reads mean a failing disk, not a bad sector.
const BAD_READS_MAX: u32 = 16_384;

/// Whether the medium failed to read this place (EIO).
fn is_bad_sector(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// A file that is read over bad sectors.
pub(super) struct Pages {
    /// The file.
    pub(super) file: Box<dyn StorageFile>,
    /// Pages that could not be read so far.
    bad_reads: u32,
    /// Whether anything could be read so far.
    good: bool,
}

impl Pages {
    pub(super) fn new(file: Box<dyn StorageFile>) -> Self {
        Self { file, bad_reads: 0, good: false }
    }

    /// Fills `buffer` from position `at`. Returns the number of bytes read, which is smaller only at the end of the
    /// file.
    pub(super) fn read(&mut self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let (bad_reads, mut bad_bytes) = (&mut self.bad_reads, 0);
        let count = read_over(&*self.file, buffer, at, |bytes, error| {
            bad_bytes += bytes.end - bytes.start;
            *bad_reads += 1;
            if *bad_reads > BAD_READS_MAX { Err(error) } else { Ok(()) }
        })?;
        self.good |= count as u64 > bad_bytes;
        Ok(count)
    }

    /// Fails if no page was readable. In that case the disk has failed, and nothing is known about the data on it.
    pub(super) fn confirm(&self) -> io::Result<()> {
        if self.bad_reads > 0 && !self.good {
            return Err(rustix::io::Errno::IO.into());
        }
        Ok(())
    }
}

/// Like [`read_full_at`], but reads unreadable pages as zeros. Calls `bad` for each of these pages; its error ends the
/// read.
pub(super) fn read_over(
    file: &dyn StorageFile,
    buffer: &mut [u8],
    at: u64,
    bad: impl FnMut(Range<u64>, io::Error) -> io::Result<()>,
) -> io::Result<usize> {
    match read_full_at(file, buffer, at) {
        Err(error) if is_bad_sector(&error) => read_by_page(file, buffer, at, bad),
        result => result,
    }
}

fn read_by_page(
    file: &dyn StorageFile,
    buffer: &mut [u8],
    at: u64,
    mut bad: impl FnMut(Range<u64>, io::Error) -> io::Result<()>,
) -> io::Result<usize> {
    // A failed read does not show where the file ends.
    let end = file.size()?.min(at + buffer.len() as u64);
    let mut position = at;
    while position < end {
        let next = (position / PAGE_BYTES + 1).saturating_mul(PAGE_BYTES).min(end);
        let page = &mut buffer[(position - at) as usize..(next - at) as usize];
        match read_full_at(file, page, position) {
            Ok(count) if count < page.len() => return Ok((position - at) as usize + count),
            Ok(_) => {}
            Err(error) if is_bad_sector(&error) => {
                page.fill(0);
                bad(position..next, error)?;
            }
            Err(error) => return Err(error),
        }
        position = next;
    }
    Ok(position.saturating_sub(at) as usize)
}

/// Returns a counter that gives up on a failing disk, for scans that do not count bad reads themselves.
pub(super) fn patience() -> impl FnMut(io::Error) -> io::Result<()> {
    let mut bad_reads = 0;
    move |error| {
        bad_reads += 1;
        if bad_reads > BAD_READS_MAX { Err(error) } else { Ok(()) }
    }
}
