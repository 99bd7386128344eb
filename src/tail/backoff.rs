//! The pause before a reconnect.

use std::time::Duration;

/// First pause.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause, unless the daemon asks for more.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Exponential, with jitter, so that subscribers that were cut off together do not come back together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { ceiling: PAUSE_MIN }
    }

    /// The next pause: between half the ceiling and the ceiling, which then doubles; never less than `at_least`.
    pub(super) fn next(&mut self, at_least: Duration) -> Duration {
        let pause = rand::random_range(self.ceiling / 2..=self.ceiling);
        self.ceiling = (self.ceiling * 2).min(PAUSE_MAX);
        if at_least > pause { at_least + pause / 4 } else { pause }
    }

    /// The connection was good for something.
    pub(super) const fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_their_bounds_and_obey_the_daemon() {
        let mut backoff = Backoff::new();
        let mut ceiling = PAUSE_MIN;
        for _ in 0..20 {
            let pause = backoff.next(Duration::ZERO);
            assert!(ceiling / 2 <= pause && pause <= ceiling, "{pause:?} of {ceiling:?}");
            ceiling = (ceiling * 2).min(PAUSE_MAX);
        }
        assert_eq!(ceiling, PAUSE_MAX);
        assert!(backoff.next(Duration::from_secs(60)) >= Duration::from_secs(60));
        backoff.reset();
        assert!(backoff.next(Duration::ZERO) <= PAUSE_MIN);
    }
}
