//! Fan-out: live subscribers while 48 connections send routine flat out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use telemetry_aggregator::sim::{self, Plan, Progress};
use telemetry_aggregator::wire::Start;
use tokio::runtime::Runtime;

use super::daemon::Daemon;
use super::subscribers::Subscribers;
use super::{ROUNDS, median};

const CONNECTIONS: u32 = 48;
const SUBSCRIBERS: [usize; 4] = [0, 1, 10, 50];
/// Payload bytes each connection sends in a round; at 64 bytes that is 50,000 frames.
const PAYLOAD_BYTES: u64 = 3_200_000;

struct Measured {
    frames_per_s: f64,
    cpu_s: f64,
    /// All frames in.
    frames: f64,
    /// To all subscribers together, while frames came in.
    delivered: f64,
    /// Read from the log, to all bytes archived and for one subscriber.
    log_share: f64,
}

pub fn compare(payload_bytes: usize) {
    let runtime = Runtime::new().unwrap();
    let mut rows = SUBSCRIBERS.map(|_| vec![]);
    for _ in 0..ROUNDS {
        for (row, count) in rows.iter_mut().zip(SUBSCRIBERS) {
            row.push(measure(&runtime, payload_bytes, count));
        }
    }
    let without = median(&rows[0], |one| one.frames_per_s);
    for (row, count) in rows.iter().zip(SUBSCRIBERS) {
        let frames_per_s = median(row, |one| one.frames_per_s);
        println!(
            "{payload_bytes:>5} B  {count:>2} subscribers: {frames_per_s:>9.0} frames/s in, ratio {:.2}; daemon {:>5.0} ns CPU/frame, {:>4.0} ns/delivery; {:.2} delivered at once, {:.2} read from the log",
            frames_per_s / without,
            median(row, |one| one.cpu_s / one.frames * 1e9),
            median(row, |one| one.cpu_s / one.delivered.max(1.0) * 1e9),
            median(row, |one| one.delivered / (one.frames * count.max(1) as f64)),
            median(row, |one| one.log_share),
        );
    }
}

fn measure(runtime: &Runtime, payload_bytes: usize, count: usize) -> Measured {
    // Beside the build, so that it is a real disk and not a /tmp in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let daemon = Daemon::start(dir.path());
    let mut subscribers = Subscribers::start(daemon.feed, count, Start::Live, u64::MAX);
    let frames = PAYLOAD_BYTES / payload_bytes as u64;
    let plan = Plan {
        connect: daemon.ingest.to_string(),
        satellites: CONNECTIONS,
        replays: 0,
        frames: Some(frames),
        payload_bytes,
        emergency_ratio: 0.0,
        // A daemon that has gone away would be waited for without end.
        duration: Some(Duration::from_secs(60)),
        ..Plan::default()
    };
    let (_stop_tx, stop) = tokio::sync::watch::channel(false);
    let (started, cpu_before_s, read_before) = (Instant::now(), daemon.cpu_s(), daemon.read_bytes());
    let report = runtime.block_on(sim::run(plan, stop, Arc::new(Progress::default())));
    let seconds = started.elapsed().as_secs_f64();
    let (cpu_s, read) = (daemon.cpu_s() - cpu_before_s, daemon.read_bytes() - read_before);
    let delivered = subscribers.got().frames as f64;
    assert!(report.is_complete(), "{report}");
    let frames = (u64::from(CONNECTIONS) * frames) as f64;
    let archived = frames * (32 + payload_bytes) as f64 * count.max(1) as f64;
    Measured { frames_per_s: frames / seconds, cpu_s, frames, delivered, log_share: read as f64 / archived }
}
