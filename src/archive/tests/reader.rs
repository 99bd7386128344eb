//! Readers beside restarts and damage.

use std::sync::Arc;

use super::support::*;
use crate::archive::reader::Damage;
use crate::archive::storage::mem::MemStorage;
use crate::archive::{Filter, Item, Reader, Storage};

fn reader(storage: &MemStorage) -> Reader {
    Reader::open_on(Arc::new(storage.clone()), dir(), Filter::default()).unwrap()
}

/// The offsets of what there is to read now; the reader stays usable.
fn offsets(reader: &mut Reader) -> Vec<u64> {
    let offset = |item| match item {
        Ok(Item::Frame(stored)) => stored.offset,
        other => panic!("{other:?}"),
    };
    reader.map(offset).collect()
}

/// A disk as a power cut right after `commits` commits leaves it.
async fn cut_after(commits: u64) -> MemStorage {
    let live = MemStorage::default();
    let mut running = start(&live);
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
    let mut running = start(&disk);
    assert_eq!(running.recovery.rewritten_frames, 1);
    running.commit(vec![routine(&origin(1, 1), 3)]).await;
    assert_eq!(offsets(&mut following), [3]);
    running.finish().await;
}

#[tokio::test]
async fn a_reader_follows_a_segment_that_a_restart_wrote_anew_under_its_name() {
    let disk = cut_after(1).await;
    let mut following = reader(&disk);
    assert_eq!(offsets(&mut following), [0]);
    let mut running = start(&disk);
    assert_eq!(running.recovery.rewritten_frames, 1);
    for sequence in 1..4 {
        running.commit(vec![routine(&origin(1, 1), sequence)]).await;
    }
    assert_eq!(offsets(&mut following), [1, 2, 3]);
    running.finish().await;
}

#[tokio::test]
async fn a_segment_written_anew_and_sealed_is_read_to_its_end() {
    let disk = cut_after(1).await;
    let mut following = reader(&disk);
    assert_eq!(offsets(&mut following), [0]);
    let mut running = start(&disk);
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
    let mut running = start(&storage);
    running.commit(vec![routine(&origin(1, 1), 0)]).await;
    assert_eq!(offsets(&mut following), [0]);
    running.finish().await;
}

/// First and last offset of each damage that a reader of `from_offset..to_offset` reports.
fn damage(storage: &MemStorage, from_offset: u64, to_offset: u64) -> Vec<(u64, u64)> {
    let filter = Filter { from_offset, to_offset: Some(to_offset), ..Filter::default() };
    let offsets = |item| match item {
        Item::Damage(Damage { offsets, .. }) => Some((offsets.start, offsets.end - 1)),
        Item::Frame(_) | Item::Expired(_) => None,
    };
    items(storage, filter).into_iter().filter_map(offsets).collect()
}

#[tokio::test]
async fn damage_is_reported_as_far_as_it_was_asked_for() {
    let storage = MemStorage::default();
    let mut running = start(&storage);
    for sequence in 0..4 {
        running.commit(vec![routine(&origin(1, 1), sequence)]).await;
    }
    running.finish().await;
    let path = storage.paths().into_iter().find(|path| path.extension().is_some()).unwrap();
    let mut image = storage.content(&path);
    let blocks: Vec<_> = (0..image.len() - 4).filter(|at| image[*at..].starts_with(b"TMAB")).collect();
    // Behind the positions, and one for each commit.
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
