//! A peer that invents sources and channels: it takes the places of its own link and of nothing else.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::equipment::{connect, expect, listening, packet, receiving, report, sender, wait_for};
use crate::support::http::get_json;
use crate::support::{Client, Daemon, Hello, ROUTINE, wait_until};

const PACKETS: &str = "station = \"KIRUNA\"\nframing = { kind = \"packet\", max = 2000 }\n";
/// Nothing vouches for the spacecraft of such a frame.
const FRAMES: &str = "station = \"KIRUNA\"\nframing = { kind = \"fixed\", length = 16 }\n\
                      decode = { kind = \"uslp\" }\nsource = \"scid\"\n";
/// What the configuration allows for sources that it does not name.
const MAX_SOURCES: u64 = 64;

/// A USLP transfer frame of 732.1-B without a checksum, 16 bytes in all.
pub fn uslp_frame(spacecraft: u16, count: u8) -> Vec<u8> {
    let id = 12 << 28 | u32::from(spacecraft) << 12 | 1 << 5;
    let mut frame = id.to_be_bytes().to_vec();
    frame.extend_from_slice(&[0, 15, 1, count]);
    frame.resize(16, 0xE0);
    frame
}

/// Packets of seven bytes, each of another application process.
fn packets(apids: std::ops::Range<u16>) -> Vec<u8> {
    apids.flat_map(|apid| packet(apid, 0, b"x")).collect()
}

fn count(link: &serde_json::Value, name: &str) -> u64 {
    link["counts"][name].as_u64().unwrap_or_else(|| panic!("{name} in {link:#}"))
}

/// New sources connect, as many as `ids` says.
fn sources_get_in(daemon: &Daemon, ids: std::ops::Range<u32>) -> Vec<Client> {
    let connected = ids.map(|id| {
        let (mut client, _) = Client::open(daemon.address(), &Hello::new(id));
        client.deliver(ROUTINE, 0, b"in");
        client
    });
    connected.collect()
}

#[test]
fn one_datagram_takes_no_more_than_the_places_of_its_link() {
    let links = receiving("modem", &format!("{PACKETS}source = \"apid\"\n"));
    let other = listening("other", &format!("{PACKETS}source = \"apid\"\n").replace("KIRUNA", "INUVIK"));
    let mut daemon = Daemon::start(&format!("[ingest]\nmax_connections = 60\n{links}{other}"));
    sender(&daemon, "modem").send(&packets(0..256)).unwrap();
    let link = wait_for(&daemon, "modem", "256 packets", |link| count(link, "units") == 256);
    assert_eq!((count(&link, "kept"), count(&link, "refused")), (MAX_SOURCES, 256 - MAX_SOURCES));
    let trouble = link["trouble"].as_str().unwrap();
    assert!(trouble.starts_with("source 64: all 64 places") && trouble.contains("max_sources"), "{trouble}");
    daemon.wait_line("frames are refused: source 64: all 64 places");
    let clients = sources_get_in(&daemon, 5_000..5_060);
    connect(&daemon, "other").write_all(&packets(0..3)).unwrap();
    expect(&daemon, MAX_SOURCES as usize + clients.len() + 3);
    let began = Instant::now();
    wait_until("idle sources to give way", || {
        sender(&daemon, "modem").send(&packet(999, 0, b"late")).unwrap();
        let link = report(&daemon, "modem");
        if count(&link, "kept") > MAX_SOURCES { Ok(()) } else { Err(format!("{link:#}")) }
    });
    assert!(began.elapsed() < Duration::from_secs(20));
    daemon.stop().assert_balanced();
}

#[test]
fn thousands_of_spacecraft_leave_the_streams_of_others_alone_also_after_a_restart() {
    let links = [
        listening("frames", FRAMES),
        receiving("datagrams", &FRAMES.replace("KIRUNA", "INUVIK")),
        listening("packets", &format!("{PACKETS}source = \"apid\"\n").replace("KIRUNA", "KOUROU")),
    ];
    let limits = "[ingest]\nmax_connections = 60\nmax_streams = 120\nmax_streams_per_source = 2\n";
    let config = format!("{limits}{}", links.concat());
    let daemon = Daemon::start(&config);
    let frames = |ids: std::ops::Range<u16>| -> Vec<u8> {
        ids.flat_map(|id| [uslp_frame(id, 0), uslp_frame(id, 1)].concat()).collect()
    };
    for first in (0..12_000).step_by(750) {
        let mut modem = connect(&daemon, "frames");
        modem.write_all(&frames(first..first + 750)).unwrap();
        let sent = 2 * (u64::from(first) + 750);
        wait_for(&daemon, "frames", "all frames", |link| count(link, "units") == sent);
        drop(modem);
        let datagrams = sender(&daemon, "datagrams");
        for id in first..first + 750 {
            (0..2).for_each(|count| drop(datagrams.send(&uslp_frame(id, count))));
        }
    }
    connect(&daemon, "packets").write_all(&packets(0..2_047)).unwrap();
    wait_for(&daemon, "packets", "2,047 packets", |link| count(link, "units") == 2_047);
    let link = report(&daemon, "frames");
    assert!(count(&link, "kept") > 2 * MAX_SOURCES, "each connection has places: {link:#}");
    assert_eq!(sources_get_in(&daemon, 20_000..20_060).len(), 60);
    let known = || get_json(daemon.http(), "/api/v1/sources?limit=1000")["sources"].as_array().unwrap().len();
    assert!(known() <= 60 + 2 * 3 * MAX_SOURCES as usize, "{} streams", known());
    let mut daemon = daemon.kill_and_restart();
    assert_eq!(sources_get_in(&daemon, 20_060..20_120).len(), 60, "after a restart, there is room for more");
    let kept = get_json(daemon.http(), "/api/v1/sources?limit=1000")["sources"].as_array().unwrap().len();
    assert!(kept <= 120 + 3 * MAX_SOURCES as usize, "{kept} streams");
    daemon.stop().assert_balanced();
}

#[test]
fn noise_makes_no_source_and_two_frames_in_order_do() {
    let mut daemon = Daemon::start(&listening("modem", FRAMES));
    let mut modem = connect(&daemon, "modem");
    modem.write_all(&uslp_frame(1, 0)).unwrap();
    (2..40).for_each(|id| modem.write_all(&uslp_frame(id, 7)).unwrap());
    modem.write_all(&[uslp_frame(7_000, 255), uslp_frame(7_000, 0), uslp_frame(7_000, 1)].concat()).unwrap();
    let frames = expect(&daemon, 4);
    let sources: Vec<_> = frames.iter().map(|frame| (frame.source_id, frame.sequence)).collect();
    assert_eq!(sources, [(1, 0), (7_000, 0), (7_000, 1), (7_000, 2)]);
    drop(modem);
    let link = wait_for(&daemon, "modem", "the noise", |link| count(link, "bad_dropped") == 38);
    assert_eq!(count(&link, "kept"), 4);
    assert_eq!(link["channels"].as_array().unwrap().len(), 2, "channels of noise are not followed");
    daemon.stop();
}

#[test]
fn a_channel_beyond_the_limit_is_counted_and_named() {
    let mut daemon = Daemon::start(&listening("modem", &format!("{PACKETS}source = 9\n")));
    let mut modem = connect(&daemon, "modem");
    modem.write_all(&packets(0..300)).unwrap();
    let link = wait_for(&daemon, "modem", "300 packets", |link| count(link, "kept") == 300);
    assert_eq!(count(&link, "unfollowed"), 300 - 256);
    let line = daemon.wait_line("gaps in this channel are not noticed");
    assert!(line.contains("channel=256") && line.contains("256 channels are followed"), "{line}");
    wait_until("idle channels to give way", || {
        modem.write_all(&packet(1_000, 0, b"x")).unwrap();
        let link = report(&daemon, "modem");
        let is_followed =
            |channels: &Vec<serde_json::Value>| channels.iter().any(|one| one["channel"] == 1_000);
        if link["channels"].as_array().is_some_and(is_followed) {
            Ok(())
        } else {
            Err(format!("{}", link["counts"]))
        }
    });
    daemon.stop();
}
