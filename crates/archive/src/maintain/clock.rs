//! The clocks of the host.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use frame::unix_now_ns;

/// A source of wall-clock and monotonic time.
pub(crate) trait Clock: Send + Sync + 'static {
    /// Unix time in nanoseconds. This clock may be set forward and back.
    fn wall_ns(&self) -> i64;

    /// Time since an arbitrary moment. Never steps, and advances while the host sleeps.
    fn monotonic(&self) -> Duration;
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Unix time in nanoseconds.
    pub(super) wall_ns: i64,
    /// Value of [`Clock::monotonic`].
    pub(super) boot: Duration,
}

impl Reading {
    pub(super) fn of(clock: &dyn Clock) -> Self {
        Self { wall_ns: clock.wall_ns(), boot: clock.monotonic() }
    }
}

/// The clocks of this host.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn wall_ns(&self) -> i64 {
        unix_now_ns()
    }

    fn monotonic(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}
