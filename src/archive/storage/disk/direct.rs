//! Writes at the end of a file past the page cache.
//!
//! The log is written in order and synced at once. By way of the page cache each byte would be copied, mapped and found
//! again by the sync, all on the thread that everybody waits for; a direct write hands the block to the disk as it is.
//! It has to consist of whole pages, so the page that the last write ended in is written again, with what it held.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use rustix::fs::OFlags;

/// What position, length and memory of a direct write are multiples of: enough for any disk in use.
const PAGE_BYTES: usize = 4_096;

/// A file that is written at its end, and nowhere else.
pub(super) struct Direct {
    file: File,
    /// Pages to be written, behind what aligns them.
    buffer: Vec<u8>,
    /// Where the page lies that the last write ended in, as long as nothing else was written.
    last_at: Option<u64>,
    /// What that page holds.
    last: Vec<u8>,
}

impl Direct {
    /// Opens the file behind `file` anew.
    ///
    /// # Errors
    /// Mostly that its file system knows no direct writes.
    pub(super) fn open(file: &File) -> io::Result<Self> {
        let flags = OFlags::DIRECT.bits().cast_signed();
        // By its descriptor, for by now it may have another name.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
        Ok(Self { file, buffer: Vec::new(), last_at: None, last: Vec::new() })
    }

    /// Writes all of `bytes` at `at`, where the content of `file` ends; zeros follow up to the next page.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] or [`io::ErrorKind::Unsupported`] if the file system has other ideas of what can be
    /// written directly; else as it says. Nothing before `at` has changed then.
    pub(super) fn append(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let lead = (at % PAGE_BYTES as u64) as usize;
        let page_at = at - lead as u64;
        let whole = (lead + bytes.len()).next_multiple_of(PAGE_BYTES);
        if self.buffer.len() < whole + PAGE_BYTES {
            self.buffer.resize(whole + PAGE_BYTES, 0);
        }
        let start = self.buffer.as_ptr().align_offset(PAGE_BYTES);
        let pages = &mut self.buffer[start..start + whole];
        if self.last_at.take() == Some(page_at) && self.last.len() == lead {
            pages[..lead].copy_from_slice(&self.last);
        } else if lead > 0 {
            file.read_exact_at(&mut pages[..lead], page_at)?;
        }
        let end = lead + bytes.len();
        pages[lead..end].copy_from_slice(bytes);
        pages[end..].fill(0);
        self.file.write_all_at(pages, page_at)?;
        let last = end - end % PAGE_BYTES;
        self.last.clear();
        self.last.extend_from_slice(&pages[last..end]);
        self.last_at = Some(page_at + last as u64);
        Ok(())
    }
}
