//! When frames go to their streams, and which epoch they get. The tests use a paused clock and no daemon.

use std::time::Duration;

use super::*;
use crate::replay::{Control, Progress, Speed};
use FramePriority::{Emergency, Routine};
use SourceKind::{ArchivedReplay, LiveUplink};
use frame::{self, FrameFlags, FramePriority, Origin, Station};

const MS: i64 = 1_000_000;

struct Bench {
    scheduler: Scheduler,
    control: Arc<Control>,
    items_tx: mpsc::Sender<Read>,
    orders: Vec<mpsc::Receiver<Order>>,
}

/// A scheduler for the sources 0 and up. The test takes the place of the streams.
fn bench(speed: Speed, sources: u32, connections_max: usize) -> Bench {
    let control = Arc::new(Control::default());
    let shared = Arc::new(Shared {
        connect: String::new(),
        tls: None,
        token: String::new(),
        epoch: 1,
        goes_on: false,
        shared_sequence: false,
        linger: Duration::ZERO,
        control: Arc::clone(&control),
        progress: Arc::new(Progress::default()),
        slots: Semaphore::new(connections_max),
    });
    let (items_tx, items) = mpsc::channel(4);
    let mut scheduler = Scheduler::new(shared, Clock::new(speed, None), items, connections_max);
    let mut orders = Vec::new();
    for source_id in 0..sources {
        let (orders_tx, orders_rx) = mpsc::channel(ORDERS_MAX);
        scheduler.parts.push(Part::new(orders_tx));
        for source_kind in [LiveUplink, ArchivedReplay] {
            scheduler.by_stream.insert(key(source_id, source_kind), source_id as usize);
        }
        orders.push(orders_rx);
    }
    Bench { scheduler, control, items_tx, orders }
}

fn key(source_id: u32, source_kind: SourceKind) -> StreamKey {
    StreamKey { source_id, source_kind, station: Station::default() }
}

/// A frame of source 0, received `received_ms` milliseconds after 1970.
fn stored(offset: u64, received_ms: i64) -> StoredFrame {
    of(offset, received_ms, key(0, LiveUplink), 7, Routine, offset)
}

fn of(
    offset: u64,
    received_ms: i64,
    stream: StreamKey,
    epoch: u64,
    priority: FramePriority,
    sequence: u64,
) -> StoredFrame {
    let frame = frame::Frame {
        source_id: stream.source_id,
        source_kind: stream.source_kind,
        priority,
        flags: FrameFlags::default(),
        sequence,
        ert_ns: 0,
        received_ns: received_ms * MS,
        origin: Arc::new(Origin { stream, epoch }),
        payload: bytes::Bytes::new(),
    };
    StoredFrame { offset, frame }
}

/// The orders that a stream got. Frames are given by their sequence.
fn orders_of(orders: &mut mpsc::Receiver<Order>) -> Vec<String> {
    let text = |order| match order {
        Order::Frame(frame) => client::Kept::sequence(&frame).to_string(),
        Order::NextEpoch => "next epoch".to_owned(),
        Order::SkipEpochs(count) => format!("skip {count}"),
        Order::Rest => "rest".to_owned(),
    };
    std::iter::from_fn(|| orders.try_recv().ok().map(text)).collect()
}

#[tokio::test(start_paused = true)]
async fn frames_keep_their_time_distance_at_the_chosen_speed() {
    for (speed, expected_ms) in [(1.0, [0, 250, 250, 60_000]), (2.0, [0, 125, 125, 30_000])] {
        let Bench { scheduler, items_tx, mut orders, .. } = bench(Speed::Times(speed), 1, 1);
        let start = Instant::now();
        // The third frame is older than the second, so it follows at once.
        let frames = [1_000, 1_250, 1_100, 61_000];
        let frames = frames.iter().enumerate().map(|(at, ms)| stored(at as u64, *ms)).collect();
        items_tx.send(Read::Frames(frames)).await.unwrap();
        drop(items_tx);
        let play = scheduler.run();
        let watch = async {
            let mut seen_ms = Vec::new();
            while orders[0].recv().await.is_some() {
                seen_ms.push(start.elapsed().as_millis());
            }
            seen_ms
        };
        let (ended, seen_ms) = tokio::join!(play, watch);
        assert_eq!(seen_ms, expected_ms);
        assert_eq!(ended.stopped_at, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_delays_all_later_frames_by_its_length() {
    let Bench { scheduler, control, items_tx, mut orders } = bench(Speed::Times(1.0), 1, 1);
    let start = Instant::now();
    let frames = (0..4).map(|at| stored(at, at as i64 * 1_000)).collect();
    items_tx.send(Read::Frames(frames)).await.unwrap();
    drop(items_tx);
    let user = async {
        for wait_ms in [1_500, 10_000, 200, 5_000] {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            control.toggle_pause();
        }
    };
    let watch = async {
        let mut seen_ms = Vec::new();
        while orders[0].recv().await.is_some() {
            seen_ms.push(start.elapsed().as_millis());
        }
        seen_ms
    };
    let (_, (), seen_ms) = tokio::join!(scheduler.run(), user, watch);
    assert_eq!(seen_ms, [0, 1_000, 17_000, 18_000]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_names_the_first_frame_that_was_not_handed_out() {
    for paused in [false, true] {
        let Bench { scheduler, control, items_tx, mut orders } = bench(Speed::Times(1.0), 1, 1);
        let frames = (0..4).map(|at| stored(at + 40, at as i64 * 1_000)).collect();
        items_tx.send(Read::Frames(frames)).await.unwrap();
        let user = async {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            if paused {
                control.toggle_pause();
            }
            control.stop();
        };
        let (ended, ()) = tokio::join!(scheduler.run(), user);
        assert_eq!(ended.stopped_at, Some(42));
        assert_eq!(orders_of(&mut orders[0]), ["40", "41"]);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_do_not_fit_one_epoch_go_into_the_next() {
    let Bench { scheduler, items_tx, mut orders, .. } = bench(Speed::Max, 2, 2);
    let live = || key(0, LiveUplink);
    let frames = vec![
        of(0, 0, live(), 7, Routine, 5),
        of(1, 0, live(), 7, Emergency, 1),
        of(2, 0, live(), 7, Routine, 6),
        // Another epoch, although the sequences would rise.
        of(3, 0, live(), 8, Routine, 7),
        of(4, 0, live(), 8, Emergency, 0),
        // A sequence that does not rise within its lane.
        of(5, 0, live(), 8, Routine, 7),
        // A replay of the same source is the same stream on the wire.
        of(6, 0, key(0, ArchivedReplay), 8, Routine, 90),
        of(7, 0, key(1, LiveUplink), 1 << 63, Routine, 0),
        of(8, 0, key(1, LiveUplink), (1 << 63) + 1, Routine, 0),
    ];
    items_tx.send(Read::Frames(frames)).await.unwrap();
    drop(items_tx);
    scheduler.run().await;
    let next = "next epoch";
    assert_eq!(orders_of(&mut orders[0]), ["5", "1", "6", next, "7", "0", next, "7", next, "90"]);
    assert_eq!(orders_of(&mut orders[1]), ["0", next, "0"]);
}

#[tokio::test(start_paused = true)]
async fn the_stream_idle_longest_is_disconnected_for_another() {
    let Bench { scheduler, items_tx, mut orders, .. } = bench(Speed::Max, 3, 2);
    let sources = [0, 1, 0, 2, 1];
    let frames = sources.iter().enumerate();
    let frames = frames.map(|(at, id)| of(at as u64, 0, key(*id, LiveUplink), 7, Routine, at as u64));
    items_tx.send(Read::Frames(frames.collect())).await.unwrap();
    drop(items_tx);
    scheduler.run().await;
    assert_eq!(orders_of(&mut orders[0]), ["0", "2", "rest"]);
    assert_eq!(orders_of(&mut orders[1]), ["1", "rest", "4"]);
    assert_eq!(orders_of(&mut orders[2]), ["3"]);
}

#[tokio::test(start_paused = true)]
async fn reading_stops_while_the_memory_for_frames_is_full() {
    let Bench { mut scheduler, items_tx, mut orders, .. } = bench(Speed::Max, 1, 1);
    scheduler.budget = Arc::new(Semaphore::new(2 * FRAME_OVERHEAD_BYTES));
    items_tx.send(Read::Frames((0..3).map(|at| stored(at, 0)).collect())).await.unwrap();
    drop(items_tx);
    let watch = async {
        let first = orders[0].recv().await;
        let second = orders[0].recv().await;
        assert!(tokio::time::timeout(Duration::from_secs(9), orders[0].recv()).await.is_err());
        drop(first);
        assert!(matches!(orders[0].recv().await, Some(Order::Frame(_))));
        drop(second);
    };
    tokio::join!(scheduler.run(), watch);
}

#[tokio::test(start_paused = true)]
async fn skipped_frames_count_for_epochs_and_take_no_time() {
    let frames = || {
        let frame = |offset, epoch, sequence| {
            of(offset, offset as i64 * 60_000, key(0, LiveUplink), epoch, Routine, sequence)
        };
        vec![frame(10, 7, 5), frame(11, 8, 0), frame(12, 8, 1), frame(13, 9, 0)]
    };
    let next = "next epoch";
    for (skip_to, expected, elapsed_s) in [
        (0, vec!["5", next, "0", "1", next, "0"], 180),
        (11, vec![next, "0", "1", next, "0"], 120),
        (12, vec!["skip 1", "1", next, "0"], 60),
        (13, vec!["skip 2", "0"], 0),
        (14, vec![], 0),
    ] {
        let Bench { scheduler, items_tx, mut orders, .. } = bench(Speed::Times(1.0), 1, 1);
        let start = Instant::now();
        items_tx.send(Read::Frames(frames())).await.unwrap();
        drop(items_tx);
        scheduler.skipping_to(skip_to).run().await;
        assert_eq!(
            (orders_of(&mut orders[0]), start.elapsed().as_secs()),
            (expected.iter().map(ToString::to_string).collect(), elapsed_s)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_frames_are_skipped_ends_behind_them() {
    let Bench { scheduler, control, items_tx, mut orders } = bench(Speed::Max, 1, 1);
    items_tx.send(Read::Frames((0..4).map(|at| stored(at, 0)).collect())).await.unwrap();
    control.stop();
    let ended = scheduler.skipping_to(9).run().await;
    assert_eq!((ended.stopped_at, orders_of(&mut orders[0]).len()), (Some(9), 0));
}
