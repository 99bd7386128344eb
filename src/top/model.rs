//! What is known of the daemon and what the user looks at. `update` changes it.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::time::Duration;

use ratatui::crossterm::event::KeyEvent;
use ratatui::layout::Size;

use crate::observe::report::{Source, Stats};

/// Seconds or answers of throughput that are kept, whichever are more.
pub const HISTORY_MAX: usize = 240;
/// Credit used from which on a source counts as in trouble, in percent.
const CREDIT_TROUBLE: u64 = 75;
/// Answers that may fail to come before what is shown is called old, if they come more often than once a second.
const STALE_AFTER: Duration = Duration::from_secs(3);

/// One answer of the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The daemon as a whole.
    pub stats: Stats,
    /// Its streams, or those asked for.
    pub sources: Vec<Source>,
    /// How many streams there are; more than there are sources when the answer would be too long.
    pub total: usize,
}

/// What there is to show, and how.
#[derive(Clone, Debug)]
pub struct Model {
    /// Whom it asks.
    pub url: String,
    /// How often.
    pub interval: Duration,
    /// Since the start of `top`.
    pub now: Duration,
    /// The newest answer, and when it came.
    pub known: Option<(Snapshot, Duration)>,
    /// Why the last question was not answered; none if it was.
    pub trouble: Option<String>,
    /// Frames a second, oldest first; none for a question without an answer.
    pub throughput: VecDeque<Option<u64>>,
    /// By what sources are ordered.
    pub sort: Column,
    /// The largest first.
    pub is_descending: bool,
    /// Which sources are shown.
    pub filter: Filter,
    /// Rows of the table above the first that is shown.
    pub scroll: usize,
    /// Whether help is shown.
    pub is_help: bool,
    /// Of the terminal.
    pub size: Size,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Input {
    /// It is now so long since the start.
    Now(Duration),
    /// The daemon has answered.
    Known(Box<Snapshot>),
    /// It has not, for this reason.
    Trouble(String),
    /// A key was pressed.
    Key(KeyEvent),
    /// The terminal has this size.
    Size(Size),
}

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Draw and go on.
    GoOn,
    /// The user has had enough.
    Quit,
}

/// Columns of the table of sources, as they stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "their titles are in `draw`")]
pub enum Column {
    Source,
    Kind,
    Station,
    State,
    Frames,
    Bytes,
    Missing,
    Duplicates,
    Rejected,
    Credit,
    Age,
    Ack,
}

/// Which sources are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All of them.
    All,
    /// Those with a connection.
    Connected,
    /// Those without.
    Offline,
    /// Those of [`is_in_trouble`].
    Trouble,
}

impl Column {
    /// All of them, from left to right.
    pub const ALL: [Self; 12] = [
        Self::Source,
        Self::Kind,
        Self::Station,
        Self::State,
        Self::Frames,
        Self::Bytes,
        Self::Missing,
        Self::Duplicates,
        Self::Rejected,
        Self::Credit,
        Self::Age,
        Self::Ack,
    ];

    /// The column `steps` further, around the end.
    pub(super) fn further(self, steps: usize) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self).unwrap_or(0);
        Self::ALL[(at + steps) % Self::ALL.len()]
    }

    /// What is looked for is seldom the smallest number, and seldom the last name.
    pub(super) const fn begins_descending(self) -> bool {
        !matches!(self, Self::Source | Self::Kind | Self::Station | Self::State)
    }

    /// Smallest first.
    fn order(self, a: &Source, b: &Source) -> Ordering {
        match self {
            Self::Source => Ordering::Equal,
            Self::Kind => a.kind.cmp(&b.kind),
            Self::Station => a.station.cmp(&b.station),
            Self::State => a.state.cmp(&b.state),
            Self::Frames => frames_per_s(a).total_cmp(&frames_per_s(b)),
            Self::Bytes => bytes_per_s(a).total_cmp(&bytes_per_s(b)),
            Self::Missing => a.missing.cmp(&b.missing),
            Self::Duplicates => a.frames.duplicates.cmp(&b.frames.duplicates),
            Self::Rejected => a.frames.rejected.cmp(&b.frames.rejected),
            Self::Credit => credit_percent(a).cmp(&credit_percent(b)),
            // The oldest last; who never sent anything is older than all.
            Self::Age => b.last_frame_ms.cmp(&a.last_frame_ms),
            Self::Ack => ack_ms(a).unwrap_or(-1.0).total_cmp(&ack_ms(b).unwrap_or(-1.0)),
        }
    }
}

impl Filter {
    pub(super) const ALL: [Self; 4] = [Self::All, Self::Connected, Self::Offline, Self::Trouble];

    /// As it is shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Connected => "connected",
            Self::Offline => "offline",
            Self::Trouble => "trouble",
        }
    }

    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|filter| *filter == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    fn lets_through(self, source: &Source) -> bool {
        match self {
            Self::All => true,
            Self::Connected => is_connected(source),
            Self::Offline => !is_connected(source),
            Self::Trouble => is_in_trouble(source),
        }
    }
}

impl Model {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(url: String, interval: Duration, size: Size) -> Self {
        Self {
            url,
            interval,
            now: Duration::ZERO,
            known: None,
            trouble: None,
            throughput: VecDeque::new(),
            sort: Column::Source,
            is_descending: false,
            filter: Filter::All,
            scroll: 0,
            is_help: false,
            size,
        }
    }

    /// The sources that are shown, in their order.
    #[must_use]
    pub fn rows(&self) -> Vec<&Source> {
        let Some((snapshot, _)) = &self.known else { return Vec::new() };
        let mut rows: Vec<_> =
            snapshot.sources.iter().filter(|source| self.filter.lets_through(source)).collect();
        rows.sort_by(|a, b| {
            let order = self.sort.order(a, b);
            let order = order.then_with(|| identity(a).cmp(&identity(b)));
            // Equal ones stay in the order of their ids either way, unless that is what was asked for.
            match self.is_descending {
                true if self.sort == Column::Source => order.reverse(),
                true => self.sort.order(b, a).then_with(|| identity(a).cmp(&identity(b))),
                false => order,
            }
        });
        rows
    }

    /// How old what is shown is.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.known.as_ref().map(|(_, came)| self.now.saturating_sub(*came))
    }

    /// Whether what is shown is no longer how it is.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let old = self.age().is_some_and(|age| age > self.interval * 2 + STALE_AFTER);
        self.trouble.is_some() || old
    }
}

fn identity(source: &Source) -> (u32, &str, &str) {
    (source.source_id, &source.kind, &source.station)
}

/// Whether it has a connection.
#[must_use]
pub fn is_connected(source: &Source) -> bool {
    source.state == "connected"
}

/// Whether somebody should look: an uplink without a connection, frames missing or refused, credit nearly used up.
#[must_use]
pub fn is_in_trouble(source: &Source) -> bool {
    (!is_connected(source) && source.kind == "live")
        || source.missing > 0
        || source.frames.rejected > 0
        || credit_percent(source) >= CREDIT_TROUBLE
}

/// Of both lanes.
pub(super) fn frames_per_s(source: &Source) -> f64 {
    source.lanes.emergency.frames_per_s + source.lanes.routine.frames_per_s
}

/// Of both lanes.
pub(super) fn bytes_per_s(source: &Source) -> f64 {
    source.lanes.emergency.bytes_per_s + source.lanes.routine.bytes_per_s
}

/// Of the lane that has used more of it.
pub(super) fn credit_percent(source: &Source) -> u64 {
    let used = |lane: &crate::observe::report::SourceLane| {
        super::figures::percent(lane.credit_used_bytes, lane.credit_bytes)
    };
    used(&source.lanes.emergency).max(used(&source.lanes.routine))
}

/// Of the lane that takes longer.
pub(super) fn ack_ms(source: &Source) -> Option<f64> {
    let lanes = [source.lanes.emergency.ack_latency_ms, source.lanes.routine.ack_latency_ms];
    lanes.into_iter().flatten().reduce(f64::max)
}
