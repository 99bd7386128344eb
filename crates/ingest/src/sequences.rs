//! Counts the sequences of a stream's epoch that have not come, as far as this daemon has seen the epoch.
//!
//! * A client that sets SHARED_SEQUENCE takes the sequences of both lanes from one counter. The missing count
//!   is the span of both lanes minus the frames of both lanes. Emergencies overtake routine, so the count
//!   falls while routine catches up.
//! * Every other client counts each lane by itself, and so does the daemon: frames of one lane never fill a
//!   gap in the other.
//!
//! Counting begins at the first sequence that comes in an epoch. Lower sequences are not known to be lost. A
//! client that connects again in the same epoch changes nothing. After a restart of the daemon, each lane
//! continues at its resume position. A shared counter continues at the higher of the two positions. Below
//! that position the other lane may have had any of the sequences, so they count neither as missing nor as
//! present.

use frame::{FrameRun, Lanes};

/// A range of sequences, and the number of frames that came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SequenceRange {
    /// The lowest sequence that counts; `None` before the first frame of an epoch.
    first: Option<u64>,
    /// One above the highest sequence.
    next: u64,
    /// Frames that came, from `first` on.
    frames: u64,
    /// `first` is a resume position: frames below it do not count.
    is_resumed: bool,
}

impl SequenceRange {
    /// A range that continues at the recovered `next`; 0 means a new epoch.
    fn from(next: u64) -> Self {
        Self { first: (next > 0).then_some(next), next, frames: 0, is_resumed: next > 0 }
    }

    fn add(&mut self, run: &FrameRun) {
        let metas = run.metas();
        let (Some(first), Some(last)) = (metas.first(), metas.last()) else { return };
        let base = match self.first {
            Some(base) if self.is_resumed => base,
            Some(base) => base.min(first.sequence),
            None => first.sequence,
        };
        self.first = Some(base);
        self.next = self.next.max(last.sequence + 1);
        let below =
            if first.sequence < base { metas.partition_point(|meta| meta.sequence < base) } else { 0 };
        self.frames = self.frames.saturating_add((metas.len() - below) as u64);
    }

    /// Sequences from the first to the highest.
    fn len(&self) -> u64 {
        self.first.map_or(0, |first| self.next.saturating_sub(first))
    }

    fn missing(&self) -> u64 {
        self.len().saturating_sub(self.frames)
    }
}

/// The sequences of one stream; see the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sequences {
    /// The sequences of each lane by itself.
    lanes: Lanes<SequenceRange>,
    /// The same frames, counted as one lane.
    both: SequenceRange,
    /// The newest client said that its lanes share a counter.
    is_shared: bool,
    /// The newest client did not say so, but one lane had every sequence that the other lane lacked.
    looks_shared: bool,
}

impl Sequences {
    /// Continues at the resume positions; 0 means a new epoch.
    pub(super) fn from(next: Lanes<u64>) -> Self {
        let Lanes { emergency, routine } = next;
        Self {
            lanes: next.map(SequenceRange::from),
            both: SequenceRange::from(emergency.max(routine)),
            ..Self::default()
        }
    }

    /// Starts a new epoch.
    pub(super) fn begin_epoch(&mut self) {
        *self = Self { is_shared: self.is_shared, looks_shared: self.looks_shared, ..Self::default() };
    }

    /// Notes that a client connects, and whether its lanes share a counter.
    pub(super) fn connected(&mut self, is_shared: bool) {
        self.is_shared = is_shared;
        self.looks_shared &= !is_shared;
    }

    /// Counts accepted frames.
    pub(super) fn add(&mut self, run: &FrameRun) {
        self.lanes[run.priority()].add(run);
        self.both.add(run);
    }

    /// Whether the lanes of the client begin to look as if they share a counter, although HELLO did not say
    /// so. Returns true once per stream, until a client sets SHARED_SEQUENCE.
    pub(super) fn begins_to_look_shared(&mut self) -> bool {
        if self.is_shared || self.looks_shared {
            return false;
        }
        self.looks_shared = self.fill_each_other();
        self.looks_shared
    }

    /// Whether the lanes together have every sequence exactly once, while each lane alone has gaps.
    fn fill_each_other(&self) -> bool {
        let Lanes { emergency, routine } = &self.lanes;
        self.apart() > 0
            && emergency.frames > 0
            && routine.frames > 0
            // Lanes that share a counter have no sequence in common.
            && emergency.first != routine.first
            && emergency.next != routine.next
            && self.both.frames == self.both.len()
    }

    /// Sequences that have not come.
    pub(super) fn missing(&self) -> u64 {
        if self.is_shared { self.both.missing() } else { self.apart() }
    }

    /// Sequences that have not come, if each lane has a counter of its own.
    fn apart(&self) -> u64 {
        let Lanes { emergency, routine } = &self.lanes;
        emergency.missing().saturating_add(routine.missing())
    }

    pub(super) const fn is_shared(&self) -> bool {
        self.is_shared
    }

    pub(super) const fn looks_shared(&self) -> bool {
        self.looks_shared
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use FramePriority::{Emergency, Routine};
    use frame::{Frame, FrameFlags, FramePriority, Origin, SourceKind, Station, StreamKey, joined};

    fn run(priority: FramePriority, sequences: impl IntoIterator<Item = u64>) -> FrameRun {
        let stream =
            StreamKey { source_id: 1, source_kind: SourceKind::LiveUplink, station: Station::default() };
        let origin = Arc::new(Origin { stream, epoch: 1 });
        let frames = sequences.into_iter().map(|sequence| Frame {
            source_id: 1,
            source_kind: SourceKind::LiveUplink,
            priority,
            flags: FrameFlags::default(),
            sequence,
            ert_ns: 0,
            received_ns: 0,
            origin: Arc::clone(&origin),
            payload: bytes::Bytes::new(),
        });
        joined(&frames.collect::<Vec<_>>()).unwrap()
    }

    fn sequences(is_shared: bool, next: [u64; 2]) -> Sequences {
        let mut sequences = Sequences::from(next.into());
        sequences.connected(is_shared);
        sequences
    }

    fn add(to: &mut Sequences, priority: FramePriority, sequences: impl IntoIterator<Item = u64>) -> u64 {
        to.add(&run(priority, sequences));
        to.missing()
    }

    #[test]
    fn an_emergency_hides_no_lost_routine_frame() {
        let mut apart = sequences(false, [0, 0]);
        add(&mut apart, Emergency, 0..15);
        assert_eq!(add(&mut apart, Routine, (0..100).filter(|at| !(40..55).contains(at))), 15);
    }

    #[test]
    fn with_a_shared_counter_a_sequence_is_missing_if_neither_lane_has_it() {
        let mut shared = sequences(true, [0, 0]);
        let is_emergency = |at: &u64| at.is_multiple_of(10);
        assert_eq!(add(&mut shared, Emergency, (0..100).filter(is_emergency)), 81);
        // The count falls while routine catches up.
        assert_eq!(add(&mut shared, Routine, (0..50).filter(|at| !is_emergency(at))), 36);
        assert_eq!(add(&mut shared, Routine, (50..100).filter(|at| !is_emergency(at) && *at != 77)), 2 - 1);
        // The count is never below 0, whatever the client counts.
        assert_eq!(add(&mut shared, Emergency, 100..101), 1);
        assert_eq!(add(&mut shared, Routine, 100..101), 0);
        assert_eq!(add(&mut shared, Emergency, 101..102), 0);
        assert_eq!(add(&mut shared, Routine, 101..102), 0);
    }

    #[test]
    fn a_shared_counter_begins_at_the_lowest_received_sequence() {
        let mut shared = sequences(true, [0, 0]);
        assert_eq!(add(&mut shared, Emergency, [1_007]), 0);
        assert_eq!(add(&mut shared, Routine, 1_000..1_007), 0);
        assert_eq!(add(&mut shared, Routine, [1_009]), 1);
    }

    #[test]
    fn after_a_restart_counting_begins_at_the_resume_positions() {
        let mut apart = sequences(false, [40, 70]);
        assert_eq!(apart.missing(), 0);
        assert_eq!(add(&mut apart, Emergency, [45]), 5);
        assert_eq!(add(&mut apart, Routine, [72]), 7);
        // Emergencies were ahead: routine below their position neither fills nor leaves a gap.
        let mut shared = sequences(true, [70, 40]);
        assert_eq!(add(&mut shared, Routine, 50..68), 0);
        assert_eq!(add(&mut shared, Routine, 68..75), 0);
        assert_eq!(add(&mut shared, Emergency, [80]), 5);
        assert_eq!(add(&mut shared, Routine, 75..79), 1);
    }

    #[test]
    fn lanes_that_seem_to_share_a_counter_are_reported_once() {
        let mut silent = sequences(false, [0, 0]);
        assert_eq!(add(&mut silent, Routine, 0..5), 0);
        assert!(!silent.begins_to_look_shared());
        add(&mut silent, Emergency, [5]);
        assert!(!silent.begins_to_look_shared(), "nothing is missing yet");
        assert_eq!(add(&mut silent, Routine, 6..9), 1);
        assert!(silent.begins_to_look_shared());
        assert!(!silent.begins_to_look_shared(), "once");
        silent.begin_epoch();
        assert!(silent.looks_shared() && !silent.is_shared());
        silent.connected(true);
        assert!(!silent.looks_shared() && silent.is_shared());
    }

    #[test]
    fn lanes_with_separate_counters_do_not_seem_shared() {
        let mut apart = sequences(false, [0, 0]);
        add(&mut apart, Emergency, 0..5);
        // The number of lost frames equals the number of emergencies.
        add(&mut apart, Routine, (0..100).filter(|at| !(40..45).contains(at)));
        assert_eq!(apart.both.frames, apart.both.len());
        assert!(!apart.begins_to_look_shared());
        let mut resumed = sequences(false, [3, 900]);
        add(&mut resumed, Emergency, [3, 5]);
        add(&mut resumed, Routine, [900, 902]);
        assert!(!resumed.begins_to_look_shared());
    }

    #[test]
    fn the_ends_of_the_number_range_do_not_wrap() {
        let mut apart = sequences(false, [0, 0]);
        add(&mut apart, Emergency, [0]);
        add(&mut apart, Routine, [0]);
        add(&mut apart, Emergency, [u64::MAX - 1]);
        assert_eq!(add(&mut apart, Routine, [u64::MAX - 1]), u64::MAX);
    }
}
