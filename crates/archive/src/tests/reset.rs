//! Tests of lowering an epoch: the edit is durable when it is reported, and readers, recovery and repair keep it.

use std::sync::Arc;

use super::holes::hole_records;
use super::new_storage;
use super::recover::blocks;
use super::support::*;
use crate::storage::dir::Dir;
use crate::storage::mem::{MemStorage, Op};
use crate::{Filter, Item, PositionEditError, Reader, StreamPosition};
use frame::{Lanes, StreamKey};

const MISTAKEN: u64 = 1 << 40;

fn stream() -> StreamKey {
    origin(1, 1).stream.clone()
}

fn at(epoch: u64, next: Lanes<u64>) -> Vec<(StreamKey, StreamPosition)> {
    vec![(stream(), StreamPosition { epoch, next })]
}

/// Creates an archive with frames of the right epoch, then one frame of a mistaken epoch.
async fn mistaken(storage: &MemStorage) -> Running {
    let mut running = start_untended(storage);
    running.commit((0..3).map(|sequence| routine(&origin(1, 42), sequence)).collect()).await;
    running.commit(vec![emergency(&origin(1, MISTAKEN), 0)]).await;
    running
}

#[tokio::test]
async fn reported_positions_survive_a_power_failure() {
    let storage = new_storage();
    let running = mistaken(&storage).await;
    assert_eq!(reset(&running, &stream(), 42).await, Some(Ok(())));
    storage.cut_power_after(0);
    drop(running.appender);
    _ = running.archive.finish().await;
    storage.crash(None);
    let running = start_untended(&storage);
    assert_eq!(running.recovery.positions, at(42, Lanes::new(0, 0)));
    assert_eq!(running.recovery.next_offset, 4, "no frame is lost by it");
    running.finish().await;
    assert_eq!(sequences(&frames(&storage)), [0, 1, 2, 0]);
}

#[tokio::test]
async fn frames_of_the_lowered_epoch_count_again() {
    let storage = new_storage();
    let mut running = mistaken(&storage).await;
    assert_eq!(reset(&running, &stream(), 41).await, Some(Ok(())));
    running.commit(vec![routine(&origin(1, 41), 7)]).await;
    running.commit(vec![routine(&origin(1, 40), 99)]).await;
    storage.cut_power_after(0);
    drop(running.appender);
    _ = running.archive.finish().await;
    storage.crash(None);
    for _ in 0..2 {
        // The second start continues from the result of the first one.
        let running = start_untended(&storage);
        assert_eq!(running.recovery.positions, at(41, Lanes::new(0, 8)));
        running.finish().await;
    }
}

#[tokio::test]
async fn a_segment_without_frames_is_replaced_and_readers_follow() {
    let storage = new_storage();
    let mut running = mistaken(&storage).await;
    let mut reader = Reader::open_on(Arc::new(storage.clone()), dir(), Filter::default()).unwrap();
    let read =
        |reader: &mut Reader| reader.map(|item| matches!(item, Ok(Item::Frame(_)))).collect::<Vec<_>>();
    assert_eq!(read(&mut reader), [true; 4]);
    for epoch in [40, 30, 20] {
        assert_eq!(reset(&running, &stream(), epoch).await, Some(Ok(())));
        assert!(read(&mut reader).is_empty());
    }
    let bases: Vec<_> = blocks(&storage).iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(bases.len(), 2, "{bases:?}");
    running.commit(vec![routine(&origin(1, 20), 5)]).await;
    assert_eq!(read(&mut reader), [true]);
    running.finish().await;
    let running = start_untended(&storage);
    assert_eq!(running.recovery.positions, at(20, Lanes::new(0, 6)));
    assert_eq!(running.recovery.segments_scanned, 1);
    running.finish().await;
}

#[tokio::test]
async fn a_replaced_segment_keeps_its_hole_records() {
    let storage = new_storage();
    let mut running = mistaken(&storage).await;
    assert_eq!(reset(&running, &stream(), 42).await, Some(Ok(())));
    running.commit(vec![routine(&origin(1, 42), 0)]).await;
    running.finish().await;
    let (path, _) = blocks(&storage).pop().unwrap();
    storage.put(&path, vec![0xA5; storage.content(&path).len()]);
    let running = start_untended(&storage);
    let known = hole_records(&storage);
    assert_eq!(known.len(), 1);
    assert_eq!(
        running.recovery.positions,
        at(MISTAKEN, Lanes::new(1, 0)),
        "the reset lay in what cannot be read"
    );
    assert_eq!(reset(&running, &stream(), 42).await, Some(Ok(())));
    assert_eq!(hole_records(&storage), known);
    running.finish().await;
    let running = start_untended(&storage);
    assert_eq!(running.recovery.positions, at(42, Lanes::new(0, 0)));
    running.finish().await;
}

#[tokio::test]
async fn a_stream_in_a_lower_epoch_begins_no_segment() {
    let storage = new_storage();
    let running = mistaken(&storage).await;
    assert_eq!(reset(&running, &stream(), MISTAKEN + 1).await, Some(Ok(())));
    assert_eq!(reset(&running, &origin(2, 1).stream, 5).await, Some(Ok(())));
    assert_eq!(blocks(&storage).len(), 1);
    let edits = running.archive.position_edits();
    running.finish().await;
    let requested = edits.lower_epoch(stream(), 1, |_| unreachable!("the commit thread has ended"));
    assert!(matches!(requested, Err(PositionEditError::Failed(_))), "{requested:?}");
}

#[tokio::test]
async fn without_space_nothing_changes() {
    let storage = new_storage();
    let mut running = mistaken(&storage).await;
    let path = Dir::new(Arc::new(storage.clone()), dir().to_owned()).reserve();
    storage.set_hook(move |op, at| {
        let refused = (op == Op::Write || op == Op::Allocate || op == Op::Create) && *at == path;
        refused.then(|| std::io::ErrorKind::StorageFull.into())
    });
    assert_eq!(reset(&running, &stream(), 42).await, Some(Err(PositionEditError::NoSpace)));
    running.commit(vec![emergency(&origin(1, 42), 8)]).await;
    storage.clear_hook();
    running.finish().await;
    let running = start_untended(&storage);
    assert_eq!(running.recovery.positions, at(MISTAKEN, Lanes::new(1, 0)));
    running.finish().await;
}

#[tokio::test]
async fn power_may_fail_at_any_operation_of_a_lowered_epoch() {
    let mut outcomes = [false; 2];
    for (after, seed) in
        (0..14).flat_map(|after| [None, Some(after), Some(after + 99)].map(|seed| (after, seed)))
    {
        for is_again in [false, true] {
            let storage = new_storage();
            let running = mistaken(&storage).await;
            if is_again {
                assert_eq!(reset(&running, &stream(), 50).await, Some(Ok(())));
            }
            let before = if is_again { at(50, Lanes::new(0, 0)) } else { at(MISTAKEN, Lanes::new(1, 0)) };
            storage.cut_power_after(after);
            let reported = reset(&running, &stream(), 42).await;
            drop(running.appender);
            _ = running.archive.finish().await;
            storage.crash(seed);
            let running = start_untended(&storage);
            let positions = &running.recovery.positions;
            let is_reset = *positions == at(42, Lanes::new(0, 0));
            assert!(is_reset || *positions == before, "{positions:?}");
            assert!(is_reset || reported != Some(Ok(())), "reported and lost: {after} {seed:?}");
            outcomes[usize::from(is_reset)] = true;
            running.finish().await;
            assert_eq!(sequences(&frames(&storage)), [0, 1, 2, 0]);
        }
    }
    assert_eq!(outcomes, [true; 2], "both ends are seen");
}
