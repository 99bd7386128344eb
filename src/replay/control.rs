//! Stops and pauses a run from outside.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// What the outside can do to a run. Share it with [`run`](super::run).
#[derive(Debug)]
pub struct Control {
    stop_tx: watch::Sender<bool>,
    pause_tx: watch::Sender<Pause>,
}

/// How long the recording has stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pause {
    since: Option<Instant>,
    stood: Duration,
}

impl Pause {
    pub(super) fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// How long, pauses that are over.
    pub(super) fn stood(&self) -> Duration {
        self.stood
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { stop_tx: watch::Sender::new(false), pause_tx: watch::Sender::default() }
    }
}

impl Control {
    /// Nothing new is sent from here on. Says whether that was so already.
    pub fn stop(&self) -> bool {
        self.stop_tx.send_replace(true)
    }

    /// Whether the run was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.stop_tx.borrow()
    }

    /// Pauses, or goes on. Says whether the run is paused now: then no further write of frames begins, connections stay
    /// alive, and the clock of the recording stands.
    pub fn toggle_pause(&self) -> bool {
        let now = Instant::now();
        let mut is_on = false;
        self.pause_tx.send_modify(|pause| {
            match pause.since.take() {
                Some(since) => pause.stood += now.saturating_duration_since(since),
                None => pause.since = Some(now),
            }
            is_on = pause.is_on();
        });
        is_on
    }

    /// Whether the run is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pause_tx.borrow().is_on()
    }

    pub(super) fn stops(&self) -> watch::Receiver<bool> {
        self.stop_tx.subscribe()
    }

    pub(super) fn pauses(&self) -> watch::Receiver<Pause> {
        self.pause_tx.subscribe()
    }
}

/// Waits for the stop. Cancel safe.
pub(super) async fn stopped(stops: &mut watch::Receiver<bool>) {
    // The control lives as long as the run; if it were gone, nobody could want anything else.
    let _ = stops.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_recording_stands_for_as_long_as_it_is_paused() {
        let control = Control::default();
        let pause = control.pauses();
        assert!(control.toggle_pause());
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(!control.toggle_pause());
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(control.toggle_pause());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(pause.borrow().stood(), Duration::from_secs(7), "the pause in hand is not over");
        assert!(!control.toggle_pause());
        assert_eq!(pause.borrow().stood(), Duration::from_secs(9));
    }
}
