//! What operators and maintenance tell each other about the expiry of segments.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::AgeHold;
use crate::Retention;

/// The requests of operators that maintenance has not taken yet, and what it answers.
#[derive(Default)]
pub(crate) struct RetentionControl(Mutex<State>);

#[derive(Default)]
struct State {
    /// A new retention that maintenance has not taken yet.
    retention: Option<Retention>,
    /// Whether an operator confirmed the clock and maintenance has not taken the confirmation yet.
    is_clock_confirmed: bool,
    /// The last reason that maintenance found why no segment expires by age.
    age_hold: Option<AgeHold>,
    /// Says from which offset on frames are kept, whatever the retention.
    keep_from: Option<Arc<KeepFrom>>,
}

/// Returns the offset from which on frames are kept; `u64::MAX` for none.
type KeepFrom = dyn Fn() -> u64 + Send + Sync;

impl RetentionControl {
    /// Sets the retention. It applies once maintenance wakes.
    pub(crate) fn set_retention(&self, retention: Retention) {
        self.lock().retention = Some(retention);
    }

    /// Takes the new retention, if one was set since the last call.
    pub(super) fn take_retention(&self) -> Option<Retention> {
        self.lock().retention.take()
    }

    /// Records that an operator confirms the wall clock.
    pub(crate) fn confirm_clock(&self) {
        self.lock().is_clock_confirmed = true;
    }

    /// Takes the operator's confirmation: whether there was one since the last call.
    pub(super) fn take_clock_confirmation(&self) -> bool {
        std::mem::take(&mut self.lock().is_clock_confirmed)
    }

    /// Publishes why no segment expires by age.
    pub(super) fn set_age_hold(&self, hold: Option<AgeHold>) {
        self.lock().age_hold = hold;
    }

    /// Returns why no segment expires by age.
    pub(crate) fn age_hold(&self) -> Option<AgeHold> {
        self.lock().age_hold.clone()
    }

    /// Sets what [`Self::keep_from`] asks.
    pub(crate) fn set_keep_from(&self, keep_from: Arc<KeepFrom>) {
        self.lock().keep_from = Some(keep_from);
    }

    /// Returns the offset from which on frames are kept, whatever the retention.
    pub(super) fn keep_from(&self) -> u64 {
        let keep_from = self.lock().keep_from.clone();
        keep_from.map_or(u64::MAX, |keep_from| keep_from())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
