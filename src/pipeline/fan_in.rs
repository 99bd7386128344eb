//! The priority fan-in: which frames the processor gets next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::gate::Gate;
use super::guard::{GUARD_FRAMES_MAX, Guard};
use super::queue::{SourceQueue, Turn};
use super::stats::Counters;
use super::{BATCH_BYTES_MAX, Output, PROCESSOR_FRAMES_MAX};
use crate::frame::{FramePriority, Frames, Run};

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

    /// Whose turn it is: routine only while no emergency waits anywhere, and if `routine` goes at all.
    fn first(&self, routine: bool) -> Option<(FramePriority, Arc<SourceQueue>)> {
        let mut lists = self.lock();
        let lanes = if routine { &FramePriority::ALL[..] } else { &[FramePriority::Emergency] };
        lanes
            .iter()
            .copied()
            .find_map(|priority| lists.lanes[priority.lane()].pop_front().map(|queue| (priority, queue)))
    }

    /// Whose turn it is in a batch of `priority`; nobody's when there is none left or an emergency overtakes.
    fn next_of(&self, priority: FramePriority) -> Option<Arc<SourceQueue>> {
        let mut lists = self.lock();
        let is_overtaken = priority == FramePriority::Routine && !lists.lanes[0].is_empty();
        if is_overtaken { None } else { lists.lanes[priority.lane()].pop_front() }
    }

    fn first_routine(&self) -> Option<Arc<SourceQueue>> {
        self.lock().lanes[FramePriority::Routine.lane()].pop_front()
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

    /// Waits for frames and takes the next batch, all of one lane; `None` when the sources are finished and dry.
    ///
    /// Routine is taken only while `output` has room for it.
    ///
    /// # Cancel safety
    /// Cancel safe: frames leave their queues in the very poll that returns them.
    pub async fn next_batch(&mut self, output: &impl Output) -> Option<Frames> {
        loop {
            let has_room = output.has_room();
            let batch = Frames::from(self.take(Instant::now(), has_room));
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
                () = output.room(), if !has_room => {}
            }
        }
    }

    /// Takes what goes next; empty when nothing may go now.
    fn take(&mut self, now: Instant, has_room: bool) -> Vec<Run> {
        if has_room && self.guard.is_due(now) {
            self.guard.reset();
            let mut batch = PartialBatch::new(self.batch_frames_max.min(GUARD_FRAMES_MAX));
            while !batch.is_full()
                && let Some(queue) = self.sources.first_routine()
                && self.take_turn(FramePriority::Routine, true, queue, &mut batch)
            {}
            if !batch.runs.is_empty() {
                return batch.runs;
            }
        }
        let mut batch = PartialBatch::new(self.batch_frames_max);
        let Some((priority, mut queue)) = self.sources.first(has_room) else {
            self.guard.reset();
            return batch.runs;
        };
        while self.take_turn(priority, false, queue, &mut batch)
            && !batch.is_full()
            && let Some(next) = self.sources.next_of(priority)
        {
            queue = next;
        }
        if priority == FramePriority::Emergency && has_room && self.routine_could_go() {
            self.guard.kept_out(now);
        } else {
            self.guard.reset();
        }
        batch.runs
    }

    /// Gives one source its turn; false when the gate holds its next frame.
    fn take_turn(
        &mut self,
        priority: FramePriority,
        ahead: bool,
        queue: Arc<SourceQueue>,
        batch: &mut PartialBatch,
    ) -> bool {
        let frames_end = batch.frames_max.min(batch.frames + TURN_FRAMES_MAX);
        let (mut frames, mut bytes, mut held) = (batch.frames, batch.bytes, false);
        let admit = |run: &Run| {
            let before = frames;
            for head in run.heads() {
                if frames == frames_end || bytes >= BATCH_BYTES_MAX {
                    break;
                }
                held = !self.gate.admit(run, head.payload_len as usize);
                if held {
                    break;
                }
                frames += 1;
                bytes += head.payload_len as usize;
            }
            frames - before
        };
        let turn = queue.take(priority, ahead, admit, &mut batch.runs);
        (batch.frames, batch.bytes) = (frames, bytes);
        match turn {
            Turn::Dry => {}
            Turn::SomeLeft if !held => self.sources.to_back(priority, queue),
            Turn::SomeLeft | Turn::Overtaken => self.sources.to_front(priority, queue),
        }
        !held
    }

    fn routine_could_go(&self) -> bool {
        let waiting = self.sources.peek(FramePriority::Routine);
        waiting
            .and_then(|queue| queue.peek(FramePriority::Routine, |run| self.gate.would_admit(run)))
            .unwrap_or(false)
    }
}

/// A batch being filled.
struct PartialBatch {
    runs: Vec<Run>,
    frames: usize,
    frames_max: usize,
    bytes: usize,
}

impl PartialBatch {
    fn new(frames_max: usize) -> Self {
        Self { runs: Vec::new(), frames: 0, frames_max, bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.frames >= self.frames_max || self.bytes >= BATCH_BYTES_MAX
    }
}
