//! Compares emergencies of a link with those of a source of the daemon's own protocol.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use frame::{FramePriority, Selection, SourceKind};
use hdrhistogram::Histogram;
use wire::{Deliver, FeedMessage, Policy, Start, Subscribe, SubscriberMessage};

use super::support::{Amount, Connection, Credit, Daemon, Flood, Frames, hello};
use super::{FRAME_BYTES, cadu, cadu_keys, cadus, send, tm_frame};

const TIME: Duration = Duration::from_secs(15);
/// Mean time between two emergencies of one sender.
const GAP: Duration = Duration::from_millis(10);
/// Sources of the daemon's own protocol that flood routine.
const SOURCES: u32 = 48;
/// Payload of their frames.
const PAYLOAD_BYTES: usize = 256;
/// Links that flood routine.
const LINKS: u32 = 10;
/// Source ids. Those of the flood are lower.
const LINK_SOURCE: u32 = 1_000;
const NATIVE_SOURCE: u32 = 1_001;
/// The virtual channel of emergencies.
const CHANNEL: u32 = 3;
/// Where a frame has the nanoseconds at which it was made: behind the header of a TM frame.
const MADE_AT: std::ops::Range<usize> = 6..14;
/// In their place: the frame only gives the link its second marker.
const FIRST: u64 = 0;
/// In their place: the sender sends no more.
const LAST: u64 = u64::MAX;

/// Times from the frame to the subscriber, in nanoseconds.
struct Latencies {
    native: Histogram<u64>,
    link: Histogram<u64>,
}

/// Prints the figures of both phases.
pub fn compare() {
    for is_loaded in [false, true] {
        println!("{:<28}    count      p50      p99    p99.9      max", "emergencies, us");
        print(&measure(is_loaded));
    }
}

fn print(latencies: &Latencies) {
    for (name, times) in [("own protocol", &latencies.native), ("link", &latencies.link)] {
        let us = |ns: u64| ns as f64 / 1e3;
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| us(times.value_at_quantile(quantile)));
        println!("{name:<28} {:>8} {p50:>8.0} {p99:>8.0} {p999:>8.0} {:>8.0}", times.len(), us(times.max()));
    }
    let ratio = |quantile: f64| {
        let [link, native] =
            [&latencies.link, &latencies.native].map(|times| times.value_at_quantile(quantile));
        link as f64 / native as f64
    };
    println!("link/own protocol: p50 {:.2}, p99 {:.2}\n", ratio(0.5), ratio(0.99));
}

/// Runs a phase on a daemon of its own. Prints the load.
fn measure(is_loaded: bool) -> Latencies {
    let listeners: Vec<_> = (0..=LINKS).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let links = listeners.iter().zip(100..).map(|(listener, source)| {
        let address = listener.local_addr().unwrap();
        // The last link is that of emergencies.
        let source = if source == 100 + LINKS { LINK_SOURCE } else { source };
        format!(
            "[[links]]\nname = \"link-{source}\"\nconnect = \"{address}\"\nsource = {source}\n\
             emergency = [{{ vcid = [{CHANNEL}] }}]\n{}\n",
            cadu_keys()
        )
    });
    let daemon = Daemon::start_configured(&links.collect::<String>());
    let mut equipment: Vec<_> = listeners.iter().map(|listener| listener.accept().unwrap().0).collect();
    let (alarms, began) = (equipment.pop().unwrap(), Instant::now());
    let subscriber = subscribe(daemon.feed);
    std::thread::scope(|threads| {
        let load = is_loaded.then(|| {
            let amount = Amount::Time(TIME);
            let flood = Flood { connections: SOURCES, ..Flood::new(daemon.ingest, PAYLOAD_BYTES, amount) };
            let sources = threads.spawn(move || flood.run());
            (sources, threads.spawn(|| send(equipment, &Arc::from(cadus()), TIME)))
        });
        threads.spawn(|| send_by_link(alarms, began));
        threads.spawn(|| send_natively(daemon.ingest, began));
        let latencies = receive(subscriber, began);
        if let Some((sources, links)) = load {
            let sources_per_s = sources.join().unwrap().frames_per_s();
            let links_per_s = links.join().unwrap() as f64 / cadu().length as f64 / TIME.as_secs_f64();
            println!(
                "beside {sources_per_s:.0} frames/s of {SOURCES} sources, {links_per_s:.0} of {LINKS} links"
            );
        }
        latencies
    })
}

/// A frame that was made at `made`.
fn frame(count: u8, made: u64) -> Vec<u8> {
    let mut data = [7; FRAME_BYTES];
    data[..8].copy_from_slice(&made.to_be_bytes());
    tm_frame(CHANNEL, count, &data)
}

fn ns_since(began: Instant) -> u64 {
    began.elapsed().as_nanos() as u64
}

/// A random time between 0.5 and 1.5 of [`GAP`], so that no sender stays in step with the daemon.
fn gap() -> Duration {
    GAP.mul_f64(rand::random_range(0.5..1.5))
}

fn send_by_link(mut equipment: TcpStream, began: Instant) {
    equipment.set_nodelay(true).unwrap();
    let mut counts = (0..=u8::MAX).cycle();
    let mut send = |made: u64| {
        let mut unit = Vec::new();
        cadu().encode(&frame(counts.next().unwrap(), made), &mut unit);
        equipment.write_all(&unit).unwrap();
    };
    send(FIRST);
    while began.elapsed() < TIME {
        send(ns_since(began));
        std::thread::sleep(gap());
    }
    send(LAST);
}

fn send_natively(address: SocketAddr, began: Instant) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let hello = hello(NATIVE_SOURCE, SourceKind::LiveUplink, 0);
        let mut connection = Connection::open(address, &hello, Frames::single(FRAME_BYTES)).await;
        let mut next = tokio::time::Instant::now();
        while began.elapsed() < TIME {
            let now = tokio::time::Instant::now();
            if now >= next {
                let payload = frame(0, ns_since(began)).into();
                connection.take_emergency(&payload).expect("credit for an emergency");
                next = now + gap();
            }
            connection.turn(Some(next)).await;
        }
        connection.take_emergency(&frame(0, LAST).into()).expect("credit for an emergency");
        while !connection.is_written() {
            connection.turn(None).await;
        }
        connection.say_bye(Credit::Obeyed).await;
        while !connection.has_ended() {
            connection.turn(None).await;
        }
    });
}

/// Subscribes to emergencies.
fn subscribe(feed: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(feed).unwrap();
    let selection = Selection::default().with_priority(Some(FramePriority::Emergency));
    let mut out = BytesMut::new();
    Subscribe::new(Policy::Complete, Start::Live, selection).encode(&mut out);
    socket.write_all(&out).unwrap();
    assert!(matches!(next_message(&mut socket), FeedMessage::Subscribed(_)));
    socket
}

fn next_message(socket: &mut TcpStream) -> FeedMessage {
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut body).unwrap();
    FeedMessage::decode(Bytes::from(body)).unwrap()
}

/// Receives emergencies until both senders have sent their last.
fn receive(mut socket: TcpStream, began: Instant) -> Latencies {
    let mut latencies = Latencies { native: Histogram::new(3).unwrap(), link: Histogram::new(3).unwrap() };
    let mut senders = 2;
    while senders > 0 {
        match next_message(&mut socket) {
            FeedMessage::Deliver(Deliver { frame, .. }) => {
                let received = ns_since(began);
                let is_link = frame.source_id == LINK_SOURCE;
                let times = if is_link { &mut latencies.link } else { &mut latencies.native };
                match u64::from_be_bytes(frame.payload[MADE_AT].try_into().unwrap()) {
                    FIRST => {}
                    LAST => senders -= 1,
                    made => times.record(received - made).unwrap(),
                }
            }
            FeedMessage::Ping(nonce) => {
                let mut pong = BytesMut::new();
                SubscriberMessage::Pong(nonce).encode(&mut pong);
                socket.write_all(&pong).unwrap();
            }
            FeedMessage::Progress(_) => {}
            other => panic!("the daemon does not do as it should: {other:?}"),
        }
    }
    latencies
}
