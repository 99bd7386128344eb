//! The outcome of a replay, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::scheduler::Performance;
use super::stream::Ended;
use super::{Counts, Shared};

/// At most this many incomplete streams are listed in the text.
const STREAMS_LISTED_MAX: usize = 50;

/// Outcome of a run. Its serialized form is the object of `--report json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Whether every frame of the range was read and acknowledged.
    pub complete: bool,
    /// The first epoch of each stream. It is needed to continue an interrupted run.
    pub epoch: u64,
    /// Whether the replay has declared to the daemon that both lanes of each stream share a sequence counter (`--shared-sequence`).
    pub shared_sequence: bool,
    /// All frames below this offset are acknowledged. A continued run need not send them
    /// ([`Plan::skip_to`](super::Plan::skip_to)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go_on_from: Option<u64>,
    /// Frames of the range that came due.
    pub read: u64,
    /// Frames written at least once.
    pub sent: u64,
    /// Frames acknowledged. Frames that the daemon already had count too.
    pub acked: u64,
    /// Frames never written, because the daemon had them from an earlier run.
    pub already: u64,
    /// Writes of frames that had been written before.
    pub resent: u64,
    /// Frames the daemon dropped as duplicates.
    pub duplicates: u64,
    /// Connections that followed a lost one.
    pub reconnects: u64,
    /// Time from the start to the end of the last stream, in seconds.
    pub elapsed_s: f64,
    /// Acknowledged frames per second over `elapsed_s`.
    pub frames_per_s: f64,
    /// Missing frames of the range and other reasons why the run is not complete, one line each.
    pub problems: Vec<String>,
    /// The streams in the order of their first frames.
    pub streams: Vec<StreamReport>,
}

/// Outcome of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamReport {
    /// Its name on the wire.
    pub stream: String,
    /// Its frames that came due.
    pub frames: u64,
    /// Those acknowledged.
    pub acked: u64,
    /// Number of epochs that the stream used.
    pub epochs: u64,
    /// Why the stream is not complete, or what is unusual about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Report {
    pub(super) fn new(shared: &Shared, ended: Performance, elapsed: Duration) -> Self {
        let Performance { streams, stopped_at, mut problems } = ended;
        let missing = streams.iter().filter_map(|ended| ended.books.missing).chain(stopped_at).min();
        if stopped_at.is_some() {
            problems.push("stopped before the end of the range".to_owned());
        }
        let is_refused = streams.iter().any(|ended| ended.error.is_some());
        let complete = problems.is_empty() && missing.is_none() && !is_refused;
        let counts = shared.progress.counts();
        let Counts { read, sent, acked, already, resent, duplicates, reconnects, .. } = counts;
        let elapsed_s = elapsed.as_secs_f64();
        Self {
            complete,
            epoch: shared.epoch,
            shared_sequence: shared.shared_sequence,
            go_on_from: missing,
            read,
            sent,
            acked,
            already,
            resent,
            duplicates,
            reconnects,
            elapsed_s,
            frames_per_s: if elapsed_s > 0.0 { acked as f64 / elapsed_s } else { 0.0 },
            problems,
            streams: streams.into_iter().map(StreamReport::from).collect(),
        }
    }
}

impl From<Ended> for StreamReport {
    fn from(ended: Ended) -> Self {
        let Ended { stream, books, error, trouble } = ended;
        let missing = books.frames - books.acked;
        let error = match error {
            Some(error) => Some(error.to_string()),
            None if missing > 0 && trouble.is_empty() => Some(format!("{missing} frames not acknowledged")),
            None if missing > 0 => Some(format!("{missing} frames not acknowledged ({trouble})")),
            None if books.forgot => {
                Some("after a restart the daemon lacked frames that it had acknowledged".to_owned())
            }
            None => None,
        };
        Self {
            stream: stream.to_string(),
            frames: books.frames,
            acked: books.acked,
            epochs: books.turns + 1,
            error,
        }
    }
}

impl fmt::Display for Report {
    /// Writes several lines without a line feed at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "read {}, sent {}, acked {}, already there {}, resent {}, duplicates {}, reconnects {}",
            self.read, self.sent, self.acked, self.already, self.resent, self.duplicates, self.reconnects
        )?;
        let streams = self.streams.len();
        write!(f, "\n{:.3} s, {:.0} frames/s, {streams} streams", self.elapsed_s, self.frames_per_s)?;
        let counters = if self.shared_sequence { "shared by both lanes" } else { "of each lane by itself" };
        write!(f, "; sequences counted as {counters}")?;
        let mut strange = self.streams.iter().filter(|stream| stream.error.is_some());
        for StreamReport { stream, frames, acked, error, .. } in strange.by_ref().take(STREAMS_LISTED_MAX) {
            write!(f, "\n{stream}: {acked} of {frames}: {}", error.as_deref().unwrap_or_default())?;
        }
        match strange.count() {
            0 => {}
            more => write!(f, "\nand {more} more streams")?,
        }
        self.problems.iter().try_for_each(|problem| write!(f, "\nproblem: {problem}"))?;
        write!(f, "\n{}", if self.complete { "complete" } else { "not complete" })
    }
}
