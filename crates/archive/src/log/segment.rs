//! The segment that is being written.

use std::path::PathBuf;

use crate::format::{
    BLOCK_HEADER_BYTES, BlockEncoder, BlockHeader, BlockKind, SegmentHeader, position_blocks,
};
use crate::log::positions::PositionTable;
use crate::read::index;
use crate::storage::dir::{Dir, gone};
use crate::storage::log_file::LogFile;
use crate::storage::{Context, StorageError};
use frame::unix_now_ns;

/// A segment that is open for writing at its end.
pub(crate) struct Segment {
    /// The temporary name until [`Self::install`], then the name of the segment.
    pub(crate) path: PathBuf,
    /// The file, which is written only at its end.
    pub(crate) file: LogFile,
    /// Offset of the first frame.
    pub(crate) base: u64,
    /// The random id in the header, repeated in each block.
    pub(crate) segment_id: u64,
    /// Position of the next block.
    pub(crate) position: u64,
    /// The file system has promised space up to this position.
    pub(crate) allocated: u64,
    /// The index being built. `None` if the segment has frames that were not added to it, or too many origins.
    pub(crate) index: Option<index::Builder>,
}

/// The content of a block, unless it is a block of new frames.
pub(crate) struct BlockContent<'a> {
    /// What the body is.
    pub(crate) kind: BlockKind,
    /// Offset of the first frame; without frames, of the next frame to come.
    pub(crate) first_offset: u64,
    /// All frames below this offset are on stable storage.
    pub(crate) synced_offset: u64,
    /// The body, padded to a multiple of [`ALIGNMENT`](crate::format::ALIGNMENT).
    pub(crate) body: &'a [u8],
    /// Origins in the table of the copied block; 0 without frames.
    pub(crate) origin_count: u16,
    /// Frames of the copied block; 0 without frames.
    pub(crate) frame_count: u32,
    /// Newest receive time of the copied block in unix nanoseconds, as in its header.
    pub(crate) received_max_ns: i64,
}

impl<'a> BlockContent<'a> {
    /// A copy of a block of frames that was read: its header and its body. All frames below `synced_offset` are
    /// durable.
    pub(crate) fn copied(header: &BlockHeader, body: &'a [u8], synced_offset: u64) -> Self {
        Self {
            kind: header.kind,
            first_offset: header.first_offset,
            synced_offset,
            body,
            origin_count: header.origin_count,
            frame_count: header.frame_count,
            received_max_ns: header.received_max_ns,
        }
    }

    /// A block without frames, written when everything below `offset` is durable.
    pub(crate) fn plain(kind: BlockKind, offset: u64, body: &'a [u8]) -> Self {
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
    pub(crate) fn begin(
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
    pub(crate) fn push(&mut self, content: &BlockContent<'_>) -> Result<(), StorageError> {
        if content.kind == BlockKind::Frames {
            self.index = None;
        }
        let mut bytes = Vec::with_capacity(BLOCK_HEADER_BYTES as usize + content.body.len());
        encode_block(&mut bytes, self.segment_id, self.position, content);
        self.write(&bytes)?;
        let len = bytes.len() as u64;
        self.allocated = self.allocated.max(self.position + len);
        self.written(len);
        Ok(())
    }

    /// Writes a whole block at [`Self::position`]. The position does not move, because the block counts only after a
    /// sync: the caller then calls [`Self::written`].
    pub(crate) fn write(&mut self, block: &[u8]) -> Result<(), StorageError> {
        self.file.append(block, self.position).context("write", &self.path)
    }

    /// Moves the position behind the block of `len` bytes that was written last and is durable.
    pub(crate) fn written(&mut self, len: u64) {
        self.position += len;
        assert_eq!(self.position, self.file.end(), "the position is not behind the bytes that were written");
        assert!(
            self.position <= self.allocated,
            "the block lies behind the space that the file system has promised"
        );
    }

    /// The length to which a block of `len` bytes should be padded, see [`LogFile::padded_end`].
    pub(crate) fn padded_len(&self, len: u64) -> Option<u64> {
        Some(self.file.padded_end(self.position, len)? - self.position)
    }

    /// Adds `block`, the last one written, to the index being built. The block must be durable, and [`Self::position`]
    /// must be behind it.
    pub(crate) fn index(&mut self, block: &BlockEncoder) {
        let Some(index) = &mut self.index else { return };
        let position = self.position - block.len();
        let indexed_to = index.next_offset() + block.frame_count();
        let ranges = block.ranges().iter().copied().map(Some);
        let result = index.block(position, block.body(), block.origins(), ranges);
        if result.is_err() || index.is_too_large() {
            // Maintenance builds the index from the sealed segment instead, with its own limits.
            tracing::debug!(segment = %self.path.display(), "the index is too large to be built while writing; maintenance builds it later");
            self.index = None;
        } else {
            assert_eq!(index.next_offset(), indexed_to, "the index lacks frames of the block");
        }
    }

    /// The index of the segment. The file must be trimmed, and nothing may be written to it afterwards.
    pub(crate) fn into_index(self) -> Option<index::PendingIndex> {
        assert_eq!(self.allocated, self.position, "the segment is not trimmed");
        self.index.map(|builder| builder.ready(self.position))
    }

    /// Makes the written bytes durable, and checks that the file still has a name, so that the next start finds it.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
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
    pub(crate) fn install(&mut self, dir: &Dir) -> Result<(), StorageError> {
        self.sync()?;
        let path = dir.segment(self.base);
        dir.rename(&self.path, &path)?;
        self.path = path;
        dir.sync()
    }

    /// Frees the space behind the last block.
    pub(crate) fn trim(&mut self) -> Result<(), StorageError> {
        assert_eq!(self.position, self.file.end(), "the cut is not at the end of the log");
        self.allocated = self.position;
        let result = self.file.file().set_len(self.position);
        result.context("trim", &self.path)
    }

    /// Bytes that the file system has promised and that are not yet used.
    pub(crate) fn room(&self) -> u64 {
        self.allocated.saturating_sub(self.position)
    }
}

fn encode_block(bytes: &mut Vec<u8>, segment_id: u64, position: u64, content: &BlockContent<'_>) {
    let header = BlockHeader {
        kind: content.kind,
        origin_count: content.origin_count,
        body_len: u32::try_from(content.body.len()).expect("a body is smaller than 4 GiB"),
        frame_count: content.frame_count,
        segment_id,
        position,
        first_offset: content.first_offset,
        synced_offset: content.synced_offset,
        received_max_ns: content.received_max_ns,
        body_crc: crc32c::crc32c(content.body),
    };
    header.assert_valid();
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(content.body);
}
