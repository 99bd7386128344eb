//! Walks the blocks of one segment and steps over damage. The reader and recovery both use it.
//!
//! Bytes that the disk cannot read are damage like any other. The walk fails only if nothing at all can be read: a disk
//! that is absent for a while says nothing about its content.

mod pages;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

use crate::format::{
    ALIGNMENT, BLOCK_HEADER_BYTES, BlockHeader, HeaderError, SEGMENT_HEADER_BYTES, SegmentHeader, aligned,
    is_intact,
};
use crate::storage::{Access, Context, Storage, StorageError, StorageFile};
use pages::{Pages, patience, read_over};

/// Bytes of one read, unless a block is larger.
const WINDOW_BYTES: usize = 256 << 10;
/// A body shorter than this many bytes is copied. Otherwise one kept frame would keep the whole window in memory.
const SHARED_BODY_BYTES_MIN: usize = 64 << 10;

/// Space allocated ahead is zero. The scanner skips it in pages of this many bytes.
const PAGE_BYTES: usize = 4_096;
static ZERO_PAGE: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// The next thing in a segment.
pub(crate) enum ScanStep {
    /// A whole block whose checksums are right, and its body.
    Block(BlockHeader, Bytes),
    /// These bytes are no block, and a whole block follows.
    Damage(Range<u64>),
    /// No whole block follows from this position on. A later call may find one.
    End(u64),
}

/// The header of the segment, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderState {
    /// The header, of the version that this build reads.
    Sound(SegmentHeader),
    /// The segment has another version. Nothing behind the header is touched.
    Version(u16),
    /// The bytes are no header. The blocks behind it are still read.
    Damaged,
}

impl HeaderState {
    fn sound(self) -> Option<SegmentHeader> {
        match self {
            Self::Sound(header) => Some(header),
            Self::Version(_) | Self::Damaged => None,
        }
    }
}

/// Reads one segment from its first block to its last.
pub(crate) struct Scanner {
    /// The file, for errors.
    path: PathBuf,
    /// The file, read over bad sectors.
    pages: Pages,
    /// What the header of the segment says.
    head: HeaderState,
    /// The id that each block must repeat. If the header is damaged: that of the first sound block.
    segment_id: Option<u64>,
    /// Where the next block is expected.
    position: u64,
    /// The bytes read last. Bodies are slices of the window. The window is reused while no such slice exists.
    window: Bytes,
    /// Position of the window in the file.
    window_at: u64,
    /// Bytes of the window that are filled.
    window_len: usize,
}

impl Scanner {
    /// Opens the segment `path`.
    pub(crate) fn open(storage: &dyn Storage, path: &Path) -> Result<Self, StorageError> {
        let mut pages = Pages::new(storage.open(path, Access::Read).context("open", path)?);
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        let count = pages.read(&mut bytes, 0).context("read", path)?;
        let head = match SegmentHeader::decode(&bytes[..count]) {
            Ok(header) => HeaderState::Sound(header),
            Err(HeaderError::Version(version)) => HeaderState::Version(version),
            Err(HeaderError::Damaged) => HeaderState::Damaged,
        };
        Ok(Self {
            path: path.to_owned(),
            pages,
            head,
            segment_id: head.sound().map(|header| header.segment_id),
            position: SEGMENT_HEADER_BYTES,
            window: Bytes::new(),
            window_at: 0,
            window_len: 0,
        })
    }

    pub(crate) fn header(&self) -> HeaderState {
        self.head
    }

    /// The header, unless it is damaged or of another version.
    pub(crate) fn sound_header(&self) -> Option<SegmentHeader> {
        self.head.sound()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Position at which the scanner looks for the next block.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Continues at `position`, which should be the position of a block.
    pub(crate) fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// The segment's file.
    pub(crate) fn file(&self) -> &dyn StorageFile {
        &*self.pages.file
    }

    /// Bytes of the segment's file.
    pub(crate) fn size(&self) -> Result<u64, StorageError> {
        self.file().size().context("measure", &self.path)
    }

    /// Returns whether only zeros lie where the header of the next block would be. Reads one header and does not
    /// search.
    pub(crate) fn is_at_zeros(&mut self) -> Result<bool, StorageError> {
        let mut bytes = [0; BLOCK_HEADER_BYTES as usize];
        let count = self.pages.read(&mut bytes, self.position).context("read", &self.path)?;
        Ok(bytes[..count].iter().all(|byte| *byte == 0))
    }

    /// The next block, or the damage or the end in its place.
    pub(crate) fn next(&mut self) -> Result<ScanStep, StorageError> {
        let path = self.path.clone();
        self.step().context("read", &path)
    }

    fn step(&mut self) -> io::Result<ScanStep> {
        if let Some(block) = self.block_here()? {
            return Ok(block);
        }
        let Some(found) = self.find_block(self.position + ALIGNMENT)? else {
            // A block may have been completed here during the search.
            let block = self.block_here()?;
            self.pages.confirm()?;
            return Ok(block.unwrap_or(ScanStep::End(self.position)));
        };
        // The file may be written during the read. A block that was incomplete before the search is complete after it,
        // because the block behind it was begun only afterwards.
        if let Some(block) = self.block_here()? {
            return Ok(block);
        }
        assert!(self.position < found, "the scanner must move forward");
        let damage = self.position..found;
        self.position = found;
        Ok(ScanStep::Damage(damage))
    }

    fn block_here(&mut self) -> io::Result<Option<ScanStep>> {
        let mut found = self.block_at(self.position)?;
        if found.is_none() {
            // The window may be older than the block.
            self.window_len = 0;
            found = self.block_at(self.position)?;
        }
        Ok(found.map(|(header, body)| {
            self.position = header.end();
            // If the segment header is damaged, the id comes from the first sound block.
            self.segment_id.get_or_insert(header.segment_id);
            ScanStep::Block(header, body)
        }))
    }

    fn block_at(&mut self, position: u64) -> io::Result<Option<(BlockHeader, Bytes)>> {
        let header_len = BLOCK_HEADER_BYTES as usize;
        let range = self.hold(position, header_len)?;
        let Ok(header) = BlockHeader::decode(&self.window[range], position, self.segment_id) else {
            return Ok(None);
        };
        let block_len = header_len + header.body_len as usize;
        let block = self.hold(position, block_len)?;
        if block.len() < block_len {
            return Ok(None);
        }
        let body = block.start + header_len..block.end;
        if !is_intact(&self.window[body.clone()], header.body_crc) {
            return Ok(None);
        }
        debug_assert_eq!(
            body.len(),
            header.body_len as usize,
            "the body has another length than its header says"
        );
        debug_assert_eq!(header.position, position, "the header of another block was read");
        let body = if body.len() < SHARED_BODY_BYTES_MIN {
            Bytes::copy_from_slice(&self.window[body])
        } else {
            self.window.slice(body)
        };
        Ok(Some((header, body)))
    }

    /// Skips the blocks whose frames all lie below `offset`, up to the first header that is not sound. Returns the
    /// offset behind the skipped blocks. The bodies of these blocks are not checked.
    pub(crate) fn pass_over(&mut self, offset: u64) -> Result<Option<u64>, StorageError> {
        let mut reached = None;
        loop {
            let mut bytes = [0; BLOCK_HEADER_BYTES as usize];
            let count = self.pages.read(&mut bytes, self.position).context("read", &self.path)?;
            match BlockHeader::decode(&bytes[..count], self.position, self.segment_id) {
                Ok(header) if header.next_offset() <= offset => {
                    self.position = header.end();
                    reached = Some(header.next_offset());
                }
                _ => return Ok(reached),
            }
        }
    }

    /// Position of the first whole block from `from` on.
    fn find_block(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut chunk = vec![0; WINDOW_BYTES];
        let mut at = aligned(from);
        loop {
            let count = self.pages.read(&mut chunk, at)?;
            let has_content = content_pages(&chunk[..count]).next().is_some();
            for (page_at, page) in content_pages(&chunk[..count]) {
                for (index, bytes) in page.chunks(ALIGNMENT as usize).enumerate() {
                    let position = at + page_at + index as u64 * ALIGNMENT;
                    if BlockHeader::is_magic(bytes) && self.block_at(position)?.is_some() {
                        return Ok(Some(position));
                    }
                }
            }
            if count < chunk.len() {
                return Ok(None);
            }
            at += count as u64;
            if !has_content {
                let Some(data) = data_from(self.file(), at)? else { return Ok(None) };
                at = data;
            }
        }
    }

    /// The first position from `at` on that may hold anything but zeros; `None` if there is none. A block may begin at
    /// this position.
    pub(crate) fn data_from(&self, at: u64) -> Result<Option<u64>, StorageError> {
        data_from(self.file(), at).context("look for data in", &self.path)
    }

    /// Position behind the last byte from `from` on that is not zero; `from` if there is none. Unreadable bytes may be
    /// anything, so they count as not zero.
    pub(crate) fn content_end(&self, from: u64) -> Result<u64, StorageError> {
        let mut chunk = vec![0; WINDOW_BYTES];
        let (mut at, mut end, mut bad_end) = (from, from, from);
        let mut patience = patience();
        loop {
            let count = read_over(self.file(), &mut chunk, at, |bytes, error| {
                bad_end = bytes.end;
                patience(error)
            });
            let count = count.context("read", &self.path)?;
            let mut has_content = false;
            for (page_at, page) in content_pages(&chunk[..count]) {
                has_content = true;
                let last = page.iter().rposition(|byte| *byte != 0);
                end = last.map_or(end, |last| at + page_at + last as u64 + 1);
            }
            if count < chunk.len() {
                return Ok(end.max(bad_end));
            }
            at += count as u64;
            if !has_content {
                let Some(data) = self.data_from(at)? else { return Ok(end.max(bad_end)) };
                at = data;
            }
        }
    }

    /// The raw bytes of `range`, to keep what is cut off. Fewer at the end of the file. Unreadable bytes are zeros.
    pub(crate) fn raw(&self, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let mut patience = patience();
        let count = read_over(self.file(), &mut bytes, range.start, |_, error| patience(error));
        bytes.truncate(count.context("read", &self.path)?);
        Ok(bytes)
    }

    /// Reads `count` bytes at `at` into the window, unless it holds them. Returns their range in the window, which is
    /// shorter at the end of the file.
    fn hold(&mut self, at: u64, count: usize) -> io::Result<Range<usize>> {
        let held = self.window_at..self.window_at + self.window_len as u64;
        if at < held.start || at + count as u64 > held.end {
            // Bytes that the window already holds are not read again: a block may be larger than the window.
            let kept = if held.contains(&at) {
                self.window_len - (held.end - at) as usize..self.window_len
            } else {
                0..0
            };
            let mut window = self.room(kept.clone(), count.max(WINDOW_BYTES));
            let read = self.pages.read(&mut window[kept.len()..], at + kept.len() as u64);
            (self.window, self.window_at) = (window.freeze(), at);
            self.window_len = kept.len();
            self.window_len += read?;
        }
        let start = (at - self.window_at) as usize;
        Ok(start..self.window_len.min(start + count))
    }

    /// A window of at least `len` bytes that begins with the bytes of `kept`. Reuses the current window unless a body
    /// shares its memory.
    fn room(&mut self, kept: Range<usize>, len: usize) -> BytesMut {
        match std::mem::take(&mut self.window).try_into_mut() {
            Ok(mut window) => {
                window.copy_within(kept, 0);
                if window.len() < len {
                    window.resize(len, 0);
                }
                window
            }
            Err(shared) => {
                let mut window = BytesMut::zeroed(len);
                window[..kept.len()].copy_from_slice(&shared[kept]);
                window
            }
        }
    }
}

/// The position of the first data in `file` from `at` on, see [`Scanner::data_from`].
fn data_from(file: &dyn StorageFile, at: u64) -> io::Result<Option<u64>> {
    // A hole ends at a block of the file system. Such a block may be smaller than our alignment.
    Ok(file.data_from(at)?.map(|data| at.max(data - data % ALIGNMENT)))
}

/// The pages of `chunk` that are not all zero, with their positions in it.
fn content_pages(chunk: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let pages = chunk.chunks(PAGE_BYTES).enumerate();
    pages
        .filter(|(_, page)| *page != &ZERO_PAGE[..page.len()])
        .map(|(index, page)| ((index * PAGE_BYTES) as u64, page))
}
