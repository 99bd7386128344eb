//! What is sent in one message.

use tokio::time::Instant;

use frame::Frame;

/// What a frame takes beside its payload, in bytes, at least.
const FRAME_BYTES: usize = 256;

/// Frames of a lane that go out in one message, in the order of the log.
#[derive(Debug)]
pub(in crate::outputs) struct Parcel {
    /// The frames with their offsets. At least one.
    pub(super) frames: Vec<(u64, Frame)>,
    /// Memory of the frames, in bytes.
    pub(super) bytes: usize,
    /// When the first frame came.
    pub(super) begun: Instant,
}

impl Parcel {
    /// A parcel with one frame.
    pub(super) fn new(offset: u64, frame: Frame) -> Self {
        let bytes = FRAME_BYTES + frame.payload.len();
        Self { frames: vec![(offset, frame)], bytes, begun: Instant::now() }
    }

    /// Adds a frame.
    pub(super) fn push(&mut self, offset: u64, frame: Frame) {
        self.bytes += FRAME_BYTES + frame.payload.len();
        self.frames.push((offset, frame));
    }

    /// Whether one more frame of `payload` bytes fits into `bytes_max`.
    pub(super) const fn has_room(&self, payload: usize, bytes_max: usize) -> bool {
        self.bytes + FRAME_BYTES + payload <= bytes_max
    }

    /// When the first frame was received, in unix nanoseconds.
    pub(super) fn received_ns(&self) -> i64 {
        self.frames.first().map_or(0, |(_, frame)| frame.received_ns)
    }

    /// The offset of the first frame.
    pub(super) fn first(&self) -> u64 {
        self.frames.first().map_or(0, |(offset, _)| *offset)
    }

    /// The offset of the last frame.
    pub(super) fn last(&self) -> u64 {
        self.frames.last().map_or(0, |(offset, _)| *offset)
    }
}
