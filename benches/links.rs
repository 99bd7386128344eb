//! Measures how fast input links take frames of equipment, compared with sources of the daemon's own protocol.
//!
//!     cargo bench --bench links -- [emergencies]
//!
//! 16 peers on loopback send as fast as they can from one thread, for 5 seconds. In each of three rounds every receiver
//! has its turn, with a daemon of its own. Everything is archived and synced:
//!
//! * `cadus`: TM frames of 1,115 bytes in CADUs of 1,279 bytes, randomised, with a checksum, one link per peer;
//! * `packets`: space packets of 64 bytes, one link per peer;
//! * `frames`: the same payloads in the daemon's own protocol, for comparison.
//!
//! Time runs from the first byte until the daemon has archived everything. `rcv ns` is the daemon's CPU time per frame.
//! `snd ns` is the sender's, which uses the same cores. Figures are medians. Machines differ, so compare the ratios of
//! one run.
//!
//! Then datagrams with frames of 1,115 bytes come at rising rates, for 2 seconds each, until the kernel drops some.
//!
//! The last part, which `emergencies` measures alone, compares the latency of emergencies. A link and a source of the
//! daemon's own protocol each send an emergency about every 10 ms, with the same frames of 1,115 bytes. Time runs from the
//! moment the frame exists until a subscriber of emergencies has it, so it contains the sync. The first phase has no other
//! load. In the second, 48 sources and 10 links flood routine as fast as they can. Each phase lasts 15 seconds.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

#[path = "links/emergencies.rs"]
mod emergencies;
mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use framing::{Cadu, Decode, Fecf, Format, FrameFields, PacketHeader, Pointer, packet::HEADER_BYTES};
use serde_json::Value;
use support::{Amount, Daemon, Flood, is_asked_for, median, own_thread_cpu_ns};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

const PEERS: u32 = 16;
const ROUNDS: usize = 3;
/// Time for which each peer sends.
const TIME: Duration = Duration::from_secs(5);
const FRAME_BYTES: usize = 1_115;
const CHECK_BYTES: usize = 160;
const PACKET_BYTES: usize = 64;
/// Datagrams per second of each step.
const UDP_RATES: [u32; 8] = [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000];
const UDP_TIME: Duration = Duration::from_secs(2);
/// Time between two sends. Each sends all datagrams that are due.
const UDP_STEP: Duration = Duration::from_millis(1);
/// Time between two checks of what has arrived.
const LOOK: Duration = Duration::from_millis(2);

/// The figures of one receiver in one round.
struct Measured {
    frames: u64,
    elapsed: Duration,
    receiver_cpu_ns: u64,
    sender_cpu_ns: u64,
}

fn main() {
    if !is_asked_for("links") {
        return;
    }
    if !std::env::args().any(|arg| arg == "emergencies") {
        compare("cadus", &cadu_keys(), &cadus(), cadu().length, FRAME_BYTES);
        compare("packets", "framing = { kind = \"packet\" }", &packets(), PACKET_BYTES, PACKET_BYTES);
        send_datagrams();
    }
    emergencies::compare();
}

fn cadu() -> Cadu {
    Cadu { length: 4 + FRAME_BYTES + CHECK_BYTES, strip: CHECK_BYTES, ..Cadu::default() }
}

/// The keys of a link that reads [`cadus`].
fn cadu_keys() -> String {
    let Cadu { length, strip, .. } = cadu();
    format!(
        "framing = {{ kind = \"cadu\", length = {length}, strip = {strip} }}\ndecode = {{ kind = \"tm\", fecf = \"crc16\" }}"
    )
}

/// The frames of one round of the count, in CADUs.
fn cadus() -> Vec<u8> {
    tm_frames().iter().fold(Vec::new(), |mut out, frame| {
        cadu().encode(frame, &mut out);
        out
    })
}

/// The frames of one round of the count.
fn tm_frames() -> Vec<Vec<u8>> {
    let data: Vec<u8> = (0..FRAME_BYTES).map(|at| ((at * at) >> 3) as u8).collect();
    (0..=u8::MAX).map(|count| tm_frame(0, count, &data)).collect()
}

/// A frame with the front of `data`, as much as fits.
fn tm_frame(channel: u32, count: u8, data: &[u8]) -> Vec<u8> {
    let decode = Decode { format: Format::Tm, fecf: Fecf::Crc16, ..Decode::default() };
    let fields = FrameFields { spacecraft: 1, channel, count: count.into(), pointer: Pointer::NoPacket };
    let mut frame = Vec::new();
    decode.encode(&fields, &data[..FRAME_BYTES - decode.overhead()], &mut frame);
    frame
}

/// The packets of one round of the count.
fn packets() -> Vec<u8> {
    let data: Vec<u8> = (0..PACKET_BYTES - HEADER_BYTES).map(|at| ((at * at) >> 3) as u8).collect();
    (0..1 << 14).fold(Vec::new(), |mut out, count| {
        PacketHeader { apid: 1, count, ..PacketHeader::default() }.encode(&data, &mut out);
        out
    })
}

/// Compares links that read `units`, each of `unit_bytes`, with sources of frames with `payload_bytes`.
fn compare(name: &str, keys: &str, units: &[u8], unit_bytes: usize, payload_bytes: usize) {
    let units: Arc<[u8]> = units.into();
    let (mut linked, mut native) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        linked.push(measure_links(keys, &units, unit_bytes));
        native.push(measure_native(payload_bytes));
    }
    println!("{payload_bytes} B     frames/s     MB/s   rcv ns   snd ns");
    for (name, measured) in [(name, &linked), ("frames", &native)] {
        println!("{name:<9} {}", row(measured, payload_bytes));
    }
    let ratios = linked.iter().zip(&native).map(|(link, native)| link.frames_per_s() / native.frames_per_s());
    println!("{name}/frames {:.2}\n", median(ratios));
}

fn row(measured: &[Measured], payload_bytes: usize) -> String {
    let frames_per_s = median(measured.iter().map(Measured::frames_per_s));
    let per_frame =
        |ns: fn(&Measured) -> u64| median(measured.iter().map(|one| ns(one) as f64 / one.frames as f64));
    format!(
        "{frames_per_s:>10.0}  {:>7.0}  {:>7.0}  {:>7.0}",
        frames_per_s * payload_bytes as f64 / 1e6,
        per_frame(|one| one.receiver_cpu_ns),
        per_frame(|one| one.sender_cpu_ns),
    )
}

impl Measured {
    fn frames_per_s(&self) -> f64 {
        self.frames as f64 / self.elapsed.as_secs_f64()
    }
}

fn measure_native(payload_bytes: usize) -> Measured {
    let daemon = Daemon::start(&[]);
    let flood = Flood { connections: PEERS, ..Flood::new(daemon.ingest, payload_bytes, Amount::Time(TIME)) };
    let before = daemon.usage();
    let flooded = flood.run();
    Measured {
        frames: flooded.frames,
        elapsed: flooded.elapsed,
        receiver_cpu_ns: daemon.usage().cpu_ns - before.cpu_ns,
        sender_cpu_ns: flooded.sender_cpu_ns,
    }
}

fn measure_links(keys: &str, units: &Arc<[u8]>, unit_bytes: usize) -> Measured {
    let listeners: Vec<_> = (0..PEERS).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let links = listeners.iter().zip(1..).map(|(listener, source)| {
        let address = listener.local_addr().unwrap();
        format!("[[links]]\nname = \"link-{source}\"\nconnect = \"{address}\"\nsource = {source}\n{keys}\n")
    });
    let daemon = Daemon::start_configured(&links.collect::<String>());
    let sockets: Vec<_> = listeners.iter().map(|listener| listener.accept().unwrap().0).collect();
    let (before, cpu_ns, started) = (daemon.usage(), own_thread_cpu_ns(), Instant::now());
    let bytes = send(sockets, units, TIME);
    let sender_cpu_ns = own_thread_cpu_ns() - cpu_ns;
    let frames = bytes / unit_bytes as u64;
    while archived(&daemon) < frames {
        std::thread::sleep(LOOK);
    }
    Measured {
        frames,
        elapsed: started.elapsed(),
        receiver_cpu_ns: daemon.usage().cpu_ns - before.cpu_ns,
        sender_cpu_ns,
    }
}

/// Sends `units` on every socket again and again, for `time`. Returns the bytes that were sent.
fn send(sockets: Vec<TcpStream>, units: &Arc<[u8]>, time: Duration) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let started = Instant::now();
        let mut peers = JoinSet::new();
        for socket in sockets {
            let units = Arc::clone(units);
            socket.set_nonblocking(true).unwrap();
            let mut socket = tokio::net::TcpStream::from_std(socket).unwrap();
            peers.spawn(async move {
                let mut sent = 0;
                while started.elapsed() < time {
                    socket.write_all(&units).await.unwrap();
                    sent += units.len() as u64;
                }
                // The last CADU is complete at the end of the stream.
                socket.shutdown().await.unwrap();
                (sent, socket)
            });
        }
        peers.join_all().await.iter().map(|(sent, _)| sent).sum()
    })
}

fn archived(daemon: &Daemon) -> u64 {
    get(daemon.http, "/api/v1/stats")["frames"]["archived"].as_u64().unwrap()
}

fn send_datagrams() {
    let keys = "[[links]]\nname = \"udp\"\nudp = \"127.0.0.1:0\"\nframing = { kind = \"datagram\" }\n\
                decode = { kind = \"tm\", fecf = \"crc16\" }\nsource = 1\n";
    let daemon = Daemon::start_configured(keys);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(link(&daemon)["address"].as_str().unwrap()).unwrap();
    println!("datagrams   asked/s      sent/s   dropped by the kernel   dropped when full");
    for rate in UDP_RATES {
        let before = link(&daemon);
        let (sent, elapsed) = send_at(&socket, rate);
        let count = |link: &Value, name: &str| link["counts"][name].as_u64().unwrap();
        let after = loop {
            let link = link(&daemon);
            let gone: u64 =
                ["units", "kernel_drops"].map(|name| count(&link, name) - count(&before, name)).iter().sum();
            if gone >= sent {
                break link;
            }
            // The kernel reports a loss with the datagram that follows it.
            socket.send(&tm_frames()[0]).unwrap();
            std::thread::sleep(LOOK);
        };
        let [lost, full] =
            ["kernel_drops", "full_dropped"].map(|name| count(&after, name) - count(&before, name));
        println!("{:>19}  {:>10.0}  {lost:>22}  {full:>18}", rate, sent as f64 / elapsed.as_secs_f64());
        if lost > 0 {
            break;
        }
    }
}

fn send_at(socket: &UdpSocket, rate: u32) -> (u64, Duration) {
    let frames = tm_frames();
    let (started, mut sent) = (Instant::now(), 0);
    while started.elapsed() < UDP_TIME {
        let due = (started.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while sent < due && started.elapsed() < UDP_TIME {
            socket.send(&frames[sent as usize % frames.len()]).unwrap();
            sent += 1;
        }
        std::thread::sleep(UDP_STEP);
    }
    (sent, started.elapsed())
}

/// What the API reports of the only link.
fn link(daemon: &Daemon) -> Value {
    get(daemon.http, "/api/v1/links")["links"][0].take()
}

fn get(http: SocketAddr, path: &str) -> Value {
    let mut socket = TcpStream::connect(http).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}
