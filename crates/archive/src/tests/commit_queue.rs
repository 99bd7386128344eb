//! Tests of the commit queue: when a block is due, when an appender waits, and what happens when the thread dies.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use super::support::*;
use crate::storage::mem::{MemStorage, Op};
use crate::{AppendError, ArchiveError, Commit, Config, Status, open};
use frame::{FramePriority, Origin, batch_of};

/// A configuration with a commit delay that never ends during a test.
fn patient() -> Config {
    Config { commit_delay: Duration::from_secs(3_600), ..config() }
}

/// Polls once.
async fn poll<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

#[tokio::test]
async fn an_emergency_skips_the_delay_and_goes_ahead_of_what_waits() {
    let storage = MemStorage::default();
    let mut running = start_on(patient(), storage.clone());
    let a = origin(1, 1);
    running.append(vec![routine(&a, 0)]).await;
    running.append(vec![routine(&a, 1)]).await;
    assert!(running.commits.try_recv().is_err());
    let seen = running.commit(vec![emergency(&a, 2)]).await;
    assert_eq!((seen.first_offset, seen.frames.len()), (0, 1));
    running.finish().await;
    assert_eq!(sequences(&frames(&storage)), [2, 0, 1]);
}

/// Makes each sync report its begin on the receiver. The sync then waits for a message, or until the sender is dropped.
fn hold_syncs(storage: &MemStorage) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (entered_tx, entered) = mpsc::channel();
    let (go, go_rx) = mpsc::channel::<()>();
    let go_rx = std::sync::Mutex::new(go_rx);
    storage.set_hook(move |op, _| {
        if op == Op::Sync {
            _ = entered_tx.send(());
            _ = go_rx.lock().unwrap().recv();
        }
        None
    });
    (entered, go)
}

/// Calls `fill` while the first commit is held in its sync. Returns the sequences of the commits that follow.
async fn commits_behind_one_that_stands(fill: impl AsyncFnOnce(&Running)) -> Vec<Vec<u64>> {
    let storage = MemStorage::default();
    let mut running = start_on(Config { commit_delay: Duration::ZERO, ..config() }, storage.clone());
    let (entered, go) = hold_syncs(&storage);
    running.append(vec![routine(&origin(9, 1), 0)]).await;
    entered.recv().unwrap();
    fill(&running).await;
    drop(go);
    let appender = running.appender;
    drop(appender);
    running.archive.finish().await.unwrap();
    let mut commits = Vec::new();
    while let Some(seen) = running.commits.recv().await {
        commits.push(seen.frames.iter().map(|frame| frame.sequence).collect());
    }
    commits.split_off(1)
}

#[tokio::test]
async fn an_emergency_waits_for_the_commit_that_runs_and_no_other() {
    let a = origin(1, 1);
    let commits = commits_behind_one_that_stands(async |running| {
        running.append(vec![routine(&a, 1), routine(&a, 2)]).await;
        running.append(vec![emergency(&a, 3)]).await;
        running.append(vec![routine(&a, 4)]).await;
        running.append(vec![emergency(&a, 5)]).await;
    })
    .await;
    assert_eq!(commits, [vec![3, 5], vec![1, 2, 4]]);
}

/// An endless series of emergencies, each appended while the previous one is being committed, does not block routine.
#[tokio::test]
async fn routine_that_is_due_goes_after_one_block_of_emergencies() {
    let storage = MemStorage::default();
    let running = start(&storage);
    let (entered, go) = hold_syncs(&storage);
    let a = origin(1, 1);
    running.append(vec![emergency(&a, 0)]).await;
    for sequence in 1..5 {
        entered.recv().unwrap();
        running.append(vec![routine(&a, sequence), emergency(&a, 10 + sequence)]).await;
        go.send(()).unwrap();
    }
    drop(go);
    let Running { appender, archive, mut commits, .. } = running;
    drop(appender);
    archive.finish().await.unwrap();
    let mut lanes = Vec::new();
    while let Some(seen) = commits.recv().await {
        lanes.push(seen.frames[0].priority);
    }
    use FramePriority::{Emergency, Routine};
    assert_eq!(lanes[..5], [Emergency, Emergency, Routine, Emergency, Routine]);
}

#[tokio::test]
async fn a_batch_of_both_lanes_goes_as_two_and_keeps_the_order_of_each() {
    let a = origin(1, 1);
    let commits = commits_behind_one_that_stands(async |running| {
        running.append(vec![routine(&a, 1), emergency(&a, 2), routine(&a, 3), emergency(&a, 4)]).await;
    })
    .await;
    assert_eq!(commits, [vec![2, 4], vec![1, 3]]);
}

/// Appends routine frames while there is room. Returns the next sequence.
async fn fill_up(running: &Running, a: &Arc<Origin>) -> u64 {
    let mut sequence = 1;
    while running.appender.has_room() {
        running.append(vec![frame(a, FramePriority::Routine, sequence, 256)]).await;
        sequence += 1;
    }
    sequence
}

#[tokio::test]
async fn after_an_emergency_blocks_of_routine_are_a_quarter_as_large() {
    let a = origin(1, 1);
    let storage = MemStorage::default();
    let running = start(&storage);
    let (entered, go) = hold_syncs(&storage);
    running.append(vec![routine(&a, 0)]).await;
    entered.recv().unwrap();
    let calm = fill_up(&running, &a).await;
    running.append(vec![emergency(&a, 0)]).await;
    go.send(()).unwrap();
    // The sync of the emergency block.
    entered.recv().unwrap();
    assert!(!running.appender.has_room(), "what was full before is still full");
    go.send(()).unwrap();
    // The sync of the full block.
    entered.recv().unwrap();
    let alert = fill_up(&running, &a).await;
    assert!(alert.abs_diff(calm / 4) <= 2, "{alert} frames beside {calm}");
    drop(go);
    running.finish().await;
}

#[tokio::test]
async fn a_full_block_of_routine_has_no_room_until_it_is_taken() {
    let a = origin(1, 1);
    commits_behind_one_that_stands(async |running| {
        fill_up(running, &a).await;
        let room = running.appender.room();
        tokio::pin!(room);
        assert!(poll(room.as_mut()).await.is_pending());
        running.append(vec![emergency(&a, 0)]).await;
        assert!(!running.appender.has_room(), "an emergency has a block of its own");
    })
    .await;
}

#[tokio::test]
async fn a_full_block_does_not_wait_for_the_delay() {
    let storage = MemStorage::default();
    let mut running = start_on(patient(), storage.clone());
    let a = origin(1, 1);
    // A block has 16 KiB here.
    for sequence in 0..200 {
        running.append(vec![frame(&a, FramePriority::Routine, sequence, 256)]).await;
    }
    assert!(running.commits.recv().await.unwrap().frames.len() > 10);
    assert_eq!(running.finish().await.frames, 200);
}

#[tokio::test]
async fn closing_does_not_wait_for_the_delay() {
    let storage = MemStorage::default();
    let running = start_on(patient(), storage.clone());
    running.append(vec![routine(&origin(1, 1), 0)]).await;
    assert_eq!(running.finish().await.frames, 1);
    assert_eq!(frames(&storage).len(), 1);
}

#[tokio::test]
async fn an_append_waits_while_the_block_is_full_and_is_cancel_safe() {
    let storage = MemStorage::default();
    let running = start(&storage);
    let (entered, go) = hold_syncs(&storage);
    let a = origin(1, 1);
    running.append(vec![routine(&a, 0)]).await;
    entered.recv().unwrap();
    // The commit is held in its sync while the next block fills up.
    let mut sequence = 1;
    loop {
        let batch = vec![frame(&a, FramePriority::Routine, sequence, 256)];
        let append = running.appender.append(batch_of(batch));
        tokio::pin!(append);
        if let Poll::Ready(result) = poll(append.as_mut()).await {
            result.unwrap();
            sequence += 1;
        } else {
            // The append is dropped while it waits, so the batch was not handed over.
            break;
        }
    }
    assert!(sequence > 10);
    let batch = vec![frame(&a, FramePriority::Routine, 1_000_000, 256)];
    {
        let append = running.appender.append(batch_of(batch));
        tokio::pin!(append);
        assert!(poll(append.as_mut()).await.is_pending());
        drop(go);
        append.await.unwrap();
    }
    storage.clear_hook();
    running.finish().await;
    let expected: Vec<u64> = (0..sequence).chain([1_000_000]).collect();
    assert_eq!(sequences(&frames(&storage)), expected);
}

#[tokio::test]
async fn a_batch_over_the_limits_is_refused() {
    let storage = MemStorage::default();
    let running = start(&storage);
    let a = origin(1, 1);
    let many: Vec<_> = (0..65).map(|sequence| routine(&a, sequence)).collect();
    let refused = running.appender.append(batch_of(many)).await;
    assert!(matches!(refused, Err(AppendError::Oversized { frames: 65, .. })));
    let large = vec![frame(&a, FramePriority::Routine, 0, 64 << 10)];
    assert!(running.appender.append(batch_of(large)).await.is_err());
    assert_eq!(running.finish().await.frames, 0);
}

#[tokio::test]
async fn a_panic_on_the_thread_is_seen() {
    let storage = MemStorage::default();
    let observer = |_: &Commit<'_>| panic!("the observer broke");
    let (appender, archive, _) = open(config(), storage.clone(), observer).unwrap();
    let mut status = archive.status();
    let batch = vec![routine(&origin(1, 1), 0)];
    appender.append(batch_of(batch.clone())).await.unwrap();
    let failed = |status: &Status| matches!(status, Status::Failed { error } if error.contains("panicked"));
    status.wait_for(failed).await.unwrap();
    assert!(appender.append(batch_of(batch)).await.is_err());
    drop(appender);
    let error = archive.finish().await.unwrap_err();
    assert!(matches!(error, ArchiveError::Panicked(text) if text == "the observer broke"));
}

#[tokio::test]
async fn the_number_of_streams_is_limited_and_known_ones_are_never_dropped() {
    let storage = MemStorage::default();
    let mut running = start(&storage);
    for source in 0..20 {
        running.commit(vec![routine(&origin(source, 1), 0)]).await;
    }
    running.finish().await;
    assert_eq!(frames(&storage).len(), 20, "every frame is stored");
    // The log has more streams than `max_streams`. All of them are kept.
    let running = start_on(Config { max_streams: 1, ..config() }, storage.clone());
    assert_eq!(running.recovery.positions.len(), 20);
    running.finish().await;
}

#[test]
fn a_configuration_that_cannot_work_says_what_is_needed() {
    let tight = Config { reserve_bytes: 64 << 10, ..config() };
    let text = tight.validate().unwrap_err().to_string();
    assert!(text.starts_with("archive reserve is 65536 bytes, at least "), "{text}");
    let inverted = Config { segment_bytes: 100 << 10, ..config() };
    assert!(inverted.validate().is_err());
    let large = Config { payload_bytes_max: 16 << 20, ..config() };
    assert!(large.validate().unwrap_err().to_string().contains("payload_bytes_max is 16777216"));
    assert_eq!(Config::new(dir().to_owned(), 4_096, 128 << 10).validate(), Ok(()));
}
