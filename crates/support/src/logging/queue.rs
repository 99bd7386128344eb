//! A queue of lines to be written, with a limit for each class.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};

/// Target of the lines that report the outcome of the drain.
pub const SUMMARY: &str = "telemetry_aggregator::daemon::summary";
/// Memory of a line besides its text, in bytes: its slot in the queue, which grows by doubling, and the allocator's
/// overhead.
const LINE_COST: usize = 64;
/// Longest line in bytes. A longer line is cut.
const LINE_BYTES_MAX: usize = 16 << 10;
/// The end of a line that was cut.
const CUT: &[u8] = b" ... (cut)\n";
/// Size of one write in bytes. Writes up to this size to a pipe are not mixed with those of other processes.
const WRITE_BYTES: usize = 4096;

/// The class of a line. It determines how full the queue may be for the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Lines that peers cause, and lines at `debug` and `trace`.
    Chatter,
    /// Lines about the activity of the daemon.
    Notice,
    /// Warnings and errors of the daemon.
    Trouble,
    /// The outcome of the drain, the error of a command, and the number of missing lines.
    Summary,
}

impl Class {
    pub(super) fn of(line: &Metadata<'_>) -> Self {
        match *line.level() {
            _ if line.target() == SUMMARY => Self::Summary,
            _ if line.target().ends_with("::by_peer") => Self::Chatter,
            Level::ERROR | Level::WARN => Self::Trouble,
            Level::INFO => Self::Notice,
            Level::DEBUG | Level::TRACE => Self::Chatter,
        }
    }

    /// How full the queue may be for such a line, in bytes of `bytes_max`.
    const fn limit(self, bytes_max: usize) -> usize {
        match self {
            Self::Chatter => bytes_max / 2,
            Self::Notice => bytes_max / 4 * 3,
            Self::Trouble => bytes_max / 16 * 15,
            Self::Summary => bytes_max,
        }
    }
}

/// Lines between the logging threads and the writing thread. Adding a line never waits.
#[derive(Debug)]
pub(super) struct Queue {
    bytes_max: usize,
    state: Mutex<State>,
    changed: Condvar,
    dropped_total: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Box<[u8]>>,
    /// Cost of all lines. Lines that are being written count.
    bytes: usize,
    /// Lines dropped since the last report.
    dropped: u64,
    /// No more lines will come.
    is_closed: bool,
    /// The last write failed.
    has_failed: bool,
}

/// Lines for one write.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) text: Vec<u8>,
    cost: usize,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default(), changed: Condvar::new(), dropped_total: AtomicU64::new(0) }
    }

    /// Queues `line`, or counts it as dropped if its class has no room.
    pub(super) fn push(&self, class: Class, line: &[u8]) {
        let line: Box<[u8]> = match line.get(..LINE_BYTES_MAX - CUT.len()) {
            Some(begin) if line.len() > LINE_BYTES_MAX => [begin, CUT].concat().into(),
            _ => line.into(),
        };
        let cost = line.len() + LINE_COST;
        let mut state = self.lock();
        if state.bytes + cost > class.limit(self.bytes_max) {
            state.dropped += 1;
            self.dropped_total.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes += cost;
        state.lines.push_back(line);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits at most `within` for lines. They take room until [`Self::wrote`]. `None` when the queue is closed and
    /// empty.
    pub(super) fn next(&self, within: Duration) -> Option<Batch> {
        let state = self.lock();
        let waits = |state: &mut State| state.lines.is_empty() && !state.is_closed;
        let waited = self.changed.wait_timeout_while(state, within, waits);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.is_closed && state.lines.is_empty() {
            return None;
        }
        let mut batch = Batch::default();
        while let Some(line) = state.lines.front()
            && (batch.text.is_empty() || batch.text.len() + line.len() <= WRITE_BYTES)
        {
            batch.text.extend_from_slice(line);
            batch.cost += line.len() + LINE_COST;
            state.lines.pop_front();
        }
        Some(batch)
    }

    /// Frees the room of `batch`.
    pub(super) fn wrote(&self, batch: &Batch, has_failed: bool) {
        let mut state = self.lock();
        state.bytes -= batch.cost;
        state.has_failed = has_failed;
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all lines are written, but not longer than `until`.
    pub(super) fn wait_written(&self, until: Instant) {
        let within = until.saturating_duration_since(Instant::now());
        // Lines that are left then are lost with the process.
        let _ = self.changed.wait_timeout_while(self.lock(), within, |state| state.bytes > 0);
    }

    /// Closes the queue. The writing thread ends when it has written everything.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    pub(super) fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    /// Whether every class has room.
    pub(super) fn has_room(&self) -> bool {
        self.lock().bytes < Class::Chatter.limit(self.bytes_max) / 2
    }

    /// Lines dropped since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    pub(super) fn dropped_total(&self) -> u64 {
        self.dropped_total.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn fill(queue: &Queue, class: Class) -> usize {
        let before = queue.dropped_total();
        let mut taken = 0;
        while queue.dropped_total() == before {
            queue.push(class, &[b'x'; 100]);
            taken += 1;
        }
        taken - 1
    }

    #[test]
    fn each_class_leaves_room_for_more_important_classes() {
        let queue = Queue::new(1 << 20);
        let taken =
            [Class::Chatter, Class::Notice, Class::Trouble, Class::Summary].map(|class| fill(&queue, class));
        assert!(taken.iter().all(|lines| *lines > 300), "{taken:?}");
        assert_eq!(queue.take_dropped(), 4);
        assert_eq!((queue.take_dropped(), queue.dropped_total()), (0, 4));
        assert!(queue.lock().bytes <= 1 << 20);
    }

    #[test]
    fn lines_are_counted_until_they_are_written_completely() {
        let queue = Queue::new(1 << 20);
        let lines: Vec<String> = (0..1_000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| queue.push(Class::Notice, line.as_bytes()));
        let mut written = Vec::new();
        while queue.lock().bytes > 0 {
            let batch = queue.next(NOW).unwrap();
            assert!(batch.text.len() <= WRITE_BYTES && batch.text.ends_with(b"\n"));
            written.extend_from_slice(&batch.text);
            queue.wrote(&batch, false);
        }
        assert_eq!(String::from_utf8(written).unwrap(), lines.concat());
        queue.close();
        assert!(queue.next(NOW).is_none());
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        let queue = Queue::new(1 << 20);
        queue.push(Class::Notice, &[b'x'; 10 * LINE_BYTES_MAX]);
        let batch = queue.next(NOW).unwrap();
        assert_eq!(batch.text.len(), LINE_BYTES_MAX);
        assert!(batch.text.ends_with(CUT));
    }
}
