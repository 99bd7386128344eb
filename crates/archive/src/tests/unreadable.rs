//! Tests of recovery from a newest segment that is fully unreadable.

use std::path::PathBuf;

use super::new_storage;
use super::support::*;
use crate::storage::mem::{MemStorage, Op};
use crate::{Commit, Filter, Item, OpenError, Storage as _, open};
use frame::{Frame, FramePriority};

const COMMIT_FRAMES: u64 = 40;

fn segments(storage: &MemStorage) -> Vec<PathBuf> {
    let paths = storage.paths().into_iter();
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect()
}

fn batch(first: u64) -> Vec<Frame> {
    let frame = |sequence| frame(&origin(1, 1), FramePriority::Routine, sequence, 200);
    (first..first + COMMIT_FRAMES).map(frame).collect()
}

/// Creates an archive of `segment_count` segments with some frames in the last one. Returns the number of frames.
async fn archive(segment_count: usize) -> (MemStorage, u64) {
    let storage = new_storage();
    let mut running = start(&storage);
    let (mut frames, mut more) = (0, 3);
    while more > 0 {
        running.commit(batch(frames)).await;
        frames += COMMIT_FRAMES;
        more -= usize::from(segments(&storage).len() >= segment_count);
    }
    running.finish().await;
    (storage, frames)
}

/// Replaces the content of the newest segment. Returns its base and the new content.
fn overwrite_newest(storage: &MemStorage, content: impl Fn(usize) -> Vec<u8>) -> (u64, Vec<u8>) {
    let path = segments(storage).pop().unwrap();
    let content = content(storage.content(&path).len());
    storage.put(&path, content.clone());
    (path.file_stem().unwrap().to_str().unwrap().parse().unwrap(), content)
}

#[tokio::test]
async fn an_unreadable_newest_segment_is_kept_and_its_offsets_are_never_reused() {
    let contents: [fn(usize) -> Vec<u8>; 3] = [|_| Vec::new(), |len| vec![0; len], |len| vec![0xA5; len]];
    for (segment_count, content) in (1..3).flat_map(|count| contents.map(|content| (count, content))) {
        let (storage, acknowledged) = archive(segment_count).await;
        let before = start(&storage);
        let log_id = before.recovery.log_id;
        before.finish().await;
        let (base, content) = overwrite_newest(&storage, content);
        let mut running = start(&storage);
        let recovery = running.recovery.clone();
        assert!(recovery.next_offset >= acknowledged, "{} of {acknowledged}", recovery.next_offset);
        assert_eq!(recovery.holes.len(), 1);
        let hole = &recovery.holes[0];
        assert_eq!((hole.from_offset, hole.to_offset), (base, recovery.next_offset));
        assert_eq!(hole.bytes, content.len() as u64);
        assert_eq!(storage.content(&hole.segment), content);
        assert_eq!(recovery.torn_bytes, 0);
        assert!(segment_count == 1 || recovery.log_id == log_id);
        running.commit(batch(acknowledged)).await;
        running.finish().await;

        let again = start(&storage);
        assert!(again.recovery.holes.is_empty(), "the alarm is raised once");
        assert_eq!(again.recovery.next_offset, recovery.next_offset + COMMIT_FRAMES);
        again.finish().await;
        check(&storage, base, recovery.next_offset);
    }
}

/// Checks that a reader returns all frames below `base`, one damage up to `next`, and the frames of the next commit.
fn check(storage: &MemStorage, base: u64, next: u64) {
    let (mut offsets, mut damages) = (Vec::new(), Vec::new());
    for item in items(storage, Filter::default()) {
        match item {
            Item::Frame(stored) => offsets.push(stored.offset),
            Item::Damage(damage) => damages.push((damage.offsets.start, damage.offsets.end, damage.recorded)),
            Item::Expired(offsets) => panic!("expired: {offsets:?}"),
        }
    }
    assert_eq!(offsets, (0..base).chain(next..next + COMMIT_FRAMES).collect::<Vec<_>>());
    assert_eq!(damages, [(base, next, true)]);
}

#[tokio::test]
async fn the_next_start_completes_an_interrupted_move_to_lost() {
    let (original, acknowledged) = archive(2).await;
    let mut cut = 0;
    loop {
        let disk = original.clone_disk();
        let (base, _) = overwrite_newest(&disk, |len| vec![0; len]);
        disk.cut_power_after(cut);
        let opened = match open(config(), disk.clone(), |_: &Commit<'_>| {}) {
            Ok((appender, archive, _)) => {
                drop(appender);
                // The archive's thread must end before the next start, with or without an error.
                _ = archive.finish().await;
                true
            }
            Err(_) => false,
        };
        disk.crash(None);
        let mut running = start(&disk);
        let next = running.recovery.next_offset;
        assert!(next >= acknowledged, "cut after {cut} operations");
        running.commit(batch(acknowledged)).await;
        running.finish().await;
        check(&disk, base, next);
        if opened {
            return;
        }
        cut += 1;
    }
}

#[tokio::test]
async fn moving_a_segment_to_lost_needs_only_the_space_of_a_segment_header() {
    let (storage, acknowledged) = archive(2).await;
    overwrite_newest(&storage, |len| vec![0; len]);
    storage.set_capacity(Some(storage.used()));
    let running = start(&storage);
    assert!(running.recovery.next_offset >= acknowledged);
    running.finish().await;
}

#[tokio::test]
async fn damage_below_an_unreadable_segment_is_a_hole_as_well() {
    let (storage, _) = archive(2).await;
    let (base, _) = overwrite_newest(&storage, |len| vec![0; len]);
    let older = segments(&storage)[0].clone();
    let mut image = storage.content(&older);
    let end = image.len();
    image[end - 1_000..].fill(0xA5);
    storage.put(&older, image);
    let running = start(&storage);
    let holes = &running.recovery.holes;
    assert_eq!(holes.iter().map(|hole| hole.from_offset).collect::<Vec<_>>(), [base - COMMIT_FRAMES, base]);
    assert_eq!((holes[0].to_offset, &holes[0].segment), (base, &older));
    assert_eq!(running.recovery.torn_bytes, 0);
    running.finish().await;
}

#[tokio::test]
async fn a_segment_that_the_disk_cannot_read_now_stays_in_place() {
    let (storage, _) = archive(2).await;
    let before = storage.paths();
    storage.set_hook(|op, _| (op == Op::Read).then(|| std::io::Error::other("input/output error")));
    assert!(open(config(), storage.clone(), |_: &Commit<'_>| {}).is_err());
    assert_eq!(storage.paths(), before);
}

#[tokio::test]
async fn a_file_at_an_offset_that_no_frame_can_have_is_refused_by_name() {
    for name in [
        "18446744073709551615.seg",
        "99999999999999999999.seg",
        "00009007199254740993.seg",
        // The name is valid, but no offset is left for frames behind it.
        "00009007199254740991.seg",
        "lost/00000000000000000080-18446744073709551615.damaged",
    ] {
        let (storage, acknowledged) = archive(1).await;
        let path = dir().join(name);
        storage.put(&path, Vec::new());
        let error = refused(&storage).to_string();
        assert!(error.contains(name) && error.contains("move the file to another directory"), "{error}");
        assert_eq!(storage.content(&path), b"", "it was touched");

        storage.unlink(&path).unwrap();
        let running = start(&storage);
        assert_eq!(running.recovery.next_offset, acknowledged);
        running.finish().await;
    }
}

fn refused(storage: &MemStorage) -> OpenError {
    let opened = open(config(), storage.clone(), |_: &Commit<'_>| {});
    opened.map(|_| ()).expect_err("the archive was opened")
}
