//! Hands each frame to its stream when it is due.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::clock::Clock;
use super::control::{Pause, stopped};
use super::reading::Read;
use super::sender::{Frame, Order};
use super::stream::{Ended, Stream};
use super::{FRAME_OVERHEAD_BYTES, STREAMS_MAX, Shared, UNACKED_BYTES_MAX};
use archive::StoredFrame;
use frame::{Lanes, SourceKind, StreamKey};

/// Room for orders to one stream. It never fills: each frame holds a part of [`UNACKED_BYTES_MAX`], and there is a
/// frame between two orders of other kinds.
const ORDERS_MAX: usize = 2 * (UNACKED_BYTES_MAX / FRAME_OVERHEAD_BYTES) + 2;
/// At most this many problems are named. A last line counts the others.
const PROBLEMS_MAX: usize = 50;

/// How the whole run ended.
pub(super) struct Performance {
    /// All streams, in the order of their first frames.
    pub(super) streams: Vec<Ended>,
    /// Offset of the first frame that was not given to a stream. `None` if the range was read to its end.
    pub(super) stopped_at: Option<u64>,
    /// Messages about missing frames of the range.
    pub(super) problems: Vec<String>,
}

/// Hands frames to their streams; see the module.
pub(super) struct Scheduler {
    shared: Arc<Shared>,
    clock: Clock,
    items: mpsc::Receiver<Read>,
    stops: watch::Receiver<bool>,
    pauses: watch::Receiver<Pause>,
    /// Bytes that may still be read before a frame is acknowledged.
    budget: Arc<Semaphore>,
    connections_max: usize,
    /// Frames below this offset are not sent, because an earlier run got them acknowledged.
    skip_to: u64,
    parts: Vec<Part>,
    /// The part of each recorded stream. A live stream and a replay of it are one stream on the wire.
    by_stream: HashMap<StreamKey, usize>,
    /// Streams with a frame since their last order to rest. At most `connections_max`.
    awake: Vec<usize>,
    tasks: JoinSet<(usize, Ended)>,
    frames_count: u64,
    problems: Vec<String>,
    problems_more: u64,
}

/// The state of one stream.
struct Part {
    orders_tx: mpsc::Sender<Order>,
    /// Kind and epoch of the last frame in the recording.
    origin: (SourceKind, u64),
    /// Lowest sequence that does not regress, per lane.
    next: Lanes<u64>,
    /// Epochs that ended among the frames that are not sent.
    skipped_turns: u64,
    /// When it last had a frame, as a count of all frames.
    used_at: u64,
    /// Whether it has had no order to rest since its last frame.
    is_awake: bool,
}

impl Part {
    /// The state of a stream without frames.
    fn new(orders_tx: mpsc::Sender<Order>) -> Self {
        // The first frame replaces this value.
        let origin = (SourceKind::ArchivedReplay, u64::MAX);
        Self { orders_tx, origin, next: Lanes::default(), skipped_turns: 0, used_at: 0, is_awake: false }
    }
}

impl Scheduler {
    pub(super) fn new(
        shared: Arc<Shared>,
        clock: Clock,
        items: mpsc::Receiver<Read>,
        connections_max: usize,
    ) -> Self {
        Self {
            stops: shared.control.stops(),
            pauses: shared.control.pauses(),
            budget: Arc::new(Semaphore::new(UNACKED_BYTES_MAX)),
            shared,
            clock,
            items,
            connections_max,
            skip_to: 0,
            parts: Vec::new(),
            by_stream: HashMap::new(),
            awake: Vec::new(),
            tasks: JoinSet::new(),
            frames_count: 0,
            problems: Vec::new(),
            problems_more: 0,
        }
    }

    /// Sets `skip_to`. Frames below it are not sent, but they count for epochs. So later frames get the same epochs as
    /// in the run in which the skipped frames were acknowledged.
    pub(super) fn skipping_to(self, skip_to: u64) -> Self {
        Self { skip_to, ..self }
    }

    /// Plays the range until its end or the stop, and waits for the streams.
    ///
    /// # Panics
    /// If the task of a stream panics.
    pub(super) async fn run(mut self) -> Performance {
        let stopped_at = self.play().await.map(|offset| offset.max(self.skip_to));
        let Self { parts, mut tasks, mut problems, problems_more, items, .. } = self;
        // This ends the reader, and the streams learn that no more frames come.
        drop((items, parts));
        let mut streams = Vec::new();
        while let Some(joined) = tasks.join_next().await {
            match joined {
                Ok(ended) => streams.push(ended),
                Err(error) => {
                    if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
        streams.sort_unstable_by_key(|(index, _)| *index);
        if problems_more > 0 {
            problems.push(format!("and {problems_more} more"));
        }
        Performance { streams: streams.into_iter().map(|(_, ended)| ended).collect(), stopped_at, problems }
    }

    /// Plays until the end of the range (`None`). If it stops earlier, it returns the offset of the first frame that
    /// was not played.
    async fn play(&mut self) -> Option<u64> {
        loop {
            let item = tokio::select! {
                biased;
                () = stopped(&mut self.stops) => return Some(self.shared.progress.offset.load(Relaxed)),
                item = self.items.recv() => item?,
            };
            match item {
                Read::Frames(frames) => {
                    for stored in frames {
                        let offset = stored.offset;
                        if self.frame(stored).await.is_break() {
                            return Some(offset);
                        }
                    }
                }
                Read::Problem(problem) => self.note(problem),
            }
        }
    }

    fn note(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.problems_more += 1;
        }
    }

    /// Waits until the frame is due and the budget has room for it, then gives it to its stream.
    async fn frame(&mut self, stored: StoredFrame) -> ControlFlow<()> {
        if stored.offset < self.skip_to {
            return self.skip(&stored);
        }
        let due = self.clock.due(stored.frame.received_ns, self.now());
        self.until(due).await?;
        let bytes = (stored.frame.payload.len() + FRAME_OVERHEAD_BYTES).min(UNACKED_BYTES_MAX);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = tokio::select! {
            biased;
            () = stopped(&mut self.stops) => return ControlFlow::Break(()),
            room = Arc::clone(&self.budget).acquire_many_owned(bytes) => room,
        };
        let Ok(room) = room else {
            unreachable!("the budget is never closed");
        };
        let part = self.part(&stored.frame.origin.stream)?;
        self.wake(part);
        let turns = self.turns_epoch(part, &stored);
        match std::mem::take(&mut self.parts[part].skipped_turns) {
            0 if turns => self.order(part, Order::NextEpoch),
            0 => {}
            skipped => self.order(part, Order::SkipEpochs(skipped + u64::from(turns))),
        }
        let progress = &self.shared.progress;
        if progress.read.fetch_add(1, Relaxed) == 0 {
            progress.first_offset.store(stored.offset, Relaxed);
        }
        progress.offset.store(stored.offset + 1, Relaxed);
        progress.received_ns.store(stored.frame.received_ns, Relaxed);
        self.order(part, Order::Frame(Frame::new(stored, room)));
        ControlFlow::Continue(())
    }

    /// Counts the epoch of a frame that is not sent.
    fn skip(&mut self, stored: &StoredFrame) -> ControlFlow<()> {
        let part = self.part(&stored.frame.origin.stream)?;
        // The skipped epochs go out with the next sent frame, so that the bound of `ORDERS_MAX` holds.
        self.parts[part].skipped_turns += u64::from(self.turns_epoch(part, stored));
        if *self.stops.borrow() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The current time of the recording's clock, which stands still in pauses.
    fn now(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.pauses.borrow().stood()).unwrap_or(now)
    }

    /// Waits until `due` by the recording's clock and until no pause is on. Breaks at the stop.
    async fn until(&mut self, due: Option<Instant>) -> ControlFlow<()> {
        loop {
            let pause = *self.pauses.borrow_and_update();
            let at = due.map(|due| due + pause.stood());
            if !pause.is_on() && at.is_none_or(|at| at <= Instant::now()) {
                return if *self.stops.borrow() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            }
            let is_due = async {
                match at {
                    Some(at) if !pause.is_on() => sleep_until(at).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stopped(&mut self.stops) => return ControlFlow::Break(()),
                _ = self.pauses.changed() => {}
                () = is_due => {}
            }
        }
    }

    /// The stream for frames of `recorded`. The first frame creates it. Breaks if there are too many streams.
    fn part(&mut self, recorded: &StreamKey) -> ControlFlow<(), usize> {
        if let Some(part) = self.by_stream.get(recorded) {
            return ControlFlow::Continue(*part);
        }
        let on_wire = StreamKey { source_kind: SourceKind::ArchivedReplay, ..recorded.clone() };
        let part = match self.by_stream.get(&on_wire) {
            Some(part) => *part,
            None if self.parts.len() >= STREAMS_MAX => {
                self.note(format!("the range has more than {STREAMS_MAX} streams, the rest was not sent"));
                return ControlFlow::Break(());
            }
            None => self.begin(on_wire.clone()),
        };
        self.by_stream.insert(on_wire, part);
        self.by_stream.insert(recorded.clone(), part);
        ControlFlow::Continue(part)
    }

    fn begin(&mut self, stream: StreamKey) -> usize {
        let part = self.parts.len();
        let (orders_tx, orders) = mpsc::channel(ORDERS_MAX);
        let stream = Stream::new(Arc::clone(&self.shared), stream, orders);
        self.tasks.spawn(async move { (part, stream.run().await) });
        self.shared.progress.streams.fetch_add(1, Relaxed);
        self.parts.push(Part::new(orders_tx));
        part
    }

    /// Marks that `part` has a frame. If too many streams are awake, the one that was idle longest gets an order to
    /// rest.
    fn wake(&mut self, part: usize) {
        self.frames_count += 1;
        self.parts[part].used_at = self.frames_count;
        if std::mem::replace(&mut self.parts[part].is_awake, true) {
            return;
        }
        if self.awake.len() >= self.connections_max {
            let idle_longest = (0..self.awake.len()).min_by_key(|at| self.parts[self.awake[*at]].used_at);
            if let Some(at) = idle_longest {
                let idle = self.awake.swap_remove(at);
                self.parts[idle].is_awake = false;
                self.order(idle, Order::Rest);
            }
        }
        self.awake.push(part);
    }

    /// Registers a frame. Returns whether it needs the next epoch, because the recording changes its epoch or the
    /// sequence would not rise.
    fn turns_epoch(&mut self, part: usize, stored: &StoredFrame) -> bool {
        let frame = &stored.frame;
        let Part { origin, next, .. } = &mut self.parts[part];
        let recorded = (frame.source_kind, frame.origin.epoch);
        let is_first = *next == Lanes::default();
        let regresses = frame.sequence < next[frame.priority];
        let turns = !is_first && (*origin != recorded || regresses);
        if turns {
            *next = Lanes::default();
        }
        *origin = recorded;
        next[frame.priority] = frame.sequence + 1;
        turns
    }

    fn order(&self, part: usize, order: Order) {
        // The stream ends only after its sender is dropped. There is always room, see `ORDERS_MAX`.
        let sent = self.parts[part].orders_tx.try_send(order);
        debug_assert!(!matches!(sent, Err(mpsc::error::TrySendError::Full(_))), "no room for an order");
    }
}

#[cfg(test)]
mod tests;
