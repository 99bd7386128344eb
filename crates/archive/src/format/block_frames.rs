//! What the encoder gives back of a block: its frames, when they were read, and what they make durable.
//!
//! They are read from the bytes of the block. So a commit does not keep the read buffers of the sockets in memory.

use std::sync::Arc;

use super::FRAME_HEADER_BYTES;
use super::frames::RecordHeader;
use frame::{FramePriority, FrameView, Origin};

/// Frames of a block, in the order of the log. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct BlockFrames<'a> {
    /// Headers and payloads, one frame behind the other.
    bytes: &'a [u8],
    /// The origins, by their numbers in the headers.
    origins: &'a [Arc<Origin>],
}

impl<'a> BlockFrames<'a> {
    /// The frames in `bytes`, the part of an encoded body that holds the frames.
    pub(super) const fn new(bytes: &'a [u8], origins: &'a [Arc<Origin>]) -> Self {
        Self { bytes, origins }
    }

    /// The frames, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = FrameView<'a>> + use<'a> {
        let Self { mut bytes, origins } = *self;
        std::iter::from_fn(move || {
            let header = RecordHeader::read(bytes)?;
            let (frame, behind) = bytes.split_at(header.frame_len());
            bytes = behind;
            Some(header.view(&origins[usize::from(header.origin)], &frame[FRAME_HEADER_BYTES..]))
        })
    }

    /// A copy that can be kept.
    #[must_use]
    pub fn to_kept(&self) -> KeptFrames {
        KeptFrames { bytes: self.bytes.into(), origins: self.origins.into() }
    }
}

/// Frames of a block, copied out of it.
#[derive(Clone, Debug)]
pub struct KeptFrames {
    /// As [`BlockFrames::bytes`].
    bytes: Box<[u8]>,
    /// As [`BlockFrames::origins`].
    origins: Box<[Arc<Origin>]>,
}

impl KeptFrames {
    /// The frames.
    #[must_use]
    pub fn frames(&self) -> BlockFrames<'_> {
        BlockFrames::new(&self.bytes, &self.origins)
    }

    /// The size of the frames in memory, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.origins)
    }
}

/// Frames of one origin and lane that were read from a socket together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// When the first of these frames was read, unix nanoseconds.
    pub received_ns: i64,
    /// Number of frames.
    pub frames: u32,
    /// Their lane.
    pub priority: FramePriority,
}

/// What a commit made durable of one origin and lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    /// The stream and epoch.
    pub origin: Arc<Origin>,
    /// The lane.
    pub priority: FramePriority,
    /// One past the highest sequence of this origin and lane in the commit.
    pub next: u64,
    /// Frames of this origin and lane in the commit.
    pub frames: u64,
    /// When the first of these frames was read from the socket, unix nanoseconds.
    pub received_min_ns: i64,
}

/// `frames`, encoded as in a commit.
#[cfg(any(test, feature = "test-support"))]
#[must_use]
pub fn encoded(frames: &[frame::Frame]) -> KeptFrames {
    let mut block = super::BlockEncoder::default();
    let runs: Vec<frame::FrameRun> = frames.iter().cloned().map(frame::FrameRun::from).collect();
    block.push(&runs);
    block.finish();
    block.frames().to_kept()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::{emergency, origin};

    #[test]
    fn a_block_gives_back_the_frames_that_were_put_in() {
        let frames: Vec<_> =
            [(1, 0), (2, 0), (1, 1)].map(|(source_id, n)| emergency(&origin(source_id, 1), n)).into();
        let kept = encoded(&frames);
        let seen: Vec<String> = kept.frames().iter().map(|frame| format!("{:?}", frame.to_frame())).collect();
        assert_eq!(seen, frames.iter().map(|frame| format!("{frame:?}")).collect::<Vec<_>>());
        let payloads: usize = frames.iter().map(|frame| frame.payload.len()).sum();
        assert_eq!(kept.bytes.len(), 3 * FRAME_HEADER_BYTES + payloads);
    }
}
