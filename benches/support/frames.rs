//! Encoded frames that a sender sends repeatedly with new sequences.

use bytes::{Bytes, BytesMut};
use frame::{FrameFlags, FramePriority};
use wire::FrameMessage;

/// Most bytes of one write.
const BUFFER_BYTES: usize = 64 << 10;
/// Position of the sequence in a FRAME, counted from its length prefix.
const SEQUENCE_AT: std::ops::Range<usize> = 8..16;

/// Routine frames of one size, encoded once. Encoding each frame would take CPU time from the receiver.
pub struct Frames {
    bytes: Vec<u8>,
    /// Bytes of one frame with its length prefix.
    frame_bytes: usize,
    /// Credit that one frame costs.
    cost: u64,
}

impl Frames {
    /// Makes as many frames as one write holds.
    pub fn new(payload_bytes: usize) -> Self {
        Self::with_room(payload_bytes, BUFFER_BYTES)
    }

    /// Makes a single frame, for benches with many sources.
    pub fn single(payload_bytes: usize) -> Self {
        Self::with_room(payload_bytes, 0)
    }

    fn with_room(payload_bytes: usize, room_bytes: usize) -> Self {
        // A payload of varying bytes, so that no layer can compress it.
        let payload: Bytes = (0..payload_bytes).map(|at| ((at * at) >> 3) as u8).collect();
        let frame = FrameMessage::new(FramePriority::Routine, FrameFlags::default(), 0, 0, payload);
        let mut encoded = BytesMut::new();
        frame.encode(&mut encoded);
        let count = (room_bytes / encoded.len()).max(1);
        Self { bytes: encoded.repeat(count), frame_bytes: encoded.len(), cost: frame.cost }
    }

    /// The number of frames that one write holds.
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

    /// Numbers the first `count` frames from `first` on. Returns the number of their bytes.
    pub fn number(&mut self, first: u64, count: u64) -> usize {
        let used = count as usize * self.frame_bytes;
        for (frame, sequence) in self.bytes[..used].chunks_exact_mut(self.frame_bytes).zip(first..) {
            frame[SEQUENCE_AT].copy_from_slice(&sequence.to_be_bytes());
        }
        used
    }
}
