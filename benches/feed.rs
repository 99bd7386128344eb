//! Measures the cost of subscribers and the speed of history, compared with the same machine without subscribers in
//! the same run.
//!
//!     cargo bench --bench feed -- [live] [history] [MB]
//!
//! *live*: 48 connections flood the daemon with routine frames while 0, 1, 10 and 50 subscribers follow. `ratio`
//! compares the received frames per second with those without subscribers. The nanoseconds are the daemon's CPU time.
//! `delivered` is the part of the frames that the subscribers had when the last frame was acknowledged. `from the
//! log` is the part of the archive that was read for each subscriber. At 0 every subscriber stayed in the ring.
//!
//! *history*: one subscriber, then four at a time, from the oldest frame of an archive of MB (2000) in the page
//! cache. The bench compares them with plain reads of the same files (`cat`), and with a writer that only writes as
//! many bytes to a socket (`bare`). Loopback itself limits what a subscriber can get. The milliseconds are CPU time
//! per GB delivered.
//!
//! Daemon and subscribers run in separate processes on the same machine. Figures are medians. Machines differ, so
//! compare the ratios of one run.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

#[path = "feed/fan_out.rs"]
mod fan_out;
#[path = "feed/history.rs"]
mod history;
#[path = "feed/subscribers.rs"]
mod subscribers;
mod support;

const ROUNDS: usize = 3;
/// Limits for more subscribers than the default, and the memory for them.
const LIMITS: [(&str, &str); 2] = [("FEED__MAX_SUBSCRIBERS", "64"), ("INGEST__MEMORY_LIMIT", "2 GiB")];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == subscribers::SERVE) {
        return subscribers::serve(&args[1..]);
    }
    if !support::is_asked_for("feed") {
        return;
    }
    let megabytes = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(2_000);
    let is_asked = |part: &str| args.iter().any(|arg| arg == part);
    let both = is_asked("live") == is_asked("history");
    if both || is_asked("live") {
        [64, 256].into_iter().for_each(fan_out::compare);
    }
    if both || is_asked("history") {
        [64, 1_115].into_iter().for_each(|payload_bytes| history::compare(payload_bytes, megabytes));
    }
}

/// Bytes that a process has read from files so far. Reads from sockets do not count.
fn file_bytes_read(pid: u32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    read.trim().parse().unwrap()
}
