//! Each framing and decoder over a real socket, with bytes written from the standards.

use std::io::Write as _;

use crate::equipment::{
    Numbers, cadu, connect, expect, listening, nctrs_unit, packet, receiving, sender, tm_frame, wait_for,
};
use crate::support::{Archived, Daemon};

/// Sends `bytes` over a link with these lines. Returns the frames, of which there must be `count`.
fn through(lines: &str, bytes: &[u8], count: usize) -> Vec<Archived> {
    let mut daemon = Daemon::start(&listening("modem", &format!("station = \"KIRUNA\"\n{lines}")));
    connect(&daemon, "modem").write_all(bytes).unwrap();
    let frames = expect(&daemon, count);
    wait_for(&daemon, "modem", "all frames", |link| link["counts"]["kept"] == count);
    daemon.stop();
    frames
}

fn payloads(frames: &[Archived]) -> Vec<&[u8]> {
    frames.iter().map(|frame| &frame.payload[..]).collect()
}

#[test]
fn fixed_units() {
    let lines = "framing = { kind = \"fixed\", length = 10 }\nsource = 9";
    let frames = through(lines, &[[1; 10], [2; 10], [3; 10]].concat(), 3);
    assert_eq!(payloads(&frames), [[1; 10], [2; 10], [3; 10]]);
}

#[test]
fn units_behind_a_length_field() {
    let lines = "framing = { kind = \"length\", length_field_length = 2, num_skip = 2, max_frame_length = 4000 }\nsource = 9";
    let frames = through(lines, b"\x00\x05hello\x00\x02to\x00\x03you", 3);
    assert_eq!(payloads(&frames), [&b"hello"[..], b"to", b"you"]);
}

#[test]
fn kiss_frames_with_escapes_and_times() {
    let lines = "framing = { kind = \"kiss\", max = 4000 }\nsource = 9";
    let time_ms: u64 = 1_700_000_000_123;
    let mut bytes = vec![0xC0, 0x09];
    for byte in time_ms.to_be_bytes() {
        match byte {
            0xC0 => bytes.extend([0xDB, 0xDC]),
            0xDB => bytes.extend([0xDB, 0xDD]),
            other => bytes.push(other),
        }
    }
    bytes.extend([0xC0, 0xC0, 0x00, b'a', 0xDB, 0xDC, 0xDB, 0xDD, b'z', 0xC0, 0xC0, 0x00, b'n', 0xC0]);
    let frames = through(lines, &bytes, 2);
    assert_eq!(payloads(&frames), [&[b'a', 0xC0, 0xDB, b'z'][..], b"n"]);
    assert_eq!(frames[0].ert_ns, time_ms as i64 * 1_000_000);
    assert_eq!(frames[1].ert_ns, 0, "a time belongs to the frame behind it");
}

#[test]
fn units_of_nctrs_carry_their_time_and_quality() {
    let equipment = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = equipment.local_addr().unwrap();
    let lines = "station = \"KIRUNA\"\nframing = { kind = \"nctrs\", max = 4000 }\ndecode = { kind = \"tm\", fecf = \"crc16\" }\n\
                 spacecraft = [123]\nsource = \"scid\"";
    let mut daemon = Daemon::start(&format!("[[links]]\nname = \"nctrs\"\nconnect = \"{address}\"\n{lines}"));
    let (mut socket, _) = equipment.accept().unwrap();
    let sent: Vec<_> = (0..3).map(|count| tm_frame(123, 2, count, 100, 0x42)).collect();
    let units: Vec<_> =
        sent.iter().zip([0, 0, 1]).map(|(frame, quality)| nctrs_unit(quality, frame)).collect();
    socket.write_all(&units.concat()).unwrap();
    let frames = expect(&daemon, 3);
    assert_eq!(payloads(&frames), sent);
    assert_eq!(
        frames.iter().map(|frame| frame.flags & 2).collect::<Vec<_>>(),
        [0, 0, 2],
        "the mark of bad ones"
    );
    assert_eq!(frames[0].ert_ns, (86_400 + 1) * 1_000_000_000 + 500_000);
    assert_eq!(frames[0].source_id, 123);
    daemon.stop();
}

#[test]
fn datagrams_are_units() {
    let lines = "station = \"KIRUNA\"\nframing = { kind = \"datagram\", max = 100 }\nsource = 9";
    let mut daemon = Daemon::start(&receiving("radio", lines));
    let radio = sender(&daemon, "radio");
    for datagram in [&b"one"[..], &[7; 101], b"two"] {
        radio.send(datagram).unwrap();
    }
    assert_eq!(payloads(&expect(&daemon, 2)), [b"one", b"two"]);
    let link = wait_for(&daemon, "radio", "the long one", |link| link["counts"]["oversize"] == 1);
    assert_eq!(link["counts"]["skipped_bytes"], 101);
    daemon.stop();
}

#[test]
fn cadus_that_stand_alone_between_noise() {
    let lines = r#"
        framing = { kind = "cadu", length = 264, derandomize = true, strip = 60 }
        decode = { kind = "tm", fecf = "crc16" }
        source = "scid"
    "#;
    let mut numbers = Numbers::new(152);
    let sent: Vec<_> = (0..152).map(|count| tm_frame(123, 5, count, 200, count)).collect();
    let units = sent.iter().flat_map(|frame| {
        let silence = numbers.below(301);
        [numbers.bytes(silence), cadu(frame, 60)].concat()
    });
    let bytes: Vec<u8> = units.collect();
    assert_eq!(payloads(&through(lines, &bytes, 152)), sent);
}

#[test]
fn tm_frames_in_cadus_with_a_gap_and_a_bad_one() {
    let lines = r#"
        framing = { kind = "cadu", length = 264, derandomize = true, strip = 60 }
        decode = { kind = "tm", fecf = "crc16" }
        spacecraft = [123]
        source = "scid-vcid"
        bad_source = 99999
    "#;
    let mut bytes = Vec::new();
    for count in [254, 255, 0, 2, 3] {
        let mut frame = tm_frame(123, 5, count, 200, count);
        if count == 2 {
            frame[100] ^= 0x10;
        }
        bytes.extend(cadu(&frame, 60));
    }
    let mut daemon = Daemon::start(&listening("modem", &format!("station = \"KIRUNA\"\n{lines}")));
    connect(&daemon, "modem").write_all(&bytes).unwrap();
    let frames = expect(&daemon, 5);
    let good = 123 << 8 | 5;
    let sources: Vec<_> = frames.iter().map(|frame| (frame.source_id, frame.flags)).collect();
    // Two frames are missing before the last: one was lost, and a bad one does not count.
    assert_eq!(sources.iter().filter(|(source, _)| *source == good).count(), 4);
    assert!(sources.contains(&(99_999, 2 | 1)), "{sources:?}");
    let link = wait_for(&daemon, "modem", "all frames", |link| link["counts"]["kept"] == 5);
    let channel = &link["channels"][0];
    assert_eq!(
        (&channel["received"], &channel["missing"], &channel["expected"]),
        (&4.into(), &2.into(), &6.into())
    );
    daemon.stop();
}

#[test]
fn idle_packets_are_dropped_where_that_is_wanted() {
    let lines = "station = \"KIRUNA\"\nframing = { kind = \"packet\", max = 2000 }\nsource = \"apid\"\nidle = \"drop\"";
    let mut daemon = Daemon::start(&listening("modem", lines));
    let bytes = [packet(7, 0, b"one"), packet(0x7FF, 0, b"idle"), packet(8, 0, b"two")].concat();
    connect(&daemon, "modem").write_all(&bytes).unwrap();
    let sources: Vec<_> = expect(&daemon, 2).iter().map(|frame| frame.source_id).collect();
    assert_eq!(sources, [7, 8]);
    let link = wait_for(&daemon, "modem", "all units", |link| link["counts"]["units"] == 3);
    assert_eq!((&link["counts"]["idle"], &link["counts"]["idle_dropped"]), (&1.into(), &1.into()));
    daemon.stop();
}
