//! Tests with disk errors at each operation and at each moment. After the restart every announced frame is there.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

use super::new_storage;
use super::support::*;
use crate::storage::mem::{MemStorage, Op};
use crate::{AppendError, Status};
use frame::{FramePriority, batch_of};

const COMMIT_FRAMES: u64 = 40;

fn input_output_error() -> io::Error {
    io::Error::other("input/output error")
}

/// The result of a run with a fault.
struct FaultRun {
    storage: MemStorage,
    /// Frames announced as durable.
    announced: u64,
    /// The error of the archive's status. `None` if the run never reached the fault.
    error: Option<String>,
    /// Operations on the disk after the fault.
    after: Vec<Op>,
}

/// Writes several segments. Only the `nth` operation `op` fails, with `error`.
async fn run(op: Op, nth: u64, error: fn() -> io::Error) -> FaultRun {
    let storage = new_storage();
    let mut running = start_with(config(), storage.clone(), None);
    let (count, after) = (AtomicU64::new(0), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&after);
    storage.set_hook(move |done, _| {
        if count.load(SeqCst) > nth && !matches!(done, Op::Read | Op::Open) {
            noted.lock().unwrap().push(done);
        }
        (done == op && count.fetch_add(1, SeqCst) == nth).then(error)
    });
    let (origin, mut announced) = (origin(1, 1), 0);
    for first in (0..60).map(|commit| commit * COMMIT_FRAMES) {
        let frames = (first..first + COMMIT_FRAMES)
            .map(|sequence| frame(&origin, FramePriority::Routine, sequence, 200));
        match running.appender.append(batch_of(frames)).await {
            Err(AppendError::Failed(_)) => break,
            result => result.unwrap(),
        }
        match running.commits.recv().await {
            Some(seen) => announced = seen.next_offset,
            None => break,
        }
    }
    drop(running.appender);
    let status = running.archive.status();
    let ended = running.archive.finish().await;
    let error = match &*status.borrow() {
        Status::Failed { error } => Some(error.to_string()),
        _ => None,
    };
    assert_eq!(ended.is_err(), error.is_some());
    storage.clear_hook();
    let after = after.lock().unwrap().clone();
    FaultRun { storage, announced, error, after }
}

/// Starts on the remaining data, once on the disk as it is and once after a power cut. Checks the announced frames.
async fn recovers(storage: &MemStorage, announced: u64) {
    let killed = storage.clone_disk();
    let crashed = storage.clone_disk();
    crashed.crash(None);
    for disk in [killed, crashed] {
        let running = start(&disk);
        let next = running.recovery.next_offset;
        assert!(next >= announced, "{next} of {announced}");
        assert!(running.recovery.holes.is_empty());
        assert_eq!(sequences(&frames(&disk)), (0..next).collect::<Vec<_>>());
        assert_eq!(running.recovery.positions.first().map_or(0, |(_, at)| at.next.routine), next);
        running.finish().await;
        // The frames that the start announced are durable, even if the kernel has dropped its cached pages.
        disk.crash(None);
        assert_eq!(frames(&disk).len() as u64, next);
    }
}

#[tokio::test]
async fn a_disk_error_at_any_operation_is_final() {
    let ops = [
        (Op::Write, "write"),
        (Op::Sync, "sync"),
        (Op::SyncDir, "sync"),
        (Op::Rename, "rename"),
        (Op::Allocate, "allocate"),
        (Op::Create, "open"),
        (Op::SetLen, "trim"),
    ];
    for (op, verb) in ops {
        let mut struck = 0;
        for nth in 0..30 {
            let run = run(op, nth, input_output_error).await;
            if let Some(error) = &run.error {
                struck += 1;
                assert!(error.contains(verb) && error.contains("/archive"), "{op:?} {nth}: {error}");
                assert!(error.ends_with("input/output error"), "{error}");
                assert!(run.after.is_empty(), "{op:?} {nth}: the disk was touched again: {:?}", run.after);
            }
            recovers(&run.storage, run.announced).await;
        }
        assert!(struck > 1, "{op:?} never failed");
    }
}

#[tokio::test]
async fn the_archive_recovers_from_a_full_disk_at_any_operation() {
    for op in [Op::Write, Op::Allocate, Op::Rename, Op::Create] {
        for nth in 0..12 {
            let run = run(op, nth, || io::ErrorKind::StorageFull.into()).await;
            assert_eq!(run.error, None, "{op:?} {nth}");
            assert_eq!(run.announced, 60 * COMMIT_FRAMES, "{op:?} {nth}");
            recovers(&run.storage, run.announced).await;
        }
    }
}

#[tokio::test]
async fn short_writes_and_interrupted_ones_are_completed() {
    let storage = new_storage();
    storage.set_short_writes(true);
    let interrupts = AtomicU64::new(0);
    storage.set_hook(move |op, _| {
        let interrupted = op == Op::Write && interrupts.fetch_add(1, SeqCst).is_multiple_of(3);
        interrupted.then(|| io::ErrorKind::Interrupted.into())
    });
    let mut running = start_with(config(), storage.clone(), None);
    let origin = origin(1, 1);
    for first in (0..40).map(|commit| commit * COMMIT_FRAMES) {
        let frames =
            (first..first + COMMIT_FRAMES).map(|index| frame(&origin, FramePriority::Routine, index, 200));
        running.commit(frames.collect()).await;
    }
    running.finish().await;
    assert!(storage.paths().len() > 2);
    recovers(&storage, 40 * COMMIT_FRAMES).await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_looked_up_is_not_opened() {
    let storage = new_storage();
    storage
        .set_hook(|op, path| (op == Op::Identity && path == Path::new("/archive")).then(input_output_error));
    let opened = crate::open(config(), storage.clone(), |_: &crate::Commit<'_>| {});
    let Err(error) = opened else { panic!("opened") };
    assert!(error.to_string().contains("cannot find /archive: input/output error"), "{error}");
    storage.clear_hook();
    start(&storage).finish().await;
}

fn too_many_files() -> io::Error {
    rustix::io::Errno::MFILE.into()
}

#[tokio::test]
async fn too_many_open_files_close_the_gate_until_files_can_be_opened() {
    for op in [Op::Open, Op::Create] {
        for nth in 0..12 {
            let run = run(op, nth, too_many_files).await;
            assert_eq!(run.error, None, "{op:?} {nth}");
            assert_eq!(run.announced, 60 * COMMIT_FRAMES, "{op:?} {nth}");
            recovers(&run.storage, run.announced).await;
        }
    }
}

#[tokio::test]
async fn without_free_file_descriptors_emergencies_continue_and_the_status_names_a_remedy() {
    for errno in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE] {
        let storage = new_storage();
        let mut running = start_with(config(), storage.clone(), None);
        let mut status = running.archive.status();
        storage.set_hook(move |op, _| matches!(op, Op::Open | Op::Create).then(|| errno.into()));
        let (origin, sent) = (origin(1, 1), 60 * COMMIT_FRAMES);
        // Writes beyond the end of the segment into the reserve, and beyond the size of the reserve: no further reserve
        // can be made.
        for first in (0..60).map(|commit| commit * COMMIT_FRAMES) {
            let frames = (first..first + COMMIT_FRAMES)
                .map(|sequence| frame(&origin, FramePriority::Emergency, sequence, 200));
            running.commit(frames.collect()).await;
        }
        assert_eq!(storage.paths().len(), 2, "{:?}", storage.paths());
        let degraded =
            status.wait_for(|status| matches!(status, Status::Degraded { .. })).await.unwrap().clone();
        let Status::Degraded { reason } = degraded else { unreachable!() };
        for part in ["no file can be opened", "too many", "emergencies go on", "LimitNOFILE", "by itself"] {
            assert!(reason.to_lowercase().contains(&part.to_lowercase()), "{part} in {reason}");
        }
        assert_eq!(running.archive.stats().file_shortages.load(SeqCst), 1);

        storage.clear_hook();
        status.wait_for(|status| *status == Status::Ok).await.unwrap();
        running.commit(vec![routine(&origin, 0)]).await;
        running.finish().await;
        assert_eq!(frames(&storage).len() as u64, sent + 1);
    }
}
