//! The wait before a reconnect.

use std::time::Duration;

/// First wait before a reconnect.
pub const BACKOFF_MIN: Duration = Duration::from_millis(10);

/// Exponential, with jitter, so that clients that lost their connections together do not return together.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    ceiling: Duration,
    /// Longest wait, unless the server asks for more.
    max: Duration,
}

impl Backoff {
    /// Starts with `BACKOFF_MIN` and grows to `max`, unless the server asks for more.
    pub const fn new(max: Duration) -> Self {
        Self { ceiling: BACKOFF_MIN, max }
    }

    /// Returns the next wait: between half the ceiling and the ceiling, but at least `at_least`. Then the
    /// ceiling doubles.
    pub fn next(&mut self, at_least: Duration) -> Duration {
        let wait = rand::random_range(self.ceiling / 2..=self.ceiling);
        self.ceiling = (self.ceiling * 2).min(self.max);
        if at_least > wait { at_least + wait / 4 } else { wait }
    }

    /// Resets the wait after a useful connection.
    pub const fn reset(&mut self) {
        self.ceiling = BACKOFF_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_within_its_bounds_and_obeys_the_server() {
        for max in [Duration::from_secs(2), Duration::from_secs(5)] {
            let mut backoff = Backoff::new(max);
            let mut ceiling = BACKOFF_MIN;
            for _ in 0..20 {
                let wait = backoff.next(Duration::ZERO);
                assert!(ceiling / 2 <= wait && wait <= ceiling, "{wait:?} of {ceiling:?}");
                ceiling = (ceiling * 2).min(max);
            }
            assert_eq!(ceiling, max);
            assert!(backoff.next(Duration::from_secs(7)) >= Duration::from_secs(7));
            backoff.reset();
            assert!(backoff.next(Duration::ZERO) <= BACKOFF_MIN);
            assert!(backoff.next(Duration::ZERO) > Duration::ZERO);
        }
    }
}
