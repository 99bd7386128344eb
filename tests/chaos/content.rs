//! What a source of these tests sends. Sequence and payload are functions of source, lane and index, so a test can
//! check every frame without a copy of it.

use crate::support::{EMERGENCY, ROUTINE};

/// Frames between two gaps in the sequences.
const RUN_FRAMES: u64 = 50;
/// Sequences that a gap leaves out. Gaps are legal.
const GAP: u64 = 7;
/// Bytes of the identity at the start of each payload.
const IDENTITY_BYTES: usize = 13;
/// Most bytes of a large payload. The tests' daemons take messages of 16 KiB.
const LARGE_BYTES_MAX: u64 = 15_000;

/// The frame number `index` of a lane of a source, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameId {
    pub source: u32,
    pub lane: usize,
    pub index: u64,
}

/// The sequence of the frame `index`.
pub const fn sequence(index: u64) -> u64 {
    index + index / RUN_FRAMES * GAP
}

/// The index of the frame with this sequence. None if no frame has it.
pub fn index(sequence: u64) -> Option<u64> {
    let (run, within) = (sequence / (RUN_FRAMES + GAP), sequence % (RUN_FRAMES + GAP));
    (within < RUN_FRAMES).then_some(run * RUN_FRAMES + within)
}

/// The number of frames whose sequence is below `next`.
pub fn count_below(next: u64) -> u64 {
    let (run, within) = (next / (RUN_FRAMES + GAP), next % (RUN_FRAMES + GAP));
    run * RUN_FRAMES + within.min(RUN_FRAMES)
}

impl FrameId {
    /// The payload: the identity of the frame, then bytes that look random. One payload of 16 is large.
    pub fn payload(self) -> Vec<u8> {
        let mut state = mixed(u64::from(self.source) << 33 ^ (self.lane as u64) << 32 ^ self.index);
        let filler = if state.is_multiple_of(16) { state >> 8 } else { state >> 8 & 0xFF };
        let mut payload = self.source.to_be_bytes().to_vec();
        payload.push(self.lane as u8);
        payload.extend_from_slice(&self.index.to_be_bytes());
        let bytes = IDENTITY_BYTES + (filler % LARGE_BYTES_MAX) as usize;
        while payload.len() < bytes {
            state = mixed(state);
            payload.extend_from_slice(&state.to_le_bytes());
        }
        payload.truncate(bytes);
        payload
    }

    /// The frame that a payload belongs to. None if any byte is wrong.
    pub fn of(payload: &[u8]) -> Option<Self> {
        let (source, rest) = payload.split_first_chunk::<4>()?;
        let (lane, rest) = rest.split_first()?;
        let index = rest.first_chunk::<8>()?;
        let lane = usize::from(*lane);
        let id = Self { source: u32::from_be_bytes(*source), lane, index: u64::from_be_bytes(*index) };
        (matches!(lane, EMERGENCY | ROUTINE) && id.payload() == payload).then_some(id)
    }
}

/// A step of SplitMix64.
pub const fn mixed(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

#[test]
fn sequences_and_payloads_lead_back_to_their_frame() {
    let mut before = None;
    for number in 0..1_000 {
        let sequence = sequence(number);
        assert!(before.is_none_or(|before| sequence > before));
        assert_eq!((index(sequence), count_below(sequence)), (Some(number), number));
        assert_eq!(count_below(sequence + 1), number + 1);
        before = Some(sequence);
        let id = FrameId { source: 7, lane: ROUTINE, index: number };
        let mut payload = id.payload();
        assert_eq!(FrameId::of(&payload), Some(id));
        *payload.last_mut().unwrap() ^= 1;
        assert_eq!(FrameId::of(&payload), None);
    }
    assert_eq!(index(RUN_FRAMES), None, "a sequence in a gap has no frame");
}
