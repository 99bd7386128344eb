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
}

impl LaneCount {
    pub(super) fn of(run: &Run) -> Self {
        let payload_bytes = run.heads().iter().map(|head| u64::from(head.payload_len)).sum();
        Self { frames: run.len() as u64, payload_bytes }
    }
}

/// The sequences of one lane in the current epoch, as far as this daemon has seen it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// What was expected first; where an epoch begins is not known to be a loss.
    first: Option<u64>,
    next: u64,
    frames: u64,
}

impl Span {
    /// Goes on at `next`, as recovered; 0 is a new epoch.
    pub(super) fn from(next: u64) -> Self {
        Self { first: (next > 0).then_some(next), next, frames: 0 }
    }

    pub(super) fn add(&mut self, run: &Run) {
        let (Some(first), Some(last)) = (run.heads().first(), run.heads().last()) else { return };
        self.first.get_or_insert(first.sequence);
        self.next = last.sequence + 1;
        self.frames += run.len() as u64;
    }

    fn missing(&self) -> u64 {
        self.first.map_or(0, |first| (self.next - first).saturating_sub(self.frames))
    }
}

/// Sequences that have not come. Lanes may share one counter or count apart (protocol.md): whichever misses less holds.
pub(super) fn missing(lanes: &[Span; 2]) -> u64 {
    let apart = lanes.iter().map(Span::missing).sum();
    let first = lanes.iter().filter_map(|lane| lane.first).min();
    let next = lanes.iter().map(|lane| lane.next).max().unwrap_or(0);
    let frames = lanes.iter().map(|lane| lane.frames).sum();
    let shared = first.map_or(0, |first| (next - first).saturating_sub(frames));
    shared.min(apart)
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
    /// Sequences of its epoch that have not come, since the daemon started: lost before they came here, or on their way.
    pub missing: u64,
    /// When something last happened.
    pub times: [LaneTimes; 2],
    /// Frames that wait for the processor.
    pub queued_frames: [usize; 2],
    /// Credit that those frames use.
    pub queued_cost: [u64; 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u64, next: u64, frames: u64) -> Span {
        Span { first: Some(first), next, frames }
    }

    #[test]
    fn lanes_that_count_apart_miss_what_each_of_them_misses() {
        assert_eq!(missing(&[span(0, 5, 5), span(0, 100, 100)]), 0);
        assert_eq!(missing(&[Span::default(), span(7, 100, 90)]), 3);
    }

    #[test]
    fn lanes_that_share_a_counter_miss_what_neither_has() {
        assert_eq!(missing(&[span(3, 91, 10), span(0, 100, 90)]), 0);
        assert_eq!(missing(&[span(3, 91, 10), span(0, 100, 88)]), 2);
    }

    #[test]
    fn nothing_is_missing_where_nothing_came() {
        assert_eq!(missing(&[Span::default(); 2]), 0);
        assert_eq!(missing(&[Span::from(40), Span::from(70)]), 0);
    }
}
