//! Whether the loop of a stage turns: what the watchdog looks at.
//!
//! A stage either works or waits. It notes each change in a counter of its own, two stores to memory that nobody else writes,
//! and reads no clock. Who looks from time to time sees from the counter whether it moved.
//!
//! * A **task** waits by returning from its poll, for input, for the archive or for room: there is nothing else that
//!   these loops await. So it is enough to wake it and to see it polled: a loop that is stuck in a poll, or that the runtime
//!   does not come to, is not. Stages are watched from outside ([`Liveness::watch`]) and know nothing of it.
//! * A **thread** marks where it waits; there it may stay for as long as it likes. Elsewhere it must come by a mark in time.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// State of a stage that has ended.
const ENDED: u64 = u64::MAX;

/// The liveness of one stage. Cheap to clone; only the stage itself moves it.
#[derive(Clone, Debug)]
pub struct Liveness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Counts the changes: odd while the stage works, even while it waits.
    turns: AtomicU64,
    /// Wakes the stage if it is a task.
    waker: Mutex<Option<Waker>>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Task,
    Thread,
}

/// What one look at a liveness shows. Two looks that are equal, and not at rest, show no turn in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    turns: u64,
    /// The stage has ended, or waits where it may wait for ever.
    pub is_at_rest: bool,
}

impl Liveness {
    /// For a stage that is a task and is run under [`Liveness::watch`].
    #[must_use]
    pub fn of_task() -> Self {
        Self::new(Kind::Task)
    }

    /// For a stage that is a thread. It waits until it says that it works.
    #[must_use]
    pub fn of_thread() -> Self {
        Self::new(Kind::Thread)
    }

    fn new(kind: Kind) -> Self {
        Self(Arc::new(Inner { turns: AtomicU64::new(0), waker: Mutex::default(), kind }))
    }

    /// The stage works, or has come to its next step.
    pub fn work(&self) {
        self.change(|turns| (turns + 1) | 1);
    }

    /// The stage waits, for as long as it takes.
    pub fn wait(&self) {
        self.change(|turns| (turns | 1) + 1);
    }

    /// The stage has ended.
    pub fn end(&self) {
        self.change(|_| ENDED);
    }

    /// Shows where the stage is, and wakes it if it is a task: it has been polled by the next look, or it hangs.
    #[must_use]
    pub fn look(&self) -> Probe {
        let turns = self.0.turns.load(Ordering::Acquire);
        if turns == ENDED {
            return Probe { turns, is_at_rest: true };
        }
        match self.0.kind {
            Kind::Thread => Probe { turns, is_at_rest: turns.is_multiple_of(2) },
            Kind::Task => {
                let waker = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(waker) = waker {
                    waker.wake();
                }
                Probe { turns, is_at_rest: false }
            }
        }
    }

    /// Runs `stage` with this liveness, which ends with it, and begins anew with the next.
    ///
    /// # Cancel safety
    /// As `stage`.
    pub async fn watch<F: Future>(self, stage: F) -> F::Output {
        let ending = Ending(self);
        let liveness = &ending.0;
        // Under supervision it begins again after its end.
        liveness.0.turns.store(0, Ordering::Release);
        let mut stage = pin!(stage);
        let mut known: Option<Waker> = None;
        poll_fn(|cx| {
            if !known.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                known = Some(cx.waker().clone());
                liveness.0.waker.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&known);
            }
            liveness.work();
            let polled = stage.as_mut().poll(cx);
            liveness.wait();
            polled
        })
        .await
    }

    /// Only the stage itself writes, so a look at the old value and a store are one step.
    fn change(&self, next: impl FnOnce(u64) -> u64) {
        let turns = self.0.turns.load(Ordering::Relaxed);
        if turns != ENDED {
            self.0.turns.store(next(turns), Ordering::Release);
        }
    }
}

/// Ends the liveness however the stage ends, and lets go of its task.
struct Ending(Liveness);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
        self.0.0.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    /// Whether the stage turns within some looks; a runtime needs its time to poll.
    fn turns(liveness: &Liveness) -> bool {
        let first = liveness.look();
        let mut looks = std::iter::repeat_with(|| {
            std::thread::sleep(Duration::from_millis(1));
            liveness.look()
        });
        looks.by_ref().take(5_000).any(|look| look.is_at_rest || look != first)
    }

    /// Whether it stays where it is.
    fn hangs(liveness: &Liveness) -> bool {
        let first = liveness.look();
        (0..20).all(|_| {
            std::thread::sleep(Duration::from_millis(1));
            liveness.look() == first
        }) && !first.is_at_rest
    }

    #[test]
    fn a_thread_may_wait_for_ever_but_not_work_for_ever() {
        let liveness = Liveness::of_thread();
        assert!(liveness.look().is_at_rest, "it has not begun");
        liveness.work();
        let first = liveness.look();
        assert!(!first.is_at_rest);
        assert_eq!(liveness.look(), first, "no turn");
        liveness.work();
        let second = liveness.look();
        assert!(second != first && !second.is_at_rest, "the next step");
        liveness.wait();
        assert!(liveness.look().is_at_rest);
        liveness.wait();
        assert!(liveness.look().is_at_rest, "waiting twice is waiting");
        liveness.work();
        liveness.end();
        assert!(liveness.look().is_at_rest, "it has ended");
        liveness.work();
        assert!(liveness.look().is_at_rest, "the end is the end");
    }

    #[test]
    fn a_task_that_waits_turns_and_one_that_is_stuck_in_a_poll_does_not() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let (stuck_tx, stuck) = mpsc::channel();
        let (go_tx, go) = mpsc::channel::<()>();
        let (input_tx, input) = tokio::sync::oneshot::channel::<()>();
        let liveness = Liveness::of_task();
        assert!(hangs(&liveness), "it has never been polled");
        let task = runtime.spawn(liveness.clone().watch(async move {
            input.await.unwrap();
            stuck_tx.send(()).unwrap();
            go.recv().unwrap();
            std::future::pending::<()>().await;
        }));
        for _ in 0..3 {
            assert!(turns(&liveness), "it waits for input");
        }
        input_tx.send(()).unwrap();
        stuck.recv().unwrap();
        assert!(hangs(&liveness), "it blocks in its poll");
        go_tx.send(()).unwrap();
        assert!(turns(&liveness), "it goes on");
        task.abort();
        assert!(runtime.block_on(task).unwrap_err().is_cancelled());
        assert!(liveness.look().is_at_rest, "it has ended");
    }
}
