//! What goes out for the messages of the feed.

use std::collections::BTreeSet;

use bytes::BytesMut;

use super::*;
use config::{OutputSelection, OutputStart};
use frame::{FramePriority, Origin, Selection, Station, StreamKey};
use framing::{Fecf, FrameWriter, PacketHeader};
use wire::Policy;

const TM: Decode = Decode { format: Format::Tm, fecf: Fecf::Crc16, insert_zone: 0, trailer: 0 };

fn output(change: impl FnOnce(&mut Output)) -> Output {
    let mut output = Output {
        name: "test".to_owned(),
        transport: OutputTransport::Listen { at: ([127, 0, 0, 1], 0).into(), peers: Vec::new(), clients: 1 },
        framing: OutputFraming::Bare,
        extract_packets: false,
        decode: None,
        select: OutputSelection {
            frames: Selection::default(),
            stations: BTreeSet::new(),
            bad: false,
            idle: false,
        },
        start: OutputStart::Cursor,
        policy: Policy::Complete,
        lag_max: None,
        retention_hold: false,
    };
    change(&mut output);
    output
}

fn converter(output: Output, send_from: u64) -> (Converter, Arc<OutputStatus>) {
    let config = Arc::new(output);
    let status = Arc::<OutputStatus>::default();
    (Converter::new(config, Arc::default(), Arc::clone(&status), send_from, true), status)
}

fn frame(station: &str, payload: &[u8]) -> Frame {
    let stream = StreamKey {
        source_id: 5,
        source_kind: SourceKind::LiveUplink,
        station: Station::new(station).unwrap(),
    };
    Frame {
        source_id: 5,
        source_kind: SourceKind::LiveUplink,
        priority: FramePriority::Routine,
        flags: FrameFlags::default(),
        sequence: 0,
        ert_ns: 0,
        received_ns: 1_500_000_000_000_123_456,
        origin: Arc::new(Origin { stream, epoch: 1 }),
        payload: Bytes::copy_from_slice(payload),
    }
}

/// The messages that deliver `frames` at the offsets from `first` on.
fn messages(first: u64, frames: &[Frame]) -> Bytes {
    let mut out = BytesMut::new();
    (first..).zip(frames).for_each(|(offset, frame)| Deliver::encode(offset, frame, &mut out));
    out.freeze()
}

fn packet(apid: u16, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    PacketHeader { apid, ..PacketHeader::default() }.encode(content, &mut out);
    out
}

/// TM frames of 32 bytes that carry `packets`.
fn tm_frames(packets: &[Vec<u8>]) -> Vec<Frame> {
    let mut writer = FrameWriter::new(TM, 7, 1, 32, 0);
    let mut frames = Vec::new();
    packets.iter().for_each(|packet| writer.packet(packet, |bytes| frames.push(frame("KIR", bytes))));
    writer.flush(|bytes| frames.push(frame("KIR", bytes)));
    frames
}

#[test]
fn the_selection_leaves_out_stations_and_bad_frames_and_the_position_moves_on() {
    let select =
        |output: &mut Output| output.select.stations = BTreeSet::from([Station::new("KIR").unwrap()]);
    let (mut chosen, status) = converter(output(select), 0);
    let mut bad = frame("KIR", b"bad");
    bad.flags = FrameFlags::BAD_QUALITY;
    let frames = [frame("KIR", b"one"), frame("SVA", b"two"), bad.clone(), frame("SVA", b"three")];
    let out = chosen.convert(&mut messages(10, &frames), 20);
    assert_eq!(out.bytes, b"one");
    assert_eq!(out.marks.last(), Some(&(3, Position::at(20))));
    let counts = status.counts();
    assert_eq!((counts.frames, counts.filtered), (1, 3));
    let (mut all, _) = converter(output(|output| output.select.bad = true), 0);
    assert_eq!(all.convert(&mut messages(0, &[bad]), 1).bytes, b"bad");
}

#[test]
fn a_length_field_says_how_long_the_content_is() {
    let length = |change: fn(&mut Length)| {
        let mut length = Length { length_field_length: 2, max_frame_length: 1_000, ..Length::default() };
        change(&mut length);
        move |content: &[u8]| {
            let mut out = Vec::new();
            put_length(&length, content, &mut out).then_some(out)
        }
    };
    assert_eq!(length(|_| {})(b"abc").unwrap(), b"\0\x03abc");
    assert_eq!(length(|length| length.big_endian = false)(b"abc").unwrap(), b"\x03\0abc");
    // The field counts itself.
    assert_eq!(length(|length| length.length_adjustment = -2)(b"abc").unwrap(), b"\0\x05abc");
    assert_eq!(length(|_| {})(&[0; 1_001]), None);
    let short = length(|length| (length.length_field_length, length.length_adjustment) = (1, -1));
    assert_eq!(short(&[0; 254]).unwrap()[0], 255);
    assert_eq!(short(&[0; 255]), None, "256 does not fit a byte");
    assert_eq!(length(|length| length.length_adjustment = 4)(b"abc"), None, "no length is negative");
}

#[test]
fn what_is_too_long_for_a_datagram_is_left_out() {
    let udp = OutputTransport::Udp { to: ([127, 0, 0, 1], 9).into(), bytes_per_s: 1 << 20 };
    let (mut converter, status) = converter(output(|output| output.transport = udp), 0);
    let frames = [frame("", &[1; 65_508]), frame("", &[2; 65_507]), frame("", b"3")];
    let out = converter.convert(&mut messages(0, &frames), 3);
    assert_eq!(out.ends, [65_507, 65_508]);
    assert_eq!(out.bytes.len(), 65_508);
    assert_eq!(status.counts().too_long, 1);
}

#[test]
fn packets_across_frames_hold_the_cursor_back_until_they_end() {
    let packets = [packet(1, &[1; 60]), packet(2, &[2; 10]), packet(3, &[3; 90])];
    let frames = tm_frames(&packets);
    let extracting = |output: &mut Output| (output.extract_packets, output.decode) = (true, Some(TM));
    let whole =
        converter(output(extracting), 0).0.convert(&mut messages(100, &frames), 100 + frames.len() as u64);
    assert_eq!(whole.bytes, packets.concat());
    // A reader that has the first `cut` frames and goes on at their position gets the rest, once.
    for cut in 0..=frames.len() {
        let (before, behind) = frames.split_at(cut);
        let next_offset = 100 + cut as u64;
        let first = converter(output(extracting), 0).0.convert(&mut messages(100, before), next_offset);
        let (bytes, position) = *first.marks.last().unwrap();
        assert_eq!((bytes, position.next_offset), (first.bytes.len(), next_offset));
        assert!(position.read_from >= 100 && position.read_from <= next_offset);
        let read = &before[usize::try_from(position.read_from - 100).unwrap()..];
        let (mut resumed, _) = converter(output(extracting), position.next_offset);
        let repeated = resumed.convert(&mut messages(position.read_from, read), next_offset);
        assert_eq!(repeated.bytes, b"", "what was sent is not repeated");
        assert_eq!(repeated.marks.last(), Some(&(0, position)));
        let rest = resumed.convert(&mut messages(next_offset, behind), 100 + frames.len() as u64);
        assert_eq!([first.bytes, rest.bytes].concat(), packets.concat(), "cut behind {cut} frames");
    }
}

#[test]
fn a_position_below_the_cursor_is_not_beyond_a_packet_that_begins_there() {
    let frames = tm_frames(&[packet(1, &[1; 10]), packet(2, &[2; 90])]);
    let extracting = |output: &mut Output| (output.extract_packets, output.decode) = (true, Some(TM));
    // The cursor stands at 3; the output reads from 0 on, and has read one frame.
    let (mut resumed, _) = converter(output(extracting), 3);
    let out = resumed.convert(&mut messages(0, &frames[..1]), 1);
    let (_, position) = *out.marks.last().unwrap();
    assert_eq!(position.next_offset, 3);
    assert!(position.read_from <= 1, "{position:?}");
}

#[test]
fn gaps_cut_packets_and_are_counted() {
    let frames = tm_frames(&[packet(1, &[1; 60]), packet(2, &[2; 10])]);
    let extracting = |output: &mut Output| (output.extract_packets, output.decode) = (true, Some(TM));
    let (mut converter, status) = converter(output(extracting), 0);
    let mut bytes = BytesMut::from(&messages(0, &frames[..1])[..]);
    Gap { reason: GapReason::Expired, offsets: 1..7 }.encode(&mut bytes);
    Gap { reason: GapReason::Skipped, offsets: 7..9 }.encode(&mut bytes);
    // The counts of the channel go on as if nothing were missing: the gap alone cuts the packet.
    bytes.extend_from_slice(&messages(9, &frames[1..]));
    let out = converter.convert(&mut bytes.freeze(), 20);
    assert_eq!(out.bytes, packet(2, &[2; 10]));
    let counts = status.counts();
    assert_eq!((counts.cut, counts.gaps, counts.missing, counts.skipped), (1, 1, 6, 2));
    assert_eq!(counts.packets, 1, "idle packets are left out");
}

#[test]
fn a_gap_that_begins_below_the_cursor_counts_from_the_cursor_on() {
    let (mut converter, status) = converter(output(|_| {}), 5);
    let mut bytes = BytesMut::new();
    Gap { reason: GapReason::Expired, offsets: 3..9 }.encode(&mut bytes);
    converter.convert(&mut bytes.freeze(), 9);
    assert_eq!((status.counts().gaps, status.counts().missing), (1, 4));
}

#[test]
fn marks_lie_a_kibibyte_apart() {
    let (mut converter, _) = converter(output(|_| {}), 0);
    let frames: Vec<_> = (0..100).map(|_| frame("", &[0; 100])).collect();
    let out = converter.convert(&mut messages(0, &frames), 100);
    let ends: Vec<_> = out.marks.iter().map(|(bytes, _)| *bytes).collect();
    assert_eq!(ends, [1_100, 2_200, 3_300, 4_400, 5_500, 6_600, 7_700, 8_800, 9_900, 10_000]);
}

#[test]
fn cosmos_gets_the_time_and_the_name_of_each_packet() {
    let cosmos =
        Cosmos { sync: 0x1234_5678, target: "SAT".to_owned(), packets: [(7, "HS".to_owned())].into() };
    let decode = Decode { format: Format::Packet, ..Decode::default() };
    let (mut converter, _) = converter(
        output(|output| (output.framing, output.decode) = (OutputFraming::Cosmos(cosmos), Some(decode))),
        0,
    );
    let (known, unknown) = (packet(7, b"x"), packet(8, b"y"));
    let mut replayed = frame("", &unknown);
    replayed.source_kind = SourceKind::ArchivedReplay;
    replayed.ert_ns = 2_000_000_001;
    let origin = Origin { stream: replayed.origin.stream.clone(), epoch: 1 };
    let stream = StreamKey { source_kind: SourceKind::ArchivedReplay, ..origin.stream };
    replayed.origin = Arc::new(Origin { stream, epoch: 1 });
    let out = converter
        .convert(&mut messages(0, &[frame("", &known), replayed, frame("", &packet(0x7FF, b"idle"))]), 3);
    let head = |flags: u8, seconds: u32, micros: u32, name: &str| {
        let mut head = vec![0x12, 0x34, 0x56, 0x78, flags];
        head.extend_from_slice(&seconds.to_be_bytes());
        head.extend_from_slice(&micros.to_be_bytes());
        head.extend_from_slice(b"\x03SAT");
        head.push(name.len() as u8);
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(&7_u32.to_be_bytes());
        head
    };
    let expected = [head(0, 1_500_000_000, 123, "HS"), known, head(0x80, 2, 0, "UNKNOWN"), unknown].concat();
    assert_eq!(out.bytes, expected);
}
