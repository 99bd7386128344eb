//! Measures the CPU time of the daemon for sources that send by the clock, compared with a bare loop that receives
//! the same bytes.
//!
//!     cargo bench --bench paced -- [SOURCESxHZ]... [SECONDS]
//!
//! 50 and 1,000 sources send frames of 256 B, each at 1, 10, 100 and 400 Hz. Their turns are spread evenly, like
//! those of independent satellites, so nearly every frame arrives alone. About every 50 ms one of the sources sends
//! an emergency in place of a routine frame. Three subscribers follow the emergencies. Each receiver is a separate
//! process. In each of three rounds every receiver has its turn:
//!
//! * `bare`: one thread with epoll that receives and discards;
//! * `answering`: the same, and it answers each read with as many bytes as an ACK;
//! * `daemon`: archived, synced, acknowledged.
//!
//! `us` is the receiver's CPU time per frame. `x bare` compares it with the loop of the same run. The times of ACKs
//! are in milliseconds, from the moment the frame exists to the moment its ACK is read. `switches` are context
//! switches of the daemon per second. Figures are medians of the rounds. Each round measures each receiver for
//! SECONDS (10). The environment variable `BENCH_DAEMON` names another build of the daemon to measure.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

#[path = "paced/bare.rs"]
mod bare;
#[path = "paced/sources.rs"]
mod sources;
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use bare::Bare;
use bytes::BytesMut;
use frame::{FramePriority, Selection};
use hdrhistogram::Histogram;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sources::{Pace, Paced, Sources};
use support::{Daemon, Usage, is_asked_for, median};
use wire::{Policy, Start, Subscribe};

const SOURCES: [usize; 2] = [50, 1_000];
const FRAMES_PER_S: [u64; 4] = [1, 10, 100, 400];
const PAYLOAD_BYTES: usize = 256;
const ROUNDS: usize = 3;
const SUBSCRIBERS: usize = 3;
/// Time before the measurement of a receiver begins.
const WARM_UP: Duration = Duration::from_secs(1);

/// Limits that admit all of the sources.
const LIMITS: [(&str, &str); 4] = [
    ("INGEST__MAX_CONNECTIONS", "1024"),
    ("INGEST__MAX_CONNECTIONS_PER_ADDRESS", "1024"),
    ("INGEST__ROUTINE_WINDOW", "256 KiB"),
    ("INGEST__MEMORY_LIMIT", "4 GiB"),
];

/// The figures of a receiver in one round.
struct Measured {
    paced: Paced,
    cpu_ns: u64,
    switches: u64,
}

fn main() {
    Bare::serve_if_asked();
    if !is_asked_for("paced") {
        return;
    }
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seconds = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(10);
    let mut cases: Vec<(usize, u64)> = args.iter().filter_map(|arg| case(arg)).collect();
    if cases.is_empty() {
        cases = SOURCES.iter().flat_map(|sources| FRAMES_PER_S.map(|hz| (*sources, hz))).collect();
    }
    println!(
        "sources x Hz    frames/s   bare us  answering us   daemon us  x bare   routine p50    p99   emergency p50    p99  switches/s"
    );
    for (sources, frames_per_s) in cases {
        compare(Pace { sources, frames_per_s, payload_bytes: PAYLOAD_BYTES }, Duration::from_secs(seconds));
    }
}

/// Parses an argument such as `50x400`.
fn case(arg: &str) -> Option<(usize, u64)> {
    let (sources, frames_per_s) = arg.split_once('x')?;
    Some((sources.parse().ok()?, frames_per_s.parse().ok()?))
}

fn compare(pace: Pace, time: Duration) {
    let (mut bare, mut answering, mut daemon) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        bare.push(bare_loop(pace, time, false));
        answering.push(bare_loop(pace, time, true));
        daemon.push(measure_daemon(pace, time));
    }
    let us =
        |all: &[Measured]| median(all.iter().map(|one| one.cpu_ns as f64 / 1e3 / one.paced.frames as f64));
    let per_s =
        |count: fn(&Measured) -> u64| median(daemon.iter().map(|one| count(one) as f64 / time.as_secs_f64()));
    let [emergency, routine] = FramePriority::ALL.map(|priority| latencies(&daemon, priority));
    let ms = |times: &Histogram<u64>, quantile| times.value_at_quantile(quantile) as f64 / 1e6;
    println!(
        "{:>5} x {:<5} {:>10.0} {:>9.1} {:>13.1} {:>11.1} {:>7.2} {:>13.1} {:>6.1} {:>15.1} {:>6.1} {:>11.0}",
        pace.sources,
        pace.frames_per_s,
        per_s(|one| one.paced.frames),
        us(&bare),
        us(&answering),
        us(&daemon),
        us(&daemon) / us(&bare),
        ms(&routine, 0.5),
        ms(&routine, 0.99),
        ms(&emergency, 0.5),
        ms(&emergency, 0.99),
        per_s(|one| one.switches),
    );
    let held: u64 = daemon.iter().map(|one| one.paced.held).sum();
    if held > 0 {
        println!("      {held} turns passed for want of credit");
    }
}

fn latencies(all: &[Measured], priority: FramePriority) -> Histogram<u64> {
    let mut sum = Histogram::new(3).unwrap();
    all.iter().for_each(|one| sum.add(&one.paced.latencies[priority.lane()]).unwrap());
    sum
}

fn bare_loop(pace: Pace, time: Duration, answers: bool) -> Measured {
    let bare = Bare::start(pace.sources, answers);
    let sources = Sources::connect(bare.address, pace, false);
    measure(sources, time, || bare.usage())
}

fn measure_daemon(pace: Pace, time: Duration) -> Measured {
    let daemon = Daemon::start(&LIMITS);
    (0..SUBSCRIBERS).for_each(|_| follow_emergencies(daemon.feed));
    let sources = Sources::connect(daemon.ingest, pace, true);
    measure(sources, time, || daemon.usage())
}

fn measure(mut sources: Sources, time: Duration, usage: impl Fn() -> Usage) -> Measured {
    sources.run(WARM_UP);
    let before = usage();
    let paced = sources.run(time);
    let after = usage();
    let switches = |usage: &Usage| usage.switches_voluntary + usage.switches_involuntary;
    Measured { paced, cpu_ns: after.cpu_ns - before.cpu_ns, switches: switches(&after) - switches(&before) }
}

/// Subscribes to emergencies and discards them until the daemon ends.
fn follow_emergencies(feed: SocketAddr) {
    let mut socket = TcpStream::connect(feed).unwrap();
    let mut out = BytesMut::new();
    let selection = Selection::default().with_priority(Some(FramePriority::Emergency));
    Subscribe::new(Policy::Complete, Start::Live, selection).encode(&mut out);
    socket.write_all(&out).unwrap();
    let mut buffer = vec![0; 4 << 10];
    let subscribed = socket.read(&mut buffer).unwrap();
    assert!(subscribed > 0, "the daemon refused a subscriber");
    thread::spawn(move || while matches!(socket.read(&mut buffer), Ok(1..)) {});
}
