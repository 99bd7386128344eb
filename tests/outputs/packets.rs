//! Packets that were taken out of frames, across the borders of the frames.

use std::ops::Range;

use crate::software::{connect, deliver, feed_link, listening, packet, read_packet};
use crate::support::crc16::crc16;
use crate::support::{Daemon, Hello};

/// Bytes of packets in a frame.
const ZONE: usize = 100;

/// TM frames of one virtual channel that carry `packets` one behind the other, and the frames of each packet. The last
/// frame is filled with an idle packet.
fn frames(channel: u8, packets: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<Range<usize>>) {
    let mut stream = packets.concat();
    let filled = (stream.len() + 7).next_multiple_of(ZONE);
    stream.extend(packet(0x7FF, 0, &vec![0; filled - stream.len() - 6]));
    let mut begins = vec![0];
    packets.iter().for_each(|packet| begins.push(begins.last().unwrap() + packet.len()));
    let frame = |(number, zone): (usize, &[u8])| {
        let first = begins.iter().find(|begin| **begin >= number * ZONE).map(|begin| begin - number * ZONE);
        let pointer = first.filter(|first| *first < ZONE).unwrap_or(0x7FF) as u16;
        let mut frame = (42_u16 << 4 | u16::from(channel) << 1).to_be_bytes().to_vec();
        frame.extend_from_slice(&[number as u8, number as u8]);
        frame.extend_from_slice(&(0x1800 | pointer).to_be_bytes());
        frame.extend_from_slice(zone);
        let crc = crc16(&frame);
        frame.extend_from_slice(&crc.to_be_bytes());
        frame
    };
    let ranges = begins.windows(2).map(|ends| ends[0] / ZONE..(ends[1] - 1) / ZONE + 1).collect();
    (stream.chunks(ZONE).enumerate().map(frame).collect(), ranges)
}

/// Packets of many lengths, some longer than several frames.
fn some_packets(apid: u16, count: u16) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| packet(apid, number, &vec![number as u8; 1 + usize::from(number) * 53 % 420]))
        .collect()
}

#[test]
fn packets_come_out_of_frames_and_a_gap_costs_only_what_it_cuts() {
    let link = "[[links]]\nname = \"modem\"\nlisten = \"127.0.0.1:0\"\nstation = \"KIRUNA\"\n\
                framing = { kind = \"fixed\", length = 108 }\ndecode = { kind = \"tm\", fecf = \"crc16\" }\n\
                spacecraft = [42]\nsource = \"scid\"\n";
    let output = "start = \"earliest\"\nextract = \"packets\"\nselect = { sources = [42] }";
    let daemon = Daemon::start(&(link.to_owned() + &listening("yamcs", output)));
    let (one, two) = (some_packets(1, 60), some_packets(2, 60));
    let ((frames_one, ranges), (frames_two, _)) = (frames(1, &one), frames(2, &two));
    let missing = [7, 20, 21, frames_one.len() / 2];
    let damaged = frames_one.len() / 2 + 9;
    // Two channels by turns. Of the first, frames are missing and one is damaged.
    let mut bytes = Vec::new();
    for number in 0..frames_one.len().max(frames_two.len()) {
        if let Some(frame) = frames_one.get(number).filter(|_| !missing.contains(&number)) {
            let mut frame = frame.clone();
            frame[50] ^= u8::from(number == damaged);
            bytes.extend(frame);
        }
        bytes.extend(frames_two.get(number).into_iter().flatten());
    }
    feed_link(&daemon, &bytes);

    let is_whole = |range: &Range<usize>| !missing.iter().chain([&damaged]).any(|lost| range.contains(lost));
    let whole: Vec<_> =
        one.iter().zip(&ranges).filter(|(_, range)| is_whole(range)).map(|(packet, _)| packet).collect();
    assert!(whole.len() < one.len() - 4 && whole.len() > one.len() / 2, "{} of {}", whole.len(), one.len());
    let mut reader = connect(&daemon, "yamcs");
    let (mut found_one, mut found_two) = (Vec::new(), Vec::new());
    for _ in 0..whole.len() + two.len() {
        let packet = read_packet(&mut reader);
        if packet[1] == 1 { found_one.push(packet) } else { found_two.push(packet) }
    }
    assert!(found_one.iter().eq(whole), "what a gap has cut is left out, and nothing else");
    assert!(found_two == two, "the other channel is whole");
}

#[test]
fn sources_of_our_protocol_are_what_the_output_says() {
    let output = "start = \"earliest\"\nextract = \"packets\"\ndecode = { kind = \"tm\", fecf = \"crc16\" }";
    let daemon =
        Daemon::start(&listening("yamcs", &format!("{output}\nselect = {{ idle = true, sources = [9] }}")));
    let expected = some_packets(3, 20);
    let (frames, _) = frames(0, &expected);
    deliver(&daemon, &Hello::new(9), frames);
    let mut reader = connect(&daemon, "yamcs");
    for packet in &expected {
        assert_eq!(read_packet(&mut reader), *packet);
    }
    assert_eq!(read_packet(&mut reader)[..2], [0x0F, 0xFF], "the idle packet was asked for");
}
