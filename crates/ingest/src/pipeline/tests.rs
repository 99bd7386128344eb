//! Order, fairness, bounds and ends of the pipeline.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::sync::{mpsc, watch};

use super::fan_in::{FanInConfig, TURN_FRAMES_MAX};
use super::*;
use FramePriority::{Emergency, Routine};
use frame::{
    Batch, Frame, FrameFlags, FramePriority, FrameRun, Lanes, Origin, SourceKind, Station, StreamKey,
    batch_of, joined, weight_max,
};

fn origin(source_id: u32) -> Arc<Origin> {
    let stream = StreamKey { source_id, source_kind: SourceKind::LiveUplink, station: Station::default() };
    Arc::new(Origin { stream, epoch: 1 })
}

fn frame(source_id: u32, priority: FramePriority, sequence: u64) -> Frame {
    Frame {
        source_id,
        source_kind: SourceKind::LiveUplink,
        priority,
        flags: FrameFlags::default(),
        sequence,
        ert_ns: 0,
        received_ns: 0,
        origin: origin(source_id),
        payload: Bytes::from_static(b"payload"),
    }
}

/// The front of a pipeline without actors: queues and a fan-in.
struct Front {
    sources: Arc<Sources>,
    fan_in: FanIn,
    counters: Arc<Counters>,
}

impl Front {
    fn new(gate: Gate) -> Self {
        let (sources, counters) = (Sources::new(), Arc::new(Counters::default()));
        let fan_in = FanIn::new(Arc::clone(&sources), gate, FanInConfig::default(), Arc::clone(&counters));
        Self { sources, fan_in, counters }
    }

    fn queue(&self) -> Arc<SourceQueue> {
        SourceQueue::new(Arc::clone(&self.sources), Lanes::new(1 << 18, 1 << 20))
    }

    async fn next(&mut self) -> Vec<(u32, FramePriority, u64)> {
        let batch = self.fan_in.next_batch(&Takes(true)).await;
        let frames = batch.iter().flat_map(Batch::iter);
        frames.map(|frame| (frame.origin.stream.source_id, frame.priority, frame.sequence)).collect()
    }
}

/// An output that always has room for routine, or never.
struct Takes(bool);

impl Output for Takes {
    async fn append(&mut self, _batch: Batch) -> Result<(), OutputGone> {
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.0
    }

    async fn room(&self) {
        if !self.0 {
            std::future::pending::<()>().await;
        }
    }
}

fn push(queue: &Arc<SourceQueue>, frames: impl IntoIterator<Item = Frame>) {
    let mut lanes = Lanes::<Vec<_>>::default();
    for frame in frames {
        lanes[frame.priority].push(frame);
    }
    queue.push(lanes.map(|frames| joined(&frames)));
}

fn routine(source_id: u32, sequences: std::ops::Range<u64>) -> impl Iterator<Item = Frame> {
    sequences.map(move |sequence| frame(source_id, Routine, sequence))
}

#[tokio::test]
async fn emergencies_pushed_last_leave_first() {
    let mut front = Front::new(Gate::open());
    let queue = front.queue();
    push(&queue, routine(0, 0..8).chain([frame(0, Emergency, 8), frame(0, Emergency, 9)]));
    let sequences = |batch: Vec<(u32, FramePriority, u64)>| -> Vec<u64> {
        batch.into_iter().map(|(_, _, sequence)| sequence).collect()
    };
    assert_eq!(sequences(front.next().await), [8, 9]);
    assert_eq!(sequences(front.next().await), [0, 1, 2, 3, 4, 5, 6, 7], "a batch is of one lane");
}

/// Guards against the flaw of one shared channel: a waiting routine frame must not delay the frames behind
/// it.
#[tokio::test]
async fn an_emergency_overtakes_all_routine_that_waits_at_every_source() {
    let mut front = Front::new(Gate::open());
    let queues: Vec<_> = (0..48).map(|_| front.queue()).collect();
    for (source, queue) in (0..).zip(&queues) {
        push(queue, routine(source, 0..500));
    }
    assert_eq!(front.next().await.len(), PROCESSOR_FRAMES_MAX);
    push(&queues[47], [frame(47, Emergency, 1000)]);
    assert_eq!(front.next().await[0], (47, Emergency, 1000));
}

#[tokio::test(start_paused = true)]
async fn an_output_without_room_for_routine_gets_emergencies() {
    let mut front = Front::new(Gate::open());
    let queue = front.queue();
    push(&queue, routine(0, 0..100));
    let waiting = tokio::time::timeout(Duration::from_secs(5), front.fan_in.next_batch(&Takes(false))).await;
    assert!(waiting.is_err(), "routine stays in its queue");
    for sequence in 100..200 {
        push(&queue, [frame(0, Emergency, sequence)]);
        let batch = front.fan_in.next_batch(&Takes(false)).await.expect("an emergency waits");
        assert_eq!(batch.iter().map(|frame| frame.sequence).collect::<Vec<_>>(), [sequence]);
        // Longer than emergencies alone can delay routine: here the room is missing.
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(front.next().await[0], (0, Routine, 0));
}

#[tokio::test]
async fn sources_of_a_lane_get_equal_turns() {
    let mut front = Front::new(Gate::open());
    let (loud, quiet) = (front.queue(), front.queue());
    push(&loud, routine(0, 0..10_000));
    push(&quiet, routine(1, 0..32));
    let mut seen: Vec<(u32, FramePriority, u64)> = Vec::new();
    while seen.iter().filter(|(source, ..)| *source == 1).count() < 32 {
        seen.extend(front.next().await);
    }
    assert!(seen.len() <= 64, "32 of the quiet one were behind {} of the loud one", seen.len() - 32);
    assert!(seen[..TURN_FRAMES_MAX].iter().all(|(source, ..)| *source == 0));
    assert!(seen[TURN_FRAMES_MAX..2 * TURN_FRAMES_MAX].iter().all(|(source, ..)| *source == 1));
}

#[tokio::test]
async fn a_batch_is_cut_at_its_byte_limit() {
    let mut front = Front::new(Gate::open());
    let queue = front.queue();
    let large = Bytes::from(vec![0; 100 * 1024]);
    push(&queue, routine(0, 0..10).map(|frame| Frame { payload: large.clone(), ..frame }));
    assert_eq!(front.next().await.len(), 3);
}

/// Takes `batches` batches while `queue` never runs out of emergencies, and advances time by `step` after
/// each. Returns the number and the frame count of each routine batch.
async fn routine_in_a_flood(
    front: &mut Front,
    queue: &Arc<SourceQueue>,
    batches: usize,
    step: Duration,
) -> Vec<(usize, usize)> {
    let mut seen = Vec::new();
    for number in 0..batches {
        let first = 1000 * number as u64;
        push(queue, (first..first + 64).map(|sequence| frame(0, Emergency, sequence)));
        let batch = front.next().await;
        if batch.iter().any(|(_, priority, _)| *priority == Routine) {
            assert!(batch.iter().all(|(_, priority, _)| *priority == Routine), "a batch is of one lane");
            seen.push((number, batch.len()));
        }
        tokio::time::advance(step).await;
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_emergencies_lets_overdue_routine_by_after_every_eight_batches() {
    let mut front = Front::new(Gate::open());
    let queue = front.queue();
    push(&queue, routine(0, 0..150));
    let early = routine_in_a_flood(&mut front, &queue, 100, Duration::from_millis(9)).await;
    assert_eq!(early, [], "no routine frame waits for a second yet");
    tokio::time::advance(Duration::from_millis(100)).await;
    let overdue = routine_in_a_flood(&mut front, &queue, 40, Duration::from_millis(1)).await;
    let numbers: Vec<usize> = overdue.iter().map(|(number, _)| *number).collect();
    assert_eq!(overdue.iter().map(|(_, frames)| *frames).collect::<Vec<_>>(), [64, 64, 22]);
    assert!(numbers[0] <= 8, "{numbers:?}");
    assert!(numbers.windows(2).all(|pair| pair[1] - pair[0] == 9), "{numbers:?}");
}

#[tokio::test(start_paused = true)]
async fn routine_younger_than_the_delay_waits_for_the_flood_to_end() {
    let mut front = Front::new(Gate::open());
    let (old, young) = (front.queue(), front.queue());
    push(&old, routine(1, 0..64));
    tokio::time::advance(Duration::from_secs(1)).await;
    push(&young, routine(2, 0..640));
    let seen = routine_in_a_flood(&mut front, &old, 90, Duration::from_millis(10)).await;
    // The sources have equal turns, so some young frames go with the old ones.
    assert_eq!(seen, [(8, 64), (17, 64)]);
    assert_eq!(young.queued_frames().routine, 576);
    tokio::time::advance(Duration::from_millis(100)).await;
    assert_eq!(routine_in_a_flood(&mut front, &old, 90, Duration::ZERO).await.len(), 9, "all is overdue");
}

#[tokio::test(start_paused = true)]
async fn overdue_routine_waits_for_the_gate_and_the_output() {
    let (limit_tx, limit_rx) = watch::channel(0);
    let mut front = Front::new(Gate::new(limit_rx, |_, _| 1));
    let queue = front.queue();
    push(&queue, routine(0, 0..10));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(routine_in_a_flood(&mut front, &queue, 20, Duration::ZERO).await, [], "the gate is closed");
    limit_tx.send_replace(u64::MAX);
    for sequence in 0..20 {
        push(&queue, [frame(0, Emergency, 1_000_000 + sequence)]);
        let batch = front.fan_in.next_batch(&Takes(false)).await.unwrap();
        assert!(batch.iter().all(|frame| frame.priority == Emergency), "the output has no room");
    }
    assert_eq!(routine_in_a_flood(&mut front, &queue, 1, Duration::ZERO).await, [(0, 10)]);
}

#[tokio::test]
async fn a_closed_gate_holds_routine_and_passes_emergencies() {
    let (limit_tx, limit_rx) = watch::channel(5);
    let mut front = Front::new(Gate::new(limit_rx, |_, _| 1));
    let queue = front.queue();
    push(&queue, routine(0, 0..10));
    assert_eq!(front.next().await.len(), 5);
    push(&queue, [frame(0, Emergency, 10)]);
    assert_eq!(front.next().await, [(0, Emergency, 10)]);
    limit_tx.send_replace(8);
    assert_eq!(front.next().await, [(0, Routine, 5), (0, Routine, 6)], "the emergency counts too");
    limit_tx.send_replace(100);
    assert_eq!(front.next().await.len(), 3);
}

#[tokio::test]
async fn a_waiting_fan_in_wakes_when_the_gate_opens() {
    let (limit_tx, limit_rx) = watch::channel(0);
    let mut front = Front::new(Gate::new(limit_rx, |_, _| 1));
    push(&front.queue(), routine(0, 0..1));
    let mut next = std::pin::pin!(front.fan_in.next_batch(&Takes(true)));
    assert!(futures::poll!(&mut next).is_pending());
    limit_tx.send_replace(1);
    assert_eq!(next.await.map(|batch| batch.len()), Some(1));
}

#[tokio::test]
async fn a_cancelled_wait_loses_no_frame() {
    let mut front = Front::new(Gate::open());
    let queue = front.queue();
    for sequence in 0..100 {
        {
            let mut next = std::pin::pin!(front.fan_in.next_batch(&Takes(true)));
            assert!(futures::poll!(&mut next).is_pending());
            push(&queue, [frame(0, Routine, sequence)]);
        }
        assert_eq!(front.next().await, [(0, Routine, sequence)]);
    }
}

#[tokio::test]
async fn queued_frames_leave_before_the_end() {
    let mut front = Front::new(Gate::open());
    let queue = front.queue();
    push(&queue, routine(0, 0..100));
    front.sources.finish();
    assert_eq!(front.next().await.len() + front.next().await.len(), 100);
    assert!(front.fan_in.next_batch(&Takes(true)).await.is_none());
}

/// Sixteen routine frames of `payload_len` bytes that one read brought and that share its memory.
fn read_together(first: u64, payload_len: usize) -> Lanes<Option<FrameRun>> {
    let payload = Bytes::from(vec![1; payload_len]);
    let frames: Vec<_> =
        routine(0, first..first + 16).map(|frame| Frame { payload: payload.clone(), ..frame }).collect();
    Lanes::new(None, joined(&frames))
}

#[tokio::test]
async fn the_last_frame_of_a_read_costs_the_memory_it_keeps() {
    let mut front = Front::new(Gate::open());
    let queue = front.queue();
    queue.push(read_together(0, 1_000));
    assert_eq!(queue.queued_cost(), Lanes::new(0, 16 * 1_020));
    front.fan_in = FanIn::new(
        Arc::clone(&front.sources),
        Gate::open(),
        FanInConfig { batch_frames_max: 15, ..FanInConfig::default() },
        Arc::clone(&front.counters),
    );
    assert_eq!(front.next().await.len(), 15);
    let cost = queue.queued_cost().routine;
    assert!(weight_max(cost) > 16_000, "one frame is left, and with it all that was read: {cost}");
    assert_eq!(front.next().await.len(), 1);
    assert_eq!(queue.queued_cost(), Lanes::new(0, 0));
}

#[tokio::test]
async fn single_frames_keep_no_more_memory_than_their_window_allows() {
    let mut front = Front::new(Gate::open());
    let (queue, origin) = (front.queue(), origin(0));
    let mut cost = 0;
    for sequence in 0..1_000 {
        let payload = Bytes::from(vec![1; 236]);
        let frame = Frame { payload, origin: Arc::clone(&origin), ..frame(0, Routine, sequence) };
        cost += 256;
        queue.push(Lanes::new(None, joined(&[frame])));
    }
    let queued = queue.queued_cost().routine;
    assert!((cost..cost + 300).contains(&queued), "{queued} for {cost}");
    let mut sequences = Vec::new();
    while queue.queued_frames() != Lanes::new(0, 0) {
        sequences.extend(front.next().await.into_iter().map(|(_, _, sequence)| sequence));
    }
    assert_eq!(sequences, (0..1_000).collect::<Vec<_>>());
    assert_eq!(queue.queued_cost(), Lanes::new(0, 0));
}

#[tokio::test]
async fn the_session_is_woken_only_for_a_large_growth_of_room() {
    let mut front = Front::new(Gate::open());
    let queue = SourceQueue::new(Arc::clone(&front.sources), Lanes::new(256 * 64, 256 * 512));
    let heard = Arc::new(tokio::sync::Notify::new());
    queue.listen(Arc::clone(&heard), None);
    push(&queue, routine(0, 0..200));
    assert_eq!(queue.queued_cost(), Lanes::new(0, 200 * 256));
    let mut woken = Vec::new();
    for _ in 0..4 {
        front.next().await;
        woken.push(futures::FutureExt::now_or_never(heard.notified()).is_some());
    }
    assert_eq!(woken, [false, true, false, true], "after a quarter of 512, and when dry");
    assert_eq!(queue.look(Lanes::both(false)), Lanes::new(0, 0));
    push(&queue, routine(0, 200..201));
    front.next().await;
    let is_woken = || futures::FutureExt::now_or_never(heard.notified()).is_some();
    assert!(!is_woken(), "it does not wait for the lane to run empty");
    push(&queue, routine(0, 201..202));
    assert!(queue.look(Lanes::new(false, true)).routine > 0);
    front.next().await;
    assert!(is_woken());
}

#[tokio::test]
async fn queues_that_share_a_window_count_together_until_their_frames_have_left() {
    let mut front = Front::new(Gate::open());
    let (one, other, shared) = (front.queue(), front.queue(), Arc::new(SharedCost::default()));
    push(&one, routine(1, 0..2));
    for queue in [&one, &other] {
        queue.listen(Arc::default(), Some(Arc::clone(&shared)));
    }
    push(&other, routine(2, 0..3));
    push(&other, (0..2).map(|sequence| frame(2, Emergency, sequence)));
    let sum = |queues: [Lanes<u64>; 2]| Lanes::from_fn(|lane| queues[0][lane] + queues[1][lane]);
    assert_eq!(shared.queued(), sum([one.queued_cost(), other.queued_cost()]));
    assert_eq!(shared.queued().map(|cost| cost / 256), Lanes::new(2, 5));
    // The link gives up one stream: its frames still wait. A client takes the other one over.
    other.detach();
    one.listen(Arc::default(), None);
    assert_eq!(shared.queued(), other.queued_cost());
    while other.queued_frames() != Lanes::new(0, 0) {
        front.next().await;
    }
    assert_eq!(shared.queued(), Lanes::new(0, 0));
}

/// However pushing and taking interleave, the emergency of a batch leaves before the routine of that batch.
#[test]
fn an_emergency_never_follows_routine_of_its_own_push() {
    const BATCHES: u64 = 20_000;
    let mut front = Front::new(Gate::open());
    let (queue, sources) = (front.queue(), Arc::clone(&front.sources));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for batch in 0..BATCHES {
                push(&queue, [frame(0, Routine, batch), frame(0, Emergency, batch)]);
            }
            sources.finish();
        });
        let mut left = [0, 0];
        runtime.block_on(async {
            while let Some(batch) = front.fan_in.next_batch(&Takes(true)).await {
                for frame in batch.iter() {
                    left[frame.priority.lane()] = frame.sequence + 1;
                    assert!(left[0] >= left[1], "routine {} left before its emergency", frame.sequence);
                }
            }
        });
        assert_eq!(left, [BATCHES; 2]);
    });
}

/// An output that takes a batch only when the test allows it.
struct Slow {
    seen_tx: mpsc::UnboundedSender<Batch>,
    go_rx: mpsc::UnboundedReceiver<()>,
}

impl Output for Slow {
    async fn append(&mut self, batch: Batch) -> Result<(), OutputGone> {
        self.seen_tx.send(batch).map_err(|_| OutputGone)?;
        self.go_rx.recv().await.ok_or(OutputGone)
    }
}

#[tokio::test]
async fn never_more_than_64_frames_lie_between_fan_in_and_the_end_of_processing() {
    let front = Front::new(Gate::open());
    let queue = front.queue();
    let (seen_tx, mut seen_rx) = mpsc::unbounded_channel();
    let (go_tx, go_rx) = mpsc::unbounded_channel();
    let fanout = Fanout::new(4);
    let counters = Arc::clone(&front.counters);
    let processor = Processor::new(front.fan_in, Slow { seen_tx, go_rx }, fanout, Arc::clone(&counters));
    let changed = processor.stats_changed();
    let processed = async {
        for round in 0..50u64 {
            push(&queue, routine(0, round * 40..round * 40 + 40));
            seen_rx.recv().await.unwrap();
            let stats = stats::snapshot(&counters);
            let between = stats.frames_routed - stats.frames_processed;
            assert!((1..=64).contains(&between), "{between} frames between fan-in and archive");
            go_tx.send(()).unwrap();
        }
        front.sources.finish();
        while seen_rx.recv().await.is_some() {
            let _ = go_tx.send(());
        }
    };
    let (ended, ()) = tokio::join!(processor.run(), processed);
    assert_eq!(ended, Ok(()));
    assert_eq!(changed.borrow().frames_processed, 2000);
    assert_eq!(stats::snapshot(&counters).frames_routed, 2000);
}

#[tokio::test]
async fn a_closed_archive_ends_the_processor_with_an_error() {
    let front = Front::new(Gate::open());
    push(&front.queue(), routine(0, 0..1));
    let (seen_tx, _) = mpsc::unbounded_channel();
    let output = Slow { seen_tx, go_rx: mpsc::unbounded_channel().1 };
    let processor = Processor::new(front.fan_in, output, Fanout::new(1), front.counters);
    assert_eq!(processor.run().await, Err(OutputGone));
}

#[tokio::test]
async fn a_lagging_consumer_gets_the_number_of_missed_frames() {
    let fanout = Fanout::new(2);
    let mut consumer = fanout.subscribe("slow");
    let mut first = 0;
    for length in [1u64, 2, 3, 4, 5] {
        let batch = batch_of(routine(0, first..first + length));
        fanout.send(Processed { first, batch });
        first += length;
    }
    assert_eq!(consumer.recv().await.map(|processed| processed.first), Some(6));
    assert_eq!(consumer.missed(), 6);
    assert_eq!(consumer.recv().await.map(|processed| processed.first), Some(10));
    drop(fanout);
    assert!(consumer.recv().await.is_none());
    assert_eq!(consumer.missed(), 6);
}

#[test]
fn a_snapshot_is_consistent_during_updates() {
    let counters = Counters::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    counters.add_routed(3);
                    counters.add_processed(FramePriority::Routine, 1);
                    counters.add_processed(FramePriority::Emergency, 2);
                }
            });
        }
        for _ in 0..20_000 {
            let stats = stats::snapshot(&counters);
            assert!(stats.frames_routed >= stats.frames_processed, "{stats:?}");
            assert!(stats.frames_processed >= stats.emergency_count, "{stats:?}");
        }
    });
    assert_eq!(stats::snapshot(&counters).emergency_count, 80_000);
}

proptest! {
    /// For any order of pushes: no frame is lost or doubled, lanes keep their order, and no routine frame
    /// leaves in a batch ahead of an emergency that was there when the batch was taken.
    #[test]
    fn every_frame_leaves_once_in_order_and_emergencies_first(
        pushes in prop::collection::vec((0..5u32, prop::collection::vec(any::<bool>(), 1..120), any::<bool>()), 1..30)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut front = Front::new(Gate::open());
            let queues: Vec<_> = (0..5).map(|_| front.queue()).collect();
            let (mut next, mut left) = ([0u64; 5], vec![[Vec::new(), Vec::new()]; 5]);
            let (mut pushed, mut taken, mut emergencies) = (0, 0, 0);
            for (source, lanes, take) in pushes {
                let frames: Vec<Frame> = lanes.iter().map(|emergency| {
                    next[source as usize] += 1;
                    frame(source, if *emergency { Emergency } else { Routine }, next[source as usize])
                }).collect();
                pushed += frames.len();
                emergencies += lanes.iter().filter(|emergency| **emergency).count();
                push(&queues[source as usize], frames);
                if take {
                    let batch = front.next().await;
                    let first = batch.iter().filter(|(_, priority, _)| *priority == Emergency).count();
                    assert_eq!(first, emergencies.min(PROCESSOR_FRAMES_MAX));
                    assert!(first == 0 || first == batch.len(), "a batch is of one lane");
                    emergencies -= first;
                    taken += batch.len();
                    for (source, priority, sequence) in batch {
                        left[source as usize][priority.lane()].push(sequence);
                    }
                }
            }
            front.sources.finish();
            while let Some(batch) = front.fan_in.next_batch(&Takes(true)).await {
                taken += batch.len();
                for frame in batch.iter() {
                    left[frame.origin.stream.source_id as usize][frame.priority.lane()].push(frame.sequence);
                }
            }
            assert_eq!(taken, pushed);
            for lane in left.iter().flatten() {
                assert!(lane.is_sorted_by(|a, b| a < b), "{lane:?}");
            }
        });
    }
}
