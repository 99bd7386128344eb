//! A stream's frames between its session and the fan-in: the forwarder of a source.
//!
//! It is passive: the session pushes, the fan-in pulls. A task between them would only add a wake-up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::fan_in::Sources;
use crate::frame::{Frame, FramePriority};
use crate::wire::{data::FRAME_HEADER_BYTES, frame_cost};

/// Frames of one stream that wait for the fan-in, in two lanes.
///
/// Its bound is kept by whoever pushes: sessions grant credit for what [`SourceQueue::queued_cost`] leaves of
/// the window, or stop reading where there is no credit.
#[derive(Debug)]
pub struct SourceQueue {
    lanes: Mutex<Lanes>,
    sources: Arc<Sources>,
    windows: [u64; 2],
}

#[derive(Debug, Default)]
struct Lanes {
    lane: [Lane; 2],
    listener: Option<Arc<Notify>>,
}

#[derive(Debug, Default)]
struct Lane {
    frames: VecDeque<Frame>,
    cost: u64,
    /// Cost that has left since the listener was last told.
    left_untold: u64,
    /// Whether the lane stands in the fan-in's list of lanes that have frames.
    listed: bool,
}

/// How a source's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The lane is empty.
    Dry,
    /// Frames of the lane are left.
    SomeLeft,
    /// An emergency has come meanwhile and goes first; nothing was taken.
    Overtaken,
}

/// What `frame` takes from a window while it waits.
#[must_use]
pub fn queue_cost(frame: &Frame) -> u64 {
    frame_cost(FRAME_HEADER_BYTES + frame.payload.len())
}

impl SourceQueue {
    /// An empty queue that reports to `sources`; `windows` (cost, per lane) set how often leaving frames are told.
    #[must_use]
    pub fn new(sources: Arc<Sources>, windows: [u64; 2]) -> Arc<Self> {
        Arc::new(Self { lanes: Mutex::default(), sources, windows })
    }

    /// From now on `listener` is told when a lane has run empty or a quarter of its window has left.
    pub fn listen(&self, listener: Arc<Notify>) {
        self.lock().listener = Some(listener);
    }

    /// Nobody listens any more. What waits still leaves; memory that is not needed is given back.
    pub fn detach(&self) {
        let mut lanes = self.lock();
        lanes.listener = None;
        lanes.lane.iter_mut().for_each(|lane| lane.frames.shrink_to_fit());
    }

    /// Moves all of `batch` into the lanes at once, so that no emergency of it is taken after a routine frame of it.
    pub fn push(self: &Arc<Self>, batch: &mut [Vec<Frame>; 2]) {
        let mut lanes = self.lock();
        let mut newly_listed = [false; 2];
        for (at, frames) in batch.iter_mut().enumerate() {
            let lane = &mut lanes.lane[at];
            if frames.is_empty() {
                continue;
            }
            lane.cost += frames.iter().map(queue_cost).sum::<u64>();
            lane.frames.extend(frames.drain(..));
            newly_listed[at] = !std::mem::replace(&mut lane.listed, true);
        }
        // Under the lock: who sees an emergency in the lane can rely on finding it in the list.
        self.sources.list(self, newly_listed);
    }

    /// The cost of what waits, per lane.
    #[must_use]
    pub fn queued_cost(&self) -> [u64; 2] {
        let lanes = self.lock();
        [lanes.lane[0].cost, lanes.lane[1].cost]
    }

    /// How many frames wait, per lane.
    #[must_use]
    pub fn queued_frames(&self) -> [usize; 2] {
        let lanes = self.lock();
        [lanes.lane[0].frames.len(), lanes.lane[1].frames.len()]
    }

    /// Takes frames of one lane in order while `admit` says yes.
    ///
    /// Unless `ahead`, routine frames stay while emergencies of this source wait. The caller owns the lane's place in
    /// the list of [`Sources`]: it lists the lane again if some are left.
    pub(super) fn take(
        &self,
        priority: FramePriority,
        ahead: bool,
        mut admit: impl FnMut(&Frame) -> bool,
        out: &mut Vec<Frame>,
    ) -> Turn {
        let mut lanes = self.lock();
        let Lanes { lane: [emergency, routine], listener } = &mut *lanes;
        let lane = match priority {
            FramePriority::Emergency => emergency,
            FramePriority::Routine if !ahead && !emergency.frames.is_empty() => return Turn::Overtaken,
            FramePriority::Routine => routine,
        };
        while let Some(frame) = lane.frames.pop_front_if(|frame| admit(frame)) {
            let cost = queue_cost(&frame);
            lane.cost -= cost;
            lane.left_untold += cost;
            out.push(frame);
        }
        lane.listed = !lane.frames.is_empty();
        let turn = if lane.listed { Turn::SomeLeft } else { Turn::Dry };
        if turn == Turn::Dry && listener.is_none() {
            // Whoever filled it has gone.
            lane.frames.shrink_to_fit();
        }
        if lane.left_untold > 0
            && (turn == Turn::Dry || lane.left_untold >= self.windows[priority.lane()] / 4)
        {
            lane.left_untold = 0;
            if let Some(listener) = listener {
                listener.notify_one();
            }
        }
        turn
    }

    /// Looks at the first frame of a lane.
    pub(super) fn peek<R>(&self, priority: FramePriority, look: impl FnOnce(&Frame) -> R) -> Option<R> {
        self.lock().lane[priority.lane()].frames.front().map(look)
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // Nothing in the critical sections panics half-way, so a poisoned lock still guards whole lanes.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
