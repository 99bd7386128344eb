//! A connection so slow that one TLS record takes longer than silence may last. The peer is not silent: bytes come.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::http::get_json;
use crate::support::stream::Stream;
use crate::support::{Client, Daemon, Hello, LIMIT, ROUTINE, Server, Signal, code, wait_until};

/// Bytes of a record that come at once.
const PIECE_BYTES: usize = 400;
/// Payload of a frame that fills almost a record: 40 pieces.
const PAYLOAD: [u8; 16_000] = [7; 16_000];

/// A proxy that passes on what a client sends, fast at first and then in pieces.
struct SlowRoad {
    address: SocketAddr,
    is_slow: Arc<AtomicBool>,
    /// Returns the longest time between two pieces.
    road: JoinHandle<Duration>,
}

impl SlowRoad {
    /// A road to `daemon`, with a `pause` after each piece.
    fn new(daemon: SocketAddr, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_slow = Arc::new(AtomicBool::new(false));
        let slow = Arc::clone(&is_slow);
        let road = std::thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let daemon = TcpStream::connect(daemon).unwrap();
            daemon.set_nodelay(true).unwrap();
            let (mut back, mut answers) = (client.try_clone().unwrap(), daemon.try_clone().unwrap());
            let answering = std::thread::spawn(move || {
                let _ = std::io::copy(&mut answers, &mut back);
                let _ = back.shutdown(Shutdown::Write);
            });
            let longest = carry(client, daemon, &slow, pause);
            answering.join().unwrap();
            longest
        });
        Self { address, is_slow, road }
    }

    fn slow_down(&self) {
        self.is_slow.store(true, Ordering::Relaxed);
    }

    /// The longest time between two pieces, once both sides have closed.
    fn longest_pause(self) -> Duration {
        self.road.join().unwrap()
    }
}

fn carry(mut client: TcpStream, mut daemon: TcpStream, is_slow: &AtomicBool, pause: Duration) -> Duration {
    let mut bytes = vec![0; 64 << 10];
    let mut longest = Duration::ZERO;
    loop {
        let count = client.read(&mut bytes).unwrap_or(0);
        if count == 0 {
            let _ = daemon.shutdown(Shutdown::Write);
            return longest;
        }
        if !is_slow.load(Ordering::Relaxed) {
            daemon.write_all(&bytes[..count]).unwrap();
            continue;
        }
        for piece in bytes[..count].chunks(PIECE_BYTES) {
            // The daemon may have ended.
            if daemon.write_all(piece).is_err() {
                return longest;
            }
            let since = Instant::now();
            // The road is this slow.
            std::thread::sleep(pause);
            longest = longest.max(since.elapsed());
        }
    }
}

#[test]
fn a_source_whose_record_takes_longer_than_three_heartbeats_is_not_idle() {
    let mut daemon = Daemon::start("");
    let road = SlowRoad::new(daemon.address(), Duration::from_millis(100));
    let (mut client, _) = Client::open(road.address, &Hello::new(7).heartbeat(1));
    road.slow_down();
    client.frame(ROUTINE, 0, &PAYLOAD);
    loop {
        match client.next() {
            Server::Ack(ack) if ack.durable_next == 1 => break,
            Server::Ack(_) | Server::Ping(_) => {}
            other => panic!("an ACK is due, not {other:?}"),
        }
    }
    drop(client);
    road.longest_pause();
    daemon.stop();
}

#[test]
fn a_link_whose_record_takes_longer_than_its_silence_timeout_stays() {
    let link = "[[links]]\nname = \"modem\"\nlisten = \"127.0.0.1:0\"\ntls = true\nsilence_timeout = \"1s\"\n\
                framing = { kind = \"packet\", max = 16100 }\nsource = 5\n";
    let mut daemon = Daemon::start(link);
    let state = || get_json(daemon.http(), "/api/v1/links")["links"][0].clone();
    let address = wait_until("the link listens", || {
        let state = state();
        state["address"].as_str().and_then(|text| text.parse().ok()).ok_or_else(|| state.to_string())
    });
    let road = SlowRoad::new(address, Duration::from_millis(60));
    let mut equipment = Stream::new(TcpStream::connect(road.address).unwrap());
    // A space packet fills the record. Its length field is the number of bytes of data less one.
    let mut packet = vec![0x08, 0x01, 0xC0, 0x00];
    packet.extend((PAYLOAD.len() as u16 - 1).to_be_bytes());
    packet.extend(PAYLOAD);
    // The handshake is complete behind the first packet.
    equipment.write_all(&packet).unwrap();
    let archived = |count: u64| {
        wait_until("the packets are there", || match &get_json(daemon.http(), "/api/v1/stats")["frames"] {
            frames if frames["archived"] == count => Ok(()),
            frames => Err(frames.to_string()),
        });
    };
    archived(1);
    road.slow_down();
    equipment.write_all(&packet).unwrap();
    archived(2);
    drop(equipment);
    road.longest_pause();
    daemon.stop();
}

#[test]
fn a_record_that_is_on_its_way_when_the_drain_begins_is_read_to_its_end() {
    /// In a drain, a connection is done after so much silence.
    const QUIET: Duration = Duration::from_millis(100);
    let until = Instant::now() + LIMIT;
    loop {
        let mut daemon = Daemon::start("");
        let road = SlowRoad::new(daemon.address(), Duration::from_millis(10));
        let (mut client, _) = Client::open(road.address, &Hello::new(7));
        road.slow_down();
        client.frame(ROUTINE, 0, &PAYLOAD);
        daemon.signal(Signal::TERM);
        client.expect_error(code::DRAINING);
        let durable_next = client.ack(ROUTINE).durable_next;
        assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
        drop(client);
        let longest = road.longest_pause();
        if durable_next == 1 {
            return;
        }
        // On a busy host, the road itself may be silent for too long.
        assert!(longest >= QUIET / 2, "the frame is lost, and the longest pause was {longest:?}");
        assert!(Instant::now() < until, "this host never kept the pauses short");
    }
}
