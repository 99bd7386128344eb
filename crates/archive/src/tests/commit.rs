//! Tests of writing, group commit and reading.

use std::sync::Arc;
use std::sync::mpsc;

use super::new_storage;
use super::support::*;
use crate::storage::mem::Op;
use crate::{AppendError, Durable, Filter, Item, OpenError, Status, open};
use frame::FramePriority::{Emergency, Routine};
use frame::{Lanes, Origin, Selection, Station, batch_of};

#[tokio::test]
async fn written_frames_are_read_with_all_fields_and_ascending_offsets() {
    let storage = new_storage();
    let mut running = start(&storage);
    let (a, b) = (origin(1, 7), origin(2, 1 << 63));
    let batch = vec![emergency(&b, 5), routine(&a, 0), frame(&a, Routine, 9, 0)];
    let seen = running.commit(batch.clone()).await;
    assert_eq!((seen.first_offset, seen.next_offset), (0, 3));
    let durable = |origin: &Arc<Origin>, priority, next, frames| {
        let received_min_ns =
            batch.iter().filter(|frame| frame.origin == *origin).map(|frame| frame.received_ns);
        let received_min_ns = received_min_ns.min().unwrap();
        Durable { origin: Arc::clone(origin), priority, next, frames, received_min_ns }
    };
    assert_eq!(seen.positions, [durable(&b, Emergency, 6, 1), durable(&a, Routine, 10, 2)]);
    // The directory is read while the archive runs.
    for (offset, (stored, frame)) in frames(&storage).iter().zip(&batch).enumerate() {
        assert_eq!(stored.offset, offset as u64);
        assert_eq!(fields(&stored.frame), fields(frame));
    }
    let summary = running.finish().await;
    assert_eq!((summary.frames, summary.next_offset), (3, 3));
    assert_eq!(frames(&storage).len(), 3);
}

#[tokio::test]
async fn nothing_is_announced_before_it_is_synced() {
    let storage = new_storage();
    let mut running = start(&storage);
    let a = origin(1, 1);
    for sequence in 0..20 {
        running.commit(vec![routine(&a, sequence)]).await;
        let copy = storage.clone_disk();
        copy.crash(None);
        let found = sequences(&frames(&copy));
        assert!(found.len() > sequence as usize, "{sequence} was announced, found {found:?}");
    }
    running.finish().await;
}

#[tokio::test]
async fn frames_that_arrive_during_a_commit_form_the_next_block() {
    let storage = new_storage();
    let mut running = start(&storage);
    let (entered_tx, entered) = mpsc::channel();
    let (go, go_rx) = mpsc::channel();
    let go_rx = std::sync::Mutex::new(go_rx);
    storage.set_hook(move |op, _| {
        if op == Op::Sync {
            entered_tx.send(()).unwrap();
            go_rx.lock().unwrap().recv().unwrap();
        }
        None
    });
    let a = origin(1, 1);
    running.append(vec![routine(&a, 0)]).await;
    entered.recv().unwrap();
    for sequence in 1..=50 {
        running.append(vec![routine(&a, sequence)]).await;
    }
    go.send(()).unwrap();
    assert_eq!(running.commits.recv().await.unwrap().frames.len(), 1);
    entered.recv().unwrap();
    go.send(()).unwrap();
    assert_eq!(running.commits.recv().await.unwrap().frames.len(), 50);
    storage.clear_hook();
    drop(go);
    running.finish().await;
}

#[tokio::test]
async fn a_restart_continues_at_the_last_offset() {
    let storage = new_storage();
    let (a, b) = (origin(1, 3), origin(2, 4));
    let mut running = start(&storage);
    let log_id = running.recovery.log_id;
    assert_eq!(running.recovery.next_offset, 0);
    running.commit(vec![routine(&a, 4), emergency(&b, 8)]).await;
    running.finish().await;

    let mut running = start(&storage);
    let recovery = &running.recovery;
    assert_eq!((recovery.log_id, recovery.next_offset), (log_id, 2));
    assert_eq!((recovery.torn_bytes, recovery.rewritten_frames), (0, 0));
    let positions: Vec<_> = recovery.positions.iter().map(|(_, at)| (at.epoch, at.next)).collect();
    assert_eq!(positions, [(3, Lanes::new(0, 5)), (4, Lanes::new(9, 0))]);
    running.commit(vec![routine(&a, 5)]).await;
    running.finish().await;
    assert_eq!(sequences(&frames(&storage)), [8, 4, 5]);
}

/// Earlier versions took names of stations with invisible characters.
#[tokio::test]
async fn a_station_whose_name_is_refused_today_keeps_its_frames_and_its_position() {
    let storage = new_storage();
    let mut stream = origin(1, 3).stream.clone();
    stream.station = Station::stored("a\u{202E}b").unwrap();
    let old = Arc::new(Origin { stream: stream.clone(), epoch: 3 });
    let mut running = start(&storage);
    running.commit(vec![routine(&old, 4)]).await;
    running.finish().await;
    // The second start reads the position from the first block, the third from the block that the second has written.
    for _ in 0..2 {
        let running = start(&storage);
        let positions: Vec<_> = running.recovery.positions.iter().map(|(key, at)| (key, at.next)).collect();
        assert_eq!(positions, [(&stream, Lanes::new(0, 5))]);
        assert_eq!(running.recovery.torn_bytes, 0);
        running.finish().await;
    }
    assert_eq!(sequences(&frames(&storage)), [4]);
}

#[tokio::test]
async fn segments_rotate_and_are_read_as_one_log() {
    let storage = new_storage();
    let a = origin(1, 1);
    let mut running = start(&storage);
    for batch in 0..100 {
        let frames = (0..40).map(|index| frame(&a, Routine, batch * 40 + index, 200));
        running.commit(frames.collect()).await;
    }
    running.finish().await;
    let segments = storage.paths().iter().filter(|path| path.extension().is_some()).count();
    assert!(segments > 4, "{:?}", storage.paths());
    assert_eq!(sequences(&frames(&storage)), (0..4_000).collect::<Vec<_>>());

    let running = start(&storage);
    assert_eq!(running.recovery.segments_scanned, 1);
    assert_eq!(running.recovery.positions[0].1.next, Lanes::new(0, 4_000));
    running.finish().await;
}

#[tokio::test]
async fn a_filter_returns_exactly_the_selected_frames() {
    let storage = new_storage();
    let (a, b) = (origin(1, 1), origin(2, 1));
    let mut running = start(&storage);
    for sequence in 0..10 {
        running.commit(vec![routine(&a, sequence), emergency(&b, sequence)]).await;
    }
    running.finish().await;
    let count = |filter| items(&storage, filter).len();
    let all = Filter::default;
    assert_eq!(count(Filter { from_offset: 15, ..all() }), 5);
    assert_eq!(count(Filter { to_offset: Some(15), ..all() }), 15);
    assert_eq!(count(Filter { from_offset: 3, limit: Some(4), ..all() }), 4);
    assert_eq!(count(Filter { selection: Selection::of_sources([2]), from_offset: 10, ..all() }), 5);
    assert_eq!(count(Filter { selection: Selection::default().with_priority(Some(Emergency)), ..all() }), 10);
    assert_eq!(count(Filter { from_offset: 99, ..all() }), 0);
    let first = items(&storage, Filter { from_offset: 7, ..all() }).remove(0);
    assert!(matches!(first, Item::Frame(stored) if stored.offset == 7));
}

#[tokio::test]
async fn a_second_daemon_is_refused() {
    let storage = new_storage();
    let running = start(&storage);
    let second = open(config(), storage.clone(), |_: &crate::Commit<'_>| {});
    let Err(error @ OpenError::Locked(_)) = second else {
        panic!("opened twice");
    };
    assert!(error.to_string().contains("/archive is in use: another process"), "{error}");
    running.finish().await;
    start(&storage).finish().await;
}

#[tokio::test]
async fn a_failed_sync_is_final_and_announces_nothing() {
    let storage = new_storage();
    let a = origin(1, 1);
    let mut running = start(&storage);
    running.commit(vec![routine(&a, 0)]).await;
    let syncs = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = Arc::clone(&syncs);
    storage.set_hook(move |op, _| {
        let fails = op == Op::Sync;
        counter.fetch_add(u64::from(fails), std::sync::atomic::Ordering::SeqCst);
        fails.then(|| std::io::Error::other("input/output error"))
    });
    let mut status = running.archive.status();
    running.append(vec![routine(&a, 1)]).await;
    let failed = status.wait_for(|status| matches!(status, Status::Failed { .. })).await;
    let Status::Failed { error } = failed.unwrap().clone() else { unreachable!() };
    assert!(error.contains("cannot sync /archive/00000000000000000000.seg"), "{error}");
    assert!(running.commits.recv().await.is_none());
    let refused = running.appender.append(batch_of([routine(&a, 2)])).await;
    assert!(matches!(refused, Err(AppendError::Failed(_))));
    assert_eq!(syncs.load(std::sync::atomic::Ordering::SeqCst), 1, "a sync was retried");
    assert!(running.archive.finish().await.is_err());

    // The kernel marks the failed pages as clean. A restart that trusted the cache would lose frame 1 here.
    storage.clear_hook();
    storage.kill();
    let running = start(&storage);
    assert_eq!(running.recovery.positions[0].1.next, Lanes::new(0, 2));
    assert_eq!(running.recovery.rewritten_frames, 1);
    let copy = storage.clone_disk();
    copy.crash(None);
    assert_eq!(sequences(&frames(&copy)), [0, 1]);
    running.finish().await;
}

#[tokio::test]
async fn a_lower_epoch_never_changes_a_position() {
    let storage = new_storage();
    let mut running = start(&storage);
    running.commit(vec![routine(&origin(1, 5), 9)]).await;
    running.commit(vec![emergency(&origin(1, 6), 0)]).await;
    running.commit(vec![routine(&origin(1, 5), 10)]).await;
    running.finish().await;
    let running = start(&storage);
    let position = running.recovery.positions[0].1;
    assert_eq!((position.epoch, position.next), (6, Lanes::new(1, 0)));
    running.finish().await;
}

#[tokio::test]
async fn an_idle_log_attests_its_last_commit() {
    let storage = new_storage();
    let mut running = start(&storage);
    running.commit(vec![routine(&origin(1, 1), 0)]).await;
    let (synced_tx, mut synced) = tokio::sync::mpsc::unbounded_channel();
    storage.set_hook(move |op, _| {
        if op == Op::Sync {
            _ = synced_tx.send(());
        }
        None
    });
    synced.recv().await.unwrap();
    storage.clear_hook();
    let copy = storage.clone_disk();
    copy.kill();
    let second = start(&copy);
    assert_eq!(second.recovery.rewritten_frames, 0);
    assert_eq!(second.recovery.next_offset, 1);
    second.finish().await;
    running.finish().await;
}
