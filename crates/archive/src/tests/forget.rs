//! Tests of forgetting streams: the edit is durable when it is reported, and readers, recovery and repair keep it.

use std::sync::Arc;

use super::new_storage;
use super::recover::blocks;
use super::support::*;
use crate::storage::dir::Dir;
use crate::storage::mem::{MemStorage, Op};
use crate::{PositionEditError, StreamPosition};
use frame::{Lanes, StreamKey};

fn stream(source: u32) -> StreamKey {
    origin(source, 1).stream.clone()
}

/// The positions of the streams of `sources`, as [`three`] creates them.
fn known(sources: &[u32]) -> Vec<(StreamKey, StreamPosition)> {
    let position = StreamPosition { epoch: 42, next: Lanes::new(0, 3) };
    sources.iter().map(|source| (stream(*source), position)).collect()
}

/// Creates three streams with three frames each.
async fn three(storage: &MemStorage) -> Running {
    let mut running = start_untended(storage);
    for source in 1..=3 {
        running.commit((0..3).map(|sequence| routine(&origin(source, 42), sequence)).collect()).await;
    }
    running
}

/// Ends by a power failure that keeps only what is on stable storage, then starts again.
async fn crash(running: Running, storage: &MemStorage) -> Running {
    storage.cut_power_after(0);
    drop(running.appender);
    _ = running.archive.finish().await;
    storage.crash(None);
    start_untended(storage)
}

#[tokio::test]
async fn many_streams_are_forgotten_with_one_segment_and_stay_forgotten() {
    let storage = new_storage();
    let running = three(&storage).await;
    assert_eq!(forget(&running, &[stream(1), stream(3), stream(9)]).await, Some(Ok(())));
    assert_eq!(blocks(&storage).len(), 2, "one new segment");
    let running = crash(running, &storage).await;
    assert_eq!(running.recovery.positions, known(&[2]));
    assert_eq!(running.recovery.next_offset, 9, "no frame is lost by it");
    running.finish().await;
    assert_eq!(frames(&storage).len(), 9);
}

#[tokio::test]
async fn a_lowered_epoch_survives_rotations_and_restarts() {
    let storage = new_storage();
    let mut running = three(&storage).await;
    assert_eq!(forget(&running, &[stream(1)]).await, Some(Ok(())));
    for sequence in 3..6 {
        running.commit(vec![routine(&origin(2, 42), sequence)]).await;
        // Each forget begins a new segment.
        assert_eq!(forget(&running, &[stream(3)]).await, Some(Ok(())));
        running.commit(vec![routine(&origin(3, 42), sequence)]).await;
        running = crash(running, &storage).await;
        let next = |next| StreamPosition { epoch: 42, next: Lanes::new(0, next) };
        let expected = vec![(stream(2), next(sequence + 1)), (stream(3), next(sequence + 1))];
        assert_eq!(running.recovery.positions, expected);
        assert_eq!(running.recovery.segments_scanned, 1);
    }
    running.finish().await;
}

#[tokio::test]
async fn a_forgotten_stream_returns_with_only_its_new_frames() {
    let storage = new_storage();
    let mut running = three(&storage).await;
    assert_eq!(forget(&running, &[stream(1)]).await, Some(Ok(())));
    running.commit(vec![emergency(&origin(1, 7), 4)]).await;
    let running = crash(running, &storage).await;
    let older = (stream(1), StreamPosition { epoch: 7, next: Lanes::new(5, 0) });
    assert_eq!(running.recovery.positions, [vec![older], known(&[2, 3])].concat());
    running.finish().await;
}

#[tokio::test]
async fn forgetting_an_unknown_stream_begins_no_segment() {
    let storage = new_storage();
    let running = three(&storage).await;
    assert_eq!(forget(&running, &[stream(8), stream(9)]).await, Some(Ok(())));
    assert_eq!(forget(&running, &[]).await, Some(Ok(())));
    assert_eq!(blocks(&storage).len(), 1);
    running.finish().await;
}

#[tokio::test]
async fn without_space_nothing_is_forgotten() {
    let storage = new_storage();
    let mut running = three(&storage).await;
    let path = Dir::new(Arc::new(storage.clone()), dir().to_owned()).reserve();
    storage.set_hook(move |op, at| {
        let refused = (op == Op::Write || op == Op::Allocate || op == Op::Create) && *at == path;
        refused.then(|| std::io::ErrorKind::StorageFull.into())
    });
    assert_eq!(forget(&running, &[stream(1), stream(2)]).await, Some(Err(PositionEditError::NoSpace)));
    storage.clear_hook();
    running.commit(vec![routine(&origin(4, 42), 2)]).await;
    let running = crash(running, &storage).await;
    assert_eq!(running.recovery.positions, known(&[1, 2, 3, 4]));
    running.finish().await;
}

#[tokio::test]
async fn a_power_failure_forgets_all_streams_or_none() {
    let mut outcomes = [false; 2];
    for (after, seed) in (0..14).flat_map(|after| [None, Some(after)].map(|seed| (after, seed))) {
        let storage = new_storage();
        let running = three(&storage).await;
        storage.cut_power_after(after);
        let reported = forget(&running, &[stream(1), stream(2)]).await;
        drop(running.appender);
        _ = running.archive.finish().await;
        storage.crash(seed);
        let running = start_untended(&storage);
        let is_forgotten = running.recovery.positions == known(&[3]);
        assert!(is_forgotten || running.recovery.positions == known(&[1, 2, 3]));
        assert!(is_forgotten || reported != Some(Ok(())), "reported and lost: {after} {seed:?}");
        outcomes[usize::from(is_forgotten)] = true;
        running.finish().await;
        assert_eq!(frames(&storage).len(), 9);
    }
    assert_eq!(outcomes, [true; 2], "both ends are seen");
}
