//! Tests of the way in which blocks are written, direct or through the page cache, and of the choice between them.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use super::support::*;
use crate::storage::mem::{MemStorage, Op};
use crate::{AppendError, Config, DirectIo, Status};
use frame::{FramePriority, batch_of};

/// Writes several segments. Returns whether all writes were direct. Panics if only some were.
async fn write(storage: &MemStorage, direct_io: DirectIo) -> bool {
    let mut running = start_on(Config { direct_io, ..config() }, storage.clone());
    let next = running.recovery.next_offset;
    for commit in 0..40 {
        let batch = (0..40).map(|at| next + commit * 40 + at);
        let batch = batch.map(|sequence| frame(&origin(1, 1), FramePriority::Routine, sequence, 200));
        running.commit(batch.collect()).await;
    }
    running.finish().await;
    assert_eq!(frames(storage).len() as u64, next + 1_600);
    let segments =
        storage.paths().into_iter().filter(|path| path.extension().is_some_and(|end| end == "seg"));
    let ways: Vec<bool> = segments.map(|path| storage.is_direct(&path)).collect();
    assert!(ways.len() > 2 && ways.iter().all(|way| *way == ways[0]), "{ways:?}");
    ways[0]
}

#[tokio::test]
async fn direct_writes_are_used_where_possible_unless_they_are_off() {
    assert!(write(&MemStorage::direct(4_096), DirectIo::Auto).await);
    assert!(write(&MemStorage::direct(16_384), DirectIo::Auto).await);
    assert!(!write(&MemStorage::direct(4_096), DirectIo::Off).await);
    assert!(!write(&MemStorage::default(), DirectIo::Auto).await);
}

#[tokio::test]
async fn a_file_system_that_refuses_the_first_direct_write_is_written_through_its_cache() {
    for refused in [rustix::io::Errno::INVAL, rustix::io::Errno::OPNOTSUPP] {
        let storage = MemStorage::direct(4_096);
        let writes = AtomicU64::new(0);
        storage.set_hook(move |op, _| {
            (op == Op::Write && writes.fetch_add(1, SeqCst) == 0).then(|| refused.into())
        });
        assert!(!write(&storage, DirectIo::Auto).await, "{refused}");
    }
}

#[tokio::test]
async fn a_direct_write_that_is_refused_later_is_final() {
    for refused in [rustix::io::Errno::INVAL, rustix::io::Errno::OPNOTSUPP, rustix::io::Errno::IO] {
        let storage = MemStorage::direct(4_096);
        let mut running = start(&storage);
        running.commit(vec![routine(&origin(1, 1), 0)]).await;
        storage.set_hook(move |op, _| (op == Op::Write).then(|| refused.into()));
        running.append(vec![routine(&origin(1, 1), 1)]).await;
        assert!(running.commits.recv().await.is_none(), "{refused}");
        let mut status = running.archive.status();
        let failed = status.wait_for(|status| matches!(status, Status::Failed { .. })).await.unwrap().clone();
        assert!(matches!(failed, Status::Failed { error } if error.contains("cannot write")), "{refused}");
        let after = running.appender.append(batch_of([routine(&origin(1, 1), 2)])).await;
        assert!(matches!(after, Err(AppendError::Failed(_))), "{refused}");
    }
}

/// A start may write in another way than the start before. It then continues behind the earlier blocks.
#[tokio::test]
async fn direct_and_cached_writes_can_alternate_between_starts() {
    let storage = MemStorage::direct(4_096);
    for direct_io in [DirectIo::Auto, DirectIo::Off, DirectIo::Auto] {
        let mut running = start_on(Config { direct_io, ..config() }, storage.clone());
        let next = running.recovery.next_offset;
        for commit in 0..5 {
            running.commit(vec![routine(&origin(1, 1), next + commit)]).await;
        }
        let copy = storage.clone_disk();
        running.finish().await;
        copy.crash(None);
        let recovered = start_on(Config { direct_io, ..config() }, copy);
        assert_eq!(recovered.recovery.next_offset, next + 5);
        recovered.finish().await;
        storage.forget_ways();
    }
    assert_eq!(sequences(&frames(&storage)), (0..15).collect::<Vec<_>>());
}
