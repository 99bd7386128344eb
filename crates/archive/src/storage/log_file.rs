//! A file of the log, written at its end and nowhere else.
//!
//! A direct write consists of whole pages, at multiples of a page in the file and in memory. A large block that begins
//! at a page is written without a copy. All other bytes are first copied into a buffer of pages: before them come the
//! bytes that their first page already holds, after them come zeros. So the last page of the log is written again with
//! the next block. The acknowledged bytes in that page are written again unchanged.

use std::io;

use crate::aligned::{AlignedBuffer, PAGE_BYTES};
use crate::storage::{StorageFile, read_full_at, write_all_at};

/// Smallest block, in bytes, that is written without a copy if it begins at a page. Such a block is padded, so that the
/// next one begins at a page too. The value is smaller in tests, whose segments are small.
pub(crate) const STRAIGHT_BYTES_MIN: usize = if cfg!(test) { 8 << 10 } else { 256 << 10 };
/// All other bytes are copied in pieces of this many bytes.
pub const COPY_BYTES: usize = 256 << 10;

/// A file of the log, open for writing.
pub(crate) struct LogFile {
    /// The open file.
    file: Box<dyn StorageFile>,
    /// Position of the next bytes.
    end: u64,
    /// How it is written past the page cache; `None` if it is written through it.
    direct: Option<Direct>,
}

impl LogFile {
    /// A file that is written through the page cache, from `end` on.
    pub(crate) fn cached(file: Box<dyn StorageFile>, end: u64) -> Self {
        Self { file, end, direct: None }
    }

    /// A file that is written past the page cache, from `end` on. In an empty file the first page becomes zeros.
    ///
    /// # Errors
    /// An error for which [`is_not_direct`](crate::storage::is_not_direct) is true, if the file system cannot bypass
    /// the page cache. One direct access tests this.
    pub(crate) fn direct(file: Box<dyn StorageFile>, end: u64) -> io::Result<Self> {
        let direct = Direct::open(&*file, end)?;
        Ok(Self { file, end, direct: Some(direct) })
    }

    /// The file, for everything but writing bytes. Only [`Self::append`] may write.
    pub(crate) fn file(&self) -> &dyn StorageFile {
        &*self.file
    }

    /// Position of the next bytes.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The unit of writes in bytes. The space behind the end of the log is counted in this unit.
    pub(crate) fn unit(&self) -> u64 {
        self.direct.as_ref().map_or(1, |direct| direct.alignment as u64)
    }

    /// Returns where a block of `len` bytes at `position` should end, so that the next block need not be copied. `None`
    /// if the block is too small to be padded.
    pub(crate) fn padded_end(&self, position: u64, len: u64) -> Option<u64> {
        let is_large = len >= STRAIGHT_BYTES_MIN as u64;
        is_large.then(|| (position + len).next_multiple_of(self.unit()))
    }

    /// Writes all of `bytes` at `at`, which must be the end of the log. Zeros may follow up to the next page.
    ///
    /// # Errors
    /// Errors of the file system. The bytes before `at` have not changed, and the log still ends at `at`.
    pub(crate) fn append(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        assert_eq!(at, self.end, "the log is written only at its end");
        match &mut self.direct {
            Some(direct) => direct.append(&*self.file, bytes, at)?,
            None => write_all_at(&*self.file, bytes, at)?,
        }
        self.end = at + bytes.len() as u64;
        Ok(())
    }
}

/// How a file is written past the page cache.
struct Direct {
    /// The unit of writes in bytes, called a page here: see [`StorageFile::direct_alignment`].
    alignment: usize,
    /// The bytes of the last page.
    tail: Tail,
    /// The buffer for bytes that must be copied.
    pages: AlignedBuffer,
}

impl Direct {
    fn open(file: &dyn StorageFile, end: u64) -> io::Result<Self> {
        let alignment = file.direct_alignment()?;
        assert!(
            alignment >= PAGE_BYTES && alignment.is_power_of_two(),
            "direct writes are aligned to {alignment} bytes"
        );
        // Read through the page cache, as recovery did: the cache may hold newer bytes than the disk.
        let tail = Tail::read(file, end, alignment)?;
        file.bypass_cache()?;
        let pages = AlignedBuffer::zeroed(COPY_BYTES.max(alignment), alignment);
        let mut direct = Self { alignment, tail, pages };
        direct.probe(file, end)?;
        Ok(direct)
    }

    /// Makes one direct access that changes nothing, because a file system may refuse only the access itself. A read of
    /// unwritten bytes would not reach the disk, so an empty log gets a write instead.
    fn probe(&mut self, file: &dyn StorageFile, end: u64) -> io::Result<()> {
        let page = &mut self.pages[..self.alignment];
        let Some(last) = end.checked_sub(1) else {
            return write_whole(file, page, 0, self.alignment);
        };
        let at = last - last % self.alignment as u64;
        loop {
            match file.read_at(page, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(|_| ()),
            }
        }
    }

    fn append(&mut self, file: &dyn StorageFile, bytes: &[u8], at: u64) -> io::Result<()> {
        let lead = (at % self.alignment as u64) as usize;
        let tail = self.tail.bytes();
        assert_eq!(tail.len(), lead, "the bytes in front of the end are known");
        let straight = if lead == 0 { self.straight_len(bytes) } else { 0 };
        if straight > 0 {
            write_whole(file, &bytes[..straight], at, self.alignment)?;
        }
        let rest = &bytes[straight..];
        let mut next = Tail::default();
        if !rest.is_empty() {
            self.pages[..lead].copy_from_slice(tail);
            let page_at = at - lead as u64 + straight as u64;
            next = self.copy(file, lead, rest, page_at)?;
        }
        // Set only after success: after an error the log still ends where it did.
        self.tail = next;
        Ok(())
    }

    /// Returns how many of `bytes` can be written without a copy. `bytes` begin at a page of the file.
    fn straight_len(&self, bytes: &[u8]) -> usize {
        let is_aligned = bytes.as_ptr().align_offset(self.alignment) == 0;
        if bytes.len() >= STRAIGHT_BYTES_MIN && is_aligned {
            bytes.len() - bytes.len() % self.alignment
        } else {
            0
        }
    }

    /// Copies `bytes` behind the first `filled` bytes of the buffer and writes the buffer from the page at `at` on.
    /// Returns the bytes of the last page.
    fn copy(
        &mut self,
        file: &dyn StorageFile,
        mut filled: usize,
        mut bytes: &[u8],
        mut at: u64,
    ) -> io::Result<Tail> {
        loop {
            let count = bytes.len().min(self.pages.len() - filled);
            let (now, later) = bytes.split_at(count);
            self.pages[filled..filled + count].copy_from_slice(now);
            filled += count;
            let whole = filled.next_multiple_of(self.alignment);
            self.pages[filled..whole].fill(0);
            write_whole(file, &self.pages[..whole], at, self.alignment)?;
            if later.is_empty() {
                return Ok(Tail::new(&self.pages[filled - filled % self.alignment..filled]));
            }
            at += whole as u64;
            (bytes, filled) = (later, 0);
        }
    }
}

/// The bytes of the last page of the log, up to the end of the log.
///
/// The next block writes them again. Most of them are acknowledged, so they must not change.
#[derive(Default)]
struct Tail {
    /// From the start of the page to the end of the log. Empty if the log ends at a page.
    bytes: Vec<u8>,
    /// Their checksum, to notice memory that has changed.
    crc: u32,
}

impl Tail {
    fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), crc: crc32c::crc32c(bytes) }
    }

    fn read(file: &dyn StorageFile, end: u64, alignment: usize) -> io::Result<Self> {
        let mut bytes = vec![0; (end % alignment as u64) as usize];
        let at = end - bytes.len() as u64;
        if read_full_at(file, &mut bytes, at)? < bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self::new(&bytes))
    }

    fn bytes(&self) -> &[u8] {
        assert_eq!(crc32c::crc32c(&self.bytes), self.crc, "the bytes in front of the end have not changed");
        &self.bytes
    }
}

/// Writes all of `pages` at `at`. A single write may be short, but must consist of whole pages.
fn write_whole(file: &dyn StorageFile, pages: &[u8], at: u64, alignment: usize) -> io::Result<()> {
    assert!(at.is_multiple_of(alignment as u64), "a direct write at {at}, not at a multiple of {alignment}");
    assert!(pages.len().is_multiple_of(alignment), "a direct write of {} bytes", pages.len());
    assert_eq!(pages.as_ptr().align_offset(alignment), 0, "a direct write from memory that is not aligned");
    let mut done = 0;
    while done < pages.len() {
        match file.write_at(&pages[done..], at + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) if !count.is_multiple_of(PAGE_BYTES) => {
                let text = format!("a direct write ended behind {count} bytes, which are not whole pages");
                return Err(io::Error::other(text));
            }
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
