//! The priority fan-in: which frames the processor gets next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::gate::Gate;
use super::guard::{GUARD_FRAMES_MAX, Guard};
use super::queue::SourceQueue;
use super::stats::Counters;
use super::{BATCH_BYTES_MAX, PROCESSOR_FRAMES_MAX};
use crate::frame::{Frame, FramePriority};

/// Most frames of one source before the next source of the lane has its turn.
pub const TURN_FRAMES_MAX: usize = 16;

/// The sources that have frames waiting, per lane, in the order of their turns.
#[derive(Debug, Default)]
pub struct Sources {
    lists: Mutex<Lists>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Lists {
    lanes: [VecDeque<Arc<SourceQueue>>; 2],
    finished: bool,
}

impl Sources {
    /// No source yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Says that nothing will be pushed any more: the fan-in ends when the queues have run dry.
    pub fn finish(&self) {
        self.lock().finished = true;
        self.wake.notify_one();
    }

    pub(super) fn list(&self, queue: &Arc<SourceQueue>, lanes: [bool; 2]) {
        if lanes == [false; 2] {
            return;
        }
        {
            let mut lists = self.lock();
            for priority in FramePriority::ALL {
                if lanes[priority.lane()] {
                    lists.lanes[priority.lane()].push_back(Arc::clone(queue));
                }
            }
        }
        self.wake.notify_one();
    }

    fn first(&self, priority: FramePriority) -> Option<Arc<SourceQueue>> {
        self.lock().lanes[priority.lane()].pop_front()
    }

    fn to_back(&self, priority: FramePriority, queue: Arc<SourceQueue>) {
        self.lock().lanes[priority.lane()].push_back(queue);
    }

    fn to_front(&self, priority: FramePriority, queue: Arc<SourceQueue>) {
        self.lock().lanes[priority.lane()].push_front(queue);
    }

    fn peek(&self, priority: FramePriority) -> Option<Arc<SourceQueue>> {
        self.lock().lanes[priority.lane()].front().map(Arc::clone)
    }

    fn is_finished_and_dry(&self) -> bool {
        let lists = self.lock();
        lists.finished && lists.lanes.iter().all(VecDeque::is_empty)
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        // Nothing in the critical sections panics half-way, so a poisoned lock still guards whole lists.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the fan-in cuts batches.
#[derive(Clone, Copy, Debug)]
pub struct FanInConfig {
    /// Most frames in a batch, 1 to [`PROCESSOR_FRAMES_MAX`].
    pub batch_frames_max: usize,
    /// How long emergencies alone may keep routine waiting.
    pub routine_max_delay: Duration,
}

impl Default for FanInConfig {
    fn default() -> Self {
        Self { batch_frames_max: PROCESSOR_FRAMES_MAX, routine_max_delay: Duration::from_secs(1) }
    }
}

/// Merges all sources: emergency before routine, equal turns within a lane, order kept within a source's lane.
#[derive(Debug)]
pub struct FanIn {
    sources: Arc<Sources>,
    gate: Gate,
    guard: Guard,
    batch_frames_max: usize,
    counters: Arc<Counters>,
}

impl FanIn {
    /// A fan-in over `sources` that counts what it lets through as routed.
    #[must_use]
    pub fn new(sources: Arc<Sources>, gate: Gate, config: FanInConfig, counters: Arc<Counters>) -> Self {
        Self {
            sources,
            gate,
            guard: Guard::new(config.routine_max_delay),
            batch_frames_max: config.batch_frames_max.clamp(1, PROCESSOR_FRAMES_MAX),
            counters,
        }
    }

    /// Waits for frames and takes the next batch; `None` when the sources are finished and dry.
    ///
    /// # Cancel safety
    /// Cancel safe: frames leave their queues in the very poll that returns them.
    pub async fn next_batch(&mut self) -> Option<Vec<Frame>> {
        loop {
            let batch = self.take(Instant::now());
            if !batch.is_empty() {
                self.counters.add_routed(batch.len());
                return Some(batch);
            }
            if self.sources.is_finished_and_dry() {
                return None;
            }
            tokio::select! {
                () = self.sources.wake.notified() => {}
                () = self.gate.changed() => {}
            }
        }
    }

    /// Takes what goes next; empty when nothing may go now.
    fn take(&mut self, now: Instant) -> Vec<Frame> {
        let mut batch = PartialBatch::new(self.batch_frames_max);
        if self.guard.is_due(now) {
            self.guard.reset();
            self.fill(&mut batch, FramePriority::Routine, GUARD_FRAMES_MAX);
            if !batch.frames.is_empty() {
                return batch.frames;
            }
        }
        self.fill(&mut batch, FramePriority::Emergency, usize::MAX);
        let emergencies = batch.frames.len();
        self.fill(&mut batch, FramePriority::Routine, usize::MAX);
        if batch.frames.len() == emergencies && batch.is_full() && self.routine_could_go() {
            self.guard.kept_out(now);
        } else {
            self.guard.reset();
        }
        batch.frames
    }

    /// Gives the sources of a lane their turns until the batch is full, `frames_max` went, or the gate holds.
    fn fill(&mut self, batch: &mut PartialBatch, priority: FramePriority, frames_max: usize) {
        let frames_end = batch.frames.len().saturating_add(frames_max);
        while !batch.is_full() && batch.frames.len() < frames_end {
            let Some(queue) = self.sources.first(priority) else {
                return;
            };
            let turn_end = frames_end.min(batch.frames.len() + TURN_FRAMES_MAX);
            let (mut held, mut taken) = (false, batch.frames.len());
            let (frames_limit, mut bytes) = (batch.frames_max.min(turn_end), batch.bytes);
            let admit = |frame: &Frame| {
                if taken == frames_limit || bytes >= BATCH_BYTES_MAX {
                    return false;
                }
                held = !self.gate.admit(frame);
                if !held {
                    taken += 1;
                    bytes += frame.payload.len();
                }
                !held
            };
            let more = queue.take(priority, admit, &mut batch.frames);
            batch.bytes = bytes;
            match (more, held) {
                (true, true) => return self.sources.to_front(priority, queue),
                (true, false) => self.sources.to_back(priority, queue),
                (false, _) => {}
            }
        }
    }

    fn routine_could_go(&self) -> bool {
        let waiting = self.sources.peek(FramePriority::Routine);
        waiting
            .and_then(|queue| queue.peek(FramePriority::Routine, |frame| self.gate.would_admit(frame)))
            .unwrap_or(false)
    }
}

/// A batch being filled.
struct PartialBatch {
    frames: Vec<Frame>,
    frames_max: usize,
    bytes: usize,
}

impl PartialBatch {
    fn new(frames_max: usize) -> Self {
        Self { frames: Vec::with_capacity(frames_max), frames_max, bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.frames.len() >= self.frames_max || self.bytes >= BATCH_BYTES_MAX
    }
}
