//! Tests of storage faults, and of files and directories that are removed while the archive runs.

use std::io;
use std::path::Path;

use super::*;
use crate::storage::mem::Op;
use crate::tests::support::{frames, routine, sequences, start, start_on};
use crate::{AppendError, ArchiveError, Config, DiskStorage, Status, Storage};
use frame::batch_of;

/// Waits until the archive fails, and returns the error text.
async fn failure(running: &Running) -> String {
    let mut status = running.archive.status();
    let failed = status.wait_for(|status| matches!(status, Status::Failed { .. }));
    // Maintenance checks every second. The timeout ends the test if no failure comes.
    let failed =
        tokio::time::timeout(Duration::from_secs(30), failed).await.expect("the archive fails").unwrap();
    let Status::Failed { error } = failed.clone() else { unreachable!() };
    error.to_string()
}

async fn ends_failed(running: Running) {
    let refused = running.appender.append(batch_of([routine(&origin(1, 1), 9_999_999)])).await;
    assert!(matches!(refused, Err(AppendError::Failed(_))));
    let ended = running.archive.finish().await;
    assert!(matches!(ended, Err(ArchiveError::Storage(_))), "{ended:?}");
}

#[tokio::test]
async fn errors_of_retention_leave_the_archive_alone_and_pass() {
    for failing in [Op::Unlink, Op::Open] {
        let retention = Retention { age: None, bytes: Some(3 * SEGMENT_BYTES) };
        let mut kept = Kept::new(retention, steps_none());
        kept.fill(6, 0).await;
        kept.storage.set_hook(move |op, _| (op == failing).then(|| io::Error::other("input/output error")));
        kept.tick();
        assert_eq!(kept.bases().len(), 6);
        assert_eq!(kept.running.archive.stats().upkeep_errors.load(Relaxed), 1);
        kept.storage.clear_hook();
        kept.tick();
        assert_eq!(kept.bases().len(), 6, "there is a pause first");
        kept.clock.pass(Duration::from_secs(5));
        kept.tick();
        assert!(kept.bases().len() < 6);
        assert_eq!(*kept.running.archive.status().borrow(), Status::Ok);
        kept.commit(0).await;
        kept.running.finish().await;
    }
}

#[tokio::test]
async fn a_directory_that_maintenance_cannot_sync_stops_the_archive() {
    let retention = Retention { age: None, bytes: Some(3 * SEGMENT_BYTES) };
    let mut kept = Kept::new(retention, steps_none());
    kept.fill(6, 0).await;
    kept.storage.set_hook(|op, _| (op == Op::SyncDir).then(|| io::Error::other("input/output error")));
    kept.tick();
    let error = failure(&kept.running).await;
    assert!(error.contains("cannot sync /archive: input/output error"), "{error}");
    kept.storage.clear_hook();
    let first = kept.first_offset();
    assert_eq!(first, 0, "nothing was announced");
    ends_failed(kept.running).await;
    let running = start(&kept.storage);
    assert_eq!(running.recovery.next_offset, kept.written);
    running.finish().await;
}

#[tokio::test]
async fn a_replaced_directory_stops_the_archive() {
    let mut kept = Kept::new(Retention::default(), steps_none());
    kept.commit(0).await;
    kept.storage.replace_dir();
    kept.maintenance.tick(false);
    let error = failure(&kept.running).await;
    assert!(error.contains("/archive") && error.contains("moved, replaced or removed"), "{error}");
    assert!(error.contains("start again"), "{error}");
    ends_failed(kept.running).await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_checked_now_does_not_stop_the_archive() {
    let mut kept = Kept::new(Retention::default(), steps_none());
    kept.storage.set_hook(|op, _| (op == Op::Identity).then(|| io::Error::other("input/output error")));
    kept.tick();
    kept.storage.clear_hook();
    kept.commit(0).await;
    kept.running.finish().await;
}

#[tokio::test]
async fn nothing_in_a_file_without_a_name_is_acknowledged() {
    let storage = MemStorage::default();
    let mut running = start_with(config(), storage.clone(), None);
    running.commit(vec![routine(&origin(1, 1), 0)]).await;
    storage.unlink(Path::new("/archive/00000000000000000000.seg")).unwrap();
    running.append(vec![routine(&origin(1, 1), 1)]).await;
    let error = failure(&running).await;
    assert!(error.contains("/archive/00000000000000000000.seg: this file is no longer there"), "{error}");
    assert!(running.commits.recv().await.is_none());
    assert_eq!(*running.archive.watermark().borrow(), 1);
    ends_failed(running).await;
}

#[tokio::test]
async fn a_segment_file_that_was_moved_is_noticed() {
    let mut kept = Kept::new(Retention::default(), steps_none());
    kept.commit(0).await;
    kept.storage
        .rename(Path::new("/archive/00000000000000000000.seg"), Path::new("/archive/mine.bak"))
        .unwrap();
    kept.tick();
    let error = failure(&kept.running).await;
    assert!(
        error.contains("00000000000000000000.seg: the segment being written is no longer there"),
        "{error}"
    );
    ends_failed(kept.running).await;
}

#[tokio::test]
async fn a_sealed_segment_that_vanishes_does_not_stop_the_archive() {
    let mut kept = Kept::new(Retention { age: None, bytes: Some(4 * SEGMENT_BYTES) }, steps_none());
    kept.fill(4, 0).await;
    kept.tick();
    let bases = kept.bases();
    kept.storage.unlink(&kept.segments()[0]).unwrap();
    kept.tick();
    assert_eq!(kept.first_offset(), bases[1]);
    kept.commit(0).await;
    kept.running.finish().await;
}

/// Breaks an archive on the real disk, with the maintenance thread running. Returns the error text.
async fn real(break_it: impl FnOnce(&Path)) -> (tempfile::TempDir, String) {
    let temp = tempfile::tempdir().unwrap();
    let config = Config { dir: temp.path().join("archive"), ..config() };
    let mut running = start_on(config.clone(), DiskStorage);
    running.commit(vec![routine(&origin(1, 1), 0)]).await;
    break_it(&config.dir);
    // Nothing is appended: the thread must notice the fault itself.
    let error = failure(&running).await;
    ends_failed(running).await;
    (temp, error)
}

#[tokio::test]
async fn a_real_directory_that_is_moved_or_removed_is_noticed_on_an_idle_archive() {
    let (temp, error) = real(|dir| std::fs::rename(dir, dir.with_extension("moved")).unwrap()).await;
    assert!(error.contains("archive: the directory that was locked is no longer there"), "{error}");
    // After the directory is moved back, the archive works.
    let dir = temp.path().join("archive");
    std::fs::rename(dir.with_extension("moved"), &dir).unwrap();
    let running = start_on(Config { dir, ..config() }, DiskStorage);
    assert_eq!(running.recovery.next_offset, 1);
    running.finish().await;

    let (_temp, error) = real(|dir| {
        std::fs::rename(dir, dir.with_extension("moved")).unwrap();
        std::fs::create_dir(dir).unwrap();
    })
    .await;
    assert!(error.contains("no longer there"), "{error}");
    let (_temp, error) = real(|dir| std::fs::remove_dir_all(dir).unwrap()).await;
    assert!(error.contains("no longer there"), "{error}");
}

#[tokio::test]
async fn nothing_in_a_real_file_without_a_name_is_acknowledged() {
    let temp = tempfile::tempdir().unwrap();
    let config = Config { dir: temp.path().join("archive"), ..config() };
    let mut running = start_on(config.clone(), DiskStorage);
    running.commit(vec![routine(&origin(1, 1), 0)]).await;
    std::fs::remove_file(config.dir.join("00000000000000000000.seg")).unwrap();
    running.append(vec![routine(&origin(1, 1), 1)]).await;
    assert!(running.commits.recv().await.is_none());
    failure(&running).await;
    ends_failed(running).await;
}

#[tokio::test]
async fn frames_received_at_any_time_of_day_are_read_in_the_order_of_the_log() {
    let mut kept = Kept::new(Retention::default(), steps_none());
    for received_s in [5_000, -7, 1 << 32, 0, i64::MIN / 1_000_000_000, 9] {
        kept.commit(received_s).await;
    }
    assert_eq!(sequences(&frames(&kept.storage)), (0..kept.written).collect::<Vec<_>>());
    kept.running.finish().await;
    start(&kept.storage).finish().await;
}
