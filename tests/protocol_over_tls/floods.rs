//! Every listener is flooded at the same time, over TLS. Sources that were there before get each ACK, and the memory stays
//! below the sum of the limits.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use config::Config;
use socket2::{Domain, Socket, Type};

use crate::support::daemon::merged;
use crate::support::process::rss_max_kib;
use crate::support::stream::Stream;
use crate::support::{Archived, Client, Daemon, EMERGENCY, Hello, LIMIT, ROUTINE, Subscribe, connect_from};

/// How long everything is flooded.
const DURATION: Duration = Duration::from_secs(6);
/// The good sources. No datagram names one of them.
const GOOD: std::ops::Range<u32> = 5_000..5_006;
/// The least number of frames that each good source must get acknowledged in [`DURATION`].
const FRAMES_MIN: u64 = 20;
const TOKEN: &str = "the token of good sources";
/// The address of the attackers. Good sources are at 127.0.0.1.
const ATTACKER: [u8; 4] = [127, 0, 0, 2];
/// Connections that one attacker holds at a time.
const HELD: usize = 100;
/// The pace of an attacker, not a wait: all attackers run in this process, beside the good sources.
const PAUSE: Duration = Duration::from_millis(2);

const CONFIG: &str = r#"
    [ingest]
    max_connections = 16
    max_message = "16 KiB"
    routine_window = "64 KiB"
    emergency_window = "64 KiB"
    max_streams = 64
    tokens = [{ token = "the token of good sources" }]
    [feed]
    tls = true
    max_subscribers = 4
    [http]
    tls = true
    [[links]]
    name = "modem"
    listen = "127.0.0.1:0"
    tls = true
    station = "KIRUNA"
    framing = { kind = "packet", max = 2000 }
    source = 900
    [[links]]
    name = "datagrams"
    udp = "127.0.0.1:0"
    station = "INUVIK"
    framing = { kind = "packet", max = 2000 }
    source = "apid"
"#;

/// The configuration with the smallest memory limit that the other limits allow, and this limit.
fn with_exact_memory() -> (String, u64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("aggregator.toml");
    let load = |config: &str| {
        std::fs::write(&path, merged(dir.path(), config)).unwrap();
        Config::load(Some(&path), std::iter::empty())
    };
    let with =
        |bytes: u64| CONFIG.replacen("[ingest]", &format!("[ingest]\nmemory_limit = \"{bytes} B\""), 1);
    let bytes = load(CONFIG).unwrap().config.memory_bound().total();
    assert!(load(&with(bytes - 1)).is_err(), "one byte less is refused");
    (with(bytes), bytes)
}

/// The address in the log line that contains `text`.
fn address_of(daemon: &Daemon, text: &str) -> SocketAddr {
    let line = daemon.wait_line(text);
    line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// A connection of an attacker, unless the daemon has closed it already.
fn attacker(to: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ATTACKER, 0)).into()).unwrap();
    socket.connect_timeout(&to.into(), Duration::from_secs(1)).ok()?;
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    Some(socket)
}

/// Holds connections that have sent `bytes`, and replaces the oldest.
fn hold(to: SocketAddr, bytes: &[u8], is_over: &AtomicBool) {
    let mut held = std::collections::VecDeque::new();
    while !is_over.load(Ordering::Relaxed) {
        if let Some(mut socket) = attacker(to) {
            let _ = socket.write_all(bytes);
            held.push_back(socket);
        }
        if held.len() > HELD {
            held.pop_front();
        }
        std::thread::sleep(PAUSE);
    }
}

/// Connects over TLS, sends what `bytes` makes, and reads nothing behind the handshake.
fn speak(to: SocketAddr, held_max: usize, is_over: &AtomicBool, mut bytes: impl FnMut() -> Vec<u8>) {
    let mut held = std::collections::VecDeque::new();
    while !is_over.load(Ordering::Relaxed) {
        if let Some(socket) = attacker(to) {
            let mut stream = Stream::new(socket);
            // A refused attacker tries again.
            let _ = stream.write_all(&bytes());
            held.push_back(stream);
        }
        if held.len() > held_max {
            held.pop_front();
        }
        std::thread::sleep(PAUSE);
    }
}

/// Sends HELLOs without the token, of a new source each.
fn flood_hellos(to: SocketAddr, is_over: &AtomicBool) {
    let mut source = 10_000;
    speak(to, 4, is_over, || {
        source += 1;
        Hello::new(source).bytes()
    });
}

/// Invents sources, a datagram for each.
fn flood_datagrams(to: SocketAddr, is_over: &AtomicBool) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(to).unwrap();
    for apid in (0..2_047_u16).cycle() {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        // The daemon may drop datagrams.
        let _ = socket.send(&packet(apid));
        std::thread::sleep(PAUSE / 4);
    }
}

/// A space packet of 133.0-B with 4 bytes.
fn packet(apid: u16) -> Vec<u8> {
    let [high, low] = (0x0800 | apid).to_be_bytes();
    vec![high, low, 0xC0, 0, 0, 3, 1, 2, 3, 4]
}

/// Delivers frames for [`DURATION`], each with its ACK, every fourth as an emergency. Returns the frames of each lane.
fn deliver(to: SocketAddr, source_id: u32) -> [u64; 2] {
    let (mut client, _) = Client::open(to, &Hello::new(source_id).token(TOKEN));
    let (began, mut next) = (Instant::now(), [0; 2]);
    while began.elapsed() < DURATION {
        for lane in [EMERGENCY, ROUTINE, ROUTINE, ROUTINE] {
            client.deliver(lane, next[lane], &[lane as u8; 2_000]);
            next[lane] += 1;
        }
    }
    assert_eq!(client.bye(next), next);
    next
}

/// The answer to a GET over TLS.
fn get(http: SocketAddr, path: &str) -> String {
    let tcp = connect_from([127, 0, 0, 1], http);
    tcp.set_read_timeout(Some(LIMIT)).unwrap();
    let mut stream = Stream::new(tcp);
    stream.write_all(&request(http, path)).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(http: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n").into_bytes()
}

fn lane_count(frames: &[Archived], source: u32, lane: usize) -> u64 {
    frames.iter().filter(|frame| frame.source_id == source && frame.lane == lane).count() as u64
}

#[test]
fn good_sources_get_every_ack_while_all_listeners_are_flooded() {
    let (config, limit_bytes) = with_exact_memory();
    let mut daemon = Daemon::start(&config);
    let [ingest, feed, http] = [daemon.address(), daemon.feed(), daemon.http()];
    let modem = address_of(&daemon, "link ready link=\"modem\"");
    let datagrams = address_of(&daemon, "link ready link=\"datagrams\"");
    let is_over = AtomicBool::new(false);
    let delivered: Vec<[u64; 2]> = std::thread::scope(|scope| {
        let is_over = &is_over;
        for to in [ingest, feed, http, modem] {
            scope.spawn(move || hold(to, &[22, 3, 1, 2, 0, 1], is_over));
            scope.spawn(move || hold(to, &[0x80; 4_096], is_over));
        }
        scope.spawn(move || flood_hellos(ingest, is_over));
        scope.spawn(move || flood_datagrams(datagrams, is_over));
        scope.spawn(move || speak(http, 20, is_over, || request(http, "/api/v1/frames?from=0&limit=1000")));
        scope.spawn(move || speak(feed, 8, is_over, || Subscribe::earliest().bytes()));
        let good: Vec<_> = GOOD.map(|id| scope.spawn(move || deliver(ingest, id))).collect();
        let delivered: Vec<_> = good.into_iter().map(|one| one.join()).collect();
        // Before a failed source ends the test: the scope waits for the attackers.
        is_over.store(true, Ordering::Relaxed);
        delivered.into_iter().map(|one| one.unwrap()).collect()
    });
    let peak_kib = rss_max_kib(daemon.pid());
    println!("delivered {delivered:?}, peak {peak_kib} KiB of {} KiB", limit_bytes >> 10);
    assert!(peak_kib < limit_bytes >> 10, "{peak_kib} KiB are resident, {} are allowed", limit_bytes >> 10);
    assert!(delivered.iter().flatten().all(|frames| *frames >= FRAMES_MIN), "{delivered:?}");

    let answer = get(http, "/readyz");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let refusals = get(http, "/api/v1/refusals");
    assert!(refusals.contains("\"unauthorized\":"), "the HELLOs were refused: {refusals}");
    let mut equipment = Stream::new(connect_from([127, 0, 0, 1], modem));
    equipment.write_all(&packet(1)).unwrap();
    equipment.half_close().unwrap();
    assert_eq!(equipment.read(&mut [0; 1]).unwrap_or(0), 0, "the link has read everything");
    daemon.stop();
    let frames = daemon.archived();
    for (source, sent) in GOOD.zip(&delivered) {
        let archived = [EMERGENCY, ROUTINE].map(|lane| lane_count(&frames, source, lane));
        assert_eq!(archived, *sent, "source {source}");
    }
    assert_eq!(lane_count(&frames, 900, ROUTINE), 1, "the packet of the equipment");
    assert!(frames.iter().any(|frame| frame.station == "INUVIK"), "datagrams came through");
}
