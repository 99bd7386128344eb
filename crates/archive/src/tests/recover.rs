//! Tests of recovery from single, selected damages.

use std::path::PathBuf;

use super::new_storage;
use super::support::*;
use crate::format::{BlockHeader, BlockKind};
use crate::read::reader::Damage;
use crate::read::scan::{ScanStep, Scanner};
use crate::storage::mem::{MemStorage, Op};
use crate::{Filter, Item, Storage, StoredFrame};
use frame::{Frame, Lanes, batch_of};

/// Returns the segments of a disk and the headers of their blocks.
pub(super) fn blocks(storage: &MemStorage) -> Vec<(PathBuf, Vec<BlockHeader>)> {
    let segment = |path: PathBuf| {
        let mut scanner = Scanner::open(storage, &path).unwrap();
        let mut headers = Vec::new();
        while let ScanStep::Block(header, _) = scanner.next().unwrap() {
            headers.push(header);
        }
        (path, headers)
    };
    let paths = storage.paths().into_iter();
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).map(segment).collect()
}

pub(super) fn frame_blocks(storage: &MemStorage) -> (PathBuf, Vec<BlockHeader>) {
    let (path, mut headers) = blocks(storage).pop().unwrap();
    headers.retain(|header| header.kind == BlockKind::Frames);
    (path, headers)
}

/// Creates an archive with one commit per sequence, `commits` in total.
pub(super) async fn archive(commits: u64) -> MemStorage {
    let storage = new_storage();
    let mut running = start(&storage);
    for sequence in 0..commits {
        running.commit(vec![routine(&origin(1, 1), sequence)]).await;
    }
    running.finish().await;
    storage
}

pub(super) fn found(storage: &MemStorage) -> (Vec<StoredFrame>, Vec<Damage>) {
    let (mut frames, mut damages) = (Vec::new(), Vec::new());
    for item in items(storage, Filter::default()) {
        match item {
            Item::Frame(frame) => frames.push(frame),
            Item::Damage(damage) => damages.push(damage),
            Item::Expired(offsets) => panic!("expired: {offsets:?}"),
        }
    }
    (frames, damages)
}

#[tokio::test]
async fn a_last_block_torn_at_any_byte_is_cut_off_and_kept() {
    let storage = archive(4).await;
    let (path, headers) = frame_blocks(&storage);
    let last = headers[3];
    let content = storage.content(&path);
    for cut in last.position..last.end() {
        for allocated in [0, 4_096] {
            let disk = new_storage();
            let mut image = content[..cut as usize].to_vec();
            image.resize(image.len() + allocated, 0);
            disk.put(&path, image);
            let mut running = start(&disk);
            let recovery = running.recovery.clone();
            assert_eq!(recovery.next_offset, 3, "cut at {cut}");
            assert_eq!(recovery.positions[0].1.next, Lanes::new(0, 3));
            assert!(recovery.holes.is_empty());
            let torn = &content[last.position as usize..cut as usize];
            let torn_len = torn.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            assert_eq!(recovery.torn_bytes, torn_len as u64, "cut at {cut}");
            if torn_len > 0 {
                let lost = disk.paths().into_iter().find(|path| path.starts_with("/archive/lost"));
                assert_eq!(disk.content(&lost.unwrap()), torn[..torn_len]);
            }
            running.commit(vec![routine(&origin(1, 1), 7)]).await;
            assert_eq!(sequences(&frames(&disk)), [0, 1, 2, 7], "cut at {cut}");
            running.finish().await;
        }
    }
}

#[tokio::test]
async fn no_flipped_bit_makes_a_frame_that_was_not_appended() {
    let storage = archive(5).await;
    let originals: Vec<_> = frames(&storage).iter().map(|stored| fields(&stored.frame)).collect();
    let (path, headers) = frame_blocks(&storage);
    let content = storage.content(&path);
    for at in 0..content.len() {
        let disk = new_storage();
        let mut image = content.clone();
        image[at] ^= 1 << (at % 8);
        disk.put(&path, image);
        let hit = headers.iter().position(|header| (header.position..header.end()).contains(&(at as u64)));

        let (read, damages) = found(&disk);
        let last_block = headers[4].position <= at as u64 && hit.is_none();
        assert!(last_block || !damages.is_empty(), "the flip at {at} was not seen");
        check(&read, &originals, hit, at);

        let running = start(&disk);
        assert_eq!(running.recovery.next_offset, 5, "flip at {at}");
        assert_eq!(running.recovery.holes.len(), usize::from(hit.is_some()), "flip at {at}");
        check(&found(&disk).0, &originals, hit, at);
        running.finish().await;
    }
}

/// Checks offsets and content: all frames are there except those of block `hit`.
fn check(read: &[StoredFrame], originals: &[Fields], hit: Option<usize>, at: usize) {
    let expected = (0..originals.len()).filter(|index| Some(*index) != hit);
    let offsets: Vec<_> = read.iter().map(|stored| stored.offset as usize).collect();
    assert_eq!(offsets, expected.collect::<Vec<_>>(), "flip at {at}");
    for stored in read {
        assert_eq!(fields(&stored.frame), originals[stored.offset as usize], "flip at {at}");
    }
}

#[tokio::test]
async fn positions_that_cannot_be_read_come_from_the_segment_before() {
    let storage = new_storage();
    let mut running = start(&storage);
    for batch in 0..30 {
        let frames =
            (0..40).map(|index| frame(&origin(1, 1), frame::FramePriority::Routine, batch * 40 + index, 200));
        running.commit(frames.collect()).await;
    }
    running.commit(vec![emergency(&origin(2, 9), 3)]).await;
    running.finish().await;
    let before = start(&storage);
    let expected = before.recovery.positions.clone();
    before.finish().await;

    let (path, headers) = blocks(&storage).pop().unwrap();
    assert_eq!(headers[0].kind, BlockKind::Positions);
    let mut image = storage.content(&path);
    image[headers[0].position as usize + 80] ^= 4;
    storage.put(&path, image);
    let running = start(&storage);
    assert_eq!(running.recovery.segments_scanned, 2);
    assert_eq!(running.recovery.positions, expected);
    assert!(running.recovery.holes.is_empty());
    running.finish().await;
    let running = start(&storage);
    assert_eq!(running.recovery.segments_scanned, 1, "the positions were written again");
    assert_eq!(running.recovery.positions, expected);
    running.finish().await;
}

#[tokio::test]
async fn a_block_inside_a_payload_is_never_taken_for_one() {
    let storage = archive(2).await;
    let (path, headers) = frame_blocks(&storage);
    let content = storage.content(&path);
    let copy = &content[headers[0].position as usize..headers[0].end() as usize];
    let mut running = start(&storage);
    let forged = Frame { payload: bytes::Bytes::copy_from_slice(copy), ..routine(&origin(1, 1), 2) };
    running.commit(vec![forged]).await;
    running.commit(vec![routine(&origin(1, 1), 3)]).await;
    running.finish().await;
    let (path, headers) = frame_blocks(&storage);
    let mut image = storage.content(&path);
    image[headers[2].position as usize + 2] ^= 1;
    storage.put(&path, image);
    let (read, damages) = found(&storage);
    assert_eq!(sequences(&read), [0, 1, 3]);
    assert_eq!(damages[0].offsets, 2..3);
}

#[tokio::test]
async fn a_segment_of_another_version_is_left_alone() {
    let storage = archive(1).await;
    let (path, _) = frame_blocks(&storage);
    let mut image = storage.content(&path);
    image[8] = 2;
    let crc = crc32c::crc32c(&image[..60]).to_le_bytes();
    image[60..64].copy_from_slice(&crc);
    storage.put(&path, image.clone());
    let opened = crate::open(config(), storage.clone(), |_: &crate::Commit<'_>| {});
    let Err(error) = opened else {
        panic!("opened a segment of version 2");
    };
    let text = error.to_string();
    assert!(text.contains("format version 2, this program knows 1"), "{text}");
    assert_eq!(storage.content(&path), image);
}

#[tokio::test]
async fn recovery_syncs_the_directory_before_anything_is_acknowledged() {
    let storage = new_storage();
    let mut running = start(&storage);
    // The next segment gets its name. Then the process dies before it syncs the directory.
    storage.set_hook(|op, _| (op == Op::SyncDir).then(|| std::io::Error::other("killed")));
    let mut sequence = 0;
    let origin = origin(1, 1);
    loop {
        let frames: Vec<_> = (0..40).map(|index| routine(&origin, sequence + index)).collect();
        let appended = running.appender.append(batch_of(frames)).await;
        if appended.is_err() || running.commits.recv().await.is_none() {
            break;
        }
        sequence += 40;
    }
    drop(running.appender);
    assert!(running.archive.finish().await.is_err());
    storage.clear_hook();
    storage.kill();

    let mut running = start(&storage);
    assert_eq!(running.recovery.next_offset, sequence);
    running.commit(vec![routine(&origin, sequence)]).await;
    let copy = storage.clone_disk();
    copy.crash(None);
    assert_eq!(sequences(&frames(&copy)), (0..=sequence).collect::<Vec<_>>());
    running.finish().await;
}

/// Returns a disk after a power cut: an attested commit, a commit without attestation, and a torn block of `torn`
/// bytes.
async fn cut_short(torn: usize) -> MemStorage {
    let live = new_storage();
    let mut running = start(&live);
    for sequence in 0..2 {
        running.commit(vec![routine(&origin(1, 1), sequence)]).await;
    }
    let disk = live.clone_disk();
    running.finish().await;
    let (path, headers) = frame_blocks(&disk);
    let end = headers[1].end() as usize;
    let mut image = disk.content(&path);
    image[end..end + torn].fill(0xA5);
    disk.put(&path, image);
    disk
}

#[tokio::test]
async fn recovery_on_a_full_disk_uses_the_unused_space_of_the_old_segment() {
    let disk = cut_short(300).await;
    disk.unlink(&dir().join("reserve")).unwrap();
    disk.set_capacity(Some(disk.used()));
    let mut running = start(&disk);
    assert_eq!((running.recovery.rewritten_frames, running.recovery.torn_bytes), (1, 300));
    assert_eq!(blocks(&disk).len(), 2, "the tail is in a segment of its own");
    running.commit(vec![emergency(&origin(1, 1), 2)]).await;
    running.finish().await;
    assert_eq!(sequences(&frames(&disk)), [0, 1, 2]);
}

#[tokio::test]
async fn a_torn_tail_takes_no_space_from_acknowledged_frames() {
    let disk = cut_short(20_000).await;
    disk.unlink(&dir().join("reserve")).unwrap();
    let (path, headers) = frame_blocks(&disk);
    let mut image = disk.content(&path);
    image.truncate(headers[1].end() as usize + 20_000);
    disk.put(&path, image);
    // There is space for the torn tail, but not for the tail and the new segment.
    disk.set_capacity(Some(disk.used() + 20_100));
    let running = start(&disk);
    assert_eq!((running.recovery.rewritten_frames, running.recovery.torn_bytes), (1, 20_000));
    running.finish().await;
    assert_eq!(sequences(&frames(&disk)), [0, 1]);
    assert!(!disk.paths().iter().any(|path| path.starts_with("/archive/lost")), "a part of it holds space");
}
