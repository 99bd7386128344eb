//! Fan-out: live subscribers while 48 connections send routine as fast as they can.

use std::time::Duration;

use wire::Start;

use super::subscribers::Subscribers;
use super::support::{Amount, Daemon, Flood, Flooded, median};
use super::{LIMITS, ROUNDS, file_bytes_read};

const SUBSCRIBERS: [usize; 4] = [0, 1, 10, 50];
/// Time for which each connection sends. Long enough that the disk's caches do not matter.
const TIME: Duration = Duration::from_secs(10);

struct Measured {
    flooded: Flooded,
    daemon_cpu_ns: u64,
    /// Frames that all subscribers had together when all frames were durable.
    delivered: u64,
    /// Bytes read from the log during the flood.
    read_bytes: u64,
}

pub fn compare(payload_bytes: usize) {
    let mut rows = SUBSCRIBERS.map(|_| vec![]);
    for _ in 0..ROUNDS {
        for (row, count) in rows.iter_mut().zip(SUBSCRIBERS) {
            row.push(measure(payload_bytes, count));
        }
    }
    println!("{payload_bytes} B   frames/s   ratio   ns/frame   ns/delivery   delivered   from the log");
    let frames_per_s = |row: &[Measured]| median(row.iter().map(|one| one.flooded.frames_per_s()));
    let without = frames_per_s(&rows[0]);
    for (row, count) in rows.iter().zip(SUBSCRIBERS) {
        let frames = |one: &Measured| one.flooded.frames as f64;
        let due = |one: &Measured| frames(one) * count as f64;
        let log_bytes = |one: &Measured| due(one) * (32 + payload_bytes) as f64;
        print!(
            "{count:>5} {:>10.0}    {:.2}   {:>8.0}",
            frames_per_s(row),
            frames_per_s(row) / without,
            median(row.iter().map(|one| one.daemon_cpu_ns as f64 / frames(one))),
        );
        if count == 0 {
            println!();
            continue;
        }
        println!(
            "   {:>11.0}   {:>9.2}   {:>12.2}",
            median(row.iter().map(|one| one.daemon_cpu_ns as f64 / one.delivered as f64)),
            median(row.iter().map(|one| one.delivered as f64 / due(one))),
            median(row.iter().map(|one| one.read_bytes as f64 / log_bytes(one))),
        );
    }
}

fn measure(payload_bytes: usize, count: usize) -> Measured {
    let daemon = Daemon::start(&LIMITS);
    let mut subscribers = Subscribers::start(daemon.feed, count, Start::Live, u64::MAX);
    let (cpu_ns, read_bytes) = (daemon.usage().cpu_ns, file_bytes_read(daemon.pid()));
    let flooded = Flood::new(daemon.ingest, payload_bytes, Amount::Time(TIME)).run();
    let daemon_cpu_ns = daemon.usage().cpu_ns - cpu_ns;
    let read_bytes = file_bytes_read(daemon.pid()) - read_bytes;
    Measured { flooded, daemon_cpu_ns, delivered: subscribers.got().frames, read_bytes }
}
