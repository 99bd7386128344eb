//! What is kept of the header of a frame that waits in memory.

use super::{FrameFlags, frame_cost};

/// The data of one frame: its header, and the place of its payload in the buffer of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameMeta {
    /// Strictly increasing within (epoch, lane).
    pub sequence: u64,
    /// Earth reception time, unix nanoseconds, 0 = unknown.
    pub ert_ns: i64,
    /// Where the payload begins, in bytes.
    pub payload_at: u32,
    /// Bytes of payload.
    pub payload_len: u32,
    /// Time from the receipt of the run's first frame to that of this frame, in microseconds.
    pub received_after_us: u32,
    /// Bytes of the body before the payload. They cost as much as payload bytes.
    pub header_len: u8,
    /// Marks of the sender.
    pub flags: FrameFlags,
}

/// Many metas wait in memory.
const _: () = assert!(size_of::<FrameMeta>() == 32);

impl FrameMeta {
    /// The part of a window that the frame uses.
    #[must_use]
    #[inline]
    pub const fn cost(&self) -> u64 {
        frame_cost(self.header_len as usize + self.payload_len as usize)
    }
}
