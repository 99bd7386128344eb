//! The frame ranges of a block, for code that does not need single frames.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::frames::{RecordHeader, tables};
use super::{BlockHeader, FRAMES_PREFIX_BYTES};
use frame::{FramePriority, Origin};

/// Most bytes of frames that share one checksum in an index, unless a single frame is longer.
pub(crate) const EXTENT_BYTES_MAX: usize = 64 << 10;

/// Frames of one origin and lane that follow one another in a block. The ranges of a block cover its frames without
/// gaps, in their order. Neighbouring ranges may have the same origin and lane.
///
/// A range takes no more memory than the header of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameRange {
    /// Number of the origin in the table of the block.
    pub(crate) origin: u16,
    /// Their lane.
    pub(crate) priority: FramePriority,
    /// Number of frames, at least one.
    pub(crate) frames: u32,
    /// Their bytes, headers included.
    pub(crate) bytes: u32,
    /// Earliest `received_ns` of the frames, in unix nanoseconds.
    pub(crate) received_min_ns: i64,
    /// Latest `received_ns` of the frames.
    pub(crate) received_max_ns: i64,
    /// The checksum of the bytes, if the encoder has computed it. A checksum of zero counts as not computed.
    pub(crate) crc: Option<NonZeroU32>,
}

const _: () = assert!(size_of::<FrameRange>() <= super::FRAME_HEADER_BYTES);

impl FrameRange {
    /// Whether the frames have this origin and lane.
    pub(crate) fn is_of(&self, origin: u16, priority: FramePriority) -> bool {
        self.origin == origin && self.priority == priority
    }

    /// Merges `next`, which follows directly and has the same origin and lane, into this range.
    pub(crate) fn join(&mut self, next: &Self) {
        self.frames += next.frames;
        self.bytes += next.bytes;
        self.crc = None;
        self.received_min_ns = self.received_min_ns.min(next.received_min_ns);
        self.received_max_ns = self.received_max_ns.max(next.received_max_ns);
    }
}

/// The frame ranges of a block that was read, each as long as possible.
pub(crate) struct FrameRanges<'a> {
    /// The bytes from the next frame to the end of the last.
    frames: &'a [u8],
    /// Frames that are not read yet, by the header of the block.
    left: u32,
    /// Entries of the origin table. A frame that names another origin is malformed.
    origin_count: usize,
    /// The first frame behind the range returned last.
    ahead: Option<FrameRange>,
}

impl<'a> FrameRanges<'a> {
    /// The origins and ranges of a block whose checksums are right; `None` if its tables are malformed.
    pub(crate) fn new(header: &BlockHeader, body: &'a [u8]) -> Option<(Vec<Arc<Origin>>, Self)> {
        let (frames_end, origins) = tables(header, body)?;
        let frames = &body[FRAMES_PREFIX_BYTES..frames_end];
        let ranges = Self { frames, left: header.frame_count, origin_count: origins.len(), ahead: None };
        Some((origins, ranges))
    }

    fn frame(&mut self) -> Option<FrameRange> {
        let header = RecordHeader::read(self.frames)?;
        self.frames = &self.frames[header.frame_len()..];
        (usize::from(header.origin) < self.origin_count).then_some(FrameRange {
            origin: header.origin,
            priority: header.priority,
            frames: 1,
            bytes: header.frame_len() as u32,
            received_min_ns: header.received_ns,
            received_max_ns: header.received_ns,
            crc: None,
        })
    }
}

impl Iterator for FrameRanges<'_> {
    /// An inner `None` means that the block is malformed from here on.
    type Item = Option<FrameRange>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut range = self.ahead.take();
        while self.left > 0 {
            self.left -= 1;
            let Some(frame) = self.frame() else {
                self.left = 0;
                return Some(None);
            };
            let Some(known) = &mut range else {
                range = Some(frame);
                continue;
            };
            if !known.is_of(frame.origin, frame.priority) {
                self.ahead = Some(frame);
                break;
            }
            known.join(&frame);
        }
        range.map(Some)
    }
}
