//! The progress of a run on stderr: a bar on a terminal, else a line every few seconds.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{Subject, say};
use tools::replay::{Control, Counts, Progress};

/// How often the progress is read and a terminal is updated.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// When the first line is written. A connection that takes longer than this to come up is reported.
const FIRST_LINE_AFTER: Duration = Duration::from_secs(1);

/// Shows the progress of one run.
pub(super) struct View {
    /// What is shown.
    subject: Subject,
    /// The counts, which the run writes.
    progress: Arc<Progress>,
    /// Whether the run is paused.
    control: Arc<Control>,
    /// The bar; `None` if stderr is no terminal.
    bar: Option<ProgressBar>,
    /// When the progress is read again.
    ticks: Interval,
    /// The frames read at the last update, and its time.
    before: (u64, Instant),
    /// When the next line is due if there is no bar.
    line_at: Instant,
    /// The current outage, if there is one.
    outage: Option<Outage>,
}

/// A time without a connection while frames wait for one.
struct Outage {
    /// When it was first seen.
    since: Instant,
    /// Whether the outage was reported.
    is_reported: bool,
}

impl View {
    pub(super) fn new(subject: Subject, progress: Arc<Progress>, control: Arc<Control>) -> Self {
        let bar = stderr().is_terminal().then(new_bar);
        let now = Instant::now();
        let mut ticks = interval_at(now + LOOK_EVERY, LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            subject,
            progress,
            control,
            bar,
            ticks,
            before: (0, now),
            line_at: now + FIRST_LINE_AFTER,
            outage: None,
        }
    }

    /// Waits for the next tick, then shows the progress. Cancel safe.
    pub(super) async fn refresh(&mut self) {
        let now = self.ticks.tick().await;
        let counts = self.progress.counts();
        self.note_outage(&counts, now);
        if self.bar.is_none() && now < self.line_at {
            return;
        }
        self.line_at = now + LINE_EVERY;
        let (before, then) = std::mem::replace(&mut self.before, (counts.read, now));
        let rate = (counts.read - before) as f64 / (now - then).as_secs_f64().max(1e-3);
        let line = self.line(&counts, rate, now);
        match &self.bar {
            Some(bar) => {
                bar.set_length(counts.end_offset.saturating_sub(counts.first_offset));
                bar.set_position(counts.offset.saturating_sub(counts.first_offset));
                bar.set_message(line);
                bar.tick();
            }
            None => self.say(&line),
        }
    }

    /// Reports each outage once with its reason, and once that it is over.
    fn note_outage(&mut self, counts: &Counts, now: Instant) {
        if counts.connected > 0 || counts.acked >= counts.read {
            if counts.connected > 0 && self.outage.take().is_some_and(|outage| outage.is_reported) {
                self.say("connected");
            }
            return;
        }
        let outage = self.outage.get_or_insert(Outage { since: now, is_reported: false });
        if outage.is_reported {
            return;
        }
        let trouble = self.progress.connections.trouble();
        // A daemon that does not answer at all is reported as well.
        if trouble.is_some() || now >= outage.since + FIRST_LINE_AFTER {
            outage.is_reported = true;
            let trouble = trouble.unwrap_or_else(|| "no answer yet".to_owned());
            self.say(&format!(
                "no connection: {trouble}; trying until the daemon accepts one or the {} is stopped",
                self.subject.command
            ));
        }
    }

    /// Writes a line without disturbing the bar.
    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(self.subject.command, line)),
            None => say(self.subject.command, line),
        }
    }

    pub(super) fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, counts: &Counts, rate: f64, now: Instant) -> String {
        let &Counts { offset, end_offset, read, acked, connected, received_ns, .. } = counts;
        let Subject { position, is_timed, .. } = self.subject;
        let mut line = if is_timed { format!("{}, ", time_text(received_ns)) } else { String::new() };
        line.push_str(&format!("{position} {offset}"));
        if end_offset > 0 {
            line.push_str(&format!(" of {end_offset}"));
        }
        line.push_str(&format!(", read {read}, acked {acked}, {rate:.0} frames/s, {connected} connected"));
        if self.control.is_paused() {
            line.push_str(", paused");
        }
        // An outage that is over is not reported here.
        if let Some(outage) = &self.outage {
            let trouble = self.progress.connections.trouble().unwrap_or_else(|| "no answer yet".to_owned());
            line.push_str(&format!(", trying for {} s: {trouble}", (now - outage.since).as_secs()));
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
