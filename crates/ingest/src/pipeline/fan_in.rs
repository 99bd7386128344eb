//! The priority fan-in: which frames the processor gets next.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::gate::Gate;
use super::queue::{Sources, TurnOutcome, WaitingSource};
use super::stats::Counters;
use super::{BATCH_BYTES_MAX, Output, PROCESSOR_FRAMES_MAX};
use frame::{Batch, FramePriority, FrameRun};

/// Most frames of one source before the next source of the lane has its turn.
pub const TURN_FRAMES_MAX: usize = 16;
/// After this many emergency batches in a row, one routine batch goes, if routine has waited for too long.
pub const EMERGENCY_BATCHES_MAX: u32 = 8;

/// How the fan-in cuts batches.
#[derive(Clone, Copy, Debug)]
pub struct FanInConfig {
    /// Most frames in a batch, 1 to [`PROCESSOR_FRAMES_MAX`].
    pub batch_frames_max: usize,
    /// Once routine has waited this long, one routine batch follows every [`EMERGENCY_BATCHES_MAX`] emergency
    /// batches.
    pub routine_max_delay: Duration,
}

impl Default for FanInConfig {
    fn default() -> Self {
        Self { batch_frames_max: PROCESSOR_FRAMES_MAX, routine_max_delay: Duration::from_secs(1) }
    }
}

/// Merges all sources: emergency before routine, equal turns within a lane, order kept within a source's lane.
///
/// Once a routine frame has waited for [`FanInConfig::routine_max_delay`], one routine batch goes ahead of
/// waiting emergencies after every [`EMERGENCY_BATCHES_MAX`] emergency batches. This ends when all waiting
/// routine is younger than that.
#[derive(Debug)]
pub struct FanIn {
    /// The sources that have frames waiting.
    sources: Arc<Sources>,
    /// Holds routine back while the archive has no room.
    gate: Gate,
    /// How batches are cut.
    config: FanInConfig,
    /// Emergency batches since the last routine batch, or since the last check of the age of routine.
    emergency_batches: u32,
    /// Counts the frames that leave the fan-in.
    counters: Arc<Counters>,
}

impl FanIn {
    /// A fan-in over `sources`. It counts the frames that it lets through as routed.
    #[must_use]
    pub fn new(sources: Arc<Sources>, gate: Gate, config: FanInConfig, counters: Arc<Counters>) -> Self {
        let batch_frames_max = config.batch_frames_max.clamp(1, PROCESSOR_FRAMES_MAX);
        let config = FanInConfig { batch_frames_max, ..config };
        Self { sources, gate, config, emergency_batches: 0, counters }
    }

    /// Waits for frames and takes the next batch, all of one lane. Returns `None` when the sources are
    /// finished and empty.
    ///
    /// Routine is taken only while `output` has room for it.
    ///
    /// # Cancel safety
    /// Cancel safe: frames leave their queues in the same poll that returns them.
    pub async fn next_batch(&mut self, output: &impl Output) -> Option<Batch> {
        loop {
            let has_room = output.has_room();
            if let Some(batch) = self.take(Instant::now(), has_room) {
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

    /// Takes the next batch; `None` when no frame may go at `now`.
    fn take(&mut self, now: Instant, has_room: bool) -> Option<Batch> {
        if has_room && self.emergency_batches >= EMERGENCY_BATCHES_MAX {
            // The age of routine is checked once per this many batches, because there may be many sources.
            self.emergency_batches = 0;
            if self.sources.has_routine_waited(self.config.routine_max_delay, now) {
                let batch = self.take_routine_ahead();
                if batch.is_some() {
                    return batch;
                }
            }
        }
        let (priority, mut waiting) = self.sources.first(has_room)?;
        let mut batch = PartialBatch::new(priority, self.config.batch_frames_max);
        while self.take_turn(false, waiting, &mut batch)
            && !batch.is_full()
            && let Some(next) = self.sources.next_of(priority)
        {
            waiting = next;
        }
        match priority {
            FramePriority::Emergency => self.emergency_batches = self.emergency_batches.saturating_add(1),
            FramePriority::Routine => self.emergency_batches = 0,
        }
        batch.finish()
    }

    /// Takes a batch of routine even while emergencies wait; `None` when the gate holds it back.
    fn take_routine_ahead(&mut self) -> Option<Batch> {
        let mut batch = PartialBatch::new(FramePriority::Routine, self.config.batch_frames_max);
        while !batch.is_full()
            && let Some(waiting) = self.sources.first_routine()
            && self.take_turn(true, waiting, &mut batch)
        {}
        batch.finish()
    }

    /// Gives one source its turn: up to [`TURN_FRAMES_MAX`] frames. Then lists the source again if it has frames left:
    /// at the back, or at the front if it had no whole turn. `ahead` is as in
    /// [`SourceQueue::take`](super::SourceQueue).
    ///
    /// Returns false when the gate holds back its next frame.
    fn take_turn(&mut self, ahead: bool, waiting: WaitingSource, batch: &mut PartialBatch) -> bool {
        let priority = batch.priority;
        let frames_end = batch.frames_max.min(batch.frames + TURN_FRAMES_MAX);
        let (mut frames, mut bytes, mut held) = (batch.frames, batch.bytes, false);
        let admit = |run: &FrameRun| {
            let before = frames;
            for meta in run.metas() {
                if frames == frames_end || bytes >= BATCH_BYTES_MAX {
                    break;
                }
                held = !self.gate.admit(run, meta.payload_len as usize);
                if held {
                    break;
                }
                frames += 1;
                bytes += meta.payload_len as usize;
            }
            frames - before
        };
        let turn = waiting.queue.take(priority, ahead, admit, &mut batch.runs);
        (batch.frames, batch.bytes) = (frames, bytes);
        match turn {
            TurnOutcome::Dry => {}
            TurnOutcome::SomeLeft { since } if !held => {
                self.sources.to_back(priority, WaitingSource { since, ..waiting });
            }
            TurnOutcome::SomeLeft { since } => {
                self.sources.to_front(priority, WaitingSource { since, ..waiting })
            }
            TurnOutcome::Overtaken => self.sources.to_front(priority, waiting),
        }
        !held
    }
}

/// A batch being filled.
struct PartialBatch {
    /// The lane.
    priority: FramePriority,
    /// The frames so far.
    runs: Vec<FrameRun>,
    /// Their number.
    frames: usize,
    /// At this number of frames the batch is full.
    frames_max: usize,
    /// Their payload bytes. At [`BATCH_BYTES_MAX`] the batch is full.
    bytes: usize,
}

impl PartialBatch {
    fn new(priority: FramePriority, frames_max: usize) -> Self {
        Self { priority, runs: Vec::new(), frames: 0, frames_max, bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.frames >= self.frames_max || self.bytes >= BATCH_BYTES_MAX
    }

    /// Returns the batch; `None` when it has no frame.
    fn finish(self) -> Option<Batch> {
        (self.frames > 0).then(|| Batch::new(self.priority, self.runs))
    }
}
