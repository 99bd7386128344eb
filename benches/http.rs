//! Measures the cost of HTTP clients for a daemon that receives as much as it can.
//!
//!     cargo bench --bench http
//!
//! 48 connections flood the daemon with routine frames of 64 bytes in three cases: without HTTP clients, with a shift
//! of operators, and with 500 clients that ask for events and read none. A shift is four dashboards, and once a
//! second a scrape, statistics and sources. Prometheus would ask only four times a minute. `ratio` compares the
//! received frames per second with those of the same round without clients. `ns` is the daemon's CPU time per frame.
//! The clients share the machine, and their CPU time reduces the rate of frames.
//!
//! `answer` is the time of a request for statistics during the flood. Figures are medians. Compare the ratios of one
//! run.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

mod support;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use support::{Amount, Daemon, Flood, Flooded, median};

const ROUNDS: usize = 5;
const PAYLOAD_BYTES: usize = 64;
/// Time for which each connection sends. Events and scrapes come once a second, and the part that goes into the
/// disk's caches does not matter.
const TIME: Duration = Duration::from_secs(10);
const DASHBOARDS: usize = 4;
const UNREAD: usize = 500;
const EVERY: Duration = Duration::from_secs(1);
/// Time between two checks of a reader whether it must end.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Clone, Copy)]
enum By {
    Nobody,
    AShift,
    WhoNeverReads,
}

struct Measured {
    flooded: Flooded,
    daemon_cpu_ns: u64,
    /// The median time of some requests for statistics.
    answer: Duration,
}

fn main() {
    if !support::is_asked_for("http") {
        return;
    }
    let kinds =
        [(By::Nobody, "no client"), (By::AShift, "a shift"), (By::WhoNeverReads, "500 that read nothing")];
    let mut rows = kinds.map(|_| vec![]);
    for _ in 0..ROUNDS {
        for (row, (watched, _)) in rows.iter_mut().zip(kinds) {
            row.push(measure(watched));
        }
    }
    println!("{PAYLOAD_BYTES} B, watched by     frames/s   ratio     ns   answer ms");
    let frames_per_s = |one: &Measured| one.flooded.frames_per_s();
    for (row, (_, name)) in rows.iter().zip(kinds) {
        // Compare within a round: the other load of the machine changes more slowly.
        let ratios = row.iter().zip(&rows[0]).map(|(one, without)| frames_per_s(one) / frames_per_s(without));
        println!(
            "{name:<22} {:>9.0}   {:>5.3}   {:>4.0}   {:>9.1}",
            median(row.iter().map(frames_per_s)),
            median(ratios),
            median(row.iter().map(|one| one.daemon_cpu_ns as f64 / one.flooded.frames as f64)),
            median(row.iter().map(|one| one.answer.as_secs_f64() * 1e3)),
        );
    }
}

fn measure(watched: By) -> Measured {
    let daemon = Daemon::start(&[]);
    let http = daemon.http;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut watchers = Vec::new();
    let mut unread = Vec::new();
    match watched {
        By::Nobody => {}
        By::AShift => {
            watchers.extend((0..DASHBOARDS).map(|_| spawn(&is_over, move |is_over| listen(http, is_over))));
            watchers.push(spawn(&is_over, move |is_over| poll(http, is_over)));
        }
        By::WhoNeverReads => unread.extend((0..UNREAD).map(|_| ask(http, "/api/v1/stream"))),
    }
    let asker = spawn_answers(&is_over, http);
    let cpu_ns = daemon.usage().cpu_ns;
    let flooded = Flood::new(daemon.ingest, PAYLOAD_BYTES, Amount::Time(TIME)).run();
    let daemon_cpu_ns = daemon.usage().cpu_ns - cpu_ns;
    is_over.store(true, Relaxed);
    watchers.into_iter().for_each(|watcher| watcher.join().unwrap());
    Measured { flooded, daemon_cpu_ns, answer: asker.join().unwrap() }
}

fn spawn(is_over: &Arc<AtomicBool>, watch: impl FnOnce(&AtomicBool) + Send + 'static) -> JoinHandle<()> {
    let is_over = Arc::clone(is_over);
    thread::spawn(move || watch(&is_over))
}

/// Asks for statistics once a second in every case. Returns the median time.
fn spawn_answers(is_over: &Arc<AtomicBool>, http: SocketAddr) -> JoinHandle<Duration> {
    let is_over = Arc::clone(is_over);
    thread::spawn(move || {
        let mut took = Vec::new();
        each_second(&is_over, || {
            let asked = Instant::now();
            read_to_end(ask(http, "/api/v1/stats"));
            took.push(asked.elapsed().as_secs_f64());
        });
        Duration::from_secs_f64(median(took))
    })
}

fn each_second(is_over: &AtomicBool, mut work: impl FnMut()) {
    let mut due = Instant::now();
    while !is_over.load(Relaxed) {
        if Instant::now() >= due {
            work();
            due += EVERY;
        }
        thread::sleep(LOOK);
    }
}

fn poll(http: SocketAddr, is_over: &AtomicBool) {
    each_second(is_over, || {
        for path in ["/metrics", "/api/v1/stats", "/api/v1/sources"] {
            read_to_end(ask(http, path));
        }
    });
}

fn listen(http: SocketAddr, is_over: &AtomicBool) {
    let mut events = ask(http, "/api/v1/stream");
    events.set_read_timeout(Some(LOOK)).unwrap();
    let mut taken = vec![0; 64 << 10];
    while !is_over.load(Relaxed) {
        match events.read(&mut taken) {
            Ok(read) => assert!(read > 0, "the events ended"),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}")
            }
        }
    }
}

fn ask(http: SocketAddr, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(http).unwrap();
    socket
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    socket
}

fn read_to_end(mut answer: TcpStream) {
    let mut text = Vec::new();
    answer.read_to_end(&mut text).unwrap();
    assert!(text.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&text));
}
