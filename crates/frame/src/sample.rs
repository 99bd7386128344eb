//! Frames for tests.

use std::sync::Arc;

use bytes::Bytes;

use super::{Frame, FrameFlags, FramePriority, Origin, SourceKind, Station, StreamKey};

/// A live uplink at Svalbard.
#[must_use]
pub fn origin(source_id: u32, epoch: u64) -> Arc<Origin> {
    Arc::new(Origin {
        stream: StreamKey {
            source_id,
            source_kind: SourceKind::LiveUplink,
            station: Station::new("Svalbard").expect("a short name"),
        },
        epoch,
    })
}

/// A frame whose fields and payload of `len` bytes follow from its sequence.
#[must_use]
pub fn frame(origin: &Arc<Origin>, priority: FramePriority, sequence: u64, len: usize) -> Frame {
    let fill = |index| (sequence as usize * 31 + index) as u8;
    Frame {
        source_id: origin.stream.source_id,
        source_kind: origin.stream.source_kind,
        priority,
        flags: FrameFlags(sequence as u8 & 3),
        sequence,
        ert_ns: sequence as i64 * 1_000,
        received_ns: sequence as i64 * 1_000 + 7,
        origin: Arc::clone(origin),
        payload: (0..len).map(fill).collect::<Bytes>(),
    }
}

/// A frame of routine with 64 bytes of payload.
#[must_use]
pub fn routine(origin: &Arc<Origin>, sequence: u64) -> Frame {
    frame(origin, FramePriority::Routine, sequence, 64)
}

/// An emergency with 64 bytes of payload.
#[must_use]
pub fn emergency(origin: &Arc<Origin>, sequence: u64) -> Frame {
    frame(origin, FramePriority::Emergency, sequence, 64)
}
