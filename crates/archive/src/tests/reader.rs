//! Tests of readers during restarts and damage.

use std::sync::Arc;

use super::support::*;
use super::watched::Watched;
use crate::read::reader::Damage;
use crate::storage::dir::list_segments;
use crate::storage::mem::MemStorage;
use crate::{Filter, Item, Reader, Storage};

fn reader(storage: &MemStorage) -> Reader {
    Reader::open_on(Arc::new(storage.clone()), dir(), Filter::default()).unwrap()
}

/// Reads until the end of the log and returns the offsets. The reader can continue later.
fn offsets(reader: &mut Reader) -> Vec<u64> {
    let offset = |item| match item {
        Ok(Item::Frame(stored)) => stored.offset,
        other => panic!("{other:?}"),
    };
    reader.map(offset).collect()
}

/// Returns the disk that a power cut right after `commits` commits leaves.
async fn cut_after(commits: u64) -> MemStorage {
    let live = MemStorage::default();
    let mut running = start_untended(&live);
    for sequence in 0..commits {
        running.commit(vec![routine(&origin(1, 1), sequence)]).await;
    }
    let disk = live.clone_disk();
    running.finish().await;
    disk
}

#[tokio::test]
async fn a_reader_sees_no_frame_twice_when_a_restart_moves_the_tail() {
    let disk = cut_after(3).await;
    let mut following = reader(&disk);
    assert_eq!(offsets(&mut following), [0, 1, 2]);
    let mut running = start_untended(&disk);
    assert_eq!(running.recovery.rewritten_frames, 1);
    running.commit(vec![routine(&origin(1, 1), 3)]).await;
    assert_eq!(offsets(&mut following), [3]);
    running.finish().await;
}

#[tokio::test]
async fn a_reader_follows_a_segment_that_a_restart_rewrote_under_its_name() {
    let disk = cut_after(1).await;
    let mut following = reader(&disk);
    assert_eq!(offsets(&mut following), [0]);
    let mut running = start_untended(&disk);
    assert_eq!(running.recovery.rewritten_frames, 1);
    for sequence in 1..4 {
        running.commit(vec![routine(&origin(1, 1), sequence)]).await;
    }
    assert_eq!(offsets(&mut following), [1, 2, 3]);
    running.finish().await;
}

#[tokio::test]
async fn a_rewritten_and_sealed_segment_is_read_to_its_end() {
    let disk = cut_after(1).await;
    let mut following = reader(&disk);
    assert_eq!(offsets(&mut following), [0]);
    let mut running = start_untended(&disk);
    let mut frames = 1;
    while running.archive.stats().rotations.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        let batch = (frames..frames + 60).map(|sequence| routine(&origin(1, 1), sequence));
        running.commit(batch.collect()).await;
        frames += 60;
    }
    assert_eq!(offsets(&mut following), (1..frames).collect::<Vec<_>>());
    running.finish().await;
}

#[tokio::test]
async fn a_reader_of_an_empty_directory_finds_the_first_segment_later() {
    let storage = MemStorage::default();
    storage.create_dir(dir()).unwrap();
    let mut following = reader(&storage);
    assert!(following.next().is_none());
    let mut running = start_untended(&storage);
    running.commit(vec![routine(&origin(1, 1), 0)]).await;
    assert_eq!(offsets(&mut following), [0]);
    running.finish().await;
}

/// Returns the first and last offset of each damage that a reader of `from_offset..to_offset` reports.
fn damage(storage: &MemStorage, from_offset: u64, to_offset: u64) -> Vec<(u64, u64)> {
    let filter = Filter { from_offset, to_offset: Some(to_offset), ..Filter::default() };
    let offsets = |item| match item {
        Item::Damage(Damage { offsets, .. }) => Some((offsets.start, offsets.end - 1)),
        Item::Frame(_) | Item::Expired(_) => None,
    };
    items(storage, filter).into_iter().filter_map(offsets).collect()
}

#[tokio::test]
async fn only_requested_damage_is_reported() {
    let storage = MemStorage::default();
    let mut running = start_untended(&storage);
    for sequence in 0..4 {
        running.commit(vec![routine(&origin(1, 1), sequence)]).await;
    }
    running.finish().await;
    let path = storage.paths().into_iter().find(|path| path.extension().is_some()).unwrap();
    let mut image = storage.content(&path);
    let blocks: Vec<_> = (0..image.len() - 4).filter(|at| image[*at..].starts_with(b"TMAB")).collect();
    // The first block holds the positions. Then there is one block for each commit.
    for block in &blocks[2..4] {
        image[block + 70] ^= 1;
    }
    storage.put(&path, image);
    assert_eq!(damage(&storage, 0, 4), [(1, 2)]);
    assert_eq!(damage(&storage, 2, 4), [(2, 2)]);
    assert_eq!(damage(&storage, 0, 2), [(1, 1)]);
    assert!(damage(&storage, 3, 4).is_empty());
    assert!(damage(&storage, 0, 1).is_empty());
}

/// Creates an archive of several segments with 60 frames per commit.
async fn segments(count: usize) -> (MemStorage, Running, Vec<u64>) {
    let storage = MemStorage::default();
    let mut running = start_untended(&storage);
    let mut next = 0;
    while list_segments(&storage, dir()).unwrap().len() < count {
        let batch = (next..next + 60).map(|sequence| routine(&origin(1, 1), sequence));
        running.commit(batch.collect()).await;
        next += 60;
    }
    let bases = list_segments(&storage, dir()).unwrap();
    (storage, running, bases)
}

fn remove(storage: &MemStorage, base: u64) {
    storage.unlink(&dir().join(crate::format::names::segment_name(base))).unwrap();
}

/// Returns the offsets of frames and the expired ranges. Panics on anything else.
fn frames_and_expired(reader: &mut Reader) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut frames, mut expired) = (Vec::new(), Vec::new());
    for item in reader {
        match item.unwrap() {
            Item::Frame(stored) => frames.push(stored.offset),
            Item::Expired(offsets) => expired.push((offsets.start, offsets.end)),
            Item::Damage(damage) => panic!("{damage:?}"),
        }
    }
    (frames, expired)
}

#[tokio::test]
async fn offsets_removed_before_the_start_are_reported_once() {
    let (storage, running, bases) = segments(3).await;
    let end = running.finish().await.next_offset;
    remove(&storage, 0);
    let oldest = bases[1];
    let read = |from_offset, to_offset| {
        let filter = Filter { from_offset, to_offset, ..Filter::default() };
        let mut reader = Reader::open_on(Arc::new(storage.clone()), dir(), filter).unwrap();
        let found = frames_and_expired(&mut reader);
        assert!(reader.next().is_none());
        found
    };
    assert_eq!(read(0, None), ((oldest..end).collect(), vec![(0, oldest)]));
    assert_eq!(read(5, Some(9)), (vec![], vec![(5, 9)]));
    assert_eq!(read(5, Some(oldest + 2)), (vec![oldest, oldest + 1], vec![(5, oldest)]));
    assert_eq!(read(oldest, None), ((oldest..end).collect(), vec![]));
    assert_eq!(read(bases[2], None), ((bases[2]..end).collect(), vec![]));
}

#[tokio::test]
async fn frames_removed_by_retention_during_a_read_are_reported() {
    let (storage, running, bases) = segments(5).await;
    let end = running.finish().await.next_offset;
    let mut following = reader(&storage);
    assert!(matches!(following.next(), Some(Ok(Item::Frame(_)))));
    for base in &bases[..3] {
        remove(&storage, *base);
    }
    // The reader reads its open segment to the end.
    let (frames, expired) = frames_and_expired(&mut following);
    assert_eq!(frames, (1..bases[1]).chain(bases[3]..end).collect::<Vec<_>>());
    assert_eq!(expired, [(bases[1], bases[3])]);
}

#[tokio::test]
async fn a_slow_follower_learns_what_retention_removed() {
    let (storage, mut running, _) = segments(1).await;
    running.commit((0..7).map(|sequence| routine(&origin(1, 1), sequence)).collect()).await;
    let mut following = reader(&storage);
    let seen = offsets(&mut following).len() as u64;
    let mut next = seen;
    while list_segments(&storage, dir()).unwrap().len() < 4 {
        running.commit((next..next + 60).map(|sequence| routine(&origin(1, 1), sequence)).collect()).await;
        next += 60;
    }
    let bases = list_segments(&storage, dir()).unwrap();
    for base in &bases[..2] {
        remove(&storage, *base);
    }
    let end = running.finish().await.next_offset;
    let (frames, expired) = frames_and_expired(&mut following);
    assert_eq!(frames, (seen..bases[1]).chain(bases[2]..end).collect::<Vec<_>>());
    assert_eq!(expired, [(bases[1], bases[2])]);
}

#[tokio::test]
async fn a_read_at_the_live_end_is_cheap() {
    let live = MemStorage::default();
    let mut running = start_untended(&live);
    running.commit(vec![routine(&origin(1, 1), 0)]).await;
    let storage = Watched::new(live.clone());
    let mut following = Reader::open_on(Arc::new(storage.clone()), dir(), Filter::default()).unwrap();
    assert_eq!(offsets(&mut following), [0]);
    storage.take_read_bytes();
    for _ in 0..10 {
        assert!(following.next().is_none());
    }
    let bytes = storage.take_read_bytes();
    assert!(bytes <= 10 * 256, "{bytes} bytes for ten looks");
    running.commit(vec![routine(&origin(1, 1), 1)]).await;
    assert_eq!(offsets(&mut following), [1]);
    running.finish().await;
}

/// Overwrites the header of a block with zeros, in a segment that is still written.
fn wipe_header(storage: &MemStorage, first_offset: u64) {
    let path = dir().join(crate::format::names::segment_name(0));
    let mut image = storage.content(&path);
    let is_block = |at: &usize| {
        image[*at..].starts_with(b"TMAB")
            && image[at + 5] == 1
            && image[at + 32..at + 40] == first_offset.to_le_bytes()
    };
    let at = (0..image.len() - 64).find(is_block).unwrap();
    image[at..at + 64].fill(0);
    overwrite(storage, &path, &image);
}

#[tokio::test]
async fn a_wiped_header_is_not_taken_for_the_live_end() {
    let storage = MemStorage::default();
    let mut running = start_untended(&storage);
    for sequence in 0..3 {
        running.commit(vec![routine(&origin(1, 1), sequence)]).await;
    }
    wipe_header(&storage, 1);
    // A new reader searches the zeros.
    assert_eq!(damage(&storage, 0, u64::MAX), [(1, 1)]);
    let everything = items(&storage, Filter::default());
    assert!(everything.iter().any(|item| matches!(item, Item::Damage(_))));
    running.finish().await;
}

#[tokio::test]
async fn a_follower_finds_a_wiped_header_when_the_end_moves() {
    let disk = cut_after(1).await;
    let mut following = reader(&disk);
    assert_eq!(offsets(&mut following), [0]);
    // The file grows under the reader.
    let path = dir().join(crate::format::names::segment_name(0));
    let mut image = disk.content(&path);
    append_blocks(&mut image, 1..3);
    overwrite(&disk, &path, &image);
    assert!(following.next().is_none(), "it looks like space allocated ahead");
    following.set_to_offset(Some(3));
    let found: Vec<_> = following.by_ref().map(Result::unwrap).collect();
    assert!(matches!(&found[0], Item::Damage(damage) if damage.offsets == (1..2)), "{found:?}");
    assert!(matches!(&found[1], Item::Frame(stored) if stored.offset == 2));
    assert_eq!(found.len(), 2);
}

/// Appends a block for each of `offsets`. The header of the first one is zeros.
fn append_blocks(image: &mut [u8], offsets: std::ops::Range<u64>) {
    use crate::format::{BlockEncoder, SegmentHeader};
    let segment_id = SegmentHeader::decode(image).unwrap().segment_id;
    let mut at = image.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(64) + 64;
    let first = at;
    for offset in offsets {
        let mut encoder = BlockEncoder::default();
        encoder.push(&runs([routine(&origin(1, 1), offset)]));
        encoder.finish();
        let block = encoder.seal(segment_id, at as u64, offset, offset).to_vec();
        image[at..at + block.len()].copy_from_slice(&block);
        at += block.len();
    }
    image[first..first + 64].fill(0);
}

#[tokio::test]
async fn damage_beyond_the_end_is_reported_when_the_end_moves_there() {
    let storage = MemStorage::default();
    let mut running = start_untended(&storage);
    for commit in 0..3 {
        let batch = (commit * 10..commit * 10 + 10).map(|sequence| routine(&origin(1, 1), sequence));
        running.commit(batch.collect()).await;
    }
    wipe_header(&storage, 10);
    let filter = Filter { to_offset: Some(4), ..Filter::default() };
    let mut following = Reader::open_on(Arc::new(storage.clone()), dir(), filter).unwrap();
    let mut reported = Vec::new();
    for to in [12, 12, 13, 25, 30] {
        following.set_to_offset(Some(to));
        for item in following.by_ref() {
            match item.unwrap() {
                Item::Frame(stored) => reported.push((stored.offset, stored.offset)),
                Item::Damage(damage) => reported.push((damage.offsets.start, damage.offsets.end)),
                Item::Expired(offsets) => panic!("{offsets:?}"),
            }
        }
    }
    let frames = |offsets: std::ops::Range<u64>| offsets.map(|offset| (offset, offset));
    let expected = frames(0..10).chain([(10, 12), (12, 13), (13, 20)]).chain(frames(20..30));
    assert_eq!(reported, expected.collect::<Vec<_>>());
    running.finish().await;
}

#[tokio::test]
async fn a_damaged_segment_header_is_reported_only_to_readers_of_that_segment() {
    let (storage, running, bases) = segments(3).await;
    running.finish().await;
    let path = dir().join(crate::format::names::segment_name(bases[1]));
    let mut image = storage.content(&path);
    image[20] ^= 1;
    storage.put(&path, image);
    let reports = |from_offset, to_offset| {
        let filter = Filter { from_offset, to_offset, ..Filter::default() };
        items(&storage, filter).iter().filter(|item| matches!(item, Item::Damage(_))).count()
    };
    assert_eq!(reports(0, None), 1);
    assert_eq!(reports(bases[1] + 7, None), 1);
    assert_eq!(reports(bases[2], None), 0);
    assert_eq!(reports(0, Some(bases[1])), 0);
    // This offset is in the newest segment, but behind its last frame.
    let newest = dir().join(crate::format::names::segment_name(bases[2]));
    let mut image = storage.content(&newest);
    image[20] ^= 1;
    storage.put(&newest, image);
    assert_eq!(reports(bases[2] + 1_000_000, None), 0);
    assert_eq!(reports(bases[2], None), 1);
}

#[tokio::test]
async fn large_blocks_are_read_once() {
    use crate::format::{BlockEncoder, SegmentHeader};
    let (segment_id, frames) = (77, 5_000);
    let header = SegmentHeader { log_id: 1, segment_id, base_offset: 0, created_ns: 0 };
    let mut image = header.encode().to_vec();
    for block in 0..4 {
        let batch: Vec<_> = (0..frames).map(|sequence| routine(&origin(1, 1), sequence)).collect();
        let mut encoder = BlockEncoder::default();
        encoder.push(&runs(batch));
        encoder.finish();
        let position = image.len() as u64;
        image.extend_from_slice(encoder.seal(segment_id, position, block * frames, block * frames));
    }
    let len = image.len() as u64;
    let storage = MemStorage::default();
    storage.put(&dir().join(crate::format::names::segment_name(0)), image);
    let storage = Watched::new(storage);
    let mut reader = Reader::open_on(Arc::new(storage.clone()), dir(), Filter::default()).unwrap();
    assert_eq!(offsets(&mut reader), (0..4 * frames).collect::<Vec<_>>());
    let read = storage.take_read_bytes();
    assert!(read < len + 1_000, "{read} bytes read of {len}");
}
