//! The content of a simulated source: a pure function of seed, source and sequence.
//!
//! So a receiver can check every byte, and a resend needs no copy of the earlier frame.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use frame::FramePriority;

/// Step of the SplitMix64 generator (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators").
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// The names of emergencies; both are equally frequent.
const NAMES: [&[u8]; 2] = [b"SAFE_MODE\0", b"ABORT\0"];
/// Keeps a frame's priority independent of its payload's first word.
const PRIORITY_SALT: u64 = 0x5AFE_4D0D_EAB0_0047;

/// The payload of one frame: little-endian words of a Weyl sequence. The sequence starts at a hash of `seed`,
/// `source_id` and `sequence`. Each word is xored with itself shifted right by 29. The last word is cut to
/// fit `bytes`.
///
/// An emergency begins with its name, `SAFE_MODE` or `ABORT`, and a zero byte, if both fit.
///
/// The payloads are cheap and easy to tell apart. They are not random.
#[must_use]
pub fn payload(seed: u64, source_id: u32, sequence: u64, priority: FramePriority, bytes: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes);
    put_payload(frame_state(seed, source_id, sequence), priority, bytes, &mut out);
    out.freeze()
}

/// The lane of one frame. Of many frames, the share `emergency_ratio` (0 to 1) is emergencies.
#[must_use]
pub fn priority(seed: u64, source_id: u32, sequence: u64, emergency_ratio: f64) -> FramePriority {
    priority_of(frame_state(seed, source_id, sequence), Share::new(emergency_ratio))
}

/// Whether an event that happens to the share `ratio` (0 to 1) of all frames happens to this one.
pub(super) fn happens(seed: u64, source_id: u32, sequence: u64, ratio: f64) -> bool {
    priority(seed, source_id, sequence, ratio) == FramePriority::Emergency
}

/// The content of all frames of one source.
#[derive(Clone, Debug)]
pub(super) struct Content {
    source_state: u64,
    emergencies: Share,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Generated { payload_bytes: usize },
    Packets(Arc<Vec<Bytes>>),
}

impl Content {
    /// Generated payloads, all of the same length.
    pub(super) fn generated(seed: u64, source_id: u32, emergency_ratio: f64, payload_bytes: usize) -> Self {
        Self {
            source_state: source_state(seed, source_id),
            emergencies: Share::new(emergency_ratio),
            kind: Kind::Generated { payload_bytes },
        }
    }

    /// Packet `k` is the payload of sequence `k`.
    pub(super) fn packets(seed: u64, source_id: u32, emergency_ratio: f64, packets: Arc<Vec<Bytes>>) -> Self {
        Self {
            source_state: source_state(seed, source_id),
            emergencies: Share::new(emergency_ratio),
            kind: Kind::Packets(packets),
        }
    }

    /// The lane of a frame.
    pub(super) fn priority(&self, sequence: u64) -> FramePriority {
        if self.emergencies == Share::None {
            return FramePriority::Routine;
        }
        priority_of(at_sequence(self.source_state, sequence), self.emergencies)
    }

    /// Length of a frame's payload.
    pub(super) fn payload_bytes(&self, sequence: u64) -> usize {
        match &self.kind {
            Kind::Generated { payload_bytes } => *payload_bytes,
            Kind::Packets(packets) => packet(packets, sequence).len(),
        }
    }

    /// Length of the longest payload.
    pub(super) fn payload_bytes_max(&self) -> usize {
        match &self.kind {
            Kind::Generated { payload_bytes } => *payload_bytes,
            Kind::Packets(packets) => packets.iter().map(Bytes::len).max().unwrap_or(0),
        }
    }

    /// Appends a frame's payload.
    pub(super) fn put_payload(&self, sequence: u64, out: &mut BytesMut) {
        match &self.kind {
            Kind::Generated { payload_bytes } => {
                let priority = self.priority(sequence);
                put_payload(at_sequence(self.source_state, sequence), priority, *payload_bytes, out);
            }
            Kind::Packets(packets) => out.put_slice(packet(packets, sequence)),
        }
    }
}

/// Only sequences below the number of packets are generated, so the empty default is never sent.
fn packet(packets: &[Bytes], sequence: u64) -> &[u8] {
    usize::try_from(sequence).ok().and_then(|index| packets.get(index)).map_or(&[], |packet| packet)
}

/// A probability in a form that compares with random words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    None,
    Below(u64),
    All,
}

impl Share {
    /// A value outside 0 to 1 counts as the nearer end, NaN as 0.
    fn new(ratio: f64) -> Self {
        if ratio >= 1.0 {
            Self::All
        } else if ratio > 0.0 {
            Self::Below((ratio * 2f64.powi(64)) as u64)
        } else {
            Self::None
        }
    }
}

fn priority_of(frame_state: u64, emergencies: Share) -> FramePriority {
    let emergency = match emergencies {
        Share::None => false,
        Share::Below(threshold) => mix(frame_state ^ PRIORITY_SALT) < threshold,
        Share::All => true,
    };
    if emergency { FramePriority::Emergency } else { FramePriority::Routine }
}

fn frame_state(seed: u64, source_id: u32, sequence: u64) -> u64 {
    at_sequence(source_state(seed, source_id), sequence)
}

fn source_state(seed: u64, source_id: u32) -> u64 {
    mix(seed ^ mix(u64::from(source_id)))
}

fn at_sequence(source_state: u64, sequence: u64) -> u64 {
    mix(source_state.wrapping_add(sequence.wrapping_mul(GOLDEN)))
}

fn put_payload(frame_state: u64, priority: FramePriority, bytes: usize, out: &mut BytesMut) {
    let start = out.len();
    put_words(frame_state, bytes, out);
    let name = NAMES[(frame_state & 1) as usize];
    if priority == FramePriority::Emergency && name.len() <= bytes {
        out[start..start + name.len()].copy_from_slice(name);
    }
}

fn put_words(frame_state: u64, bytes: usize, out: &mut BytesMut) {
    let start = out.len();
    out.resize(start + bytes, 0);
    let mut state = frame_state;
    let mut next_word = || {
        state = state.wrapping_add(GOLDEN);
        (state ^ (state >> 29)).to_le_bytes()
    };
    let mut words = out[start..].chunks_exact_mut(8);
    for word in &mut words {
        word.copy_from_slice(&next_word());
    }
    let rest = words.into_remainder();
    rest.copy_from_slice(&next_word()[..rest.len()]);
}

/// The output function of SplitMix64.
const fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(GOLDEN);
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // First output of the reference implementation for seed 0.
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
    }

    #[test]
    fn a_payload_depends_on_seed_source_and_sequence_and_a_shorter_one_is_its_prefix() {
        let routine = |seed, source_id, sequence, bytes| {
            payload(seed, source_id, sequence, FramePriority::Routine, bytes)
        };
        let base = routine(1, 2, 3, 21);
        assert_eq!(base.len(), 21);
        assert_eq!(base, routine(1, 2, 3, 21));
        assert_eq!(base[..13], routine(1, 2, 3, 13)[..]);
        for other in [routine(9, 2, 3, 21), routine(1, 9, 3, 21), routine(1, 2, 9, 21)] {
            assert_ne!(base, other);
        }
        assert!(routine(1, 2, 3, 0).is_empty());
    }

    #[test]
    fn an_emergency_contains_its_label_if_there_is_room() {
        let mut seen = [0; NAMES.len()];
        for sequence in 0..100 {
            let of = |priority, bytes| payload(1, 2, sequence, priority, bytes);
            let emergency = of(FramePriority::Emergency, 64);
            let name = NAMES.iter().position(|name| emergency.starts_with(name)).unwrap();
            seen[name] += 1;
            assert_eq!(emergency[NAMES[name].len()..], of(FramePriority::Routine, 64)[NAMES[name].len()..]);
            assert_eq!(of(FramePriority::Emergency, 5), of(FramePriority::Routine, 5));
        }
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
    }

    #[test]
    fn a_source_agrees_with_the_public_functions() {
        let content = Content::generated(7, 3, 0.3, 100);
        let mut emergencies = 0;
        for sequence in 0..10_000 {
            let expected = priority(7, 3, sequence, 0.3);
            assert_eq!(content.priority(sequence), expected);
            emergencies += u32::from(expected == FramePriority::Emergency);
        }
        assert!((2_700..3_300).contains(&emergencies), "{emergencies}");
        for sequence in 0..100 {
            let mut out = BytesMut::new();
            content.put_payload(sequence, &mut out);
            assert_eq!(out, payload(7, 3, sequence, priority(7, 3, sequence, 0.3), 100));
        }
    }

    #[test]
    fn ratios_0_and_1_are_exact() {
        for sequence in 0..1000 {
            assert_eq!(priority(1, 1, sequence, 0.0), FramePriority::Routine);
            assert_eq!(priority(1, 1, sequence, f64::NAN), FramePriority::Routine);
            assert_eq!(priority(1, 1, sequence, 1.0), FramePriority::Emergency);
        }
    }
}
