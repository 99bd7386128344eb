//! Stops and pauses a run from outside.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Stops and pauses a run. Share it with [`run`](super::run).
#[derive(Debug)]
pub struct Control {
    stop_tx: watch::Sender<bool>,
    pause_tx: watch::Sender<Pause>,
}

/// The time for which the recording was paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pause {
    since: Option<Instant>,
    stood: Duration,
}

impl Pause {
    pub(super) fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// Total time of all finished pauses.
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
    /// Stops the run: nothing new is sent. Returns whether it was stopped before.
    pub fn stop(&self) -> bool {
        self.stop_tx.send_replace(true)
    }

    /// Pauses or resumes the run. Returns whether the run is paused now. During a pause no new write of frames begins,
    /// connections stay alive, and the clock of the recording stands still.
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
    // The control lives as long as the run. If it is gone, there is nothing to wait for.
    let _ = stops.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_recording_clock_stops_during_pauses() {
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
