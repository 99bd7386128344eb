//! The known state of the daemon, and the settings of the user. `update` changes both.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use ratatui::crossterm::event::KeyEvent;
use ratatui::layout::Size;

use api::{Kind, Link, Output, Source, SourceLane, Stats, StreamState};

/// How many values of throughput are kept, one per response.
pub const HISTORY_MAX: usize = 240;
/// A source that uses at least this share of its credit counts as in trouble, in percent.
const CREDIT_TROUBLE: u64 = 75;
/// A subscriber or an output that is behind by this many frames counts as in trouble.
pub(super) const LAG_TROUBLE: u64 = 10_000;
/// Data counts as stale when it is older than two intervals plus this time.
const STALE_AFTER: Duration = Duration::from_secs(3);

/// One response of the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The daemon as a whole.
    pub stats: Stats,
    /// Its streams, or the requested ones.
    pub sources: Vec<Source>,
    /// How many streams there are. `sources` may have fewer.
    pub total: usize,
    /// The input links, by name.
    pub links: Vec<Link>,
    /// The output links, by name.
    pub outputs: Vec<Output>,
}

/// What the screen shows, and how.
#[derive(Clone, Debug)]
pub struct Model {
    /// The URL of the daemon.
    pub url: String,
    /// How often the daemon is asked.
    pub interval: Duration,
    /// Time since the start of `top`.
    pub now: Duration,
    /// The newest response, and when it came.
    pub known: Option<(Snapshot, Duration)>,
    /// Why the last request failed. `None` if it succeeded.
    pub trouble: Option<String>,
    /// Frames per second, oldest first. `None` for a request without a response.
    pub throughput: VecDeque<Option<u64>>,
    /// The rates of the outputs between the last two responses, by name.
    pub output_rates: HashMap<String, OutputRate>,
    /// The list at the bottom of the screen.
    pub list: ListKind,
    /// The column by which sources are sorted.
    pub sort: Column,
    /// Whether the largest value comes first.
    pub is_descending: bool,
    /// Which sources are shown.
    pub filter: Filter,
    /// How many rows of the list are above the first visible one.
    pub scroll: usize,
    /// Whether help is shown.
    pub is_help: bool,
    /// Size of the terminal.
    pub size: Size,
}

/// The rate of an output, over all its readers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutputRate {
    /// Frames per second.
    pub frames_per_s: f64,
    /// Bytes per second, framing included.
    pub bytes_per_s: f64,
}

/// An event that changes the model.
#[derive(Clone, Debug)]
pub enum Input {
    /// The time since the start.
    Now(Duration),
    /// The daemon has responded.
    Known(Box<Snapshot>),
    /// The request failed for this reason.
    Trouble(String),
    /// A key was pressed.
    Key(KeyEvent),
    /// The terminal has this size.
    Size(Size),
}

/// Whether the program continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Draw and continue.
    GoOn,
    /// The user quits.
    Quit,
}

/// The list at the bottom of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// The sources.
    Sources,
    /// The input links.
    Links,
    /// The output links.
    Outputs,
}

/// Columns of the table of sources, in their order.
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
    /// All sources.
    All,
    /// Sources with a connection.
    Connected,
    /// Sources without a connection.
    Offline,
    /// Sources for which [`is_in_trouble`] is true.
    Trouble,
}

impl Column {
    /// All columns, from left to right.
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

    /// The column `steps` further to the right. After the last comes the first.
    pub(super) fn further(self, steps: usize) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self).unwrap_or(0);
        Self::ALL[(at + steps) % Self::ALL.len()]
    }

    /// Whether the first sort by this column is descending. Users mostly want the largest numbers, but the first names.
    pub(super) const fn begins_descending(self) -> bool {
        !matches!(self, Self::Source | Self::Kind | Self::Station | Self::State)
    }

    /// Compares two sources by this column, smallest first.
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
            // The source with the oldest frame comes last. A source without any frame counts as older.
            Self::Age => b.last_frame_ms.cmp(&a.last_frame_ms),
            Self::Ack => ack_ms(a).unwrap_or(-1.0).total_cmp(&ack_ms(b).unwrap_or(-1.0)),
        }
    }
}

impl ListKind {
    /// The name on the screen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sources => "sources",
            Self::Links => "links",
            Self::Outputs => "outputs",
        }
    }
}

impl Filter {
    pub(super) const ALL: [Self; 4] = [Self::All, Self::Connected, Self::Offline, Self::Trouble];

    /// The name on the screen.
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
    /// A model without any response yet.
    #[must_use]
    pub fn new(url: String, interval: Duration, size: Size) -> Self {
        Self {
            url,
            interval,
            now: Duration::ZERO,
            known: None,
            trouble: None,
            throughput: VecDeque::new(),
            output_rates: HashMap::new(),
            list: ListKind::Sources,
            sort: Column::Source,
            is_descending: false,
            filter: Filter::All,
            scroll: 0,
            is_help: false,
            size,
        }
    }

    /// The visible sources in sorted order.
    #[must_use]
    pub fn rows(&self) -> Vec<&Source> {
        let Some((snapshot, _)) = &self.known else { return Vec::new() };
        let mut rows: Vec<_> =
            snapshot.sources.iter().filter(|source| self.filter.lets_through(source)).collect();
        rows.sort_by(|a, b| {
            let order = self.sort.order(a, b);
            let order = order.then_with(|| identity(a).cmp(&identity(b)));
            // Equal sources stay in the order of their ids, unless the user sorts by id in descending order.
            match self.is_descending {
                true if self.sort == Column::Source => order.reverse(),
                true => self.sort.order(b, a).then_with(|| identity(a).cmp(&identity(b))),
                false => order,
            }
        });
        rows
    }

    /// How many rows the list on the screen has.
    #[must_use]
    pub fn row_count(&self) -> usize {
        match self.list {
            ListKind::Sources => self.rows().len(),
            ListKind::Links => self.links().len(),
            ListKind::Outputs => self.outputs().len(),
        }
    }

    /// The list that follows the one on the screen. Links and outputs are left out where the daemon has none.
    #[must_use]
    pub fn next_list(&self) -> ListKind {
        let outputs = if self.outputs().is_empty() { ListKind::Sources } else { ListKind::Outputs };
        match self.list {
            ListKind::Sources if self.links().is_empty() => outputs,
            ListKind::Sources => ListKind::Links,
            ListKind::Links => outputs,
            ListKind::Outputs => ListKind::Sources,
        }
    }

    /// The age of the data on the screen.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.known.as_ref().map(|(_, came)| self.now.saturating_sub(*came))
    }

    /// Whether the data on the screen is stale.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let old = self.age().is_some_and(|age| age > self.interval * 2 + STALE_AFTER);
        self.trouble.is_some() || old
    }
}

fn identity(source: &Source) -> (u32, Kind, &str) {
    (source.source_id, source.kind, &source.station)
}

/// Whether the source has a connection.
#[must_use]
pub fn is_connected(source: &Source) -> bool {
    source.state == StreamState::Connected
}

/// Whether a person should look at the source: a live source without a connection, missing or refused frames, or credit
/// nearly used up.
#[must_use]
pub fn is_in_trouble(source: &Source) -> bool {
    (!is_connected(source) && source.kind == Kind::Live)
        || source.missing > 0
        || source.frames.rejected > 0
        || credit_percent(source) >= CREDIT_TROUBLE
}

/// Frames per second of both lanes.
pub(super) fn frames_per_s(source: &Source) -> f64 {
    source.lanes.emergency.frames_per_s + source.lanes.routine.frames_per_s
}

/// Bytes per second of both lanes.
pub(super) fn bytes_per_s(source: &Source) -> f64 {
    source.lanes.emergency.bytes_per_s + source.lanes.routine.bytes_per_s
}

/// Used credit in percent, of the lane that has used more.
pub(super) fn credit_percent(source: &Source) -> u64 {
    let used = |lane: &SourceLane| super::figures::percent(lane.credit_used_bytes, lane.credit_bytes);
    used(&source.lanes.emergency).max(used(&source.lanes.routine))
}

/// ACK latency of the slower lane.
pub(super) fn ack_ms(source: &Source) -> Option<f64> {
    let lanes = [source.lanes.emergency.ack_latency_ms, source.lanes.routine.ack_latency_ms];
    lanes.into_iter().flatten().reduce(f64::max)
}
