//! Whether the loop of a stage makes progress. The watchdog checks this.
//!
//! A stage either works or waits. It counts each change in a counter of its own: two stores to memory that
//! only the stage writes, and no read of a clock. A watcher that probes from time to time sees from the
//! counter whether the stage moved.
//!
//! * A **task** waits when it returns from its poll: for input, for the archive or for room. These loops
//!   await nothing else. So a watcher wakes the task and checks that it is polled. A loop that is stuck in a
//!   poll, or that the runtime does not reach, is not polled. [`Liveness::watch`] watches a stage from
//!   outside; the stage needs no code for it.
//! * A **thread** marks where it waits. There it may stay for any time. Elsewhere it must reach a mark in
//!   time.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// State of a stage that has ended.
const ENDED: u64 = u64::MAX;

/// The liveness of one stage. Cheap to clone. Only the stage itself changes it.
#[derive(Clone, Debug)]
pub struct Liveness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Number of changes: odd while the stage works, even while it waits.
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

/// The result of one look at a liveness. If two probes are equal and not at rest, the stage has not moved in
/// between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    turns: u64,
    /// The stage has ended, or waits at a point where it may wait for ever.
    pub is_at_rest: bool,
}

impl Liveness {
    /// For a stage that is a task and runs under [`Liveness::watch`].
    #[must_use]
    pub fn of_task() -> Self {
        Self::new(Kind::Task)
    }

    /// For a stage that is a thread. It counts as waiting until it calls [`Liveness::work`].
    #[must_use]
    pub fn of_thread() -> Self {
        Self::new(Kind::Thread)
    }

    fn new(kind: Kind) -> Self {
        Self(Arc::new(Inner { turns: AtomicU64::new(0), waker: Mutex::default(), kind }))
    }

    /// Notes that the stage works, or has reached its next step.
    pub fn work(&self) {
        self.change(|turns| (turns + 1) | 1);
    }

    /// Notes that the stage waits, for any time.
    pub fn wait(&self) {
        self.change(|turns| (turns | 1) + 1);
    }

    /// Notes that the stage has ended.
    pub fn end(&self) {
        self.change(|_| ENDED);
    }

    /// Probes the stage, and wakes it if it is a task: the task is polled before the next look, or it hangs.
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

    /// Runs `stage` with this liveness. The liveness ends with the stage and restarts with the next stage.
    ///
    /// # Cancel safety
    /// The same as `stage`.
    pub async fn watch<F: Future>(self, stage: F) -> F::Output {
        let ending = Ending(self);
        let liveness = &ending.0;
        // A supervised stage starts again after its end.
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

    /// Only the stage itself writes, so a load and a store are enough.
    fn change(&self, next: impl FnOnce(u64) -> u64) {
        let turns = self.0.turns.load(Ordering::Relaxed);
        if turns != ENDED {
            self.0.turns.store(next(turns), Ordering::Release);
        }
    }
}

/// Ends the liveness however the stage ends, and drops the waker of its task.
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

    /// Whether the stage moves within some looks. A runtime needs time to poll.
    fn turns(liveness: &Liveness) -> bool {
        let first = liveness.look();
        let mut looks = std::iter::repeat_with(|| {
            std::thread::sleep(Duration::from_millis(1));
            liveness.look()
        });
        looks.by_ref().take(5_000).any(|look| look.is_at_rest || look != first)
    }

    /// Whether the stage does not move.
    fn hangs(liveness: &Liveness) -> bool {
        let first = liveness.look();
        // Time is what this tests: nothing moves for a while.
        (0..20).all(|_| {
            std::thread::sleep(Duration::from_millis(1));
            liveness.look() == first
        }) && !first.is_at_rest
    }

    #[test]
    fn a_thread_that_works_must_turn_and_one_that_waits_need_not() {
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
    fn a_waiting_task_makes_turns_and_a_task_stuck_in_a_poll_does_not() {
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
        assert!(turns(&liveness), "it makes turns");
        task.abort();
        assert!(runtime.block_on(task).unwrap_err().is_cancelled());
        assert!(liveness.look().is_at_rest, "it has ended");
    }
}
