//! Measures the cost of silent connections, and whether they slow down sending connections.
//!
//!     cargo bench --bench scale -- [CONNECTIONS]...
//!
//! First 48, 1,000 and 10,000 connections ask for heartbeats of a second and send nothing. The bench measures how
//! fast the daemon accepts them, from connecting to WELCOME and the first ACKs. It measures the daemon's memory per
//! connection beyond 48, at once and after two heartbeats. It measures the CPU time that the daemon spends on them,
//! which is all for PINGs.
//!
//! Then 48 connections send as fast as they can, alone and among 952 and 9,952 silent ones with the daemon's own
//! heartbeat. In each of three rounds every case has its turn. The other ends of the connections are in this process,
//! on the same cores. Compare only figures of the same run: machines differ.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use frame::SourceKind;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Amount, Connection, Daemon, Flood, Frames, hello, is_asked_for, median};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use wire::Hello;

const BUSY: u32 = 48;
const CONNECTIONS: [u32; 3] = [BUSY, 1_000, 10_000];
/// Most connections that are being opened at a time.
const CONNECTING_MAX: usize = 128;
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time for which the CPU of an idle daemon is measured.
const IDLE_TIME: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
/// Long enough that the part that goes into the disk's caches does not matter.
const BUSY_TIME: Duration = Duration::from_secs(10);
const PAYLOAD_BYTES: usize = 256;
/// The silent sources have ids from this one on, above those of the busy sources.
const FIRST_IDLE_SOURCE: u32 = 1_000;

/// Limits that admit all connections. Windows of a single message would be enough for idle connections, but not for
/// busy ones.
const LIMITS: [(&str, &str); 8] = [
    // The busy rounds write some GiB each, and all their daemons live until the end.
    ("ARCHIVE__RETENTION_SIZE", "4 GiB"),
    ("INGEST__MAX_CONNECTIONS", "10240"),
    ("INGEST__MAX_CONNECTIONS_PER_ADDRESS", "10240"),
    ("INGEST__MAX_STREAMS", "16384"),
    ("INGEST__MAX_MESSAGE", "64 KiB"),
    ("INGEST__ROUTINE_WINDOW", "256 KiB"),
    ("INGEST__EMERGENCY_WINDOW", "64 KiB"),
    ("INGEST__MEMORY_LIMIT", "8 GiB"),
];

fn main() {
    if !is_asked_for("scale") {
        return;
    }
    raise_open_files();
    let asked: Vec<u32> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let counts = if asked.is_empty() { CONNECTIONS.to_vec() } else { asked };
    println!("connections  accepted/s  resident MiB  (bound)  B each  idle, B each  idle CPU %  us CPU/PING");
    let mut base = None;
    for count in &counts {
        idle(*count, &mut base);
    }
    println!();
    busy(&counts);
}

/// Raises the limit on open files. The daemon inherits it.
fn raise_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// Measures `count` silent connections. `base` holds the count of the first call and its memory.
fn idle(count: u32, base: &mut Option<(u32, u64, u64)>) {
    let daemon = Daemon::start(&LIMITS);
    let crowd = Crowd::start(daemon.ingest, count, HEARTBEAT.as_secs() as u16);
    let resident = daemon.usage().resident_bytes;
    // Wait for two heartbeats, and half a heartbeat more for the last answers.
    std::thread::sleep(HEARTBEAT * 5 / 2);
    let (before, pings) = (daemon.usage(), crowd.pings());
    std::thread::sleep(IDLE_TIME);
    let (after, pings) = (daemon.usage(), crowd.pings() - pings);
    let cpu_ns = (after.cpu_ns - before.cpu_ns) as f64;
    let (base_count, base_resident, base_idle) = *base.get_or_insert((count, resident, after.resident_bytes));
    let each = |resident: u64, base: u64| match count - base_count {
        0 => String::from("-"),
        more => format!("{:.0}", (resident as f64 - base as f64) / f64::from(more)),
    };
    println!(
        "{count:>11}  {:>10.0}  {:>12.1}  {:>7.0}  {:>6}  {:>12}  {:>10.2}  {:>11.1}",
        f64::from(count) / crowd.opened_in.as_secs_f64(),
        after.resident_bytes_peak as f64 / f64::from(1 << 20),
        daemon.bound_mib,
        each(resident, base_resident),
        each(after.resident_bytes, base_idle),
        cpu_ns / IDLE_TIME.as_nanos() as f64 * 100.0,
        cpu_ns / 1e3 / pings as f64,
    );
}

/// Measures busy connections among silent ones, in total as many as each of `counts`.
fn busy(counts: &[u32]) {
    // The crowd is the first field of each tuple. It is dropped before its daemon, so that no connection outlives its
    // daemon.
    let among: Vec<(Option<Crowd>, Daemon)> = counts
        .iter()
        .map(|count| {
            let daemon = Daemon::start(&LIMITS);
            let idle = count.saturating_sub(BUSY);
            let crowd = (idle > 0).then(|| Crowd::start(daemon.ingest, idle, 0));
            (crowd, daemon)
        })
        .collect();
    let mut rates = vec![Vec::new(); counts.len()];
    let mut cpu_ns = vec![Vec::new(); counts.len()];
    for _ in 0..ROUNDS {
        for (at, (_, daemon)) in among.iter().enumerate() {
            let flood = Flood {
                connections: BUSY,
                ..Flood::new(daemon.ingest, PAYLOAD_BYTES, Amount::Time(BUSY_TIME))
            };
            let before = daemon.usage();
            let flooded = flood.run();
            rates[at].push(flooded.frames_per_s());
            cpu_ns[at].push((daemon.usage().cpu_ns - before.cpu_ns) as f64 / flooded.frames as f64);
        }
    }
    println!("{BUSY} busy among  frames/s  ns CPU/frame  peak MiB  x alone");
    let alone = median(rates[0].iter().copied());
    for (at, (_, daemon)) in among.iter().enumerate() {
        let rate = median(rates[at].iter().copied());
        println!(
            "{:>13}  {rate:>8.0}  {:>12.0}  {:>8}  {:>7.2}",
            counts[at].saturating_sub(BUSY),
            median(cpu_ns[at].iter().copied()),
            daemon.usage().resident_bytes_peak >> 20,
            rate / alone,
        );
    }
}

/// Connections that answer PINGs and send nothing, all on one thread. Dropping this closes them.
struct Crowd {
    opened_in: Duration,
    pings: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Opens `count` connections. Returns when all have received WELCOME and ACKs.
    fn start(address: SocketAddr, count: u32, heartbeat_s: u16) -> Self {
        let (opened_tx, opened_rx) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let pings = Arc::new(AtomicU64::new(0));
        let thread = std::thread::spawn({
            let pings = Arc::clone(&pings);
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let places = Arc::new(Semaphore::new(CONNECTING_MAX));
                    let mut members = JoinSet::new();
                    for source_id in (FIRST_IDLE_SOURCE..).take(count as usize) {
                        let hello = hello(source_id, SourceKind::LiveUplink, heartbeat_s);
                        let (places, opened, pings) = (places.clone(), opened_tx.clone(), pings.clone());
                        members.spawn(idle_away(address, hello, places, opened, pings));
                    }
                    drop(opened_tx);
                    tokio::select! {
                        _ = stopped => {}
                        Some(gone) = members.join_next() => panic!("a connection has ended: {gone:?}"),
                    }
                });
            }
        });
        let started = Instant::now();
        for _ in 0..count {
            opened_rx.recv().expect("a connection is refused");
        }
        Self { opened_in: started.elapsed(), pings, stop: Some(stop), thread: Some(thread) }
    }

    /// The number of PINGs answered so far.
    fn pings(&self) -> u64 {
        self.pings.load(Ordering::Relaxed)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Ignore the result: a panic of the thread has already been printed.
        let _ = self.thread.take().unwrap().join();
    }
}

/// Opens a connection once a permit is free and reports that. From then on answers PINGs, while other connections
/// still open.
async fn idle_away(
    address: SocketAddr,
    hello: Hello,
    places: Arc<Semaphore>,
    opened: Sender<()>,
    pings: Arc<AtomicU64>,
) {
    let place = places.acquire().await.unwrap();
    let mut connection = Connection::open(address, &hello, Frames::single(0)).await;
    drop(place);
    opened.send(()).unwrap();
    drop(opened);
    let mut seen = 0;
    while !connection.has_ended() {
        connection.turn(None).await;
        pings.fetch_add(connection.pings() - seen, Ordering::Relaxed);
        seen = connection.pings();
    }
}
