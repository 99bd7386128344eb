//! A frame that borrows its payload.

use std::sync::Arc;

use super::{Frame, FrameFlags, FramePriority, Origin};

/// A borrowed frame. A reader that only passes the bytes on needs no counted reference.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    /// The lane.
    pub priority: FramePriority,
    /// Marks of the sender.
    pub flags: FrameFlags,
    /// Strictly increasing within (epoch, lane).
    pub sequence: u64,
    /// Earth reception time, unix nanoseconds, 0 = unknown.
    pub ert_ns: i64,
    /// When the daemon read the frame from the socket, unix nanoseconds.
    pub received_ns: i64,
    /// Source, station and epoch.
    pub origin: &'a Arc<Origin>,
    /// The content.
    pub payload: &'a [u8],
}

#[cfg(any(test, feature = "test-support"))]
impl FrameView<'_> {
    /// Copies the payload and returns an owned frame.
    #[must_use]
    pub fn to_frame(&self) -> Frame {
        let Self { priority, flags, sequence, ert_ns, received_ns, .. } = *self;
        Frame {
            source_id: self.origin.stream.source_id,
            source_kind: self.origin.stream.source_kind,
            priority,
            flags,
            sequence,
            ert_ns,
            received_ns,
            origin: Arc::clone(self.origin),
            payload: bytes::Bytes::copy_from_slice(self.payload),
        }
    }
}

impl<'a> From<&'a Frame> for FrameView<'a> {
    fn from(frame: &'a Frame) -> Self {
        let Frame { priority, flags, sequence, ert_ns, received_ns, .. } = *frame;
        let (origin, payload) = (&frame.origin, &*frame.payload);
        Self { priority, flags, sequence, ert_ns, received_ns, origin, payload }
    }
}
