//! Waiting for a state that neither the log nor a message announces.

use std::time::{Duration, Instant};

use super::LIMIT;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Returns what `look` finds. An error of `look` says what is there instead: the next look follows after a moment.
///
/// Panics with the last error after [`LIMIT`].
#[track_caller]
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) => assert!(started.elapsed() < LIMIT, "waiting for {what}: {instead}"),
        }
        std::thread::sleep(LOOK);
    }
}
