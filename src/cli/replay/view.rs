//! What a replay shows on stderr while it runs: a bar on a terminal, else a line every few seconds.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::say;
use crate::replay::{Control, Counts, Progress};

/// How often a terminal is brought up to date.
const BAR_EVERY: Duration = Duration::from_millis(200);
/// How often a line is written elsewhere.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(super) struct View {
    progress: Arc<Progress>,
    control: Arc<Control>,
    bar: Option<ProgressBar>,
    ticks: Interval,
    /// Frames read when it was last shown, and when that was.
    before: (u64, Instant),
    is_first: bool,
}

impl View {
    pub(super) fn new(progress: Arc<Progress>, control: Arc<Control>) -> Self {
        let bar = stderr().is_terminal().then(new_bar);
        let mut ticks = interval(if bar.is_some() { BAR_EVERY } else { LINE_EVERY });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { progress, control, bar, ticks, before: (0, Instant::now()), is_first: true }
    }

    /// Waits until it is time, then shows how far it is. Cancel safe.
    pub(super) async fn refresh(&mut self) {
        let now = self.ticks.tick().await;
        if std::mem::take(&mut self.is_first) {
            return;
        }
        let counts = self.progress.counts();
        let (before, then) = std::mem::replace(&mut self.before, (counts.read, now));
        let rate = (counts.read - before) as f64 / (now - then).as_secs_f64().max(1e-3);
        let line = self.line(&counts, rate);
        match &self.bar {
            Some(bar) => {
                bar.set_length(counts.end_offset.saturating_sub(counts.first_offset));
                bar.set_position(counts.offset.saturating_sub(counts.first_offset));
                bar.set_message(line);
                bar.tick();
            }
            None => say(&line),
        }
    }

    /// Says something beside it.
    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }

    pub(super) fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, counts: &Counts, rate: f64) -> String {
        let &Counts { offset, end_offset, read, acked, connected, received_ns, .. } = counts;
        let mut line = format!(
            "{}, offset {offset} of {end_offset}, read {read}, acked {acked}, {rate:.0} frames/s, {connected} connected",
            time_text(received_ns)
        );
        if self.control.is_paused() {
            line.push_str(", paused");
        }
        // Trouble that is over is no news.
        let waits = connected == 0 && acked < read;
        if let Some(trouble) = self.progress.trouble().filter(|_| waits) {
            line.push_str(", trying again: ");
            line.push_str(&trouble);
        }
        line
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed} [{bar:30}] {percent:>3}% {msg}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn time_text(unix_ns: i64) -> String {
    match u64::try_from(unix_ns) {
        Ok(unix_ns) if unix_ns > 0 => {
            let time: SystemTime = UNIX_EPOCH + Duration::from_nanos(unix_ns);
            humantime::format_rfc3339_millis(time).to_string()
        }
        _ => "no time yet".to_owned(),
    }
}
