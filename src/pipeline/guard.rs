//! Keeps a flood of emergencies from starving routine for ever.

use std::time::Duration;

use tokio::time::Instant;

/// Most routine frames that go ahead of waiting emergencies at a time.
pub(super) const GUARD_FRAMES_MAX: usize = 8;

/// Knows since when emergencies alone have kept routine waiting.
#[derive(Debug)]
pub(super) struct Guard {
    delay_max: Duration,
    kept_out_since: Option<Instant>,
}

impl Guard {
    pub(super) fn new(delay_max: Duration) -> Self {
        Self { delay_max, kept_out_since: None }
    }

    /// Whether a routine batch is due ahead of emergencies.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.kept_out_since.is_some_and(|since| now.duration_since(since) >= self.delay_max)
    }

    /// Emergencies filled a batch while routine could have gone.
    pub(super) fn kept_out(&mut self, now: Instant) {
        self.kept_out_since.get_or_insert(now);
    }

    /// Routine went, or something else than emergencies holds it: the clock starts anew.
    pub(super) fn reset(&mut self) {
        self.kept_out_since = None;
    }
}
