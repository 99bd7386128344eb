//! The segment that is being written.

use std::path::PathBuf;

use super::dir::{Dir, gone};
use super::format::{
    BLOCK_HEADER_BYTES, BlockEncoder, BlockHeader, BlockKind, SegmentHeader, position_blocks,
};
use super::index;
use super::log_file::LogFile;
use super::positions::PositionTable;
use super::storage::{Context, StorageError};
use frame::unix_now_ns;

/// A segment that is open for writing at its end.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: LogFile,
    pub(super) base: u64,
    pub(super) segment_id: u64,
    /// Position of the next block.
    pub(super) position: u64,
    /// The file system has promised space up to this position.
    pub(super) allocated: u64,
    /// The index being built. `None` if the segment has frames that were not added to it, or too many origins.
    pub(super) index: Option<index::Builder>,
}

/// The content of a block, unless it is a block of new frames.
pub(super) struct BlockContent<'a> {
    pub(super) kind: BlockKind,
    pub(super) first_offset: u64,
    pub(super) synced_offset: u64,
    pub(super) body: &'a [u8],
    /// For frames: this field and the next two have the values of the copied block.
    pub(super) origin_count: u16,
    pub(super) frame_count: u32,
    pub(super) received_max_ns: i64,
}

impl<'a> BlockContent<'a> {
    /// A block without frames, written when everything below `offset` is durable.
    pub(super) fn plain(kind: BlockKind, offset: u64, body: &'a [u8]) -> Self {
        Self {
            kind,
            first_offset: offset,
            synced_offset: offset,
            body,
            origin_count: 0,
            frame_count: 0,
            received_max_ns: 0,
        }
    }
}

impl Segment {
    /// Writes the header and the positions of a new segment into `file`, which has the temporary name `path`.
    ///
    /// Everything below `base` must be durable. Nothing is synced here: see [`Self::install`].
    pub(super) fn begin(
        path: PathBuf,
        mut file: LogFile,
        log_id: u64,
        base: u64,
        table: &PositionTable,
    ) -> Result<Self, StorageError> {
        let segment_id = rand::random();
        let header = SegmentHeader { log_id, segment_id, base_offset: base, created_ns: unix_now_ns() };
        let mut bytes = header.encode().to_vec();
        for body in position_blocks(&table.sorted()) {
            let content = BlockContent::plain(BlockKind::Positions, base, &body);
            let position = bytes.len() as u64;
            encode_block(&mut bytes, segment_id, position, &content);
        }
        file.append(&bytes, 0).context("write", &path)?;
        let size = file.file().size().context("measure", &path)?;
        Ok(Self {
            position: bytes.len() as u64,
            // The file system has not promised the rest of the last page.
            allocated: size - size % file.unit(),
            path,
            file,
            base,
            segment_id,
            index: Some(index::Builder::new(base, segment_id)),
        })
    }

    /// Writes one block behind the last. The next sync makes it durable.
    pub(super) fn push(&mut self, content: &BlockContent<'_>) -> Result<(), StorageError> {
        if content.kind == BlockKind::Frames {
            self.index = None;
        }
        let mut bytes = Vec::with_capacity(BLOCK_HEADER_BYTES as usize + content.body.len());
        encode_block(&mut bytes, self.segment_id, self.position, content);
        self.write(&bytes)?;
        self.position += bytes.len() as u64;
        self.allocated = self.allocated.max(self.position);
        Ok(())
    }

    /// Writes a whole block at [`Self::position`]. The position does not move, because the block counts only after a
    /// sync.
    pub(super) fn write(&mut self, block: &[u8]) -> Result<(), StorageError> {
        self.file.append(block, self.position).context("write", &self.path)
    }

    /// The length to which a block of `len` bytes should be padded, see [`LogFile::padded_end`].
    pub(super) fn padded_len(&self, len: u64) -> Option<u64> {
        Some(self.file.padded_end(self.position, len)? - self.position)
    }

    /// Adds `block`, the last one written, to the index being built. The block must be durable, and [`Self::position`]
    /// must be behind it.
    pub(super) fn index(&mut self, block: &BlockEncoder) {
        let Some(index) = &mut self.index else { return };
        let position = self.position - block.len();
        let ranges = block.ranges().iter().copied().map(Some);
        let result = index.block(position, block.body(), block.origins(), ranges);
        if result.is_err() || index.is_too_large() {
            // Maintenance builds the index from the sealed segment instead, with its own limits.
            tracing::debug!(segment = %self.path.display(), "too much for an index while writing");
            self.index = None;
        }
    }

    /// The index of the segment. The file must be trimmed, and nothing may be written to it afterwards.
    pub(super) fn into_index(self) -> Option<index::Ready> {
        self.index.map(|builder| builder.ready(self.position))
    }

    /// Makes the written bytes durable, and checks that the file still has a name, so that the next start finds it.
    pub(super) fn sync(&self) -> Result<(), StorageError> {
        self.file.file().sync_data().context("sync", &self.path)?;
        if self.file.file().is_linked().context("find", &self.path)? {
            return Ok(());
        }
        Err(gone(&self.path, "this file is"))
    }

    /// Makes the segment durable, gives it its name, and makes the name durable.
    ///
    /// A crash in between leaves either the old state or the new one. The name appears in one step, and only after the
    /// content is on stable storage.
    pub(super) fn install(&mut self, dir: &Dir) -> Result<(), StorageError> {
        self.sync()?;
        let path = dir.segment(self.base);
        dir.rename(&self.path, &path)?;
        self.path = path;
        dir.sync()
    }

    /// Frees the space behind the last block.
    pub(super) fn trim(&mut self) -> Result<(), StorageError> {
        self.allocated = self.position;
        let result = self.file.file().set_len(self.position);
        result.context("trim", &self.path)
    }

    /// Bytes that the file system has promised and that are not yet used.
    pub(super) fn room(&self) -> u64 {
        self.allocated.saturating_sub(self.position)
    }
}

fn encode_block(bytes: &mut Vec<u8>, segment_id: u64, position: u64, content: &BlockContent<'_>) {
    let header = BlockHeader {
        kind: content.kind,
        origin_count: content.origin_count,
        body_len: content.body.len() as u32,
        frame_count: content.frame_count,
        segment_id,
        position,
        first_offset: content.first_offset,
        synced_offset: content.synced_offset,
        received_max_ns: content.received_max_ns,
        body_crc: crc32c::crc32c(content.body),
    };
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(content.body);
}
