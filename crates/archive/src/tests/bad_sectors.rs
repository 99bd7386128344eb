//! Tests with media that are unreadable in places or as a whole.

use std::path::PathBuf;
use std::sync::Arc;

use super::new_storage;
use super::support::*;
use super::watched::Watched;
use crate::read::scan::Scanner;
use crate::storage::mem::MemStorage;
use crate::{Commit, Filter, Item, Reader, open};
use frame::{Frame, FramePriority};

const COMMITS: u64 = 6;
const COMMIT_FRAMES: u64 = 40;

fn batch(first: u64) -> Vec<Frame> {
    let frame = |sequence| frame(&origin(1, 1), FramePriority::Routine, sequence, 200);
    (first..first + COMMIT_FRAMES).map(frame).collect()
}

/// Creates one segment of some commits. Each commit takes more than two pages.
async fn archive() -> (MemStorage, PathBuf) {
    let storage = new_storage();
    let mut running = start_untended(&storage);
    for commit in 0..COMMITS {
        running.commit(batch(commit * COMMIT_FRAMES)).await;
    }
    running.finish().await;
    let path = storage.paths().into_iter().find(|path| path.extension().is_some()).unwrap();
    (storage, path)
}

/// Returns the offsets that a reader returns and the offsets that it reports as lost.
fn read(storage: &Watched) -> (Vec<u64>, Vec<u64>) {
    let reader = Reader::open_on(Arc::new(storage.clone()), dir(), Filter::default()).unwrap();
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    for item in reader {
        match item.unwrap() {
            Item::Frame(stored) => found.push(stored.offset),
            Item::Damage(damage) => lost.extend(damage.offsets),
            Item::Expired(offsets) => panic!("expired: {offsets:?}"),
        }
    }
    (found, lost)
}

#[tokio::test]
async fn a_bad_sector_costs_the_blocks_it_lies_in_and_no_other() {
    let (original, path) = archive().await;
    let len = original.content(&path).len() as u64;
    for page in 0..len.div_ceil(4096) {
        let storage = Watched::new(original.clone_disk());
        storage.spoil(&path, page * 4096 + 512..page * 4096 + 1024);
        let (found, lost) = read(&storage);
        assert!(lost.len() as u64 <= 2 * COMMIT_FRAMES, "page {page}: {} lost", lost.len());
        let mut all = [found, lost].concat();
        all.sort_unstable();
        // No later block attests the last block, so a reader may miss it.
        let reported = all.len() as u64;
        assert!(reported >= (COMMITS - 1) * COMMIT_FRAMES, "page {page}: {reported}");
        assert_eq!(all, (0..reported).collect::<Vec<_>>(), "page {page}");
    }
}

#[tokio::test]
async fn a_daemon_with_a_bad_sector_in_its_last_segment_starts() {
    let (original, path) = archive().await;
    let len = original.content(&path).len() as u64;
    for page in 0..len.div_ceil(4096) {
        let storage = Watched::new(original.clone_disk());
        storage.spoil(&path, page * 4096..page * 4096 + 512);
        let mut running = start_with(config(), storage.clone(), None);
        let next = running.recovery.next_offset;
        let lost: u64 = running.recovery.holes.iter().map(|hole| hole.to_offset - hole.from_offset).sum();
        assert!(next >= COMMITS * COMMIT_FRAMES || running.recovery.torn_bytes > 0, "page {page}");
        running.commit(batch(next)).await;
        running.finish().await;
        let (found, reported) = read(&storage);
        assert_eq!(reported.len() as u64, lost, "page {page}");
        assert_eq!(found.len() as u64, next - lost + COMMIT_FRAMES, "page {page}");
    }
}

#[tokio::test]
async fn an_unreadable_disk_is_an_error_and_nothing_is_changed() {
    let (original, path) = archive().await;
    let storage = Watched::new(original.clone());
    storage.spoil(&path, 0..u64::MAX);
    let before = original.paths();
    assert!(open(config(), storage.clone(), |_: &Commit<'_>| {}).is_err());
    assert_eq!(original.paths(), before);
    let mut reader = Reader::open_on(Arc::new(storage), dir(), Filter::default()).unwrap();
    assert!(reader.any(|item| item.is_err()));
}

/// If unreadable bytes counted as free space, recovery could overwrite acknowledged frames.
#[tokio::test]
async fn unreadable_bytes_count_as_content() {
    let (storage, path) = archive().await;
    let mut image = storage.content(&path);
    let end = image.len() as u64;
    image.resize(image.len() + 40_960, 0);
    storage.put(&path, image);
    let storage = Watched::new(storage);
    let scanner = Scanner::open(&storage, &path).unwrap();
    assert_eq!(scanner.content_end(end).unwrap(), end);
    let page = end.next_multiple_of(4_096) + 4_096;
    storage.spoil(&path, page + 100..page + 200);
    assert_eq!(scanner.content_end(end).unwrap(), page + 4_096);
}
