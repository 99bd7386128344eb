//! The hand-over from the pipeline to the commit thread: one block's worth of batches, gathered under one lock.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::AppendError;
use super::config::{BATCH_FRAMES_MAX, Limits};
use super::format::{encoded_len, run_charge};
use crate::frame::{FramePriority, Frames};

/// Batches on their way into the next block.
pub(super) struct Gather {
    state: Mutex<State>,
    /// Wakes the commit thread.
    work: Condvar,
    /// Wakes appenders that wait for room.
    room: Notify,
    block_bytes: u64,
    block_bytes_max: u64,
}

#[derive(Default)]
struct State {
    batches: Vec<Frames>,
    bytes: u64,
    /// When the first batch came.
    since: Option<Instant>,
    /// Go now: an emergency is in, or the block is full.
    due: bool,
    parked: Parked,
    /// No appender is left.
    closed: bool,
    /// The archive was dropped: what cannot be written at once is let go.
    abandoned: bool,
    failed: Option<Arc<str>>,
}

/// What the commit thread sleeps for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Parked {
    #[default]
    No,
    /// For anything at all.
    Idle,
    /// For the delay to pass, or the block to become due.
    Gathering,
}

/// What the commit thread is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Commit the batches taken.
    Commit,
    /// Nothing came before the deadline.
    Timeout,
    /// Nothing will come any more.
    End,
}

impl Gather {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            room: Notify::new(),
            block_bytes: limits.block_bytes,
            block_bytes_max: limits.block_bytes_max,
        }
    }

    /// Waits for room and adds `batch`. Cancel safe: `batch` is added in the last step or not at all.
    pub(super) async fn push(&self, batch: Frames) -> Result<(), AppendError> {
        if batch.is_empty() {
            return Ok(());
        }
        let size = self.check(&batch)?;
        let urgent = batch.runs().iter().any(|run| run.priority() == FramePriority::Emergency);
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Registered before the look, so that room made in between is not missed.
            room.as_mut().enable();
            if self.try_push(&batch, size, urgent)? {
                return Ok(());
            }
            room.await;
        }
    }

    /// Bytes that `batch` takes in a block at most.
    fn check(&self, batch: &Frames) -> Result<u64, AppendError> {
        let (mut charge, mut size) = (0, 0);
        for run in batch.runs() {
            let payload_bytes = run.heads().iter().map(|head| head.payload_len as usize).sum();
            charge += run_charge(run, payload_bytes);
            size += encoded_len(run, payload_bytes);
        }
        if batch.len() > BATCH_FRAMES_MAX || charge > self.block_bytes_max {
            return Err(AppendError::Oversized {
                frames: batch.len(),
                bytes: charge,
                bytes_max: self.block_bytes_max,
            });
        }
        Ok(size)
    }

    fn try_push(&self, batch: &Frames, size: u64, urgent: bool) -> Result<bool, AppendError> {
        let mut state = self.lock();
        if let Some(error) = &state.failed {
            return Err(AppendError::Failed(Arc::clone(error)));
        }
        let fits = state.batches.is_empty() || state.bytes + size <= self.block_bytes;
        if fits {
            state.batches.push(batch.clone());
            state.bytes += size;
            state.since.get_or_insert_with(Instant::now);
        }
        state.due |= urgent || !fits || state.bytes >= self.block_bytes;
        let wake = match state.parked {
            Parked::No => false,
            Parked::Idle => true,
            Parked::Gathering => state.due,
        };
        if wake {
            state.parked = Parked::No;
            drop(state);
            self.work.notify_one();
        }
        Ok(fits)
    }

    /// Waits until a block is due and moves it to `into`, which must be empty.
    pub(super) fn next(&self, into: &mut Vec<Frames>, delay: Duration, deadline: Option<Instant>) -> Next {
        let mut state = self.lock();
        loop {
            if state.abandoned || state.failed.is_some() {
                return Next::End;
            }
            let now = Instant::now();
            let until = match state.since {
                Some(since) if state.due || state.closed || now >= since + delay => {
                    self.take(state, into);
                    return Next::Commit;
                }
                Some(since) => {
                    state.parked = Parked::Gathering;
                    Some(since + delay)
                }
                None if state.closed => return Next::End,
                None if deadline.is_some_and(|deadline| now >= deadline) => return Next::Timeout,
                None => {
                    state.parked = Parked::Idle;
                    deadline
                }
            };
            state = self.sleep(state, until.map(|until| until - now));
            state.parked = Parked::No;
        }
    }

    fn take(&self, mut state: MutexGuard<'_, State>, into: &mut Vec<Frames>) {
        std::mem::swap(&mut state.batches, into);
        state.bytes = 0;
        state.since = None;
        state.due = false;
        drop(state);
        self.room.notify_waiters();
    }

    /// Sleeps for `pause`, or less when the archive is abandoned or has failed; says whether it was.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        while !state.abandoned && state.failed.is_none() && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            state = self.sleep(state, Some(left));
        }
        state.abandoned || state.failed.is_some()
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State>, pause: Option<Duration>) -> MutexGuard<'a, State> {
        match pause {
            None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(pause) => {
                let result = self.work.wait_timeout(state, pause);
                result.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// No more batches will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// Ends the thread without writing what still waits.
    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
        self.work.notify_one();
    }

    /// Refuses everything from here on, with `error`, and ends the thread.
    pub(super) fn fail(&self, error: Arc<str>) {
        let mut state = self.lock();
        state.failed = Some(error);
        state.batches.clear();
        drop(state);
        self.work.notify_one();
        self.room.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and a panic elsewhere must not take the appenders with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
