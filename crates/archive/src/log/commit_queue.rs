//! The queue from the pipeline to the commit thread: two blocks being filled, one per lane.
//!
//! Appenders encode frames into the block of their lane while the commit thread writes and syncs an earlier block. The
//! commit thread takes a block of emergencies as soon as the thread is free. A block of routine waits for a while, so
//! that it fills.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::config::{BATCH_FRAMES_MAX, Limits};
use crate::format::{BlockEncoder, encoded_len, run_log_bytes_max};
use crate::log::edit_request::EditRequest;
use crate::{AppendError, PositionEditError};
use frame::liveness::Liveness;
use frame::{Batch, FramePriority, Lanes};

/// Time after an emergency during which blocks of routine have only 1/[`ALERT_SHARE`] of their size.
///
/// Emergencies rarely come alone. An emergency mostly waits for the commit of routine that is under way. That commit
/// takes longer, the larger its block is. A quarter of the largest block is 256 KiB, which a disk of 130 MB/s writes in
/// 2 ms. On a slower disk the sync takes longer than the write, and a smaller block gains little.
///
/// Smaller blocks cost routine much of its rate. Measured with a flood of frames of 256 B and blocks of 1,024, 512, 256
/// and 128 KiB: 2.9, 2.5, 1.8 and 1.2 M frames/s. The median emergency took 1.3, 0.9, 0.75 and 0.6 ms.
const ALERT: Duration = Duration::from_secs(1);
const ALERT_SHARE: u64 = 4;

/// Routine that comes after a silence waits for 1/`QUIET_SHARE` of the delay, because no second batch may come.
const QUIET_SHARE: u32 = 4;

/// The blocks that wait for the commit thread, one per lane.
pub(crate) struct CommitQueue {
    /// Everything that appenders and the commit thread change.
    state: Mutex<State>,
    /// Wakes the commit thread.
    work: Condvar,
    /// Wakes appenders that wait for room.
    room: Notify,
    /// Liveness of the commit thread. The commit thread sleeps only in this queue.
    liveness: Liveness,
    /// Bytes at which a block is full ([`Limits::block_bytes`]).
    block_bytes: u64,
    /// Largest sum of [`log_bytes_max`](crate::log_bytes_max) that a batch may have ([`Limits::block_bytes_max`]).
    block_bytes_max: u64,
}

#[derive(Default)]
struct State {
    /// The block of each lane that appenders fill.
    blocks: Lanes<Block>,
    /// Blocks of routine stay small until this time.
    alert_until: Option<Instant>,
    /// When the last block of routine was taken.
    taken_at: Option<Instant>,
    /// Routine was due when a block of emergencies was taken. The next block is one of routine.
    is_routine_owed: bool,
    /// The request to edit positions. It goes before all blocks. Otherwise emergencies could delay it for ever.
    request: Option<EditRequest>,
    /// Whether a batch must wake the commit thread.
    parked: Parked,
    /// No appender is left.
    closed: bool,
    /// The archive was dropped. The commit thread discards blocks that wait here or wait for space.
    abandoned: bool,
    /// Why the archive has failed or ended. Batches and requests are refused with this text.
    failed: Option<Arc<str>>,
}

/// A block being filled, of one lane.
#[derive(Default)]
pub(crate) struct Block {
    /// The frames, encoded.
    pub(crate) encoder: BlockEncoder,
    /// Most bytes that the frames take in the block, by [`encoded_len`]. The block is full when they reach its size.
    bytes: u64,
    /// When the first batch came; `None` while the block is empty.
    since: Option<Instant>,
}

impl Block {
    fn push(&mut self, batch: &Batch, size: u64) {
        self.encoder.reserve(size);
        self.encoder.push(batch.runs());
        self.bytes += size;
        self.since.get_or_insert_with(Instant::now);
    }

    /// Empties the block for its next use.
    pub(crate) fn clear(&mut self) {
        self.encoder.clear();
        self.bytes = 0;
        self.since = None;
    }
}

/// Whether the commit thread sleeps, and which batches wake it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Parked {
    /// The thread works, and looks for blocks when it is done. No batch wakes it.
    #[default]
    No,
    /// Any batch wakes the thread.
    Idle,
    /// The thread waits for the end of the delay. A batch wakes it only if a block becomes due. A batch of routine in a
    /// block that is not full does not wake it.
    Gathering,
}

/// What the commit thread is to do.
pub(crate) enum Next {
    /// Commit the block taken.
    Commit,
    /// Edit positions.
    Edit(EditRequest),
    /// Nothing came before the deadline.
    Timeout,
    /// End: no batch follows, or the archive was abandoned or has failed.
    End,
}

impl CommitQueue {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            room: Notify::new(),
            liveness: Liveness::of_thread(),
            block_bytes: limits.block_bytes,
            block_bytes_max: limits.block_bytes_max,
        }
    }

    /// The liveness of the commit thread.
    pub(crate) const fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// Waits for room and adds `batch`. Cancel safe: the batch is added in the last step or not at all.
    pub(crate) async fn push(&self, batch: &Batch) -> Result<(), AppendError> {
        let size = self.check(batch)?;
        // Usually there is room, and no waiter must be registered.
        while !self.try_push(batch, size)? {
            let room = self.room.notified();
            tokio::pin!(room);
            // Register before the next try, so that a notification in between is not missed.
            room.as_mut().enable();
            if self.try_push(batch, size)? {
                break;
            }
            room.await;
        }
        Ok(())
    }

    /// Returns whether a batch of routine needs no wait: there is room, or the archive has failed and refuses it.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        state.failed.is_some() || self.has_room_for(FramePriority::Routine, &state)
    }

    /// Waits until [`Self::has_room`] is true. Cancel safe.
    pub(crate) async fn room(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }

    /// Checks `batch` against the limits. Returns the most bytes that `batch` can take in a block.
    fn check(&self, batch: &Batch) -> Result<u64, AppendError> {
        let (mut log_bytes_max, mut size) = (0, 0);
        for run in batch.runs() {
            let payload_bytes = run.metas().iter().map(|meta| meta.payload_len as usize).sum();
            log_bytes_max += run_log_bytes_max(run, payload_bytes);
            size += encoded_len(run, payload_bytes);
        }
        let frames = batch.len();
        if frames > BATCH_FRAMES_MAX || log_bytes_max > self.block_bytes_max {
            return Err(AppendError::Oversized {
                frames,
                bytes: log_bytes_max,
                bytes_max: self.block_bytes_max,
            });
        }
        Ok(size)
    }

    /// Returns whether the block of `priority` is not yet full. The last batch of a block may exceed the size.
    fn has_room_for(&self, priority: FramePriority, state: &State) -> bool {
        let is_small = priority == FramePriority::Routine && state.alert_until.is_some();
        let full_bytes = if is_small { self.block_bytes / ALERT_SHARE } else { self.block_bytes };
        state.blocks[priority].bytes < full_bytes
    }

    fn try_push(&self, batch: &Batch, size: u64) -> Result<bool, AppendError> {
        let priority = batch.priority();
        let mut state = self.lock();
        if let Some(error) = &state.failed {
            return Err(AppendError::Failed(Arc::clone(error)));
        }
        let fits = self.has_room_for(priority, &state);
        if fits {
            state.blocks[priority].push(batch, size);
        }
        let is_due = priority == FramePriority::Emergency || !self.has_room_for(priority, &state);
        let wake = match state.parked {
            Parked::No => false,
            Parked::Idle => true,
            Parked::Gathering => is_due,
        };
        if wake {
            state.parked = Parked::No;
            drop(state);
            self.work.notify_one();
        }
        Ok(fits)
    }

    /// Hands `request` to the commit thread.
    pub(crate) fn request(&self, request: EditRequest) -> Result<(), PositionEditError> {
        let mut state = self.lock();
        if let Some(error) = &state.failed {
            return Err(PositionEditError::Failed(Arc::clone(error)));
        }
        if state.request.is_some() {
            return Err(PositionEditError::Busy);
        }
        state.request = Some(request);
        if std::mem::take(&mut state.parked) != Parked::No {
            drop(state);
            self.work.notify_one();
        }
        Ok(())
    }

    /// Takes the waiting request, if there is one.
    pub(crate) fn take_request(&self) -> Option<EditRequest> {
        self.lock().request.take()
    }

    /// Waits until the commit thread has something to do. Swaps a block that is due with `spare`, which must be empty.
    pub(crate) fn next(&self, spare: &mut Block, delay: Duration, deadline: Option<Instant>) -> Next {
        self.liveness.work();
        let mut state = self.lock();
        loop {
            if state.abandoned || state.failed.is_some() {
                return Next::End;
            }
            if let Some(request) = state.request.take() {
                return Next::Edit(request);
            }
            let now = Instant::now();
            if let Some(priority) = self.due(&mut state, now, delay) {
                std::mem::swap(&mut state.blocks[priority], spare);
                if priority == FramePriority::Routine {
                    state.taken_at = Some(now);
                }
                drop(state);
                self.room.notify_waiters();
                return Next::Commit;
            }
            let rest_until = rest_until(state.taken_at, delay);
            let until = match state.blocks.routine.since {
                Some(since) => {
                    state.parked = Parked::Gathering;
                    Some(routine_due_at(since, rest_until, delay))
                }
                None if state.closed => return Next::End,
                None if deadline.is_some_and(|deadline| now >= deadline) => return Next::Timeout,
                // Under load the first frame of a block must not wake the thread, because that block is not yet due.
                None if rest_until.is_some_and(|until| now < until) => {
                    state.parked = Parked::Gathering;
                    rest_until.into_iter().chain(deadline).min()
                }
                None => {
                    state.parked = Parked::Idle;
                    deadline
                }
            };
            state = self.sleep(state, until.map(|until| until - now));
            state.parked = Parked::No;
        }
    }

    /// Returns the lane whose block is due. The caller takes that block. Emergencies go first. Routine that is due has
    /// its turn after each block of emergencies, so that neither lane waits for more than one block of the other.
    fn due(&self, state: &mut State, now: Instant, delay: Duration) -> Option<FramePriority> {
        let Lanes { emergency, routine } = state.blocks.each_ref().map(|block| block.since);
        if emergency.is_some() {
            state.alert_until = Some(now + ALERT);
        }
        let rest_until = rest_until(state.taken_at, delay);
        let is_routine_due = routine.is_some_and(|since| {
            state.closed
                || now >= routine_due_at(since, rest_until, delay)
                || !self.has_room_for(FramePriority::Routine, state)
        });
        // End the alert only after the check above. A block that is full because of the alert is then due. Taking it
        // wakes the appenders. The end of the alert makes room too, but wakes no appender.
        state.alert_until = state.alert_until.filter(|until| now < *until);
        if emergency.is_some() && !(is_routine_due && state.is_routine_owed) {
            state.is_routine_owed = is_routine_due;
            return Some(FramePriority::Emergency);
        }
        state.is_routine_owed = false;
        is_routine_due.then_some(FramePriority::Routine)
    }

    /// Sleeps for `pause`, or until the archive is abandoned or fails. Returns whether that happened.
    pub(crate) fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        while !state.abandoned && state.failed.is_none() && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            state = self.sleep(state, Some(left));
        }
        state.abandoned || state.failed.is_some()
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State>, pause: Option<Duration>) -> MutexGuard<'a, State> {
        self.liveness.wait();
        let state = match pause {
            None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(pause) => {
                let result = self.work.wait_timeout(state, pause);
                result.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        self.liveness.work();
        state
    }

    /// Reports that no more batches come. The commit thread writes the blocks that wait, then ends.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// Ends the commit thread without writing the blocks that wait.
    pub(crate) fn abandon(&self) {
        self.lock().abandoned = true;
        self.work.notify_one();
    }

    /// Discards all blocks, refuses all further batches and requests with `error`, and ends the commit thread.
    pub(crate) fn fail(&self, error: Arc<str>) {
        let mut state = self.lock();
        state.failed = Some(error);
        state.blocks = Lanes::default();
        // The sender of the request learns of the failure when the request is dropped. The lock is released first.
        let request = state.request.take();
        drop(state);
        drop(request);
        self.work.notify_one();
        self.room.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Only the encoder can panic while the lock is held. The archive then fails, and its block is never written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the delay that began when the last block of routine was taken. Until then the commit thread gathers.
fn rest_until(taken_at: Option<Instant>, delay: Duration) -> Option<Instant> {
    taken_at.map(|at| at + delay)
}

/// Returns when a block of routine is due whose first batch came at `since`.
///
/// Under load that is one delay after the previous block was taken, so that no frame waits longer than the delay. After
/// a silence it is 1/[`QUIET_SHARE`] of the delay after `since`.
fn routine_due_at(since: Instant, rest_until: Option<Instant>, delay: Duration) -> Instant {
    rest_until.filter(|until| since < *until).unwrap_or(since + delay / QUIET_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(8);

    #[test]
    fn after_a_silence_routine_waits_for_a_part_of_the_delay() {
        let since = Instant::now();
        assert_eq!(routine_due_at(since, None, DELAY), since + DELAY / QUIET_SHARE);
        let long_ago = since.checked_sub(DELAY).unwrap();
        assert_eq!(rest_until(Some(long_ago), DELAY), Some(since));
        assert_eq!(routine_due_at(since, Some(since), DELAY), since + DELAY / QUIET_SHARE);
    }

    #[test]
    fn under_load_blocks_are_a_delay_apart_and_no_frame_waits_longer() {
        let taken_at = Instant::now();
        let rest_until = rest_until(Some(taken_at), DELAY);
        for since_ms in 0..8 {
            let since = taken_at + Duration::from_millis(since_ms);
            assert_eq!(routine_due_at(since, rest_until, DELAY), taken_at + DELAY);
        }
    }
}
