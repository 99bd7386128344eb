//! Controls how much of the time an export works: all of it, or a share that leaves the machine to the daemon.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Number of frames, or bytes of payloads, between two readings of the clock.
const LOOK_ROWS: u64 = 1_024;
const LOOK_BYTES: u64 = 256 << 10;
/// A background export rests this many times as long as it works. So it takes at most a quarter of one core.
const REST_PER_WORK: u32 = 3;
/// The longest rest. It is short, so that the export notices a stop soon, even after a slow disk access.
const REST_MAX: Duration = Duration::from_millis(100);

/// When the export rests.
#[derive(Debug)]
pub(super) enum Pace {
    /// Never rests.
    Full,
    /// Rests three quarters of the time.
    Background(Cell<Work>),
}

/// Work since the last reading of the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    since: Instant,
    rows: u64,
    bytes: u64,
}

impl Work {
    fn begin() -> Self {
        Self { since: Instant::now(), rows: 0, bytes: 0 }
    }
}

impl Pace {
    /// The pace of an export beside a running daemon.
    pub(super) fn background() -> Self {
        Self::Background(Cell::new(Work::begin()))
    }

    /// Counts a frame, and rests if a rest is due.
    pub(super) fn frame(&self, payload_bytes: usize) {
        let Self::Background(cell) = self else { return };
        let mut work = cell.get();
        work.rows += 1;
        work.bytes += payload_bytes as u64;
        if work.rows >= LOOK_ROWS || work.bytes >= LOOK_BYTES {
            std::thread::sleep(rest(work.since.elapsed()));
            work = Work::begin();
        }
        cell.set(work);
    }
}

/// Returns how long to rest after `worked`.
fn rest(worked: Duration) -> Duration {
    worked.saturating_mul(REST_PER_WORK).min(REST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_are_in_proportion_and_never_long() {
        assert_eq!(rest(Duration::from_millis(2)), Duration::from_millis(6));
        assert_eq!(rest(Duration::MAX), REST_MAX);
    }

    #[test]
    fn rests_come_by_rows_and_by_bytes() {
        let rests = |payload_bytes: usize, frames: u64| {
            let pace = Pace::background();
            (0..frames).for_each(|_| pace.frame(payload_bytes));
            let Pace::Background(work) = pace else { unreachable!("it was made so") };
            work.get().rows < frames
        };
        assert!(!rests(0, LOOK_ROWS - 1));
        assert!(rests(0, LOOK_ROWS));
        assert!(!rests(LOOK_BYTES as usize - 1, 1));
        assert!(rests(LOOK_BYTES as usize, 1));
    }
}
