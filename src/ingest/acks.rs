//! When sessions hear that routine frames of theirs are durable.
//!
//! A commit holds a few frames of each of many streams. To wake a session for each of them and to write an ACK costs more
//! than to take the frames in. So a session that has just sent an ACK of routine is not woken by the next commit. What it
//! has to say waits for a later commit, or for [`ACK_DELAY`] at most. Emergencies never wait here.
//!
//! The commit thread lists the sessions. The registry, which owns them, wakes all that are due in one go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// For so long a routine frame that is durable waits for its ACK at most. The ACKs of a lane are about as far apart.
pub(super) const ACK_DELAY: Duration = Duration::from_millis(10);

/// How a session hears of its stream.
#[derive(Debug)]
pub(super) struct AckSignal {
    /// Wakes the session.
    changed: Arc<Notify>,
    created: Instant,
    /// When the session last sent an ACK of routine, in microseconds since `created`.
    sent_at_us: AtomicU64,
    /// The session is in the list of [`Acks`], or waits in [`AckPacer`].
    is_listed: AtomicBool,
    /// The ACK of routine goes now.
    is_due: AtomicBool,
    /// The session ends: it hears of each commit at once.
    is_ending: AtomicBool,
}

impl AckSignal {
    /// The signal of a session that waits for `changed`.
    pub(super) fn new(changed: Arc<Notify>, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            changed,
            created: now,
            sent_at_us: AtomicU64::new(0),
            is_listed: AtomicBool::new(false),
            is_due: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
        })
    }

    /// What wakes the session.
    pub(super) const fn changed(&self) -> &Arc<Notify> {
        &self.changed
    }

    /// The session has sent an ACK of routine.
    pub(super) fn sent(&self, now: Instant) {
        let us = now.duration_since(self.created).as_micros();
        self.sent_at_us.store(u64::try_from(us).unwrap_or(u64::MAX), Relaxed);
    }

    /// From now on the session hears of each commit at once.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Relaxed);
    }

    /// Whether the ACK of routine goes now; true once for each time it became due.
    pub(super) fn take_due(&self) -> bool {
        self.is_due.load(Relaxed) && self.is_due.swap(false, Relaxed)
    }

    /// Whether the last ACK of routine was sent long enough ago.
    fn has_rested(&self, now: Instant) -> bool {
        now >= self.created + Duration::from_micros(self.sent_at_us.load(Relaxed)) + ACK_DELAY
    }

    fn wake(&self) {
        // First: what becomes durable from here on lists the session again.
        self.is_listed.store(false, Relaxed);
        self.is_due.store(true, Relaxed);
        self.changed.notify_one();
    }
}

/// The sessions for which the commit in hand holds routine.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// At most one entry for each session.
    listed: Mutex<Vec<Arc<AckSignal>>>,
    committed: Notify,
}

impl Acks {
    /// Routine of the session is durable. [`Acks::flush`] is to follow.
    pub(super) fn list(&self, signal: &Arc<AckSignal>) {
        if signal.is_ending.load(Relaxed) {
            signal.wake();
        } else if !signal.is_listed.swap(true, Relaxed) {
            self.listed.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(signal));
        }
    }

    /// Nothing more of the commit is to be listed.
    pub(super) fn flush(&self) {
        self.committed.notify_one();
    }

    fn take(&self) -> Vec<Arc<AckSignal>> {
        std::mem::take(&mut *self.listed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Wakes the sessions whose ACK is due.
#[derive(Debug, Default)]
pub(super) struct AckPacer {
    /// Since when they wait, in ascending order.
    waiting: Vec<(Arc<AckSignal>, Instant)>,
}

impl AckPacer {
    /// Waits for the next commit, or for the time of those that wait, and wakes the sessions that are due.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn turn(&mut self, acks: &Acks) {
        let due = self.next_due();
        let timer = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = acks.committed.notified() => self.commit(acks.take(), Instant::now()),
            () = timer => self.tick(Instant::now()),
        }
    }

    /// When the session that waits longest is due.
    fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(_, since)| *since + ACK_DELAY)
    }

    /// A commit holds routine of the sessions in `listed`. Those that have not just sent an ACK are due, also of those
    /// that have waited since an earlier commit.
    fn commit(&mut self, listed: Vec<Arc<AckSignal>>, now: Instant) {
        self.waiting.extend(listed.into_iter().map(|signal| (signal, now)));
        self.wake(|signal, since| signal.has_rested(now) || now >= since + ACK_DELAY);
    }

    /// Those are due that have waited for [`ACK_DELAY`].
    fn tick(&mut self, now: Instant) {
        self.wake(|_, since| now >= since + ACK_DELAY);
    }

    fn wake(&mut self, is_due: impl Fn(&AckSignal, Instant) -> bool) {
        self.waiting.retain(|(signal, since)| {
            let is_due = is_due(signal, *since);
            if is_due {
                signal.wake();
            }
            !is_due
        });
    }
}

#[cfg(test)]
mod tests;
