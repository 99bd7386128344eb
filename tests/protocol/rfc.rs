//! The acceptance criteria of RFC-0047, one test each, over loopback sockets.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use archive::{Filter, Item, Reader};
use config::Config;
use frame::{Batch, FramePriority, FrameView, Lanes};
use ingest::IngestConfig;
use ingest::pipeline::stats::snapshot;
use ingest::pipeline::{Counters, PipelineStats};
use rustix::process::Signal;
use sim::{Plan, Progress};

use crate::support::inside::{Held, Inside};
use crate::support::{Client, Daemon, EMERGENCY, Frame, Hello, LIMIT, NO_ACK, ROUTINE, code, wait_until};

/// The emergencies are the newest of the waiting frames, so only the pipeline can have put them first.
#[test]
fn criterion_1_an_emergency_precedes_queued_routine_of_the_same_source() {
    let mut held = Held::start(Config::default().ingest_config());
    let (mut client, _) = Client::open(held.address, &Hello::new(1));
    client.frame(ROUTINE, 0, b"occupies the processor");
    assert_eq!(held.next_batch().len(), 1);

    for sequence in 1..=100 {
        client.frame(ROUTINE, sequence, b"routine");
    }
    client.frame(EMERGENCY, 101, b"SAFE_MODE");
    client.frame(EMERGENCY, 102, b"ABORT");
    // The answer to a PING shows that the daemon has read and queued everything before it.
    client.settle(1);
    held.release(1);

    let order = |batch: Batch| batch.iter().map(|frame| frame.sequence).collect::<Vec<_>>();
    assert_eq!(order(held.next_batch()), [101, 102]);
    held.release(1);
    assert_eq!(
        order(held.next_batch()),
        (1..=64).collect::<Vec<_>>(),
        "then the routine that waited, a full batch of it"
    );
    held.release(10);
    assert_eq!(client.bye([103, 101]), [103, 101]);
}

#[test]
fn criterion_2_sources_are_registered_and_removed_mid_run() {
    let dir = tempfile::tempdir().unwrap();
    let inside = Inside::start(dir.path(), |_| ());
    let list = || inside.runtime.block_on(inside.handles.router.list()).unwrap();
    let (mut first, _) = Client::open(inside.address, &Hello::new(1));
    first.deliver(ROUTINE, 0, b"first");
    let (mut second, welcome) = Client::open(inside.address, &Hello::new(2));
    second.deliver(ROUTINE, 0, b"second");
    let sources: Vec<_> = list().iter().map(|source| source.origin.stream.source_id).collect();
    assert_eq!(sources, [1, 2], "both are registered");

    assert!(inside.runtime.block_on(inside.handles.router.remove(welcome.session_id)).unwrap());
    assert!(!second.expect_error(code::REMOVED).text.is_empty());
    second.expect_end();
    first.deliver(ROUTINE, 1, b"the other goes on");
    let (mut third, _) = Client::open(inside.address, &Hello::new(3));
    third.deliver(EMERGENCY, 0, b"and new ones come");
    wait_until("the end of the removed session", || match list().len() {
        2 => Ok(()),
        count => Err(format!("{count} sources")),
    });
    assert_eq!(inside.stop().totals.archived, 4);
}

#[test]
fn criterion_3_a_slow_processor_makes_senders_wait_and_drops_nothing() {
    let window = 256 * 256;
    let config = IngestConfig {
        windows: Lanes::both(window),
        message_bytes_max: 4096,
        ..Config::default().ingest_config()
    };
    let mut held = Held::start(config);
    let (mut client, _) = Client::open(held.address, &Hello::new(1));
    let mut seen = vec![];
    client.frame(ROUTINE, 0, b"x");
    seen.extend(held.next_batch().iter().map(|frame| frame.sequence));
    // One frame has left the queue for the output, so credit allows exactly one frame more than the window.
    let sequence = 1 + window / 256;
    client.wait_credit(ROUTINE, window + 256);
    for sequence in 1..sequence {
        client.frame(ROUTINE, sequence, b"x");
    }
    client.settle(1);
    assert_eq!(client.credit(ROUTINE), 0, "the sender waits with its window used up");
    let PipelineStats { frames_routed, frames_processed, .. } = snapshot(&held.counters);
    assert_eq!((frames_routed, frames_processed), (1, 0), "only the batch at the output has left the queue");
    assert_eq!(held.books.totals().received, sequence);

    held.release(1);
    while (seen.len() as u64) < sequence {
        let batch = held.next_batch();
        assert!(batch.len() <= 64);
        let stats = snapshot(&held.counters);
        assert!(stats.frames_routed - stats.frames_processed <= 64, "{stats:?}");
        seen.extend(batch.iter().map(|frame| frame.sequence));
        held.release(1);
    }
    assert!(seen.iter().copied().eq(0..sequence), "everything came, once and in order");
    client.wait_credit(ROUTINE, 256);
    assert_eq!(client.bye([0, sequence]), [0, sequence]);
}

#[test]
fn criterion_4_processor_archive_and_lossless_consumers_count_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let inside = Inside::start(dir.path(), |config| {
        config.pipeline.broadcast_capacity = 1024.try_into().unwrap();
    });
    let mut consumer = inside.handles.fanout.subscribe("test");
    let consumed = inside.runtime.spawn(async move {
        let (mut frames, mut emergencies) = (0, 0);
        while let Some(processed) = consumer.recv().await {
            frames += processed.batch.len() as u64;
            let is_emergency = |frame: &FrameView<'_>| frame.priority == FramePriority::Emergency;
            emergencies += processed.batch.iter().filter(is_emergency).count() as u64;
        }
        (frames, emergencies, consumer.missed())
    });
    let plan = Plan {
        connect: inside.address.to_string(),
        satellites: 10,
        replays: 2,
        frames: Some(500),
        emergency_ratio: 0.1,
        ..Plan::default()
    };
    let (_stop_tx, stop) = tokio::sync::watch::channel(false);
    let report = inside.runtime.block_on(sim::run(plan, stop, Arc::new(Progress::default())));
    let (counters, archive_stats) =
        (Arc::clone(&inside.handles.counters), Arc::clone(&inside.handles.archive_stats));
    let (outcome, consumed) = inside.stop_and_join(consumed);
    let (frames, emergencies, missed) = consumed.unwrap();
    let stats = snapshot(&counters);
    assert_eq!((report.sent, report.acked), (6000, 6000));
    assert_eq!((outcome.totals.received, outcome.totals.archived), (6000, 6000));
    assert_eq!((stats.frames_routed, stats.frames_processed), (6000, 6000));
    assert_eq!((frames, missed), (6000, 0));
    assert_eq!(emergencies, stats.emergency_count);
    assert_eq!(archive_stats.frames.load(std::sync::atomic::Ordering::Relaxed), 6000);
    let stored = Reader::open(&dir.path().join("archive"), Filter::default()).unwrap();
    let stored = stored.filter(|item| matches!(item, Ok(Item::Frame(_)))).count();
    assert_eq!(stored, 6000);
}

/// The read path is a function of the counters alone. The counters are three atomics, with no room for a lock.
#[test]
fn criterion_5_the_snapshot_read_path_takes_no_lock() {
    const READ: fn(&Counters) -> PipelineStats = snapshot;
    assert_eq!(size_of::<Counters>(), 3 * size_of::<std::sync::atomic::AtomicU64>());
    assert!(!std::mem::needs_drop::<Counters>(), "nothing behind a pointer either");

    // The snapshot answers while the processor, the only stage that counts, is held in the middle of a batch.
    let mut held = Held::start(Config::default().ingest_config());
    let (mut client, _) = Client::open(held.address, &Hello::new(1));
    client.frame(EMERGENCY, 0, b"x");
    held.next_batch();
    let stats = READ(&held.counters);
    assert_eq!((stats.frames_routed, stats.frames_processed, stats.emergency_count), (1, 0, 0));
    held.release(1);
    client.wait_durable(EMERGENCY, 1);
}

#[test]
fn criterion_6_nothing_accepted_before_the_signal_is_lost() {
    const FRAMES: u64 = 2000;
    let mut daemon = Daemon::start("");
    let (mut acked, _) = Client::open(daemon.address(), &Hello::new(1));
    let (mut silent, _) = Client::welcomed(daemon.address(), &Hello::new(2).flags(NO_ACK).epoch(0));
    let batch =
        |lane| (0..FRAMES).flat_map(|n| Frame::new(lane, n, &n.to_be_bytes()).bytes()).collect::<Vec<_>>();
    // The frames are in the socket buffers of this host before the signal. No client waits for an answer.
    acked.send(&batch(ROUTINE));
    silent.send(&batch(EMERGENCY));
    daemon.signal(Signal::TERM);
    let exit = daemon.wait_exit(LIMIT);
    assert_eq!(exit.code, Some(0));
    let books = daemon.final_books();
    books.assert_balanced();
    assert_eq!((books.received, books.archived, books.undelivered), (2 * FRAMES, 2 * FRAMES, 0));
    let mut found: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for frame in daemon.archived() {
        assert_eq!(frame.payload, frame.sequence.to_be_bytes());
        found.entry(frame.source_id).or_default().push(frame.sequence);
    }
    assert!(found[&1].iter().copied().eq(0..FRAMES), "with ACK");
    assert!(found[&2].iter().copied().eq(0..FRAMES), "without ACK");
    acked.wait_durable(ROUTINE, FRAMES);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panics").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn criterion_7_a_lagging_consumer_gets_a_warning_with_the_number_and_continues() {
    let dir = tempfile::tempdir().unwrap();
    let inside = Inside::start(dir.path(), |config| {
        config.pipeline.broadcast_capacity = 2.try_into().unwrap();
    });
    let mut consumer = inside.handles.fanout.subscribe("slow screen");
    let (mut client, _) = Client::open(inside.address, &Hello::new(1));
    for sequence in 0..50 {
        // Each frame is acknowledged before the next is sent, so each is a batch of its own.
        client.deliver(ROUTINE, sequence, b"x");
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let next = tracing::subscriber::with_default(subscriber, || {
        inside.runtime.block_on(consumer.recv()).expect("the consumer continues")
    });
    assert_eq!((next.first, consumer.missed()), (48, 48), "the two newest batches are left");
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("WARN") && log.contains("slow screen") && log.contains("missed=48"), "{log}");
    client.deliver(ROUTINE, 50, b"x");
    let rest = [inside.runtime.block_on(consumer.recv()), inside.runtime.block_on(consumer.recv())];
    assert_eq!(rest.map(|batch| batch.unwrap().first), [49, 50]);
    assert_eq!(consumer.missed(), 48);
    assert_eq!(inside.stop().exit_code(), 0);
}
