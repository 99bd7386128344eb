//! Emergencies of links.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::equipment::{cadu, connect, expect, listening, packet, report_at, tm_frame};
use crate::support::http::get_json;
use crate::support::{
    Archived, Client, Daemon, EMERGENCY, HeldDaemon, Hello, LIMIT, ROUTINE, Subscribe, Subscriber, wait_until,
};

/// Sources of the daemon's own protocol that send routine as fast as they can.
const SOURCES: u32 = 8;
/// Links whose equipment sends routine as fast as it can. Their sources follow.
const LINKS: u32 = 2;
/// Bytes of the content of a frame or packet of these.
const ROUTINE_BYTES: usize = 1_000;
/// The spacecraft of the emergency, and its routine frames before the emergency.
const SPACECRAFT: u16 = 123;
const FRAMES_BEFORE: u8 = 200;

#[test]
fn a_virtual_channel_a_byte_and_an_application_make_emergencies() {
    let tm = r#"
        station = "KIRUNA"
        framing = { kind = "cadu", length = 104, derandomize = true }
        decode = { kind = "tm", fecf = "crc16" }
        spacecraft = [123]
        source = "scid"
        emergency = [ { vcid = [3] }, { offset = 6, mask = 0x80, value = 0x80 } ]
    "#;
    let packets = "station = \"KIRUNA\"\nframing = { kind = \"packet\", max = 2000 }\nsource = 9\nemergency = [ { apid = [77] } ]";
    let mut daemon = Daemon::start(&(listening("tm", tm) + &listening("packets", packets)));
    let frames = [(0, 0x00), (3, 0x00), (0, 0x80), (1, 0x7F)];
    let bytes: Vec<_> = frames
        .iter()
        .flat_map(|(channel, content)| cadu(&tm_frame(123, *channel, 0, 100, *content), 0))
        .collect();
    connect(&daemon, "tm").write_all(&bytes).unwrap();
    let found = expect(&daemon, 4);
    let lane_of = |content: u8, channel: u8| {
        let sent = tm_frame(123, channel, 0, 100, content);
        found.iter().find(|frame| frame.payload == sent).expect("the frame").lane
    };
    assert_eq!(
        [lane_of(0x00, 0), lane_of(0x00, 3), lane_of(0x80, 0), lane_of(0x7F, 1)],
        [ROUTINE, EMERGENCY, EMERGENCY, ROUTINE]
    );
    connect(&daemon, "packets")
        .write_all(&[packet(76, 0, b"routine"), packet(77, 0, b"abort")].concat())
        .unwrap();
    let found = expect(&daemon, 6);
    let mut lanes: Vec<_> =
        found[4..].iter().map(|frame| (frame.lane, frame.payload[0..2].to_vec())).collect();
    lanes.sort();
    assert_eq!(lanes.iter().map(|(lane, _)| *lane).collect::<Vec<_>>(), [EMERGENCY, ROUTINE]);
    assert_eq!(lanes[0].1, 0x084D_u16.to_be_bytes());
    daemon.stop();
}

/// Ends a load when it is dropped, also when the test fails.
struct EndOf<'a>(&'a AtomicBool);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn flood_source(address: SocketAddr, source: u32, is_over: &AtomicBool) {
    let (mut client, _) = Client::open(address, &Hello::new(source));
    let mut sequences = 0..;
    while !is_over.load(Ordering::Relaxed) {
        client.frame_within_credit(ROUTINE, sequences.next().unwrap(), &[7; ROUTINE_BYTES]);
    }
}

fn flood_link(mut equipment: TcpStream, is_over: &AtomicBool) {
    equipment.set_write_timeout(Some(LIMIT)).unwrap();
    let packets: Vec<u8> = (0..100).flat_map(|count| packet(7, count, &[7; ROUTINE_BYTES])).collect();
    while !is_over.load(Ordering::Relaxed) {
        equipment.write_all(&packets).unwrap();
    }
}

/// Waits until the routine lane of every flooding source is as wanted.
fn wait_for_all(http: SocketAddr, what: &str, is_met: impl Fn(&serde_json::Value) -> bool) {
    wait_until(what, || {
        let sources = get_json(http, "/api/v1/sources");
        let met = |source: &&serde_json::Value| is_met(&source["lanes"]["routine"]);
        let met = sources["sources"].as_array().unwrap().iter().filter(met).count();
        if met as u32 == SOURCES + LINKS { Ok(()) } else { Err(format!("{sources:#}")) }
    });
}

/// Whether frames wait in the queue of a lane, and hardly any more fit its window.
fn is_full(lane: &serde_json::Value) -> bool {
    let figure = |name: &str| lane[name].as_u64().unwrap();
    figure("queued_frames") > 0 && figure("credit_used_bytes") > figure("credit_bytes") / 4 * 3
}

/// While sources and links flood routine, an emergency of a link comes, behind routine of the same spacecraft. The disk is
/// held at that moment, so all routine waits.
fn emergency_under_load(daemon: &HeldDaemon, alarm: &mut Subscriber) -> Archived {
    let is_over = AtomicBool::new(false);
    let equipment = |name: &str| {
        let address = wait_until("the address", || {
            let link = report_at(daemon.http(), name);
            link["address"].as_str().map(|address| address.parse().unwrap()).ok_or(format!("{link:#}"))
        });
        TcpStream::connect_timeout(&address, LIMIT).unwrap()
    };
    std::thread::scope(|scope| {
        let _end = EndOf(&is_over);
        let (address, is_over) = (daemon.address(), &is_over);
        for source in 1..=SOURCES {
            scope.spawn(move || flood_source(address, source, is_over));
        }
        for source in SOURCES + 1..=SOURCES + LINKS {
            let equipment = equipment(&format!("routine-{source}"));
            scope.spawn(move || flood_link(equipment, is_over));
        }
        wait_for_all(daemon.http(), "the load", |lane| lane["durable_next"].as_u64() > Some(0));
        daemon.hold();
        daemon.wait_sync();
        wait_for_all(daemon.http(), "full windows", is_full);
        let routine = (0..FRAMES_BEFORE).map(|count| tm_frame(SPACECRAFT, 0, count, 100, 0));
        let frames: Vec<_> = routine.chain([tm_frame(SPACECRAFT, 3, 0, 100, 0xEE)]).collect();
        equipment("emergency").write_all(&frames.concat()).unwrap();
        wait_until("the emergency", || {
            let link = report_at(daemon.http(), "emergency");
            if link["counts"]["kept"] == frames.len() { Ok(()) } else { Err(format!("{link:#}")) }
        });
        daemon.release();
        alarm.expect_frame()
    })
}

#[test]
fn an_emergency_of_a_link_overtakes_routine_that_was_received_before_it() {
    let routine = (SOURCES + 1..=SOURCES + LINKS).map(|source| {
        let lines = "station = \"KIRUNA\"\nframing = { kind = \"packet\", max = 2000 }";
        listening(&format!("routine-{source}"), &format!("{lines}\nsource = {source}"))
    });
    let emergency = r#"
        station = "KIRUNA"
        framing = { kind = "fixed", length = 100 }
        decode = { kind = "tm", fecf = "crc16" }
        source = "scid"
        emergency = [ { vcid = [3] } ]
    "#;
    let mut daemon = HeldDaemon::start(&(routine.collect::<String>() + &listening("emergency", emergency)));
    let (mut alarm, _) = Subscriber::open(daemon.feed(), &Subscribe::live().priorities(1));
    let emergency = emergency_under_load(&daemon, &mut alarm);
    assert_eq!((emergency.source_id, emergency.lane), (SPACECRAFT.into(), EMERGENCY));
    assert_eq!(emergency.payload, tm_frame(SPACECRAFT, 3, 0, 100, 0xEE));
    let _ = daemon.stop();
    // A subscriber gets frames in the order of their offsets.
    let (before, behind): (Vec<_>, Vec<_>) =
        daemon.archived().into_iter().partition(|frame| frame.offset <= emergency.offset);
    assert!(!before.is_empty(), "no load was under way");
    let is_own = |frame: &Archived| frame.source_id == emergency.source_id;
    assert!(behind.iter().any(is_own), "routine came before it on the same connection");
    let is_overtaken = |frame: &&Archived| frame.received_ns < emergency.received_ns;
    let overtaken: BTreeSet<_> = behind.iter().filter(is_overtaken).map(|frame| frame.source_id).collect();
    assert!(overtaken.range(..=SOURCES).next().is_some(), "no routine of our protocol: {overtaken:?}");
    let links = SOURCES + 1..=SOURCES + LINKS;
    assert!(overtaken.range(links).next().is_some(), "no routine of links: {overtaken:?}");
}
