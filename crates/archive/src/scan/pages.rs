//! Reading over bad sectors: what the medium cannot give back reads as zeros, which no checksum takes for data.

use std::io;
use std::ops::Range;

use crate::storage::{StorageFile, read_full_at};

/// Around a bad sector the file is read in pieces of this size.
const PAGE_BYTES: u64 = 4_096;
/// Reads of bad pages before a scan gives up: no bad sector, then, but a disk that fails.
const BAD_READS_MAX: u32 = 16_384;

/// Whether the medium itself failed (EIO), for here and not for the whole file.
fn is_bad_sector(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// A file that is read over bad sectors.
pub(super) struct Pages {
    pub(super) file: Box<dyn StorageFile>,
    bad_reads: u32,
    good: bool,
}

impl Pages {
    pub(super) fn new(file: Box<dyn StorageFile>) -> Self {
        Self { file, bad_reads: 0, good: false }
    }

    /// Fills `buffer` from `at` and returns how many bytes there were: fewer only at the end of the file.
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

    /// Fails if nothing at all could be read: that tells of the disk, not of the data on it.
    pub(super) fn confirm(&self) -> io::Result<()> {
        if self.bad_reads > 0 && !self.good {
            return Err(rustix::io::Errno::IO.into());
        }
        Ok(())
    }
}

/// As [`read_full_at`], with zeros in place of pages that cannot be read; `bad` hears of each and may give up.
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
    // A page that cannot be read does not tell where the file ends.
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

/// Gives up on a disk that fails, for walks that keep no count of their own.
pub(super) fn patience() -> impl FnMut(io::Error) -> io::Result<()> {
    let mut bad_reads = 0;
    move |error| {
        bad_reads += 1;
        if bad_reads > BAD_READS_MAX { Err(error) } else { Ok(()) }
    }
}
