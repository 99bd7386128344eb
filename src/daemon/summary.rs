//! One line per second about the daemon's work, for `run --simulate`.

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Handles;
use archive::Status;
use ingest::pipeline::stats::snapshot;

/// Writes a line to `out` every second until the future is dropped or `out` is gone.
///
/// # Errors
/// Errors of `out`.
pub async fn every_second(handles: Handles, mut out: impl Write) -> io::Result<()> {
    let started = Instant::now();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let (mut before, mut then) = (handles.books.totals(), started);
    loop {
        let now = ticks.tick().await;
        let (totals, stats) = (handles.books.totals(), snapshot(&handles.counters));
        let sources = handles.router.list().await.map_or(0, |sources| sources.len());
        let rate = (totals.archived - before.archived) as f64 / (now - then).as_secs_f64();
        let not_stored = match totals.not_stored {
            0 => String::new(),
            frames => format!("  not stored {frames}"),
        };
        writeln!(
            out,
            "{:>4} s  {sources} sources  {rate:.0} frames/s  archived {}{not_stored}  emergencies {}  in flight {}  archive {}",
            (now - started).as_secs(),
            totals.archived,
            stats.emergency_count,
            totals.in_flight(),
            describe(&handles.archive_status.borrow()),
        )?;
        (before, then) = (totals, now);
    }
}

fn describe(status: &Status) -> &str {
    match status {
        Status::Ok => "ok",
        Status::Degraded { reason } => reason,
        Status::Failed { error } => error,
    }
}
