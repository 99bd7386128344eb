//! A peer that invents sources and channels: it takes the places of its own link and of nothing else.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::equipment::{connect, expect, listening, packet, receiving, report, sender, wait_for};
use crate::support::command::{aggregator, expect_exit, say_aloud};
use crate::support::http::{get, get_json, open};
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
        let is_in = count(&link, "kept") > MAX_SOURCES && link["trouble"].is_null();
        if is_in { Ok(()) } else { Err(format!("{link:#}")) }
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
        let page = get_json(daemon.http(), "/api/v1/links/modem/channels?limit=1000");
        let mut channels = page["channels"].as_array().unwrap().iter();
        if channels.any(|one| one["channel"] == 1_000) { Ok(()) } else { Err(format!("{page:#}")) }
    });
    daemon.stop();
}

/// Datagrams with the smallest packets fill the streams and the channels of as many links as there may be, while readers
/// of the API do not read.
#[test]
fn links_at_their_limits_stay_below_the_memory_that_check_prints() {
    const LINKS: usize = 256;
    const STALLED: usize = 41;
    let limits = "[ingest]\nmax_connections = 1\nmax_connections_per_address = 1\nmax_message = \"64 KiB\"\n\
                  routine_window = \"64 KiB\"\nemergency_window = \"64 KiB\"\nmax_streams = 16\n\
                  memory_limit = \"2 GiB\"\n[pipeline]\nbroadcast_capacity = 1\n[feed]\nmax_subscribers = 1\n\
                  [archive]\nsegment_size = \"64 MiB\"\nreserve = \"16 MiB\"\n[http]\nlisten = \"127.0.0.1:0\"\n";
    let link = |index: usize| {
        let station = format!("{PACKETS}source = \"apid\"\n").replace("KIRUNA", &format!("STATION-{index}"));
        receiving(&format!("modem-{index}"), &station)
    };
    let config = format!("{limits}{}", (0..LINKS).map(link).collect::<String>());
    let mut daemon = Daemon::start(&config);
    let (text, _) = expect_exit(aggregator(["check", "--config"]).arg(daemon.config_path()), 0);
    let line = text.lines().find(|line| line.contains(" in all, ingest.memory_limit is ")).unwrap();
    let mib: f64 = line.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    let exact = format!("memory_limit = \"{} MiB\"", mib.ceil());
    daemon.stop();
    let mut daemon = daemon.restart_with(&config.replace("memory_limit = \"2 GiB\"", &exact));

    let stalled: Vec<_> = (0..STALLED)
        .map(|_| open(daemon.http(), "GET", "/api/v1/links", &[("Host", "localhost")], b""))
        .collect();
    let senders: Vec<_> = (0..LINKS).map(|index| sender(&daemon, &format!("modem-{index}"))).collect();
    let datagram = packets(0..2_047).repeat(4);
    for sender in &senders {
        sender.send(&datagram).unwrap();
    }
    let units = || metric(&daemon, "telemetry_aggregator_link_units_total{");
    wait_until("all packets of all links", || {
        let sent = (LINKS * 4 * 2_047) as u64;
        if units() == sent { Ok(()) } else { Err(format!("{} of {sent} units", units())) }
    });
    let peak = daemon.peak_kib() as f64 / 1024.0;
    say_aloud(&format!("peak {peak:.1} MiB of {mib:.1} MiB with {LINKS} links"));
    assert!(peak < mib, "{peak:.1} MiB are resident at the peak, {line}");
    drop(stalled);
    daemon.stop().assert_balanced();
}

/// The sum of the samples whose lines begin with `prefix`.
fn metric(daemon: &Daemon, prefix: &str) -> u64 {
    let text = get(daemon.http(), "/metrics").text();
    let samples = text.lines().filter(|line| line.starts_with(prefix));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
