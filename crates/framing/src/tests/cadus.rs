//! CADUs in a stream that is not clean.

use proptest::prelude::*;

use super::cut;
use crate::cadu::ASM;
use crate::{Cadu, Framing};

const LENGTH: usize = 40;

fn cadu() -> Cadu {
    Cadu { length: LENGTH, strip: 4, ..Cadu::default() }
}

/// A frame that tells its number. The rest holds a false marker, which is plain as the units are not randomised.
fn frame(number: u8) -> Vec<u8> {
    let mut frame = vec![number; LENGTH - 8];
    frame[5..9].copy_from_slice(&ASM);
    frame
}

fn stream(cadu: &Cadu, numbers: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut stream = Vec::new();
    numbers.into_iter().for_each(|number| cadu.encode(&frame(number), &mut stream));
    stream
}

/// The numbers of the frames that come out, which must be whole, and for each whether it is marked.
fn numbers(cadu: &Cadu, stream: &[u8]) -> (Vec<(u8, bool)>, crate::Counts) {
    let cut = cut(&Framing::Cadu(cadu.clone()), stream.chunks(7));
    let numbers = cut.units.iter().map(|unit| {
        assert_eq!(unit.data, frame(unit.data[0]));
        (unit.data[0], unit.discontinuity)
    });
    (numbers.collect(), cut.counts)
}

fn unmarked(numbers: impl IntoIterator<Item = u8>) -> Vec<(u8, bool)> {
    numbers.into_iter().map(|number| (number, false)).collect()
}

#[test]
fn a_clean_stream_is_delivered_whole() {
    for cadu in [cadu(), Cadu { derandomize: false, ..cadu() }] {
        for count in [1, 2, 3, 50] {
            let stream = stream(&cadu, 0..count);
            let (found, counts) = numbers(&cadu, &stream);
            assert_eq!(found, unmarked(0..count));
            assert_eq!((counts.bytes, counts.skipped, counts.sync_losses), (stream.len() as u64, 0, 0));
        }
    }
}

#[test]
fn the_first_unit_waits_for_the_second_marker_and_the_others_do_not() {
    let cadu = cadu();
    let stream = stream(&cadu, 0..3);
    let mut deframer = crate::Deframer::new(&Framing::Cadu(cadu));
    deframer.push(&stream[..LENGTH + 3]);
    assert_eq!(deframer.next_unit().unwrap(), None);
    deframer.push(&stream[LENGTH + 3..LENGTH + 4]);
    assert!(deframer.next_unit().unwrap().is_some());
    assert_eq!(deframer.next_unit().unwrap(), None);
    deframer.push(&stream[LENGTH + 4..2 * LENGTH]);
    assert!(deframer.next_unit().unwrap().is_some());
}

#[test]
fn noise_around_the_stream_is_skipped() {
    // The noise ends with half a marker, and holds a marker without a unit.
    let noise = [&[0xAA; 90][..], &ASM, &[0xBB; 70], &ASM[..2]].concat();
    for cadu in [cadu(), Cadu { derandomize: false, ..cadu() }] {
        let clean = stream(&cadu, 0..5);
        let (found, counts) = numbers(&cadu, &[&noise[..], &clean, &noise].concat());
        assert_eq!(found, unmarked(0..5));
        assert_eq!((counts.skipped, counts.sync_losses), (2 * noise.len() as u64, 1));
    }
}

#[test]
fn bytes_lost_or_added_cost_no_other_unit() {
    let cadu = cadu();
    let clean = stream(&cadu, 0..9);
    // Bytes 100 to 110 are in unit 2. What comes behind its marker is taken as long as the lock holds, so it is
    // wrong; no decoder could know better without a checksum.
    let cut = cut(&Framing::Cadu(cadu.clone()), [&clean[..100], &clean[110..]]);
    let whole: Vec<_> = cut.units.iter().filter(|unit| unit.data == frame(unit.data[0])).collect();
    let found: Vec<_> = whole.iter().map(|unit| (unit.data[0], unit.discontinuity)).collect();
    assert_eq!(found, [(0, false), (1, false), (4, true), (5, false), (6, false), (7, false), (8, false)]);
    assert_eq!((cut.units.len(), cut.counts.sync_losses), (8, 1));

    let added = [&clean[..2 * LENGTH], &[0x55; 3], &clean[2 * LENGTH..]].concat();
    let (found, counts) = numbers(&cadu, &added);
    assert_eq!(found, [&unmarked(0..2)[..], &[(2, true)], &unmarked(3..9)].concat());
    assert_eq!((counts.skipped, counts.sync_losses), (3, 1));
}

#[test]
fn the_lock_survives_two_missing_markers_and_not_three() {
    let cadu = cadu();
    for missing in 1..=4_usize {
        let mut stream = stream(&cadu, 0..8);
        (2..2 + missing).for_each(|unit| stream[unit * LENGTH..][..4].fill(0));
        let (found, counts) = numbers(&cadu, &stream);
        if missing <= 2 {
            assert_eq!((found, counts.sync_losses), (unmarked(0..8), 0));
        } else {
            let first = 2 + missing as u8;
            assert_eq!(found, [&unmarked(0..2)[..], &[(first, true)], &unmarked(first + 1..8)].concat());
            assert_eq!((counts.sync_losses, counts.skipped), (1, (missing * LENGTH) as u64));
        }
    }
}

#[test]
fn wrong_bits_are_tolerated_in_lock_alone() {
    let cadu = Cadu { sync_errors: 2, ..cadu() };
    let mut stream = stream(&cadu, 0..8);
    for unit in 0..8 {
        stream[unit * LENGTH + 1] ^= 0x81;
    }
    assert_eq!(numbers(&cadu, &stream).0, []);
    for unit in [0, 1] {
        stream[unit * LENGTH + 1] ^= 0x81;
    }
    let (found, counts) = numbers(&cadu, &stream);
    assert_eq!((found, counts.sync_losses), (unmarked(0..8), 0));
    // Without the tolerance, the markers behind the first two are missing.
    let strict = Cadu { sync_errors: 1, ..cadu };
    let (found, counts) = numbers(&strict, &stream);
    assert_eq!((found, counts.sync_losses), (unmarked(0..2), 1));
}

#[test]
fn a_truncated_tail_is_skipped() {
    let cadu = cadu();
    let clean = stream(&cadu, 0..4);
    for length in 3 * LENGTH..4 * LENGTH {
        let (found, counts) = numbers(&cadu, &clean[..length]);
        assert_eq!(found, unmarked(0..3));
        assert_eq!((counts.skipped, counts.sync_losses), ((length - 3 * LENGTH) as u64, 0));
    }
}

#[test]
fn a_marker_may_have_any_length() {
    let asm = b"\x03\x47\x76\xC7\x27\x28\x95\xB0".to_vec();
    let cadu = Cadu { asm, length: LENGTH + 4, ..cadu() };
    assert_eq!(numbers(&cadu, &stream(&cadu, 0..5)).0, unmarked(0..5));
    let cadu = Cadu { asm: vec![0x7E], length: LENGTH - 3, ..cadu };
    assert_eq!(numbers(&cadu, &stream(&cadu, 100..105)).0, unmarked(100..105));
}

proptest! {
    /// All units of a group of two or more come out in order, whatever noise is around the group.
    #[test]
    fn noise_between_groups_of_units_costs_none(
        groups in prop::collection::vec((2..6_u8, prop::collection::vec(any::<u8>(), 0..3 * LENGTH)), 1..8),
    ) {
        let cadu = cadu();
        let (mut stream, mut expected, mut number) = (Vec::new(), Vec::new(), 0);
        for (count, noise) in &groups {
            stream.extend(self::stream(&cadu, number..number + count));
            expected.extend(number..number + count);
            number += count;
            // Noise as long as one or two units is what units with a missing marker look like.
            stream.extend(if noise.len() % LENGTH == 0 { &[] } else { &noise[..] });
        }
        let cut = cut(&Framing::Cadu(cadu), stream.chunks(13));
        let found: Vec<u8> = cut.units.iter().map(|unit| unit.data[0]).collect();
        prop_assert_eq!(found, expected);
    }
}
