//! The line that `systemctl status` shows.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Handles;
use crate::systemd::Notifier;
use archive::Status;

/// How often the figures are read.
const EVERY: Duration = Duration::from_secs(5);

/// Reports the state of the daemon to `notifier` when it changes: changes of the archive at once, other
/// figures every [`EVERY`].
pub(super) async fn report(handles: Handles, notifier: Notifier) {
    if !notifier.is_heard() {
        std::future::pending::<()>().await;
    }
    let mut archive_status = handles.archive_status.clone();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut archived, mut then) = (handles.books.totals().archived, Instant::now());
    // Connected sources, and archived frames per second.
    let (mut figures, mut reported) = ((0, 0.0), String::new());
    loop {
        tokio::select! {
            now = ticks.tick() => {
                let total = handles.books.totals().archived;
                let seconds = (now - then).as_secs_f64();
                let rate = if seconds > 0.0 { (total - archived) as f64 / seconds } else { 0.0 };
                (archived, then) = (total, now);
                figures = (handles.router.list().await.map_or(0, |sources| sources.len()), rate);
            }
            // An error means that the archive is gone and the daemon is about to end.
            Ok(()) = archive_status.changed() => {}
        }
        let text = line(figures, &archive_status.borrow_and_update());
        if text != reported {
            notifier.status(&text);
            reported = text;
        }
    }
}

fn line((sources, rate): (usize, f64), archive: &Status) -> String {
    let noun = if sources == 1 { "source" } else { "sources" };
    match archive {
        Status::Ok => format!("{sources} {noun}, archive ok, {rate:.0} frames/s"),
        Status::Degraded { reason } => {
            format!("{sources} {noun}, archive degraded, {rate:.0} frames/s: {reason}")
        }
        Status::Failed { error } => format!("{sources} {noun}, archive failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_names_sources_archive_and_rate() {
        assert_eq!(line((48, 5_012.4), &Status::Ok), "48 sources, archive ok, 5012 frames/s");
        assert_eq!(line((1, 0.0), &Status::Ok), "1 source, archive ok, 0 frames/s");
        let full = Status::Degraded { reason: "no space".into() };
        assert_eq!(line((2, 1.0), &full), "2 sources, archive degraded, 1 frames/s: no space");
    }
}
