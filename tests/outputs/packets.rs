//! Packets that were taken out of frames, across the borders of the frames.

use std::ops::Range;

use crate::software::{connect, deliver, feed_link, frames, listening, packet, read_packet};
use crate::support::{Daemon, Hello};

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
