//! The body of hole blocks. `format.rs` has the table of its bytes.

use std::ops::Range;

use super::bytes::Cursor;
use super::{BlockHeader, BlockKind, OFFSET_MAX};

/// The body of a hole block: acknowledged frames that cannot be read, and where they lay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HoleRecord {
    /// Offset of the first missing frame.
    pub(crate) from_offset: u64,
    /// Offset behind the last missing frame.
    pub(crate) to_offset: u64,
    /// Base of the damaged segment.
    pub(crate) base_offset: u64,
    /// Where in the file of that segment the damage begins.
    pub(crate) position: u64,
    /// Damaged bytes from there on. 0 if no bytes are damaged but blocks are missing.
    pub(crate) bytes: u64,
}

impl HoleRecord {
    /// The body: 40 bytes, which need no padding.
    pub(crate) fn encode(&self) -> Vec<u8> {
        assert!(
            self.from_offset <= self.to_offset && self.to_offset <= OFFSET_MAX,
            "a hole that is no range: {self:?}"
        );
        let fields = [self.from_offset, self.to_offset, self.base_offset, self.position, self.bytes];
        fields.iter().flat_map(|field| field.to_le_bytes()).collect()
    }

    /// Returns whether the block of `header` and `body`, which follows the `missing` offsets, records all of them as a
    /// hole.
    pub(crate) fn explains(header: &BlockHeader, body: &[u8], missing: &Range<u64>) -> bool {
        let record = if header.kind == BlockKind::Hole { Self::decode(body) } else { None };
        record.is_some_and(|record| record.covers(missing))
    }

    /// Returns whether the record covers all `missing` offsets.
    pub(crate) fn covers(&self, missing: &Range<u64>) -> bool {
        self.from_offset <= missing.start && missing.end <= self.to_offset
    }

    /// Reads a body whose checksum is right. `None` if it is no range of offsets that frames can have.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let record = Self {
            from_offset: cursor.u64()?,
            to_offset: cursor.u64()?,
            base_offset: cursor.u64()?,
            position: cursor.u64()?,
            bytes: cursor.u64()?,
        };
        (record.from_offset <= record.to_offset && record.to_offset <= OFFSET_MAX).then_some(record)
    }
}
