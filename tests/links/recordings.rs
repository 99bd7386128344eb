//! Recordings of real spacecraft through links come out byte for byte the same.

use std::io::Write as _;
use std::net::TcpListener;

use crate::equipment::{
    Numbers, connect, expect, listening, packets, randomize, receiving, send_in_chunks, sender, wait_for,
};
use crate::support::Daemon;
use crate::support::recording::{Recording, snpp_cadus};

const SNPP: &str = r#"
    station = "SVALBARD"
    framing = { kind = "cadu", length = 1024, derandomize = true, strip = 128 }
    decode = { kind = "aos" }
    spacecraft = [157]
    source = "scid"
"#;

/// The frames of 892 bytes that a decoder of its own finds in the recording.
pub fn snpp() -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let (_, recording) = snpp_cadus()?;
    let frames = recording.chunks(1_024).map(|cadu| {
        assert_eq!(cadu[..4], [0x1A, 0xCF, 0xFC, 0x1D]);
        let mut block = cadu[4..].to_vec();
        randomize(&mut block);
        block.truncate(892);
        block
    });
    let frames = frames.collect();
    Some((recording, frames))
}

#[test]
fn cadus_of_suomi_npp_survive_random_chunks_and_noise() {
    let Some((recording, frames)) = snpp() else { return };
    let mut daemon = Daemon::start(&listening("snpp", SNPP));
    let mut numbers = Numbers::new(7);
    let mut stream = numbers.bytes(5_000);
    for (index, cadu) in recording.chunks(1_024).enumerate() {
        stream.extend_from_slice(cadu);
        // Noise between some of the units, also with a marker in it.
        if index % 16 == 15 {
            stream.extend(numbers.bytes(1_500));
            stream.extend_from_slice(&[0x1A, 0xCF, 0xFC, 0x1D]);
            stream.extend(numbers.bytes(300));
        }
    }
    let mut modem = connect(&daemon, "snpp");
    send_in_chunks(&mut modem, &stream, &mut numbers);
    drop(modem);
    let found = expect(&daemon, frames.len());
    for (found, sent) in found.iter().zip(&frames) {
        assert!(found.payload == *sent, "frame {} differs", found.sequence);
        assert_eq!(
            (found.source_id, found.station.as_str(), found.epoch, found.lane),
            (157, "SVALBARD", 1, 1)
        );
    }
    assert!(found.iter().map(|frame| frame.sequence).eq(0..65));
    let link = wait_for(&daemon, "snpp", "65 units", |link| link["counts"]["kept"] == 65);
    let channel = &link["channels"][0];
    assert_eq!((&channel["source"], &channel["channel"]), (&157.into(), &16.into()));
    assert_eq!((&channel["received"], &channel["missing"]), (&65.into(), &1.into()));
    let books = daemon.stop();
    assert_eq!((books.received, books.archived), (65, 65));
}

/// The frames have no checksum: the list of spacecraft and the next marker decide.
#[test]
fn cadus_of_suomi_npp_are_found_between_noise() {
    let Some((recording, frames)) = snpp() else { return };
    let mut daemon = Daemon::start(&listening("snpp", SNPP));
    let mut numbers = Numbers::new(11);
    let mut stream = Vec::new();
    for cadu in recording.chunks(1_024) {
        let silence = 1 + numbers.below(300);
        stream.extend(numbers.bytes(silence));
        stream.extend_from_slice(cadu);
    }
    let mut modem = connect(&daemon, "snpp");
    send_in_chunks(&mut modem, &stream, &mut numbers);
    drop(modem);
    let found = expect(&daemon, frames.len());
    assert!(found.iter().map(|frame| &frame.payload).eq(&frames));
    let link = wait_for(&daemon, "snpp", "65 units", |link| link["counts"]["kept"] == 65);
    assert_eq!(link["counts"]["skipped_bytes"], stream.len() - recording.len());
    daemon.stop();
}

#[test]
fn cadus_of_suomi_npp_arrive_as_datagrams() {
    let Some((recording, frames)) = snpp() else { return };
    let mut daemon = Daemon::start(&receiving("snpp", SNPP));
    let modem = sender(&daemon, "snpp");
    for cadu in recording.chunks(1_024) {
        modem.send(cadu).unwrap();
    }
    let found = expect(&daemon, frames.len());
    assert!(found.iter().map(|frame| &frame.payload).eq(&frames));
    daemon.stop();
}

const CLIPPER: &str = r#"
    station = "CANBERRA"
    framing = { kind = "packet", max = 2000 }
    source = 159
"#;

#[test]
fn packets_of_europa_clipper_arrive_over_tcp() {
    let recording = Recording::find("europa_clipper.ccsds", 1_030);
    let equipment = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = equipment.local_addr().unwrap();
    let mut daemon =
        Daemon::start(&format!("[[links]]\nname = \"clipper\"\nconnect = \"{address}\"\n{CLIPPER}"));
    let (mut socket, _) = equipment.accept().unwrap();
    send_in_chunks(&mut socket, &recording.bytes, &mut Numbers::new(3));
    let found = expect(&daemon, 1_030);
    assert!(found.iter().map(|frame| &frame.payload[..]).eq(packets(&recording.bytes)));
    assert!(found.iter().all(|frame| frame.source_id == 159 && frame.station == "CANBERRA"));
    drop(socket);
    daemon.stop();
}

#[test]
fn packets_of_europa_clipper_arrive_over_udp() {
    let recording = Recording::find("europa_clipper.ccsds", 1_030);
    let mut daemon = Daemon::start(&receiving("clipper", CLIPPER));
    let equipment = sender(&daemon, "clipper");
    let sent = packets(&recording.bytes);
    for (index, packet) in sent.iter().enumerate() {
        equipment.send(packet).unwrap();
        if index % 64 == 63 {
            // The kernel's buffer holds these. Datagrams have no flow control, so the test waits for them.
            expect(&daemon, index + 1);
        }
    }
    let found = expect(&daemon, 1_030);
    assert!(found.iter().map(|frame| &frame.payload[..]).eq(sent));
    daemon.stop();
}

/// The peer sends half of the recording and the daemon is killed. What was synced stays, and the sequence goes on.
#[test]
fn a_link_continues_where_the_archive_stands_after_a_kill() {
    let recording = Recording::find("europa_clipper.ccsds", 1_030);
    let all = packets(&recording.bytes);
    let daemon = Daemon::start(&listening("clipper", CLIPPER));
    let mut equipment = connect(&daemon, "clipper");
    equipment.write_all(&all[..500].concat()).unwrap();
    let before = expect(&daemon, 500);
    equipment.write_all(&all[500..600].concat()).unwrap();
    let mut daemon = daemon.kill_and_restart();
    let mut equipment = connect(&daemon, "clipper");
    equipment.write_all(&all[600..].concat()).unwrap();
    drop(equipment);
    wait_for(&daemon, "clipper", "the rest", |link| link["counts"]["kept"] == 430);
    daemon.stop();
    let found = daemon.archived();
    assert_eq!(found[..500], before, "what was durable before the kill");
    assert!(found.iter().map(|frame| frame.sequence).eq(0..found.len() as u64), "the sequence goes on");
    let kept = found.len() - 430;
    assert!((500..=600).contains(&kept));
    assert!(found[..kept].iter().map(|frame| &frame.payload[..]).eq(all[..kept].iter().copied()));
    assert!(found[kept..].iter().map(|frame| &frame.payload[..]).eq(all[600..].iter().copied()));
    assert_eq!(found[kept].flags, 1, "the first frame of a connection has the mark of a discontinuity");
}
