//! Decides when a session is woken to acknowledge routine frames that are durable.
//!
//! A commit holds a few frames of each of many streams. Waking a session for each of them and writing an ACK
//! would cost more than receiving the frames. So the next commit does not wake a session that has just sent
//! an ACK of routine. The ACK of that session waits for a later commit, but at most for [`ACK_DELAY`].
//! Emergencies never wait here.
//!
//! The commit thread lists the sessions. The router, which owns the sessions, wakes all sessions that are
//! due at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Longest time that the ACK of a durable routine frame waits. The ACKs of a lane are about this far apart.
pub(super) const ACK_DELAY: Duration = Duration::from_millis(10);

/// Signals to a session that its stream has changed.
#[derive(Debug)]
pub(super) struct AckSignal {
    /// Wakes the session.
    changed: Arc<Notify>,
    /// The time from which `sent_at_us` counts.
    created: Instant,
    /// When the session last sent an ACK of routine, in microseconds since `created`.
    sent_at_us: AtomicU64,
    /// The session is in the list of [`Acks`], or waits in [`AckPacer`].
    is_listed: AtomicBool,
    /// The ACK of routine is due.
    is_due: AtomicBool,
    /// The session ends: each commit wakes the session at once.
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

    /// Notes that the session has sent an ACK of routine.
    pub(super) fn sent(&self, now: Instant) {
        let us = now.duration_since(self.created).as_micros();
        self.sent_at_us.store(u64::try_from(us).unwrap_or(u64::MAX), Relaxed);
    }

    /// From this call on, each commit wakes the session at once.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Relaxed);
    }

    /// Whether the ACK of routine is due. Returns true once for each time it became due.
    pub(super) fn take_due(&self) -> bool {
        self.is_due.load(Relaxed) && self.is_due.swap(false, Relaxed)
    }

    /// Whether at least [`ACK_DELAY`] has passed since the last ACK of routine.
    fn has_rested(&self, now: Instant) -> bool {
        now >= self.created + Duration::from_micros(self.sent_at_us.load(Relaxed)) + ACK_DELAY
    }

    /// Wakes the session, whose ACK of routine is due.
    fn wake(&self) {
        // Cleared first, so that frames that become durable after this line list the session again.
        self.is_listed.store(false, Relaxed);
        self.is_due.store(true, Relaxed);
        self.changed.notify_one();
    }
}

/// The sessions for which the current commit holds routine frames.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// At most one entry for each session.
    listed: Mutex<Vec<Arc<AckSignal>>>,
    /// Notified at the end of a commit that has listed sessions.
    committed: Notify,
}

impl Acks {
    /// Lists a session that has durable routine frames. The caller calls [`Acks::flush`] after the last
    /// session of a commit.
    pub(super) fn list(&self, signal: &Arc<AckSignal>) {
        if signal.is_ending.load(Relaxed) {
            signal.wake();
        } else if !signal.is_listed.swap(true, Relaxed) {
            self.listed.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(signal));
        }
    }

    /// Ends the commit: no more sessions of it are listed.
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
    /// The sessions that wait, and since when, in ascending order of time.
    waiting: Vec<(Arc<AckSignal>, Instant)>,
}

impl AckPacer {
    /// Waits for the next commit or until a waiting session is due. Then wakes the sessions that are due.
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

    /// Handles a commit that holds routine frames of the sessions in `listed`. Wakes the sessions that have
    /// not just sent an ACK, including sessions that have waited since an earlier commit.
    fn commit(&mut self, listed: Vec<Arc<AckSignal>>, now: Instant) {
        self.waiting.extend(listed.into_iter().map(|signal| (signal, now)));
        self.wake(|signal, since| signal.has_rested(now) || now >= since + ACK_DELAY);
    }

    /// Wakes the sessions that have waited for [`ACK_DELAY`].
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
