//! Measures good satellites during attacks: which promises hold, and how long an emergency waits.
//!
//!     cargo bench --bench attack -- [SECONDS]
//!
//! 48 satellites of the simulator send 20 frames of 256 B a second each. A tenth of the frames are emergencies. They
//! first run alone, for a fifth of SECONDS (600). Then they run on a new daemon with segments of 8 MiB during four
//! attacks. Each attacker is a process with the lowest priority:
//!
//! * memory: 24 connections obey their credit and send one empty routine frame after each 44 KiB of emergencies, in
//!   bursts of 128 MiB every 15 s;
//! * files: 600 silent connections to HTTP, while segments rotate;
//! * slots: 256 silent connections to the listener for sources and 80 to the listener for subscribers, from two
//!   addresses, renewed;
//! * stderr: a storm of refused HELLOs, while the daemon's stderr is read at 1 KiB/s.
//!
//! Meanwhile good clients connect to both listeners five times a second. The run fails (exit 1) when a promise is
//! broken. A run of 600 s takes about 6 GB of disk.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

#[path = "attack/attackers.rs"]
mod attackers;
#[path = "../tests/support/fleet.rs"]
#[allow(dead_code, reason = "the bench takes what it needs")]
mod fleet;
#[path = "attack/good.rs"]
mod good;
mod support;
#[path = "../tests/support/wait.rs"]
#[allow(dead_code, reason = "the bench takes what it needs")]
mod wait;

use std::io::{PipeReader, Read as _, pipe};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fleet::{Fleet, FleetLog};
use good::{Good, Greetings};
use sim::{Plan, Report};
use support::{Daemon, is_asked_for};

const SECONDS: u64 = 600;
/// Longest duration of a drain, plus the time for the kernel to clean up.
const DRAIN_MAX: Duration = Duration::from_millis(5_500);
const OVERRIDES: [(&str, &str); 3] =
    [("LOG__LEVEL", "info"), ("ARCHIVE__SEGMENT_SIZE", "8 MiB"), ("ARCHIVE__RESERVE", "4 MiB")];

fn main() -> ExitCode {
    if attackers::is_one() {
        return ExitCode::SUCCESS;
    }
    if !is_asked_for("attack") {
        return ExitCode::SUCCESS;
    }
    let seconds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(SECONDS);
    let alone = Run::new(false, Duration::from_secs((seconds / 5).max(10)));
    let attacked = Run::new(true, Duration::from_secs(seconds));
    println!("{:<30} {:>12} {:>12}", "", "alone", "attacked");
    for (row, value) in ROWS {
        println!("{row:<30} {:>12} {:>12}", value(&alone), value(&attacked));
    }
    let broken: Vec<String> = [alone, attacked].into_iter().flat_map(|run| run.broken).collect();
    for promise in &broken {
        println!("BROKEN: {promise}");
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The results of one daemon.
struct Run {
    report: Report,
    peak_mib: f64,
    bound_mib: f64,
    sources: Greetings,
    subscribers: Greetings,
    /// The number of frames that the daemon received.
    received: u64,
    drained_in: Duration,
    log_bytes: usize,
    broken: Vec<String>,
}

type Row = (&'static str, fn(&Run) -> String);

const ROWS: [Row; 13] = [
    ("frames of the fleet, archived", |run| run.report.acked.to_string()),
    ("frames of all, received", |run| run.received.to_string()),
    ("emergency, p50 ms", |run| ms(run.report.ack_latency_us.emergency.p50)),
    ("emergency, p99 ms", |run| ms(run.report.ack_latency_us.emergency.p99)),
    ("routine, p50 ms", |run| ms(run.report.ack_latency_us.routine.p50)),
    ("routine, p99 ms", |run| ms(run.report.ack_latency_us.routine.p99)),
    ("good HELLOs, refused", |run| format!("{}, {}", run.sources.all, run.sources.refused.len())),
    ("slowest WELCOME ms", |run| format!("{:.0}", run.sources.slowest.as_secs_f64() * 1e3)),
    ("good SUBSCRIBEs, refused", |run| format!("{}, {}", run.subscribers.all, run.subscribers.refused.len())),
    ("memory, peak MiB", |run| format!("{:.0}", run.peak_mib)),
    ("memory, bound MiB", |run| format!("{:.0}", run.bound_mib)),
    ("drain s", |run| format!("{:.2}", run.drained_in.as_secs_f64())),
    ("log, bytes read", |run| run.log_bytes.to_string()),
];

fn ms(us: u64) -> String {
    format!("{:.1}", us as f64 / 1e3)
}

impl Run {
    fn new(is_attacked: bool, time: Duration) -> Self {
        let (stderr, writer) = pipe().unwrap();
        let daemon = Daemon::start_with(&[], &OVERRIDES, |command| {
            command.stderr(writer);
        });
        let bound_mib = daemon.bound_mib;
        let plan = Plan {
            connect: daemon.ingest.to_string(),
            satellites: 48,
            replays: 0,
            rate: 20.0,
            emergency_ratio: 0.1,
            duration: Some(time),
            linger: Duration::from_secs(120),
            ..Plan::default()
        };
        let reads_on = Arc::new(AtomicBool::new(false));
        let log = std::thread::spawn({
            let reads_on = Arc::clone(&reads_on);
            move || read_slowly(stderr, &reads_on)
        });
        let fleet = Fleet::start(plan.clone());
        let good = Good::start(daemon.ingest, daemon.feed);
        let attack = is_attacked.then(|| attackers::start([daemon.ingest, daemon.feed, daemon.http]));
        std::thread::sleep(time);
        // Stop the good clients before the attackers, so that they connect only during the attack.
        let [sources, subscribers] = good.stop();
        drop(attack);
        let report = fleet.wait();
        let peak_mib = daemon.usage().resident_bytes_peak as f64 / f64::from(1 << 20);
        let books = good::books(daemon.http);
        let (began, dir) = (Instant::now(), daemon.archive());
        let home = daemon.stop_and_keep();
        let drained_in = began.elapsed();
        reads_on.store(true, Ordering::Relaxed);
        let log = log.join().unwrap();
        // This panics if a frame is missing, doubled, damaged or out of order.
        let archived = FleetLog::read(&plan, &dir, |_| {});
        drop(home);
        let mut run = Self {
            peak_mib,
            bound_mib,
            sources,
            subscribers,
            received: books.received,
            drained_in,
            log_bytes: log.len(),
            broken: Vec::new(),
            report,
        };
        run.judge(archived, books.are_balanced());
        run
    }

    fn judge(&mut self, archived: u64, are_balanced: bool) {
        let Report { sent, acked, reconnects, errors, .. } = &self.report;
        let (sources, subscribers) = (&self.sources.refused, &self.subscribers.refused);
        let promises = [
            (sent == acked, format!("{acked} of {sent} frames were acknowledged: {errors:?}")),
            (archived == *acked, format!("{acked} frames were acknowledged, {archived} are in the archive")),
            (*reconnects == 0, format!("good sources were cut off {reconnects} times")),
            (are_balanced, "the books do not balance".to_owned()),
            (
                self.peak_mib <= self.bound_mib,
                format!("{:.0} MiB, {:.0} at most", self.peak_mib, self.bound_mib),
            ),
            (sources.is_empty(), format!("good sources were refused: {:?}", sources.first())),
            (subscribers.is_empty(), format!("good subscribers were refused: {:?}", subscribers.first())),
            (self.drained_in <= DRAIN_MAX, format!("the drain took {:?}", self.drained_in)),
        ];
        self.broken = promises.into_iter().filter(|(is_kept, _)| !is_kept).map(|(_, text)| text).collect();
    }
}

/// Reads 1 KiB a second until `reads_on` is set, then reads the rest.
fn read_slowly(mut stderr: PipeReader, reads_on: &AtomicBool) -> Vec<u8> {
    let mut log = Vec::new();
    let mut piece = [0; 1024];
    while !reads_on.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_secs(1));
        // Read only if bytes are there: a read of an empty pipe would block, possibly until the process ends.
        if rustix::io::ioctl_fionread(&stderr).is_ok_and(|bytes| bytes > 0) {
            let read = stderr.read(&mut piece).unwrap();
            log.extend_from_slice(&piece[..read]);
        }
    }
    stderr.read_to_end(&mut log).unwrap();
    log
}
