//! Limits how many lines of each kind peers can cause.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most this many lines of a kind are written in each [`WINDOW`].
const LINES_MAX: u64 = 100;
/// Length of the window in which lines are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// Writes a line of a [`Kind`] at a level, unless the limit of the kind is reached:
/// `by_peer!(Kind::Refused, INFO, %peer, "...")`.
#[macro_export]
macro_rules! by_peer {
    ($kind:expr, $level:ident, $($line:tt)+) => {
        if tracing::enabled!(target: concat!(module_path!(), "::by_peer"), tracing::Level::$level)
            && $kind.may_write()
        {
            tracing::event!(target: concat!(module_path!(), "::by_peer"), tracing::Level::$level, $($line)+);
        }
    };
}
pub use by_peer;

/// A kind of lines with a common limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connection got ERROR.
    Refused,
    /// A source connected.
    Registered,
    /// A source went away.
    Gone,
    /// A source said BYE.
    Complete,
    /// A subscriber got SUBSCRIBED.
    Subscribed,
    /// The archive cannot be read for a subscriber or an HTTP request.
    Unread,
    /// A request over HTTP changed something.
    Changed,
    /// A source probably should set a flag.
    Hinted,
    /// A link got or lost its peer.
    Linked,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Registered,
        Self::Gone,
        Self::Complete,
        Self::Subscribed,
        Self::Unread,
        Self::Changed,
        Self::Hinted,
        Self::Linked,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Refused => "connections that got an error",
            Self::Registered => "sources registered",
            Self::Gone => "sources gone",
            Self::Complete => "feeds complete",
            Self::Subscribed => "subscriptions",
            Self::Unread => "failed reads of the archive",
            Self::Changed => "changes over HTTP",
            Self::Hinted => "hints about sources",
            Self::Linked => "connections of links",
        }
    }

    /// Counts a line. Returns whether it may be written.
    pub fn may_write(self) -> bool {
        let may = self.with(|rate| rate.take(Instant::now()));
        if !may {
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    fn with<T>(self, act: impl FnOnce(&mut Rate) -> T) -> T {
        act(&mut RATES[self as usize].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

static RATES: [Mutex<Rate>; Kind::ALL.len()] = [const { Mutex::new(Rate::NEW) }; Kind::ALL.len()];
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Lines of one kind in the current window.
#[derive(Debug)]
struct Rate {
    began: Option<Instant>,
    lines: u64,
    left_out: u64,
}

impl Rate {
    const NEW: Self = Self { began: None, lines: 0, left_out: 0 };

    fn take(&mut self, now: Instant) -> bool {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            self.began = Some(now);
            self.lines = 0;
        }
        self.lines = self.lines.saturating_add(1);
        let may = self.lines <= LINES_MAX;
        self.left_out += u64::from(!may);
        may
    }

    /// The number of dropped lines, if the window is over.
    fn over(&mut self, now: Instant) -> u64 {
        let is_over = self.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW);
        if is_over { std::mem::take(&mut self.left_out) } else { 0 }
    }
}

/// Lines dropped since the start of the process.
pub(super) fn left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}

/// Logs how many lines were dropped in windows that are over.
pub(super) fn report() {
    let now = Instant::now();
    Kind::ALL.into_iter().for_each(|kind| say(kind, kind.with(|rate| rate.over(now))));
}

/// Logs how many lines were dropped so far.
pub(super) fn report_all() {
    Kind::ALL.into_iter().for_each(|kind| say(kind, kind.with(|rate| std::mem::take(&mut rate.left_out))));
}

fn say(kind: Kind, lines: u64) {
    if lines > 0 {
        let (kind, max) = (kind.name(), LINES_MAX);
        tracing::info!(lines, kind, "lines were left out: more than {max} of this kind in {WINDOW:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_of_a_window_are_counted_once() {
        let mut rate = Rate::NEW;
        let now = Instant::now();
        let written = (0..250).filter(|_| rate.take(now)).count() as u64;
        assert_eq!(written, LINES_MAX);
        assert_eq!(rate.over(now), 0, "the window is not over");
        let later = now + WINDOW;
        assert_eq!((rate.over(later), rate.over(later)), (150, 0));
        assert!(rate.take(later));
    }

    #[test]
    fn omitted_lines_are_reported_in_the_next_window() {
        let mut rate = Rate::NEW;
        let now = Instant::now();
        let take = |rate: &mut Rate, at| (0..LINES_MAX + 1).filter(|_| rate.take(at)).count();
        take(&mut rate, now);
        take(&mut rate, now + WINDOW);
        assert_eq!(rate.over(now + 2 * WINDOW), 2);
    }

    #[test]
    fn every_kind_has_its_own_rate_and_name() {
        let names: std::collections::HashSet<_> = Kind::ALL.into_iter().map(Kind::name).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        let places: Vec<usize> = Kind::ALL.into_iter().map(|kind| kind as usize).collect();
        assert_eq!(places, (0..Kind::ALL.len()).collect::<Vec<_>>());
    }
}
