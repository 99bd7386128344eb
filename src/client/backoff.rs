//! The wait before a reconnect.

use std::time::Duration;

/// First wait before a reconnect.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest wait before a reconnect, unless the server asks for more.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Exponential, with jitter, so that sources that were cut off together do not come back together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { ceiling: BACKOFF_MIN }
    }

    /// The next wait: between half the ceiling and the ceiling, which then doubles; never less than `at_least`.
    pub(crate) fn next(&mut self, at_least: Duration) -> Duration {
        let wait = rand::random_range(self.ceiling / 2..=self.ceiling);
        self.ceiling = (self.ceiling * 2).min(BACKOFF_MAX);
        if at_least > wait { at_least + wait / 4 } else { wait }
    }

    /// The connection was good for something.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_within_its_bounds_and_obeys_the_server() {
        let mut backoff = Backoff::new();
        let mut ceiling = BACKOFF_MIN;
        for _ in 0..20 {
            let wait = backoff.next(Duration::ZERO);
            assert!(ceiling / 2 <= wait && wait <= ceiling, "{wait:?} of {ceiling:?}");
            ceiling = (ceiling * 2).min(BACKOFF_MAX);
        }
        assert!(backoff.next(Duration::from_secs(7)) >= Duration::from_secs(7));
        backoff.reset();
        assert!(backoff.next(Duration::ZERO) <= BACKOFF_MIN);
    }
}
