//! Tests with segments of another archive, and with segments that are listed but cannot be opened.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::support::*;
use crate::maintain::SystemClock;
use crate::storage::mem::{MemStorage, Op};
use crate::{Commit, Filter, Item, OpenError, ReadError, Reader, Retention, Storage as _, open};
use frame::FramePriority;

const COMMIT_FRAMES: u64 = 40;

/// Creates an archive of at least `segment_count` segments. The segments of two such archives have the same names.
async fn archive(segment_count: usize) -> MemStorage {
    let storage = MemStorage::default();
    let mut running = start_untended(&storage);
    let mut sent = 0;
    while segments(&storage).len() < segment_count {
        let frames = (sent..sent + COMMIT_FRAMES)
            .map(|index| frame(&origin(1, 1), FramePriority::Routine, index, 200));
        running.commit(frames.collect()).await;
        sent += COMMIT_FRAMES;
    }
    running.finish().await;
    storage
}

fn segments(storage: &MemStorage) -> Vec<PathBuf> {
    let paths = storage.paths().into_iter();
    paths
        .filter(|path| path.parent() == Some(dir()) && path.extension().is_some_and(|it| it == "seg"))
        .collect()
}

fn refused(storage: &MemStorage) -> OpenError {
    let opened = open(config(), storage.clone(), |_: &Commit<'_>| {});
    opened.map(|_| ()).expect_err("the archive was opened")
}

/// Returns the error of a reader that reads everything.
fn read_error(storage: &MemStorage) -> ReadError {
    let reader = Reader::open_on(Arc::new(storage.clone()), dir(), Filter::default());
    let found = reader.and_then(|mut reader| reader.find_map(Result::err).map_or(Ok(()), Err));
    found.expect_err("everything could be read")
}

#[tokio::test]
async fn a_start_whose_newest_segment_is_of_another_archive_is_refused() {
    let (storage, other) = (archive(3).await, archive(5).await);
    let before = frames(&storage);
    // Copy the newest segment, then the two newest segments, which belong to the same log.
    for copied in [&segments(&other)[4..], &segments(&other)[3..]] {
        copied.iter().for_each(|path| storage.put(path, other.content(path)));
        let error = refused(&storage).to_string();
        let newest = segments(&other)[4].display().to_string();
        assert!(error.contains(&newest) && error.contains("different archives"), "{error}");
        assert!(error.contains("to another directory and start again"), "{error}");
        assert!(matches!(read_error(&storage), ReadError::Mixed { .. }));
        copied.iter().for_each(|path| storage.unlink(path).unwrap());
    }
    // A copy that was cut short in its last file.
    let copied = &segments(&other)[3..];
    storage.put(&copied[0], other.content(&copied[0]));
    storage.put(&copied[1], Vec::new());
    let error = refused(&storage).to_string();
    assert!(error.contains(&copied[0].display().to_string()), "{error}");
    assert!(storage.paths().contains(&copied[1]), "nothing was moved");
    copied.iter().for_each(|path| storage.unlink(path).unwrap());
    let running = start(&storage);
    assert_eq!(running.recovery.next_offset, before.len() as u64);
    running.finish().await;
}

#[tokio::test]
async fn a_damaged_header_is_damage_and_not_of_another_archive() {
    let storage = archive(4).await;
    for path in [&segments(&storage)[3], &segments(&storage)[2], &segments(&storage)[0]] {
        overwrite(&storage, path, &[0xFF; 64]);
        let running = start(&storage);
        assert_eq!(running.archive.stats().foreign_segments.load(Relaxed), 0);
        running.finish().await;
    }
    assert!(!storage.paths().iter().any(|path| path.extension().is_some_and(|it| it == "foreign")));
}

#[tokio::test]
async fn maintenance_moves_segments_of_another_archive_to_lost_and_counts_them() {
    let (storage, other) = (archive(5).await, archive(9).await);
    let middle = segments(&storage)[2].clone();
    storage.put(&middle, other.content(&segments(&other)[2]));
    let running = start_untended(&storage);
    let clock = Arc::new(SystemClock);
    let mut maintenance = maintenance_of(&running, &storage, Retention::default(), clock, Vec::new());
    // One segment appears while the archive runs, and one has an offset that no frame can have.
    let late = segments(&other)[8].clone();
    storage.put(&late, other.content(&late));
    let absurd = dir().join("18446744073709551615.seg");
    storage.put(&absurd, Vec::new());
    let error = read_error(&storage);
    assert!(matches!(&error, ReadError::Mixed { path, .. } if *path == middle), "{error}");

    maintenance.tick(true);
    let foreign = |storage: &MemStorage| {
        let paths = storage.paths().into_iter();
        paths.filter(|path| path.extension().is_some_and(|it| it == "foreign")).collect::<Vec<_>>()
    };
    assert_eq!(foreign(&storage).len(), 3, "{:?}", storage.paths());
    for path in [&middle, &late, &absurd] {
        assert!(!storage.paths().contains(path), "{}", path.display());
    }
    let stats = running.archive.stats();
    assert_eq!(stats.foreign_segments.load(Relaxed), 3);
    let damaged = items(&storage, Filter::default()).into_iter().filter_map(|item| match item {
        Item::Damage(damage) => Some(damage.offsets),
        Item::Frame(_) => None,
        Item::Expired(offsets) => panic!("{offsets:?} were called expired"),
    });
    assert_eq!(damaged.count(), 1, "the frames whose place was taken");

    foreign(&storage).iter().for_each(|path| storage.unlink(path).unwrap());
    maintenance.tick(true);
    assert_eq!(stats.foreign_segments.load(Relaxed), 0);
    running.finish().await;
}

#[tokio::test]
async fn a_listed_segment_that_cannot_be_opened_is_an_error_and_has_not_expired() {
    let storage = archive(4).await;
    let kinds: [fn() -> io::Error; 3] = [
        || io::ErrorKind::NotFound.into(),
        || io::ErrorKind::PermissionDenied.into(),
        || rustix::io::Errno::MFILE.into(),
    ];
    for (path, kind) in segments(&storage).into_iter().flat_map(|path| kinds.map(|kind| (path.clone(), kind)))
    {
        let name = path.display().to_string();
        storage.set_hook(move |op, opened| (op == Op::Open && opened == path).then(kind));
        let error = read_error(&storage);
        assert!(matches!(error, ReadError::Storage(_)) && error.to_string().contains(&name), "{error}");
        storage.clear_hook();
    }
    // Retention works as usual: the oldest segments are gone from the listing.
    let oldest = segments(&storage)[0].clone();
    storage.unlink(&oldest).unwrap();
    assert!(matches!(items(&storage, Filter::default())[0], Item::Expired(_)));
}
