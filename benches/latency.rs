//! Measures the time until a frame is acknowledged, that is, until it is synced: idle, saturated, and at half of that
//! rate.
//!
//!     cargo bench --bench latency -- [SECONDS]
//!
//! * idle: one connection sends one frame at a time, both lanes in turn; the same over TLS 1.3;
//! * saturated: 48 connections flood routine of 256 B as fast as they can. About every 10 ms an emergency occurs on a
//!   separate connection, and another on one of the flooding connections, where the emergency goes first at the next
//!   write. Routine is sampled on the flooding connections;
//! * half: the same with routine at half of the measured rate;
//! * emergency flood: 16 connections flood emergencies of 4 KiB as fast as they can, 32 flood routine of 256 B.
//!   Emergencies are sampled on a separate connection. The phase runs once with a `pipeline.routine_max_delay` longer
//!   than the phase, so that routine goes only where no emergency waits, and once with the default, so that routine
//!   has its turns.
//!
//! Each phase lasts SECONDS (15) on its own daemon. Times are in microseconds, from the moment a frame exists to the
//! moment its ACK is read. `written` begins when the socket has taken the emergency. `x idle` compares p50 and p99
//! with the idle phase of this run. `fdatasync` is a plain 4 KiB append on the same disk, before the phase or during
//! a flood like that of the phase. The senders share the machine with the daemon. `1 ms timer` shows how late a plain
//! timer of this process fires, which separates waiting for a CPU from waiting for the daemon.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

mod support;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use frame::SourceKind;
use hdrhistogram::Histogram;
use support::{Amount, Certificate, Connection, Credit, Daemon, Disk, Flood, Frames, hello, is_asked_for};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const CONNECTIONS: u32 = 48;
const PAYLOAD_BYTES: usize = 256;
/// How many of the [`CONNECTIONS`] flood emergencies in the last phases.
const FLOODING: u32 = 16;
const FLOOD_PAYLOAD_BYTES: usize = 4 << 10;
/// Mean time between two emergencies on the separate connection, and on the flooding connections together.
const EMERGENCY_GAP: Duration = Duration::from_millis(10);
/// Time between two sends of a paced source. Each sends all frames that are due.
const PACE_STEP: Duration = Duration::from_millis(2);
/// Most routine frames of one connection that are sampled at a time, so that sampling does not slow the connection.
const SAMPLES_MAX: usize = 64;
/// Number of syncs on the disk without the daemon.
const SYNCS: usize = 500;
const SYNC_GAP: Duration = Duration::from_millis(2);

/// The routine that a source sends besides its emergencies.
#[derive(Clone, Copy)]
enum Routine {
    None,
    FlatOut,
    /// Frames per second.
    Paced(f64),
}

/// Times in nanoseconds.
struct Samples {
    emergency: Histogram<u64>,
    /// From the moment the socket has taken the frame.
    emergency_written: Histogram<u64>,
    routine: Histogram<u64>,
    routine_frames: u64,
}

/// A phase under load.
struct Loaded {
    own: Samples,
    flooding: Samples,
    timer: Histogram<u64>,
    fdatasync: Histogram<u64>,
    frames_per_s: f64,
}

fn main() {
    if !is_asked_for("latency") {
        return;
    }
    let seconds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(15);
    let time = Duration::from_secs(seconds);
    let disk = Disk::new();
    heading("idle");
    let fdatasync = disk.sync_small(SYNCS, SYNC_GAP);
    row("fdatasync", &fdatasync, None);
    let idle = runtime().block_on(one_at_a_time(Daemon::start(&[]).ingest, None, time));
    row("emergency", &idle.emergency, None);
    row("routine", &idle.routine, None);
    let encrypted = idle_over_tls(time);
    row("emergency over TLS", &encrypted.emergency, Some(&idle.emergency));
    row("routine over TLS", &encrypted.routine, Some(&idle.routine));

    let saturated = loaded(&disk, time, None);
    print(&format!("saturated, {:.0} frames/s", saturated.frames_per_s), &saturated, &idle, &fdatasync);
    let half = loaded(&disk, time, Some(saturated.frames_per_s / 2.0));
    print(&format!("half, {:.0} frames/s", half.frames_per_s), &half, &idle, &fdatasync);
    for (title, delay) in [("without turns", "60s"), ("with turns", "1s")] {
        emergency_flood(title, delay, time, &idle);
    }
}

/// Prints the figures of emergencies and routine in a flood of emergencies.
fn emergency_flood(title: &str, routine_max_delay: &str, time: Duration, idle: &Samples) {
    let daemon = Daemon::start(&[("PIPELINE__ROUTINE_MAX_DELAY", routine_max_delay)]);
    let address = daemon.ingest;
    let (own, routine, emergencies, elapsed) = std::thread::scope(|threads| {
        let own = threads.spawn(move || {
            runtime().block_on(async {
                Source::open(address, CONNECTIONS + 1).await.run(Routine::None, EMERGENCY_GAP, time).await
            })
        });
        let emergencies = threads.spawn(move || runtime().block_on(flood_of_emergencies(address, time)));
        let started = Instant::now();
        let routine = runtime().block_on(routine_beside(address, time));
        let elapsed = started.elapsed().as_secs_f64();
        (own.join().unwrap(), routine, emergencies.join().unwrap(), elapsed)
    });
    println!();
    let per_s = |frames: u64| frames as f64 / elapsed;
    println!(
        "emergency flood {title}: {:.0} emergencies/s of 4 KiB, {:.0} routine frames/s of 256 B",
        per_s(emergencies),
        per_s(routine)
    );
    heading("");
    row("emergency, own connection", &own.emergency, Some(&idle.emergency));
}

/// Floods emergencies. Returns how many became durable.
async fn flood_of_emergencies(address: SocketAddr, time: Duration) -> u64 {
    let mut running = JoinSet::new();
    for source_id in 1..=FLOODING {
        running.spawn(async move {
            let hello = hello(source_id, SourceKind::LiveUplink, 0);
            let mut connection = Connection::open(address, &hello, Frames::new(PAYLOAD_BYTES)).await;
            let payload = Bytes::from(vec![7; FLOOD_PAYLOAD_BYTES]);
            let over_at = Instant::now() + time;
            while Instant::now() < over_at {
                while connection.take_emergency(&payload).is_some() {}
                connection.turn(Some(over_at)).await;
            }
            connection.emergency().durable_next
        });
    }
    running.join_all().await.into_iter().sum()
}

/// Sends routine as fast as the connections can. Returns how many frames became durable.
async fn routine_beside(address: SocketAddr, time: Duration) -> u64 {
    let mut running = JoinSet::new();
    for source_id in FLOODING + 1..=CONNECTIONS {
        running.spawn(async move {
            let hello = hello(source_id, SourceKind::LiveUplink, 0);
            let mut connection = Connection::open(address, &hello, Frames::new(PAYLOAD_BYTES)).await;
            let over_at = Instant::now() + time;
            while Instant::now() < over_at {
                connection.take_routine(u64::MAX);
                connection.turn(Some(over_at)).await;
            }
            connection.routine().durable_next
        });
    }
    running.join_all().await.into_iter().sum()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn idle_over_tls(time: Duration) -> Samples {
    let certificate = Certificate::new();
    let overrides = certificate.overrides();
    let daemon = Daemon::start(&overrides.each_ref().map(|(name, path)| (*name, path.as_str())));
    runtime().block_on(one_at_a_time(daemon.ingest, Some(&certificate.client()), time))
}

async fn one_at_a_time(address: SocketAddr, tls: Option<&tls::Client>, time: Duration) -> Samples {
    let mut source = Source::open_with(address, tls, 1).await;
    let started = Instant::now();
    while started.elapsed() < time {
        for is_emergency in [true, false] {
            sleep(some(EMERGENCY_GAP / 4)).await;
            if is_emergency {
                source.emergency()
            } else {
                source.routine(1)
            }
            while source.is_waiting() {
                source.turn(None).await;
            }
        }
    }
    source.samples
}

/// Runs the phase with `rate` frames per second of routine in total. `None` means as fast as possible.
fn loaded(disk: &Disk, time: Duration, rate: Option<f64>) -> Loaded {
    let daemon = Daemon::start(&[]);
    let address = daemon.ingest;
    let pace = rate.map(|rate| rate / f64::from(CONNECTIONS));
    let is_over = AtomicBool::new(false);
    let (own, (flooding, elapsed), timer) = std::thread::scope(|threads| {
        let timer = threads.spawn(|| lateness(&is_over));
        // On a separate thread, so that the connection does not wait for the flooding tasks.
        let own = threads.spawn(|| {
            runtime().block_on(async {
                Source::open(address, CONNECTIONS + 1).await.run(Routine::None, EMERGENCY_GAP, time).await
            })
        });
        let started = Instant::now();
        let flooding = runtime().block_on(flood(address, pace, time));
        let elapsed = started.elapsed();
        let own = own.join().unwrap();
        is_over.store(true, Ordering::Relaxed);
        (own, (flooding, elapsed), timer.join().unwrap())
    });
    let fdatasync = std::thread::scope(|threads| {
        // Long enough for all syncs, even if each takes ten times as long as without load.
        let time = Amount::Time(Duration::from_secs(5));
        let flood = Flood {
            connections: CONNECTIONS,
            credit: Credit::Obeyed,
            first_source_id: 1_000,
            pace,
            ..Flood::new(address, PAYLOAD_BYTES, time)
        };
        let flood = threads.spawn(move || flood.run());
        let syncs = disk.sync_small(SYNCS, SYNC_GAP);
        flood.join().unwrap();
        syncs
    });
    let frames_per_s = flooding.routine_frames as f64 / elapsed.as_secs_f64();
    Loaded { own, flooding, timer, fdatasync, frames_per_s }
}

async fn flood(address: SocketAddr, pace: Option<f64>, time: Duration) -> Samples {
    let routine = pace.map_or(Routine::FlatOut, Routine::Paced);
    let mut sources = Vec::new();
    for source_id in 1..=CONNECTIONS {
        sources.push(Source::open(address, source_id).await);
    }
    let mut running = JoinSet::new();
    for source in sources {
        running.spawn(source.run(routine, EMERGENCY_GAP * CONNECTIONS, time));
    }
    let mut all = Samples::new();
    while let Some(samples) = running.join_next().await {
        all.add(&samples.unwrap());
    }
    all
}

/// Measures how late a plain timer of one millisecond fires.
fn lateness(is_over: &AtomicBool) -> Histogram<u64> {
    let tick = Duration::from_millis(1);
    let mut late = Histogram::new(3).unwrap();
    while !is_over.load(Ordering::Relaxed) {
        let started = std::time::Instant::now();
        std::thread::sleep(tick);
        late.record((started.elapsed() - tick).as_nanos() as u64).unwrap();
    }
    late
}

/// A random time between 0.5 and 1.5 of `mean`, so that no source stays in step with the daemon.
fn some(mean: Duration) -> Duration {
    mean.mul_f64(rand::random_range(0.5..1.5))
}

/// One connection whose frames are timed.
struct Source {
    connection: Connection,
    payload: Bytes,
    samples: Samples,
    /// For each sampled frame: the position that the ACK must reach, and the moment the frame came to exist.
    routine: VecDeque<(u64, Instant)>,
    /// The same for emergencies, and the moment the socket took the emergency.
    emergency: VecDeque<(u64, Instant, Option<Instant>)>,
}

impl Source {
    async fn open(address: SocketAddr, source_id: u32) -> Self {
        Self::open_with(address, None, source_id).await
    }

    async fn open_with(address: SocketAddr, tls: Option<&tls::Client>, source_id: u32) -> Self {
        let hello = hello(source_id, SourceKind::LiveUplink, 0);
        Self {
            connection: Connection::open_with(address, tls, &hello, Frames::new(PAYLOAD_BYTES)).await,
            payload: Bytes::from(vec![7; PAYLOAD_BYTES]),
            samples: Samples::new(),
            routine: VecDeque::new(),
            emergency: VecDeque::new(),
        }
    }

    /// Sends for `time`, with an emergency every `emergency_gap` on average. Ends with BYE.
    async fn run(mut self, routine: Routine, emergency_gap: Duration, time: Duration) -> Samples {
        let (started, first) = (Instant::now(), self.connection.routine().sent_next);
        let mut emergency_at = started + emergency_gap.mul_f64(rand::random_range(0.0..1.0));
        while started.elapsed() < time {
            let now = Instant::now();
            if now >= emergency_at {
                self.emergency();
                emergency_at = now + some(emergency_gap);
            }
            let mut wake_at = emergency_at;
            match routine {
                Routine::None => {}
                Routine::FlatOut => self.routine(u64::MAX),
                Routine::Paced(pace) => {
                    let due = (started.elapsed().as_secs_f64() * pace) as u64;
                    self.routine(due - (self.connection.routine().sent_next - first));
                    wake_at = wake_at.min(now + PACE_STEP);
                }
            }
            self.turn(Some(wake_at)).await;
        }
        while !self.connection.is_written() {
            self.turn(None).await;
        }
        self.connection.say_bye(Credit::Obeyed).await;
        while !self.connection.has_ended() {
            self.turn(None).await;
        }
        self.samples.routine_frames = self.connection.routine().sent_next - first;
        self.samples
    }

    fn emergency(&mut self) {
        let sequence = self.connection.take_emergency(&self.payload).expect("credit for an emergency");
        self.emergency.push_back((sequence + 1, Instant::now(), None));
    }

    fn routine(&mut self, count: u64) {
        let taken = self.connection.take_routine(count);
        if taken > 0 && self.routine.len() < SAMPLES_MAX {
            self.routine.push_back((self.connection.routine().sent_next, Instant::now()));
        }
    }

    fn is_waiting(&self) -> bool {
        !self.routine.is_empty() || !self.emergency.is_empty()
    }

    /// Moves bytes, and records which frames are written and which are durable.
    async fn turn(&mut self, wake_at: Option<Instant>) {
        self.connection.turn(wake_at).await;
        let now = Instant::now();
        if self.connection.is_urgent_written() {
            for (_, _, written_at) in self.emergency.iter_mut().rev().take_while(|one| one.2.is_none()) {
                *written_at = Some(now);
            }
        }
        let durable_next = self.connection.routine().durable_next;
        while let Some((_, since)) = self.routine.pop_front_if(|(next, _)| *next <= durable_next) {
            record(&mut self.samples.routine, now - since);
        }
        let durable_next = self.connection.emergency().durable_next;
        while let Some((_, since, written_at)) = self.emergency.pop_front_if(|one| one.0 <= durable_next) {
            record(&mut self.samples.emergency, now - since);
            record(&mut self.samples.emergency_written, now - written_at.unwrap());
        }
    }
}

impl Samples {
    fn new() -> Self {
        let empty = Histogram::new(3).unwrap();
        Self { emergency: empty.clone(), emergency_written: empty.clone(), routine: empty, routine_frames: 0 }
    }

    fn add(&mut self, other: &Self) {
        self.emergency.add(&other.emergency).unwrap();
        self.emergency_written.add(&other.emergency_written).unwrap();
        self.routine.add(&other.routine).unwrap();
        self.routine_frames += other.routine_frames;
    }
}

fn record(times: &mut Histogram<u64>, time: Duration) {
    times.record(time.as_nanos() as u64).unwrap();
}

fn print(title: &str, loaded: &Loaded, idle: &Samples, fdatasync: &Histogram<u64>) {
    println!();
    heading(title);
    row("fdatasync beside it", &loaded.fdatasync, Some(fdatasync));
    row("1 ms timer", &loaded.timer, None);
    row("emergency, own connection", &loaded.own.emergency, Some(&idle.emergency));
    row("emergency, flooding one", &loaded.flooding.emergency, Some(&idle.emergency));
    row("  written", &loaded.flooding.emergency_written, Some(&idle.emergency_written));
    row("routine", &loaded.flooding.routine, Some(&idle.routine));
}

fn heading(title: &str) {
    println!("{title:<28}    count      p50      p99    p99.9      max  x idle p50, p99");
}

fn row(name: &str, times: &Histogram<u64>, idle: Option<&Histogram<u64>>) {
    let at = |quantile: f64| times.value_at_quantile(quantile) as f64 / 1e3;
    let ratio = |quantile: f64| {
        let idle = idle.map(|idle| idle.value_at_quantile(quantile) as f64 / 1e3);
        idle.map_or(String::new(), |idle| format!("{:.1}", at(quantile) / idle))
    };
    println!(
        "{name:<28} {:>8} {:>8.0} {:>8.0} {:>8.0} {:>8.0}  {:>10} {:>4}",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        times.max() as f64 / 1e3,
        ratio(0.5),
        ratio(0.99),
    );
}
