//! A stream's frames between its session and the fan-in: the forwarder of a source.
//!
//! The queue is passive: the session pushes, the fan-in pulls. A task between them would only add a wake-up.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use frame::{FramePriority, FrameRun, Lanes, cost_of_weight};

/// Frames of one stream that wait for the fan-in, in two lanes.
///
/// The sessions keep the bound of the queue: they grant credit for what [`SourceQueue::queued_cost`] leaves
/// of the window, or stop reading where there is no credit. So the queued frames keep no more memory than the
/// windows allow ([`frame::weight_max`]), even while the last frame of a read keeps the memory of the
/// whole read.
#[derive(Debug)]
pub struct SourceQueue {
    /// The lanes.
    state: Mutex<State>,
    /// Where the queue is listed while it has frames.
    sources: Arc<Sources>,
}

/// The state of a queue.
#[derive(Debug, Default)]
struct State {
    /// The waiting frames.
    lanes: Lanes<Lane>,
    /// The cost that may wait, per lane. The queue itself does not enforce it.
    windows: Lanes<u64>,
    /// Notified when frames have left, see [`SourceQueue::listen`].
    listener: Option<Arc<Notify>>,
    /// The cost of the queue is a part of this one.
    shared: Option<Arc<SharedCost>>,
}

/// The cost of the frames that wait in several queues which share one window, per lane.
#[derive(Debug, Default)]
pub struct SharedCost(Lanes<AtomicU64>);

impl SharedCost {
    /// The part of the window that is used, per lane.
    #[must_use]
    pub fn queued(&self) -> Lanes<u64> {
        self.0.each_ref().map(|cost| cost.load(Ordering::Acquire))
    }

    fn change(&self, priority: FramePriority, before: u64, after: u64) {
        // The sum of all changes is never below 0, so the counter does not wrap.
        self.0[priority].fetch_add(after.wrapping_sub(before), Ordering::AcqRel);
    }
}

/// The frames that wait in one lane.
#[derive(Debug, Default)]
struct Lane {
    /// The runs, the oldest first.
    runs: VecDeque<WaitingRun>,
    /// Frames of all runs.
    frames: usize,
    /// Sum over all runs, see [`WaitingRun::cost`].
    cost: u64,
    /// Cost that has left since the listener was last notified or last looked.
    left_unreported: u64,
    /// The listener does not wait for the lane to become empty.
    ignores_empty: bool,
    /// Whether the lane is in the fan-in's list of lanes that have frames.
    listed: bool,
}

/// A run in a lane.
#[derive(Debug)]
struct WaitingRun {
    /// The frames.
    run: FrameRun,
    /// When the first of them was pushed.
    since: Instant,
}

/// A lane in use keeps room for this many runs, even if it has fewer.
const ROOM_MIN: usize = 64;

/// How a source's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TurnOutcome {
    /// The lane is empty.
    Dry,
    /// The lane has frames left. The first of them waits since `since`.
    SomeLeft { since: Instant },
    /// An emergency has come meanwhile and goes first. Nothing was taken.
    Overtaken,
}

impl WaitingRun {
    /// The part of the window that the run uses: the cost of its frames, or more while they keep memory that
    /// costs more.
    fn cost(&self) -> u64 {
        self.run.cost().max(cost_of_weight(self.run.weight()))
    }
}

impl State {
    /// Adds to the shared cost what the cost of a lane has become since it was `before`.
    fn note_cost(&self, priority: FramePriority, before: u64) {
        if let Some(shared) = &self.shared {
            shared.change(priority, before, self.lanes[priority].cost);
        }
    }
}

impl Lane {
    fn push(&mut self, run: FrameRun, since: Instant) {
        self.frames += run.len();
        if let Some(last) = self.runs.back_mut() {
            let before = last.cost();
            if last.run.join(&run) {
                self.cost += last.cost() - before;
                return;
            }
        }
        let waiting = WaitingRun { run, since };
        self.cost += waiting.cost();
        self.runs.push_back(waiting);
    }

    /// Takes the first frames, from each run as many as `admit` says. Stops at the first run that is not
    /// taken whole.
    fn take(&mut self, mut admit: impl FnMut(&FrameRun) -> usize, out: &mut Vec<FrameRun>) {
        while let Some(waiting) = self.runs.front_mut() {
            let count = admit(&waiting.run);
            if count == 0 {
                break;
            }
            let is_whole = count == waiting.run.len();
            let before = waiting.cost();
            out.push(waiting.run.split_to(count));
            let left = if is_whole { 0 } else { waiting.cost() };
            self.cost -= before - left;
            self.left_unreported += before - left;
            self.frames -= count;
            if !is_whole {
                break;
            }
            self.runs.pop_front();
        }
        if self.runs.capacity() > ROOM_MIN && self.runs.len() < self.runs.capacity() / 4 {
            self.runs.shrink_to(ROOM_MIN.max(2 * self.runs.len()));
        }
    }
}

impl SourceQueue {
    /// An empty queue that reports to `sources`. `windows` (cost, per lane) set how often leaving frames
    /// notify the listener.
    #[must_use]
    pub fn new(sources: Arc<Sources>, windows: Lanes<u64>) -> Arc<Self> {
        let state = State { windows, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), sources })
    }

    /// Changes the windows. From then on, the session that fills the queue keeps to `windows`.
    pub fn set_windows(&self, windows: Lanes<u64>) {
        self.lock().windows = windows;
    }

    /// Sets the listener. The queue notifies `listener` when a lane becomes empty or a quarter of its window
    /// has left, until [`SourceQueue::look`] changes that.
    ///
    /// Until the next call, the cost of the queue is a part of `shared` too, also after [`SourceQueue::detach`]: the
    /// frames still take memory.
    pub fn listen(&self, listener: Arc<Notify>, shared: Option<Arc<SharedCost>>) {
        let mut state = self.lock();
        state.listener = Some(listener);
        state.lanes.values_mut().for_each(|lane| lane.ignores_empty = false);
        let before = std::mem::replace(&mut state.shared, shared);
        for priority in FramePriority::ALL {
            let cost = state.lanes[priority].cost;
            if let Some(before) = &before {
                before.change(priority, cost, 0);
            }
            state.note_cost(priority, 0);
        }
    }

    /// Removes the listener. Waiting frames still leave the queue. Memory that is not needed is freed.
    pub fn detach(&self) {
        let mut state = self.lock();
        state.listener = None;
        state.lanes.values_mut().for_each(|lane| lane.runs.shrink_to_fit());
    }

    /// Moves `read`, a run for each lane, into the lanes in one step. So no emergency of `read` is taken
    /// after a routine frame of `read`.
    pub fn push(self: &Arc<Self>, read: Lanes<Option<FrameRun>>) {
        let since = Instant::now();
        let mut state = self.lock();
        let mut newly_listed = Lanes::both(false);
        for run in read.into_values().flatten().filter(|run| !run.is_empty()) {
            let priority = run.priority();
            let lane = &mut state.lanes[priority];
            let before = lane.cost;
            lane.push(run, since);
            newly_listed[priority] = !std::mem::replace(&mut lane.listed, true);
            state.note_cost(priority, before);
        }
        // Under the lock: a reader that sees an emergency in the lane also finds the lane in the list.
        self.sources.list(self, newly_listed, since);
    }

    /// Returns the part of the windows that waiting frames use, per lane. From this call on, an empty lane
    /// notifies the listener only where `reports_empty` is true, because a notification per frame costs more
    /// than the frame.
    #[must_use]
    pub fn look(&self, reports_empty: Lanes<bool>) -> Lanes<u64> {
        let mut state = self.lock();
        for (priority, reports_empty) in reports_empty {
            let lane = &mut state.lanes[priority];
            (lane.ignores_empty, lane.left_unreported) = (!reports_empty, 0);
        }
        state.lanes.each_ref().map(|lane| lane.cost)
    }

    /// The part of the windows that waiting frames use, per lane.
    #[must_use]
    pub fn queued_cost(&self) -> Lanes<u64> {
        self.lock().lanes.each_ref().map(|lane| lane.cost)
    }

    /// How many frames wait, per lane.
    #[must_use]
    pub fn queued_frames(&self) -> Lanes<usize> {
        self.lock().lanes.each_ref().map(|lane| lane.frames)
    }

    /// Takes frames of one lane in order, from each run as many as `admit` says. Stops at the first run that
    /// is not taken whole.
    ///
    /// Unless `ahead`, routine frames stay while emergencies of this source wait. The caller must own the lane's entry
    /// in the list of [`Sources`], and must list the lane again if frames are left.
    pub(super) fn take(
        &self,
        priority: FramePriority,
        ahead: bool,
        admit: impl FnMut(&FrameRun) -> usize,
        out: &mut Vec<FrameRun>,
    ) -> TurnOutcome {
        let mut state = self.lock();
        let State { lanes: Lanes { emergency, routine }, windows, listener, shared } = &mut *state;
        let lane = match priority {
            FramePriority::Emergency => emergency,
            FramePriority::Routine if !ahead && !emergency.runs.is_empty() => return TurnOutcome::Overtaken,
            FramePriority::Routine => routine,
        };
        let before = lane.cost;
        lane.take(admit, out);
        if let Some(shared) = shared {
            shared.change(priority, before, lane.cost);
        }
        let turn =
            lane.runs.front().map_or(TurnOutcome::Dry, |first| TurnOutcome::SomeLeft { since: first.since });
        lane.listed = turn != TurnOutcome::Dry;
        if turn == TurnOutcome::Dry && listener.is_none() {
            // The session that filled the lane is gone.
            lane.runs.shrink_to_fit();
        }
        let is_awaited = turn == TurnOutcome::Dry && !lane.ignores_empty;
        if lane.left_unreported > 0 && (is_awaited || lane.left_unreported >= windows[priority] / 4) {
            lane.left_unreported = 0;
            if let Some(listener) = listener {
                listener.notify_one();
            }
        }
        turn
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No critical section panics half-way, so a poisoned lock still guards consistent lanes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sources that have frames waiting, per lane, in the order of their turns.
#[derive(Debug, Default)]
pub struct Sources {
    /// The sources that have frames waiting.
    lists: Mutex<Lists>,
    /// Wakes the fan-in.
    pub(super) wake: Notify,
}

/// The lists behind [`Sources`].
#[derive(Debug, Default)]
struct Lists {
    /// The sources in the order of their turns.
    lanes: Lanes<VecDeque<WaitingSource>>,
    /// No more frames will be pushed.
    finished: bool,
}

/// A source that has frames waiting in a lane.
#[derive(Debug)]
pub(super) struct WaitingSource {
    /// Its queue.
    pub(super) queue: Arc<SourceQueue>,
    /// Since when the first frame of the lane waits.
    pub(super) since: Instant,
}

impl Sources {
    /// No source yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Notes that no more frames will be pushed. The fan-in ends when the queues are empty.
    pub fn finish(&self) {
        self.lock().finished = true;
        self.wake.notify_one();
    }

    /// Lists `queue` in these `lanes`, whose first frames wait since `since`.
    fn list(&self, queue: &Arc<SourceQueue>, lanes: Lanes<bool>, since: Instant) {
        if lanes == Lanes::both(false) {
            return;
        }
        {
            let mut lists = self.lock();
            for (priority, is_listed) in lanes {
                if is_listed {
                    lists.lanes[priority].push_back(WaitingSource { queue: Arc::clone(queue), since });
                }
            }
        }
        self.wake.notify_one();
    }

    /// Takes the source whose turn it is. Routine has a turn only if `routine` and while no emergency waits
    /// anywhere.
    pub(super) fn first(&self, routine: bool) -> Option<(FramePriority, WaitingSource)> {
        let mut lists = self.lock();
        let lanes = if routine { &FramePriority::ALL[..] } else { &[FramePriority::Emergency] };
        lanes
            .iter()
            .copied()
            .find_map(|priority| lists.lanes[priority].pop_front().map(|waiting| (priority, waiting)))
    }

    /// Takes the next source for a batch of `priority`; `None` when no source is left or an emergency
    /// overtakes.
    pub(super) fn next_of(&self, priority: FramePriority) -> Option<WaitingSource> {
        let mut lists = self.lock();
        let is_overtaken = priority == FramePriority::Routine && !lists.lanes.emergency.is_empty();
        if is_overtaken { None } else { lists.lanes[priority].pop_front() }
    }

    pub(super) fn first_routine(&self) -> Option<WaitingSource> {
        self.lock().lanes.routine.pop_front()
    }

    /// Whether a routine frame of any source waits for `delay` or longer.
    pub(super) fn has_routine_waited(&self, delay: Duration, now: Instant) -> bool {
        let lists = self.lock();
        lists.lanes.routine.iter().any(|one| now.duration_since(one.since) >= delay)
    }

    pub(super) fn to_back(&self, priority: FramePriority, waiting: WaitingSource) {
        self.lock().lanes[priority].push_back(waiting);
    }

    pub(super) fn to_front(&self, priority: FramePriority, waiting: WaitingSource) {
        self.lock().lanes[priority].push_front(waiting);
    }

    pub(super) fn is_finished_and_dry(&self) -> bool {
        let lists = self.lock();
        lists.finished && lists.lanes.values().all(VecDeque::is_empty)
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        // No critical section panics half-way, so a poisoned lock still guards consistent lists.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
