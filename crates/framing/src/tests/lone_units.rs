//! CADUs that stand alone between noise, with a check that recognises them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use proptest::prelude::*;

use super::cut_with;
use crate::cadu::ASM;
use crate::{Cadu, Decode, Deframer, Fecf, Format, FrameFields, Framing, Pointer, UnitCheck};

const LENGTH: usize = 64;
const SPACECRAFT: u32 = 123;

fn cadu() -> Cadu {
    Cadu { length: LENGTH, strip: 8, ..Cadu::default() }
}

fn decode(fecf: Fecf) -> Decode {
    Decode { format: Format::Tm, fecf, ..Decode::default() }
}

/// The check of a link: the checksum, or, without one, the spacecraft.
fn check(fecf: Fecf) -> UnitCheck {
    let decode = decode(fecf);
    match fecf {
        Fecf::None => UnitCheck::header(move |unit| {
            decode.header(unit).is_ok_and(|header| header.spacecraft == Some(SPACECRAFT))
        }),
        _ => UnitCheck::checksum(move |unit| decode.header(unit).is_ok()),
    }
}

fn frame(fecf: Fecf, cadu: &Cadu, number: u64, fill: u8) -> Vec<u8> {
    let decode = decode(fecf);
    let mut frame = Vec::new();
    let fields = FrameFields { spacecraft: SPACECRAFT, channel: 1, count: number, pointer: Pointer::At(0) };
    decode.encode(&fields, &vec![fill; cadu.frame_length() - decode.overhead()], &mut frame);
    frame
}

/// Bytes without a marker, from a generator whose state is `seed`.
fn noise(seed: &mut u64, length: usize) -> Vec<u8> {
    let byte = |_| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 56) as u8
    };
    (0..length).map(byte).collect()
}

/// What is found of `stream`, however it is cut.
fn found(cadu: &Cadu, fecf: Fecf, stream: &[u8], part: usize) -> super::Cut {
    let framing = Framing::Cadu(cadu.clone());
    let whole = cut_with(&framing, Some(check(fecf)), [stream]);
    assert_eq!(whole, cut_with(&framing, Some(check(fecf)), stream.chunks(part)), "in parts of {part}");
    whole
}

#[test]
fn units_between_noise_are_all_found() {
    let mut seed = 7;
    for (fecf, length) in [(Fecf::Crc16, 64), (Fecf::Crc16, 1_279), (Fecf::Crc32, 200), (Fecf::None, 1_279)] {
        for derandomize in [true, false] {
            let cadu = Cadu { length, derandomize, ..cadu() };
            let (mut stream, mut frames) = (Vec::new(), Vec::new());
            for number in 0..152 {
                let silence = noise(&mut seed, 1)[0] as usize * 300 / 255;
                stream.extend(noise(&mut seed, silence));
                frames.push(frame(fecf, &cadu, number, 0x40));
                cadu.encode(&frames[number as usize], &mut stream);
            }
            // The end of the stream confirms the last unit if there is no checksum.
            let found = found(&cadu, fecf, &stream, 11);
            assert!(found.data() == frames, "{} of 152, {fecf:?}, {length} bytes", found.units.len());
            assert_eq!(found.counts.skipped as usize, stream.len() - 152 * length);
        }
    }
}

#[test]
fn without_a_check_they_are_not() {
    let cadu = cadu();
    let mut stream = Vec::new();
    for number in 0..10 {
        stream.extend([0x55; 10]);
        cadu.encode(&frame(Fecf::Crc16, &cadu, number, 0), &mut stream);
    }
    assert_eq!(
        super::cut(&Framing::Cadu(cadu), [&stream[..]]).units.len(),
        1,
        "the end confirms the last one"
    );
}

#[test]
fn a_lone_unit_comes_as_soon_as_its_checksum_is_there() {
    let cadu = cadu();
    let mut stream = vec![0x55; 30];
    cadu.encode(&frame(Fecf::Crc16, &cadu, 0, 0), &mut stream);
    let mut deframer = Deframer::with_check(&Framing::Cadu(cadu), Some(check(Fecf::Crc16)));
    deframer.push(&stream[..stream.len() - 1]);
    assert_eq!(deframer.next_unit().unwrap(), None);
    deframer.push(&stream[stream.len() - 1..]);
    assert!(deframer.next_unit().unwrap().is_some_and(|unit| !unit.discontinuity));
    // What follows is no unit, so the next one is marked.
    deframer.push(&[0x55; 5]);
    deframer.push(&stream[30..]);
    assert!(deframer.next_unit().unwrap().is_some_and(|unit| unit.discontinuity));
    assert_eq!((deframer.counts().sync_losses, deframer.counts().skipped), (1, 35));
}

#[test]
fn without_a_checksum_the_spacecraft_and_the_next_marker_decide() {
    let cadu = Cadu { derandomize: false, ..cadu() };
    let own = frame(Fecf::None, &cadu, 0, 0);
    let mut foreign = own.clone();
    foreign[0] ^= 1;
    for (first, gap, count) in [
        (&own, 0, 2),
        (&own, 1, 2),
        // The second marker begins with the last byte in which a second block is not complete.
        (&own, LENGTH - 1, 2),
        // Nor is a marker at twice the distance a lock.
        (&own, LENGTH, 1),
        (&foreign, 1, 1),
    ] {
        let mut stream = vec![0x55; 9];
        cadu.encode(first, &mut stream);
        stream.resize(stream.len() + gap, 0x55);
        cadu.encode(&own, &mut stream);
        assert_eq!(found(&cadu, Fecf::None, &stream, 5).units.len(), count, "a gap of {gap}");
    }
}

#[test]
fn false_markers_make_no_unit_and_hide_none() {
    let mut seed = 3;
    for fecf in [Fecf::Crc16, Fecf::None] {
        let cadu = cadu();
        let (mut stream, mut frames) = (Vec::new(), Vec::new());
        for number in 0..200 {
            // Two false markers at most, and less than a block apart, so that never three markers confirm one another.
            for _ in 0..number % 3 {
                stream.extend(noise(&mut seed, 3));
                stream.extend(ASM);
                let behind = 5 + noise(&mut seed, 1)[0] as usize % 50;
                stream.extend(noise(&mut seed, behind));
            }
            stream.push(0x55);
            frames.push(frame(fecf, &cadu, number, 1));
            cadu.encode(&frames[number as usize], &mut stream);
        }
        let found = found(&cadu, fecf, &stream, 17);
        assert!(found.data() == frames, "{fecf:?}: {} units", found.units.len());
    }
}

#[test]
fn noise_that_ends_at_the_right_distance_hides_no_unit() {
    let cadu = cadu();
    for fecf in [Fecf::Crc16, Fecf::None] {
        let units: Vec<_> = (0..5).map(|number| frame(fecf, &cadu, number, 1)).collect();
        for before in 1..LENGTH {
            // Two units make the lock. The marker of the last unit is where the lock expects one, and the block in front of it
            // begins with noise.
            let mut stream = Vec::new();
            units[..2].iter().for_each(|unit| cadu.encode(unit, &mut stream));
            stream.resize(stream.len() + before, 0x55);
            cadu.encode(&units[2], &mut stream);
            stream.resize(stream.len() + LENGTH - before, 0x55);
            units[3..].iter().for_each(|unit| cadu.encode(unit, &mut stream));
            assert!(found(&cadu, fecf, &stream, 9).data() == units, "{before} bytes, {fecf:?}");
        }
    }
}

#[test]
fn a_bad_frame_stays_a_unit_where_markers_confirm_it() {
    let cadu = cadu();
    for bad in 0..6 {
        let mut frames: Vec<_> = (0..6).map(|number| frame(Fecf::Crc16, &cadu, number, 1)).collect();
        frames[bad][10] ^= 1;
        let mut stream = vec![0x55; 3];
        frames.iter().for_each(|frame| cadu.encode(frame, &mut stream));
        assert!(found(&cadu, Fecf::Crc16, &stream, 7).data() == frames, "frame {bad}");
    }
}

/// Calls of the check for `stream`, which comes in `part`s.
fn checks(
    cadu: &Cadu,
    stream: &[u8],
    part: usize,
    verdict: impl Fn(usize) -> bool + Send + 'static,
) -> usize {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let check = UnitCheck::header(move |_| verdict(counted.fetch_add(1, Relaxed)));
    cut_with(&Framing::Cadu(cadu.clone()), Some(check), stream.chunks(part));
    calls.load(Relaxed)
}

#[test]
fn a_stream_full_of_markers_is_checked_a_bounded_number_of_times() {
    const BYTES: usize = 300_000;
    let one_byte = vec![0x7E];
    for (asm, length) in [(ASM.to_vec(), 1_279), (ASM.to_vec(), 1_280), (one_byte, 500)] {
        let cadu = Cadu { asm: asm.clone(), length, strip: 0, ..cadu() };
        let markers = asm.repeat(BYTES / asm.len());
        // A marker in front of every run of zeros, so that no block has a second one.
        let sparse: Vec<u8> = [&asm.repeat(length / asm.len() / 2)[..], &vec![0; 2 * length]].concat();
        for (name, stream) in [("markers", markers), ("sparse", sparse.repeat(BYTES / sparse.len()))] {
            for part in [1, stream.len()] {
                // Refused, accepted, and each in turn.
                let verdicts: [fn(usize) -> bool; 3] = [|_| false, |_| true, |call| call % 2 == 0];
                for verdict in verdicts {
                    let calls = checks(&cadu, &stream, part, verdict);
                    assert!(
                        calls * length <= 8 * (stream.len() + length),
                        "{calls} checks of {name}, {length}"
                    );
                }
            }
        }
    }
}

proptest! {
    /// Each unit with a right checksum is found once, whatever is around it, and nothing else has one. The checksum has 32
    /// bits, because noise passes one of 16 bits too often for a test. Noise does not begin with a marker: in lock, that is a unit.
    #[test]
    fn each_unit_is_found_once(
        parts in prop::collection::vec(
            (prop_oneof![Just(0), 1..3 * LENGTH], prop::bool::weighted(0.3), any::<u64>()), 1..40
        ),
        part in 1..200_usize,
        derandomize in any::<bool>(),
    ) {
        let cadu = Cadu { derandomize, ..cadu() };
        let (mut stream, mut frames) = (Vec::new(), Vec::new());
        for (number, (silence, has_marker, seed)) in parts.iter().enumerate() {
            let mut between = noise(&mut seed.clone(), *silence);
            if *has_marker && *silence > 5 {
                between[*silence / 2 - 1..][..4].copy_from_slice(&ASM);
            }
            if let Some(first) = between.first_mut() {
                *first = 0;
            }
            stream.extend(between);
            frames.push(frame(Fecf::Crc32, &cadu, number as u64, 3));
            cadu.encode(&frames[number], &mut stream);
        }
        let found = found(&cadu, Fecf::Crc32, &stream, part);
        let decode = decode(Fecf::Crc32);
        let good: Vec<_> = found.data().into_iter().filter(|unit| decode.header(unit).is_ok()).collect();
        prop_assert_eq!(good, frames);
    }

    #[test]
    fn every_cut_of_a_damaged_stream_gives_the_same_units(
        parts in prop::collection::vec((0..2 * LENGTH, any::<u64>(), 0..3_u8), 1..12),
        damages in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 0..8),
        part in 1..200_usize,
    ) {
        for fecf in [Fecf::Crc16, Fecf::None] {
            let cadu = Cadu { sync_errors: 2, ..cadu() };
            let mut stream = Vec::new();
            for (number, (silence, seed, markers)) in parts.iter().enumerate() {
                stream.extend(noise(&mut seed.clone(), *silence));
                (0..*markers).for_each(|_| stream.extend(ASM));
                cadu.encode(&frame(fecf, &cadu, number as u64, 3), &mut stream);
            }
            for (at, kind, byte) in &damages {
                let at = at.index(stream.len());
                match kind {
                    0 => stream[at] ^= byte,
                    1 => stream.insert(at, *byte),
                    _ => drop(stream.remove(at)),
                }
            }
            found(&cadu, fecf, &stream, part);
        }
    }
}
