//! Packets in frames and out of them.

use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::{Fecf, FrameFields, FrameWriter, PacketHeader, Pointer, ScidBits};

/// All formats of frames, each with another checksum and other fields around the data.
fn decodes() -> [Decode; 4] {
    let decode = |format, fecf, insert_zone, trailer| Decode { format, fecf, insert_zone, trailer };
    [
        decode(Format::Tm, Fecf::Crc16, 0, 0),
        decode(Format::Aos(ScidBits::Eight), Fecf::None, 2, 4),
        decode(Format::Aos(ScidBits::Ten), Fecf::Crc16, 0, 0),
        decode(Format::Uslp, Fecf::Crc32, 5, 4),
    ]
}

fn packet(apid: u16, count: usize, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let header = PacketHeader { apid, count: count as u16, ..PacketHeader::default() };
    header.encode(&vec![count as u8; length], &mut out);
    out
}

/// A channel whose frames have room for `room` bytes of packets.
struct Channel {
    writer: FrameWriter,
    decode: Decode,
    frames: Vec<Vec<u8>>,
}

impl Channel {
    fn new(decode: Decode, room: usize) -> Self {
        let writer = FrameWriter::new(decode, 0xA5, 5, decode.overhead() + room, 250);
        Self { writer, decode, frames: Vec::new() }
    }

    /// Writes a packet and returns the frames that carry it.
    fn packet(&mut self, packet: &[u8]) -> Range<usize> {
        let first = self.frames.len();
        self.writer.packet(packet, |frame| self.frames.push(frame.to_vec()));
        // The frame that ends the packet may not be full.
        let is_full = self.writer.is_empty();
        first..self.frames.len() + usize::from(!is_full)
    }

    fn idle(&mut self) {
        self.writer.flush(|frame| self.frames.push(frame.to_vec()));
        self.writer.idle(|frame| self.frames.push(frame.to_vec()));
    }

    /// What comes out of the frames whose number passes `is_received`. Idle packets are left out.
    fn extract(&self, is_received: impl Fn(usize) -> bool) -> (Vec<Vec<u8>>, ExtractCounts) {
        let mut extractor = Extractor::new(self.decode);
        let mut packets = Vec::new();
        for (_, frame) in self.frames.iter().enumerate().filter(|(number, _)| is_received(*number)) {
            let header = self.decode.header(frame).unwrap();
            assert_eq!((header.spacecraft, header.channel), (Some(0xA5), 5));
            extractor.take(frame, &header, |packet| {
                if packet::apid(packet.first_chunk().unwrap()) != packet::IDLE_APID {
                    packets.push(packet.to_vec());
                }
            });
        }
        (packets, extractor.counts())
    }
}

proptest! {
    #[test]
    fn packets_come_out_of_the_frames_as_they_went_in(
        lengths in prop::collection::vec((1..90_usize, prop::bool::weighted(0.1)), 1..60), room in 7..70_usize,
    ) {
        for decode in decodes() {
            let mut channel = Channel::new(decode, room);
            let mut expected = Vec::new();
            for (number, (length, is_idle_behind)) in lengths.iter().enumerate() {
                expected.push(packet(1, number, *length));
                channel.packet(&expected[number]);
                if *is_idle_behind {
                    channel.idle();
                }
            }
            channel.idle();
            let (found, counts) = channel.extract(|_| true);
            prop_assert_eq!(found, expected, "{}", decode);
            prop_assert_eq!((counts.cut, counts.frames_skipped, counts.encapsulated), (0, 0, 0));
        }
    }

    /// A packet comes out exactly if all frames that carry it were received.
    #[test]
    fn a_gap_costs_the_packets_that_it_has_cut(
        lengths in prop::collection::vec(1..90_usize, 1..80), room in 7..70_usize,
        received in prop::collection::vec(prop::bool::weighted(0.8), 1..200),
    ) {
        for decode in decodes() {
            let mut channel = Channel::new(decode, room);
            let packets: Vec<_> = lengths.iter().enumerate().map(|(number, length)| {
                let packet = packet(1, number, *length);
                (channel.packet(&packet), packet)
            }).collect();
            channel.idle();
            let is_received = |number: usize| received[number % received.len()];
            let (found, counts) = channel.extract(is_received);
            let (whole, cut): (Vec<_>, Vec<_>) =
                packets.into_iter().partition(|(frames, _)| frames.clone().all(is_received));
            let whole: Vec<_> = whole.into_iter().map(|(_, packet)| packet).collect();
            prop_assert_eq!(found, whole, "{}", decode);
            prop_assert!(counts.cut <= cut.len() as u64 + 1, "{:?}, {} cut", counts, cut.len());
        }
    }

    #[test]
    fn garbage_is_survived_in_bounded_memory(
        frames in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..100), prop::collection::vec(any::<u8>(), 6..20)), 1..200
        ),
    ) {
        for decode in decodes() {
            let mut extractor = Extractor::new(Decode { fecf: Fecf::None, ..decode });
            let mut valid = Vec::new();
            decode.encode(&FrameFields { spacecraft: 1, channel: 1, count: 0, pointer: Pointer::At(0) }, &[], &mut valid);
            for (number, (body, start)) in frames.iter().enumerate() {
                // Some frames begin like frames, with another pointer.
                let mut frame = if number % 3 == 0 { start.clone() } else { valid.clone() };
                let end = frame.len() - 1;
                frame[end - number % 2] ^= start[0];
                frame.extend(body);
                let header = Header { count: Some(Count { value: number as u64, modulo: 1 << 24 }), ..Header::default() };
                extractor.take(&frame, &header, |packet| assert!(packet.len() <= PACKET_BYTES_MAX));
            }
            for map in &extractor.maps {
                prop_assert!(map.partial.len() <= PACKET_BYTES_MAX);
            }
            prop_assert!(extractor.maps.len() <= MAPS);
        }
    }
}

/// What comes out of `frames`, which have no counts unless they tell them.
fn extract(decode: Decode, frames: &[&[u8]]) -> (Vec<Vec<u8>>, ExtractCounts) {
    let mut extractor = Extractor::new(decode);
    let mut packets = Vec::new();
    for frame in frames {
        let header = decode.header(frame).unwrap();
        extractor.take(frame, &header, |packet| packets.push(packet.to_vec()));
    }
    (packets, extractor.counts())
}

fn tm() -> Decode {
    Decode { format: Format::Tm, ..Decode::default() }
}

/// A TM frame with this count.
fn tm_frame(count: u64, pointer: Pointer, data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    tm().encode(&FrameFields { spacecraft: 1, channel: 1, count, pointer }, data, &mut frame);
    frame
}

#[test]
fn frames_made_by_spacepackets_are_read() {
    // Made with the Python package spacepackets: an insert zone, a CRC of 16 bits, and in the first two frames a
    // control field. The packets cross the border of the first two; the third has whole packets and the bypass flag.
    let decode = Decode { format: Format::Uslp, fecf: Fecf::Crc16, insert_zone: 2, trailer: 0 };
    let first = hex("cabcd2a600280b010203495a0000000064c0070004666972737407ffc008000369646c0102030466fe");
    let second = hex("cabcd2a600270b010204495a000001650065ffff000b7468697264207061636b6574010203042096");
    let third = hex("cabcd2a600298105495ae00064c007000466697273740065ffff000b7468697264207061636b6574ea39");
    let packets =
        ["0064c00700046669727374", "07ffc008000369646c65", "0065ffff000b7468697264207061636b6574"].map(hex);
    let (found, counts) = extract(decode, &[&first, &second]);
    assert_eq!((found, counts.cut), (packets.to_vec(), 0));
    let header = decode.header(&first).unwrap();
    assert_eq!((header.spacecraft, header.channel, header.is_bypass), (Some(0xABCD), 21, false));
    assert_eq!(header.count, Some(Count { value: 0x01_0203, modulo: 1 << 24 }));
    let header = decode.header(&third).unwrap();
    assert_eq!((header.is_bypass, header.count), (true, Some(Count { value: 5, modulo: 256 })));
    assert_eq!(extract(decode, &[&third]).0, [&packets[0][..], &packets[2]]);
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn the_packets_of_uslp_maps_are_kept_apart() {
    let decode = Decode { format: Format::Uslp, ..Decode::default() };
    let packet = packet(9, 1, 30);
    let mut frames = Vec::new();
    for (count, (map, from, to)) in [(2, 0, 20), (9, 0, 10), (2, 20, 36), (9, 10, 36)].into_iter().enumerate()
    {
        let pointer = if from == 0 { Pointer::At(0) } else { Pointer::NoPacket };
        let mut frame = Vec::new();
        let fields = FrameFields { spacecraft: 1, channel: 1, count: count as u64, pointer };
        decode.encode(&fields, &packet[from..to], &mut frame);
        frame[3] |= map << 1;
        frames.push(frame);
    }
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    assert_eq!(extract(decode, &frames).0, [packet.clone(), packet]);
    // Without the second frame, both maps wait for the next packet that begins.
    let (found, counts) = extract(decode, &[frames[0], frames[2], frames[3]]);
    assert_eq!((found.len(), counts.cut), (0, 1));
}

#[test]
fn frames_without_packets_are_counted() {
    let uslp = Decode { format: Format::Uslp, ..Decode::default() };
    let mut frame = Vec::new();
    let fields = FrameFields { spacecraft: 1, channel: 1, count: 0, pointer: Pointer::At(0) };
    uslp.encode(&fields, &packet(1, 1, 5), &mut frame);
    assert_eq!(extract(uslp, &[&frame]).1.packets, 1);
    // Rule 3, an octet stream, and protocol 5, data of the mission.
    for content in [3 << 5, 5] {
        let mut other = frame.clone();
        other[11] = content;
        assert_eq!(
            extract(uslp, &[&other]).1,
            ExtractCounts { frames_skipped: 1, ..ExtractCounts::default() }
        );
    }
    // A TM frame with data that are no packets: the synchronisation flag is set.
    let mut unsynchronised = tm_frame(0, Pointer::At(0), &packet(1, 1, 5));
    unsynchronised[4] |= 0x40;
    // The pointer is behind the end.
    let beyond = tm_frame(0, Pointer::At(12), &packet(1, 1, 5));
    for frame in [unsynchronised, beyond] {
        assert_eq!(
            extract(tm(), &[&frame]).1,
            ExtractCounts { frames_skipped: 1, ..ExtractCounts::default() }
        );
    }
    let none = Decode::default();
    assert_eq!(extract(none, &[&b"anything"[..]]).1.frames_skipped, 1);
    let packets = Decode { format: Format::Packet, ..none };
    assert_eq!(extract(packets, &[&packet(1, 1, 5)]).0, [packet(1, 1, 5)]);
}

#[test]
fn a_tm_frame_may_have_a_secondary_header_and_a_control_field() {
    let mut frame = tm_frame(0, Pointer::At(0), &[]);
    frame[1] |= 1;
    frame[4] |= 0x80;
    // The secondary header says that it has four bytes.
    frame.extend([3, 0, 0, 0]);
    frame.extend(packet(1, 1, 5));
    frame.extend(*b"CLCW");
    assert_eq!(extract(tm(), &[&frame]).0, [packet(1, 1, 5)]);
    // A configuration that knows the control field as the trailer means the same bytes.
    assert_eq!(extract(Decode { trailer: 4, ..tm() }, &[&frame]).0, [packet(1, 1, 5)]);
}

#[test]
fn a_damaged_header_costs_the_rest_of_its_frame() {
    let (one, two) = (packet(1, 1, 10), packet(2, 2, 10));
    let damaged = [&one[..], &[0x40; 10], &two].concat();
    let next = tm_frame(1, Pointer::At(3), &[&[0; 3][..], &two].concat());
    let (found, counts) = extract(tm(), &[&tm_frame(0, Pointer::At(0), &damaged), &next]);
    assert_eq!((found, counts.cut), (vec![one.clone(), two.clone()], 1));
    // A packet that should end where the next begins, and does not.
    let begun = tm_frame(0, Pointer::At(0), &one[..8]);
    let (found, counts) = extract(tm(), &[&begun, &next]);
    assert_eq!((found, counts.cut), (vec![two], 1));
}

#[test]
fn encapsulation_packets_are_left_out() {
    let one = packet(1, 1, 10);
    let fill = [0xE0, 0xE1, 3, 0xAA, 0xE2, 0, 0, 5, 0xBB, 0xE3, 0, 0, 0, 0, 0, 0, 9, 0xCC];
    let (front, back) = fill.split_at(7);
    let first = tm_frame(0, Pointer::At(0), &[&one[..], front].concat());
    let second = tm_frame(1, Pointer::At(2), &[back, &one].concat());
    let (found, counts) = extract(tm(), &[&first, &second]);
    assert_eq!(found, [one.clone(), one]);
    assert_eq!((counts.encapsulated, counts.cut), (4, 0));
    // A length below that of the header would never end.
    let endless = tm_frame(0, Pointer::At(0), &[0xE1, 1, 0xE1, 1]);
    assert_eq!(extract(tm(), &[&endless]).1, ExtractCounts { cut: 1, ..ExtractCounts::default() });
}

/// The packets that `extractor` takes out of `frames` of `channel`, each with the number of the frame that ends it.
fn take(extractor: &mut Extractor, channel: &Channel, frames: Range<usize>) -> Vec<(usize, Vec<u8>)> {
    let mut packets = Vec::new();
    for number in frames {
        let frame = &channel.frames[number];
        extractor.set_label(number as u64);
        extractor.take(frame, &channel.decode.header(frame).unwrap(), |packet| {
            packets.push((number, packet.to_vec()));
        });
    }
    packets
}

#[test]
fn a_new_extractor_completes_the_packets_that_are_incomplete() {
    for decode in decodes() {
        let mut channel = Channel::new(decode, 20);
        for number in 0..20 {
            channel.packet(&packet(1, number, 1 + number * 17 % 60));
        }
        channel.idle();
        let end = channel.frames.len();
        for cut in 0..=end {
            let mut extractor = Extractor::new(decode);
            take(&mut extractor, &channel, 0..cut);
            let since = extractor.incomplete_since().map_or(cut, |label| label as usize);
            assert!(since <= cut && (since < cut) == (extractor.incomplete_bytes() > 0), "{since} of {cut}");
            let mut resumed = take(&mut Extractor::new(decode), &channel, since..end);
            resumed.retain(|(number, _)| *number >= cut);
            assert_eq!(
                resumed,
                take(&mut extractor, &channel, cut..end),
                "{decode}, cut behind {cut} frames"
            );
        }
    }
}

#[test]
fn a_packet_that_is_cut_is_given_up() {
    let decode = decodes()[0];
    let mut channel = Channel::new(decode, 20);
    channel.packet(&packet(1, 0, 90));
    let mut extractor = Extractor::new(decode);
    take(&mut extractor, &channel, 0..1);
    assert_eq!(extractor.incomplete_since(), Some(0));
    extractor.cut();
    assert_eq!(
        (extractor.incomplete_since(), extractor.incomplete_bytes(), extractor.counts().cut),
        (None, 0, 1)
    );
    assert_eq!(take(&mut extractor, &channel, 1..channel.frames.len()), []);
}
