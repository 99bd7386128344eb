use frame::Lanes;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::unreadable::offset_bound;
use super::copy::copy;
use super::*;
use crate::format::{BlockKind, HoleRecord};
use crate::open::open_with;
use crate::read::scan::{ScanStep, Scanner};
use crate::storage::mem::MemStorage;
use crate::tests::support::*;
use crate::{Commit, Config, Filter, Item, OpenError, Reader, Recovery};
use frame::FramePriority::Routine;

const COMMIT_FRAMES: u64 = 40;

fn out() -> Config {
    Config { dir: PathBuf::from("/new/archive"), ..config() }
}

fn dirs(storage: &MemStorage) -> [Dir; 2] {
    [config().dir, out().dir].map(|path| Dir::new(Arc::new(storage.clone()), path))
}

/// Creates an archive of a few segments. Returns the result of its last start too.
async fn archive() -> (MemStorage, Recovery) {
    let storage = MemStorage::default();
    let mut running = start_with(config(), storage.clone(), None);
    running.commit(vec![emergency(&origin(2, 9), 4)]).await;
    for first in (0..60).map(|commit| commit * COMMIT_FRAMES) {
        let frames = (first..first + COMMIT_FRAMES).map(|index| frame(&origin(1, 7), Routine, index, 200));
        running.commit(frames.collect()).await;
    }
    running.finish().await;
    let running = start_with(config(), storage.clone(), None);
    let recovery = running.recovery.clone();
    running.finish().await;
    (storage, recovery)
}

fn segments(storage: &MemStorage) -> Vec<PathBuf> {
    let paths = storage.paths().into_iter();
    paths
        .filter(|path| path.starts_with("/archive") && path.extension().is_some_and(|it| it == "seg"))
        .collect()
}

fn edit(storage: &MemStorage, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut content = storage.content(path);
    edit(&mut content);
    storage.put(path, content);
}

fn bases(storage: &MemStorage) -> Vec<u64> {
    let base = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    segments(storage).iter().map(base).collect()
}

/// Returns the frames that a reader finds in `dir`, and the offset ranges that are missing.
fn read(storage: &MemStorage, dir: &Path) -> (Vec<(u64, Fields)>, Vec<Range<u64>>) {
    let (mut frames, mut missing) = (Vec::new(), Vec::new());
    for item in Reader::open_on(Arc::new(storage.clone()), dir, Filter::default()).unwrap() {
        match item.unwrap() {
            Item::Frame(stored) => frames.push((stored.offset, fields(&stored.frame))),
            Item::Damage(damage) => {
                // The copy records all that it lacks. The damaged archive records nothing.
                assert_eq!(damage.recorded, dir == out().dir, "{damage:?}");
                missing.push(damage.offsets);
            }
            Item::Expired(_) => {}
        }
    }
    (frames, missing)
}

/// Returns the hole records of the copy. Checks that each one lies where the frames are missing.
fn recorded(storage: &MemStorage) -> Vec<Range<u64>> {
    let mut records = Vec::new();
    let [_, to] = dirs(storage);
    for base in to.segments().unwrap() {
        let (mut scanner, mut next) = (Scanner::open(storage, &to.segment(base)).unwrap(), base);
        loop {
            match scanner.next().unwrap() {
                ScanStep::Block(header, body) => {
                    if header.kind == BlockKind::Hole {
                        let record = HoleRecord::decode(&body).unwrap();
                        assert_eq!((record.from_offset, record.to_offset), (next, header.first_offset));
                        records.push(record.from_offset..record.to_offset);
                    } else {
                        assert_eq!(header.first_offset, next);
                    }
                    next = header.next_offset();
                }
                ScanStep::Damage(bytes) => panic!("damage in the copy: {bytes:?}"),
                ScanStep::End(_) => break,
            }
        }
    }
    records
}

/// Repairs, and checks everything that must hold for any damage. Returns the report and what the daemon recovers.
async fn repaired(storage: &MemStorage, before: &Recovery, lost: &[Range<u64>]) -> (RepairReport, Recovery) {
    let original: Vec<_> = storage.paths().iter().map(|path| (path.clone(), storage.content(path))).collect();
    let (readable, _) = read(storage, dir());
    let [from, to] = dirs(storage);
    let report = copy(&from, &to).unwrap();
    for (path, content) in original {
        assert_eq!(storage.content(&path), content, "{} was written", path.display());
    }
    // The whole copy must already be durable.
    storage.crash(None);
    let (copied, missing) = read(storage, &out().dir);
    assert_eq!(copied, readable);
    assert_eq!(missing, lost);
    assert_eq!(recorded(storage), lost);
    assert_eq!(report.lost.iter().map(|lost| lost.offsets.clone()).collect::<Vec<_>>(), lost);
    assert_eq!((report.frames, report.first_offset), (copied.len() as u64, before.first_offset));

    let mut running = start_with(out(), storage.clone(), None);
    let recovery = running.recovery.clone();
    assert_eq!(recovery.next_offset, report.next_offset);
    assert_eq!((recovery.torn_bytes, recovery.rewritten_frames, recovery.holes.len()), (0, 0, 0));
    let seen = running.commit(vec![routine(&origin(3, 3), 0)]).await;
    assert_eq!(seen.first_offset, report.next_offset);
    running.finish().await;
    assert_eq!(read(storage, &out().dir).0.len(), copied.len() + 1);
    (report, recovery)
}

fn same(recovery: &Recovery, before: &Recovery) {
    assert_eq!((recovery.log_id, recovery.next_offset), (before.log_id, before.next_offset));
    assert_eq!(recovery.positions, before.positions);
}

#[tokio::test]
async fn a_sound_archive_is_copied_as_it_is() {
    let (storage, before) = archive().await;
    let segment_count = segments(&storage).len();
    assert!(segment_count > 3);
    let (report, recovery) = repaired(&storage, &before, &[]).await;
    same(&recovery, &before);
    assert_eq!((report.segments as usize, report.streams, report.torn_bytes), (segment_count, 2, 0));
    assert!(!report.has_new_log_id && report.foreign.is_empty());
}

#[tokio::test]
async fn damage_in_an_older_segment_loses_only_its_block() {
    let (original, before) = archive().await;
    let path = segments(&original)[1].clone();
    let mut scanner = Scanner::open(&original, &path).unwrap();
    while let ScanStep::Block(header, _) = scanner.next().unwrap() {
        for at in [header.position, header.position + 40, header.end() - 9] {
            let storage = original.clone_disk();
            edit(&storage, &path, |content| content[at as usize] ^= 0x10);
            let lost = (header.kind == BlockKind::Frames).then(|| header.first_offset..header.next_offset());
            let (_, recovery) = repaired(&storage, &before, lost.as_slice()).await;
            same(&recovery, &before);
        }
    }
}

#[tokio::test]
async fn segments_that_are_missing_or_unreadable_are_holes() {
    let (original, before) = archive().await;
    let bases = bases(&original);
    type Edit = fn(&mut Vec<u8>);
    let edits: [Edit; 3] =
        [|content| content.clear(), |content| content.fill(0), |content| content.fill(0xA5)];
    for spoil in edits {
        let storage = original.clone_disk();
        edit(&storage, &segments(&storage)[1], spoil);
        let (_, recovery) = repaired(&storage, &before, Some(bases[1]..bases[2]).as_slice()).await;
        same(&recovery, &before);
    }
    let storage = original.clone_disk();
    crate::Storage::unlink(&storage, &segments(&storage)[1]).unwrap();
    crate::Storage::sync_dir(&storage, dir()).unwrap();
    let (_, recovery) = repaired(&storage, &before, Some(bases[1]..bases[2]).as_slice()).await;
    same(&recovery, &before);
}

#[tokio::test]
async fn a_damaged_segment_header_loses_no_frame() {
    let (storage, before) = archive().await;
    for path in segments(&storage).iter().rev().skip(1) {
        edit(&storage, path, |content| content[..64].fill(0));
    }
    let (_, recovery) = repaired(&storage, &before, &[]).await;
    same(&recovery, &before);
}

#[tokio::test]
async fn without_any_readable_segment_header_the_log_gets_a_new_id() {
    let (storage, before) = archive().await;
    for path in segments(&storage) {
        edit(&storage, &path, |content| content[..64].fill(0));
    }
    let (report, recovery) = repaired(&storage, &before, &[]).await;
    assert!(report.has_new_log_id && recovery.log_id != before.log_id);
    assert_eq!(recovery.positions, before.positions);
}

#[tokio::test]
async fn offsets_of_an_unreadable_newest_segment_are_never_reused() {
    let (storage, before) = archive().await;
    edit(&storage, &segments(&storage).pop().unwrap(), |content| content.clear());
    let base = *bases(&storage).last().unwrap();
    let bound = offset_bound_of_a_segment(base);
    let (report, _) = repaired(&storage, &before, Some(base..bound).as_slice()).await;
    assert!(report.next_offset > before.next_offset);
}

fn offset_bound_of_a_segment(base: u64) -> u64 {
    offset_bound(base, Config::SEGMENT_BYTES).unwrap()
}

#[tokio::test]
async fn the_last_block_is_lost_if_something_attests_it_and_torn_if_nothing_does() {
    let (original, before) = archive().await;
    let path = segments(&original).pop().unwrap();
    let (mut scanner, mut last) = (Scanner::open(&original, &path).unwrap(), None);
    while let ScanStep::Block(header, _) = scanner.next().unwrap() {
        if header.kind == BlockKind::Frames {
            last = Some(header);
        }
    }
    let last = last.unwrap();
    let storage = original.clone_disk();
    edit(&storage, &path, |content| content[last.position as usize + 70] ^= 1);
    let lost = last.first_offset..last.next_offset();
    let (report, recovery) = repaired(&storage, &before, Some(lost).as_slice()).await;
    assert_eq!((recovery.next_offset, report.torn_bytes), (before.next_offset, 0));

    let storage = original.clone_disk();
    edit(&storage, &path, |content| {
        content.truncate(last.end() as usize);
        content[last.position as usize + 70] ^= 1;
    });
    let (report, recovery) = repaired(&storage, &before, &[]).await;
    assert_eq!(recovery.next_offset, last.first_offset);
    assert!(report.torn_bytes > 0);
}

#[tokio::test]
async fn a_segment_of_another_log_is_left_out() {
    let (storage, before) = archive().await;
    let (other, _) = archive().await;
    let path = segments(&storage)[1].clone();
    storage.put(&path, other.content(&path));
    let bases = bases(&storage);
    let [from, to] = dirs(&storage);
    let report = copy(&from, &to).unwrap();
    assert_eq!(report.foreign, [path]);
    assert_eq!(report.lost[0].offsets, bases[1]..bases[2]);
    assert_eq!(report.next_offset, before.next_offset);
}

#[tokio::test]
async fn damage_beside_a_hole_of_the_copy_is_reported() {
    let (storage, _) = archive().await;
    edit(&storage, &segments(&storage)[1], |content| content.clear());
    let [from, to] = dirs(&storage);
    copy(&from, &to).unwrap();
    let recorded = || -> Vec<bool> {
        let items = Reader::open_on(Arc::new(storage.clone()), &out().dir, Filter::default()).unwrap();
        let recorded = |item| match item {
            Item::Damage(damage) => Some(damage.recorded),
            _ => None,
        };
        items.map(Result::unwrap).filter_map(recorded).collect()
    };
    assert_eq!(recorded(), [true]);
    // This damages the positions block, which lies before the hole.
    edit(&storage, &to.segment(bases(&storage)[1]), |content| content[64 + 64 + 8] ^= 1);
    assert_eq!(recorded(), [false]);
}

#[tokio::test]
async fn a_lowered_epoch_stays_lowered() {
    let storage = MemStorage::default();
    let mut running = start_with(config(), storage.clone(), None);
    let (mistaken, right) = (origin(1, 99), origin(1, 42));
    running.commit(vec![frame(&mistaken, Routine, 7, 10)]).await;
    assert_eq!(reset(&running, &right.stream, 42).await, Some(Ok(())));
    running.commit(vec![frame(&right, Routine, 0, 10)]).await;
    running.finish().await;
    let [from, to] = dirs(&storage);
    copy(&from, &to).unwrap();
    let running = start_with(out(), storage.clone(), None);
    let (stream, position) = &running.recovery.positions[0];
    assert_eq!((stream, position.epoch, position.next), (&right.stream, 42, Lanes::new(0, 1)));
    running.finish().await;
}

#[tokio::test]
async fn a_forgotten_stream_stays_forgotten() {
    let storage = MemStorage::default();
    let mut running = start_with(config(), storage.clone(), None);
    let (gone, kept) = (origin(1, 42), origin(2, 42));
    running.commit(vec![frame(&gone, Routine, 7, 10), frame(&kept, Routine, 7, 10)]).await;
    assert_eq!(forget(&running, std::slice::from_ref(&gone.stream)).await, Some(Ok(())));
    running.commit(vec![frame(&kept, Routine, 8, 10)]).await;
    running.finish().await;
    let [from, to] = dirs(&storage);
    copy(&from, &to).unwrap();
    let running = start_with(out(), storage.clone(), None);
    let streams: Vec<_> = running.recovery.positions.iter().map(|(stream, _)| stream).collect();
    assert_eq!(streams, [&kept.stream]);
    running.finish().await;
}

#[tokio::test]
async fn a_copy_that_is_cut_short_anywhere_is_refused_by_name() {
    let (storage, before) = archive().await;
    for after in 0.. {
        let mut is_copied = true;
        for seed in [None, Some(after)] {
            let disk = storage.clone_disk();
            let [from, to] = dirs(&disk);
            disk.cut_power_after(after);
            is_copied &= copy_marked(&from, &to).is_ok();
            disk.crash(seed);
            let segments = to.segments().unwrap().len();
            match open_with(out(), disk.clone(), |_: &Commit<'_>| {}, Vec::new(), None) {
                Err(OpenError::Incomplete(dir)) => assert!(!is_copied && dir == out().dir),
                Ok((_, _, recovery)) if segments > 0 => {
                    assert_eq!(recovery.next_offset, before.next_offset, "a part, after {after} operations");
                }
                Ok(_) => {
                    assert!(after < 3, "the mark is not the first thing there, after {after} operations")
                }
                Err(other) => panic!("{other}"),
            }
        }
        if is_copied {
            assert!(after > 60, "{after} operations are less than the blocks there are");
            return;
        }
    }
}
