//! Waiting for a state that neither the log nor a message announces. No other helper of the tests polls.

use std::time::{Duration, Instant};

/// Longest time for any step before the test fails. Generous: the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Returns what `look` finds. An error of `look` says what is there instead: the next look follows after a moment.
///
/// Panics with the last error after [`LIMIT`].
#[track_caller]
pub fn wait_until<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    wait_within(LIMIT, what, look)
}

/// Like [`wait_until`], for `limit` at most.
#[track_caller]
pub fn wait_within<T>(limit: Duration, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    poll(LOOK, limit, what, look)
}

/// Like [`wait_within`], with this time between two looks.
#[track_caller]
pub fn poll<T>(
    every: Duration,
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let started = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) => assert!(started.elapsed() < limit, "waiting for {what}: {instead}"),
        }
        std::thread::sleep(every);
    }
}
