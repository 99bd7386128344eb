//! Encoded frames that are sent again and again with other sequences.

use bytes::{Bytes, BytesMut};
use telemetry_aggregator::frame::{FrameFlags, FramePriority};
use telemetry_aggregator::wire::FrameMessage;

/// The most that is written at a time.
const BUFFER_BYTES: usize = 64 << 10;
/// Where a FRAME has its sequence, counted from its length prefix.
const SEQUENCE_AT: std::ops::Range<usize> = 8..16;

/// Routine frames of one size, encoded once: a sender that encodes each anew would take the CPU from the receiver.
pub struct Frames {
    bytes: Vec<u8>,
    /// Of one frame with its length prefix.
    frame_bytes: usize,
    /// What one frame takes from the credit.
    cost: u64,
}

impl Frames {
    /// As many as are written at a time.
    pub fn new(payload_bytes: usize) -> Self {
        Self::with_room(payload_bytes, BUFFER_BYTES)
    }

    /// A single one, for sources of which there are many.
    pub fn single(payload_bytes: usize) -> Self {
        Self::with_room(payload_bytes, 0)
    }

    fn with_room(payload_bytes: usize, room_bytes: usize) -> Self {
        // Not all alike, so that nothing on the way can make them small.
        let payload: Bytes = (0..payload_bytes).map(|at| ((at * at) >> 3) as u8).collect();
        let frame = FrameMessage::new(FramePriority::Routine, FrameFlags::default(), 0, 0, payload);
        let mut encoded = BytesMut::new();
        frame.encode(&mut encoded);
        let count = (room_bytes / encoded.len()).max(1);
        Self { bytes: encoded.repeat(count), frame_bytes: encoded.len(), cost: frame.cost }
    }

    /// How many can be written at a time.
    pub fn count(&self) -> u64 {
        (self.bytes.len() / self.frame_bytes) as u64
    }

    pub fn cost(&self) -> u64 {
        self.cost
    }

    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Numbers the first `count` frames from `first` on and returns how many bytes they are.
    pub fn number(&mut self, first: u64, count: u64) -> usize {
        let used = count as usize * self.frame_bytes;
        for (frame, sequence) in self.bytes[..used].chunks_exact_mut(self.frame_bytes).zip(first..) {
            frame[SEQUENCE_AT].copy_from_slice(&sequence.to_be_bytes());
        }
        used
    }
}
