//! KISS streams.

use proptest::prelude::*;

use super::cut;
use crate::kiss::{encode, encode_time};
use crate::{Framing, Kiss};

fn framing(port: Option<u8>) -> Framing {
    Framing::Kiss(Kiss { port, max: 100 })
}

#[test]
fn escapes_ports_and_commands_are_read() {
    let mut stream = Vec::new();
    encode(0, b"\xC0a\xDB\xDC\xDD", &mut stream);
    assert_eq!(stream, b"\xC0\x00\xDB\xDCa\xDB\xDD\xDC\xDD\xC0");
    encode(12, b"port 12", &mut stream);
    // One delimiter between two frames, and a command that is not data.
    stream.extend(b"\xC0\xC0\xC0\x00b\xC0\x06hardware\xC0\x00c\xC0");
    let all = cut(&framing(None), [&stream[..]]);
    assert_eq!(all.data(), [&b"\xC0a\xDB\xDC\xDD"[..], b"port 12", b"b", b"c"]);
    assert_eq!((all.counts.skipped, all.counts.sync_losses), (9, 0));
    assert_eq!(cut(&framing(Some(12)), [&stream[..]]).data(), ["port 12"]);
    assert_eq!(cut(&framing(Some(3)), [&stream[..]]).data(), [""; 0]);
}

#[test]
fn the_time_belongs_to_the_frame_behind_it() {
    let mut stream = Vec::new();
    encode_time(1_709_210_096_789, &mut stream);
    encode(0, b"timed", &mut stream);
    encode(0, b"untimed", &mut stream);
    encode_time(u64::MAX, &mut stream);
    encode(0, b"no such time", &mut stream);
    let found = cut(&framing(None), [&stream[..]]);
    let times: Vec<_> = found.units.iter().map(|unit| unit.ert_ns).collect();
    assert_eq!(times, [Some(1_709_210_096_789_000_000), None, None]);
    assert_eq!((found.counts.bytes, found.counts.skipped), (stream.len() as u64, 0));
}

#[test]
fn what_is_no_frame_is_skipped() {
    // The rest of a frame, an escape without meaning, one at the end, and an empty frame.
    let stream = b"rest\xC0\x00one\xC0\x00a\xDBb\xC0\x00two\xC0\x00a\xDB\xC0\x00\xC0\x00three\xC0tail";
    let found = cut(&framing(None), [&stream[..]]);
    assert_eq!(found.data(), ["one", "two", "three"]);
    let marks: Vec<_> = found.units.iter().map(|unit| unit.discontinuity).collect();
    assert_eq!(marks, [false, true, true]);
    assert_eq!((found.counts.skipped, found.counts.sync_losses), (4 + 4 + 3 + 1 + 4, 2));
}

#[test]
fn a_frame_that_is_too_long_is_dropped_at_once() {
    let mut stream = Vec::new();
    encode(0, &[1; 99], &mut stream);
    encode(0, &[2; 100], &mut stream);
    encode(0, &[3; 5_000], &mut stream);
    encode(0, b"short", &mut stream);
    for part in [1, 30, 101, 102, 103, 10_000] {
        let found = cut(&framing(None), stream.chunks(part));
        assert_eq!(found.data(), [&[1; 99][..], b"short"]);
        assert_eq!((found.counts.oversize, found.counts.skipped), (2, 101 + 5_001));
        assert!(found.units[1].discontinuity);
    }
    let mut deframer = crate::Deframer::new(&framing(None));
    deframer.push(b"\xC0");
    for _ in 0..1_000 {
        deframer.push(&[7; 60]);
        assert_eq!(deframer.next_unit().unwrap(), None);
        assert!(deframer.pending() <= 100);
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        frames in prop::collection::vec(
            (0..16_u8, prop::collection::vec(prop_oneof![Just(0xC0), Just(0xDB), any::<u8>()], 1..40)), 0..10
        ),
        part in 1..50_usize,
    ) {
        let mut stream = Vec::new();
        frames.iter().for_each(|(port, data)| encode(*port, data, &mut stream));
        let found = cut(&framing(None), stream.chunks(part));
        let expected: Vec<_> = frames.into_iter().map(|(_, data)| data).collect();
        prop_assert_eq!(found.data(), expected);
        prop_assert_eq!(found.counts.bytes, stream.len() as u64);
    }
}
