//! What came in of a stream, lane by lane, for those who look on.

use std::time::Duration;

use super::books::Totals;
use super::stream::Position;
use crate::frame::{Run, StreamKey};
use crate::pipeline::SessionId;
use crate::wire::ErrorCode;

/// Frames accepted in one lane. Duplicates and refused frames do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCount {
    /// How many.
    pub frames: u64,
    /// Their payloads.
    pub payload_bytes: u64,
    /// Sequences that were passed over: lost before they came here. Where an epoch begins is not known to be a loss.
    pub missing: u64,
}

impl LaneCount {
    /// Of `run`, after which its lane goes on at `next`; before it that was `before`.
    pub(super) fn of(run: &Run, before: u64, next: u64) -> Self {
        let frames = run.len() as u64;
        let first = run.heads().first().map_or(next, |head| head.sequence);
        let expected = if before == 0 { first } else { before };
        let missing = next.saturating_sub(expected).saturating_sub(frames);
        let payload_bytes = run.heads().iter().map(|head| u64::from(head.payload_len)).sum();
        Self { frames, payload_bytes, missing }
    }
}

/// When something last happened in one lane of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneTimes {
    /// When the newest frame was read from the socket, unix nanoseconds; 0 without any.
    pub received_ns: i64,
    /// From the socket to stable storage: of the frame that waited longest for the newest commit with this lane.
    pub ack_latency: Duration,
}

/// A moment's view of a stream.
#[derive(Clone, Debug)]
pub struct StreamView {
    /// Which stream.
    pub key: StreamKey,
    /// The connection that speaks for it, if there is one.
    pub session_id: Option<SessionId>,
    /// Epoch and sequences.
    pub position: Position,
    /// Its books.
    pub totals: Totals,
    /// What was accepted, `[emergency, routine]`, as all that lists lanes here.
    pub lanes: [LaneCount; 2],
    /// Frames refused, by code, those codes alone that occurred.
    pub rejected: Vec<(ErrorCode, u64)>,
    /// When something last happened.
    pub times: [LaneTimes; 2],
    /// Frames that wait for the processor.
    pub queued_frames: [usize; 2],
    /// Credit that those frames use.
    pub queued_cost: [u64; 2],
}
