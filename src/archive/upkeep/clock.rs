//! The time of day, and whether it can be trusted.

use std::time::{Duration, Instant};

use crate::frame::unix_now_ns;

/// A step of the wall clock beyond this makes ages meaningless.
const STEP_MAX: Duration = Duration::from_secs(3_600);

/// What tells the time.
pub(in crate::archive) trait Clock: Send + Sync + 'static {
    /// Unix time in nanoseconds; may be set back and forth.
    fn wall_ns(&self) -> i64;

    /// Time since some moment; never steps.
    fn monotonic(&self) -> Duration;
}

/// The clocks of this host.
pub(in crate::archive) struct SystemClock(Instant);

impl SystemClock {
    pub(in crate::archive) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn wall_ns(&self) -> i64 {
        unix_now_ns()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Watches the wall clock for steps: by the difference of the two clocks, as it was at the start.
///
/// A host that slept looks like a step, too: the monotonic clock stands still then. So nothing expires by age for longer
/// than it would have to, which harms nobody.
pub(super) struct StepGuard {
    /// Wall clock minus monotonic clock at the start, nanoseconds.
    ahead_ns: i128,
    is_stepped: bool,
}

impl StepGuard {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self { ahead_ns: ahead_ns(clock.wall_ns(), clock), is_stepped: false }
    }

    /// Compares the clocks, and says so once when one has stepped.
    pub(super) fn look(&mut self, clock: &dyn Clock) {
        self.wall_ns(clock);
    }

    /// The time of day if ages can be told from it: the clocks are compared at this very reading.
    pub(super) fn wall_ns(&mut self, clock: &dyn Clock) -> Option<i64> {
        let wall_ns = clock.wall_ns();
        let step_ns = ahead_ns(wall_ns, clock) - self.ahead_ns;
        if !self.is_stepped && step_ns.unsigned_abs() > STEP_MAX.as_nanos() {
            self.is_stepped = true;
            let step_s = step_ns / 1_000_000_000;
            tracing::warn!(
                step_s,
                "the wall clock was stepped by more than an hour: nothing expires by age until the next start"
            );
        }
        (!self.is_stepped).then_some(wall_ns)
    }
}

fn ahead_ns(wall_ns: i64, clock: &dyn Clock) -> i128 {
    // Durations of a running process are far from the end of an i128.
    i128::from(wall_ns) - clock.monotonic().as_nanos() as i128
}
