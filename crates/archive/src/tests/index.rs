//! Tests that readers with an index find the same as readers without one, and read less.

mod written;

use std::path::PathBuf;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::support::*;
use super::watched::Watched;
use crate::format::names::index_name;
use crate::maintain::index_file::{BuildLimits, Built, build, build_from};
use crate::read::index::{self, NoIndex};
use crate::storage::dir::Dir;
use crate::storage::mem::MemStorage;
use crate::{Config, Filter, Item, Reader, Storage, StoredFrame};
use frame::{Frame, FramePriority, Origin, Selection, SourceKind, Station, StreamKey};

fn dir_of(storage: &MemStorage) -> Dir {
    Dir::new(Arc::new(storage.clone()), dir().to_owned())
}

/// Builds the index of every sealed segment. Returns how many there are.
fn index_all(storage: &MemStorage) -> usize {
    let dir = dir_of(storage);
    let bases = dir.segments().unwrap();
    for base in &bases[..bases.len() - 1] {
        assert!(matches!(build(&dir, *base, &BuildLimits::NONE).unwrap(), Built::Written { .. }));
        assert!(index::is_sound(&dir, *base).unwrap());
    }
    bases.len() - 1
}

/// Creates a random log: turns of any length, several streams of the same sources, jumping times, small and large runs.
async fn random_log(rng: &mut StdRng) -> MemStorage {
    let storage = MemStorage::default();
    let mut running = start_untended(&storage);
    let origins: Vec<Arc<Origin>> = (0..rng.random_range(2..8)).map(|_| random_origin(rng)).collect();
    let turn_max = [1, 4, 60][rng.random_range(0..3)];
    let payload_max = [1, 40, 256][rng.random_range(0..3)];
    let mut now_ns = 1_000_000_i64;
    let mut sequence = 0;
    while segment_count(&storage) < 3 {
        let batches = rng.random_range(1..6);
        for _ in 0..batches {
            let mut batch: Vec<Frame> = Vec::new();
            while batch.len() < 64 {
                let origin = &origins[rng.random_range(0..origins.len())];
                let priority = FramePriority::ALL[usize::from(rng.random_bool(0.9))];
                for _ in 0..rng.random_range(1..=turn_max).min(64 - batch.len()) {
                    sequence += 1;
                    now_ns += rng.random_range(-50..100);
                    let len = rng.random_range(0..payload_max);
                    batch.push(Frame { received_ns: now_ns, ..frame(origin, priority, sequence, len) });
                }
            }
            running.append(batch).await;
            // A clock that is set forward and back.
            if rng.random_bool(0.05) {
                now_ns += rng.random_range(-50_000..50_000);
            }
        }
        running.commits.recv().await.unwrap();
    }
    running.finish().await;
    storage
}

fn random_origin(rng: &mut StdRng) -> Arc<Origin> {
    let kinds = [SourceKind::LiveUplink, SourceKind::ArchivedReplay];
    Arc::new(Origin {
        stream: StreamKey {
            source_id: rng.random_range(1..4),
            source_kind: kinds[rng.random_range(0..2)],
            station: Station::new(["", "Svalbard"][rng.random_range(0..2)]).unwrap(),
        },
        epoch: rng.random_range(1..3),
    })
}

fn segment_count(storage: &MemStorage) -> usize {
    dir_of(storage).segments().unwrap().len()
}

fn random_filter(rng: &mut StdRng, frames: &[StoredFrame]) -> Filter {
    let mut offset = || rng.random_range(0..frames.len() as u64 + 10);
    let (from_offset, to_offset) = (offset(), offset());
    let mut time = || frames[rng.random_range(0..frames.len())].frame.received_ns;
    let (from_ns, to_ns) = (time(), time());
    let sources: Vec<u32> = (0..rng.random_range(0..3)).map(|_| rng.random_range(1..5)).collect();
    let kind = if rng.random_bool(0.5) { SourceKind::LiveUplink } else { SourceKind::ArchivedReplay };
    let priority = FramePriority::ALL[rng.random_range(0..2)];
    let epoch = frames[rng.random_range(0..frames.len())].frame.origin.epoch;
    let mut some = |share| rng.random_bool(share);
    let selection = Selection::of_sources(sources)
        .with_priority(some(0.4).then_some(priority))
        .with_kind(some(0.3).then_some(kind));
    Filter {
        from_offset: if some(0.4) { from_offset } else { 0 },
        to_offset: some(0.3).then_some(to_offset),
        from_received_ns: some(0.3).then_some(from_ns),
        to_received_ns: some(0.3).then_some(to_ns),
        selection,
        epoch: some(0.2).then_some(epoch),
        limit: some(0.1).then_some(from_offset),
    }
}

/// Applies a filter frame by frame.
fn naive(frames: &[StoredFrame], filter: &Filter) -> Vec<(u64, Fields)> {
    let taken = frames.iter().filter(|stored| {
        stored.offset >= filter.from_offset
            && filter.to_offset.is_none_or(|to| stored.offset < to)
            && filter.from_received_ns.is_none_or(|from| stored.frame.received_ns >= from)
            && filter.to_received_ns.is_none_or(|to| stored.frame.received_ns < to)
            && filter.epoch.is_none_or(|epoch| stored.frame.origin.epoch == epoch)
            && filter.selection.takes(&stored.frame)
    });
    let limit = filter.limit.map_or(usize::MAX, |limit| limit as usize);
    taken.take(limit).map(|stored| (stored.offset, fields(&stored.frame))).collect()
}

fn read(storage: Arc<dyn Storage>, filter: &Filter) -> Vec<(u64, Fields)> {
    let items = Reader::open_on(storage, dir(), filter.clone()).unwrap();
    let frame = |item| match item {
        Ok(Item::Frame(stored)) => (stored.offset, fields(&stored.frame)),
        other => panic!("{other:?}"),
    };
    items.map(frame).collect()
}

#[tokio::test]
async fn a_filter_returns_the_same_frames_with_and_without_an_index() {
    let mut saved = 0;
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed);
        let plain = random_log(&mut rng).await;
        let all = frames(&plain);
        let indexed = plain.clone_disk();
        index_all(&indexed);
        let (plain, indexed) = (Watched::new(plain), Watched::new(indexed));
        for _ in 0..20 {
            let filter = random_filter(&mut rng, &all);
            let expected = naive(&all, &filter);
            assert!(read(Arc::new(plain.clone()), &filter) == expected, "seed {seed}: {filter:?}");
            assert!(read(Arc::new(indexed.clone()), &filter) == expected, "seed {seed}, index: {filter:?}");
            saved += u32::from(indexed.take_read_bytes() < plain.take_read_bytes());
        }
    }
    assert!(saved > 30, "only {saved} of 120 queries read less with an index");
}

#[tokio::test]
async fn a_follower_whose_end_moves_finds_the_same() {
    for seed in 100..104 {
        let mut rng = StdRng::seed_from_u64(seed);
        let storage = random_log(&mut rng).await;
        let all = frames(&storage);
        index_all(&storage);
        for _ in 0..8 {
            let filter = Filter { to_offset: None, limit: None, ..random_filter(&mut rng, &all) };
            let expected = naive(&all, &filter);
            let moving = Filter { to_offset: Some(0), ..filter.clone() };
            let mut reader = Reader::open_on(Arc::new(storage.clone()), dir(), moving).unwrap();
            let (mut found, mut to) = (Vec::new(), 0);
            while to < all.len() as u64 {
                to += rng.random_range(1..400);
                reader.set_to_offset(Some(to));
                found.extend(reader.by_ref().map(|item| match item.unwrap() {
                    Item::Frame(stored) => (stored.offset, fields(&stored.frame)),
                    other => panic!("{other:?}"),
                }));
                assert!(found.last().is_none_or(|(offset, _)| *offset < to));
            }
            assert!(found == expected, "seed {seed}: {filter:?}");
        }
    }
}

#[tokio::test]
async fn an_index_with_any_byte_wrong_changes_no_result() {
    let mut rng = StdRng::seed_from_u64(7);
    let storage = random_log(&mut rng).await;
    let all = frames(&storage);
    index_all(&storage);
    let path = dir().join(index_name(0));
    let sound = storage.content(&path);
    // The test damages only the index of the first segment, so the filters leave out later segments.
    let to_offset = Some(900);
    let times = Filter { from_received_ns: Some(all[300].frame.received_ns), to_offset, ..Filter::default() };
    let source = Filter { selection: Selection::of_sources([1]), to_offset, ..Filter::default() };
    let filters = [times, source];
    let expected = filters.each_ref().map(|filter| naive(&all, filter));
    let step = (sound.len() / 150).max(1);
    let places = (0..96).chain((96..sound.len()).step_by(step));
    let flipped = places.map(|at| {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    let cut = [0, 1, 95, 96, sound.len() / 2, sound.len() - 1].map(|len| sound[..len].to_vec());
    let longer = [[sound.clone(), vec![0]].concat()];
    for bytes in flipped.chain(cut).chain(longer) {
        storage.put(&path, bytes);
        for (filter, expected) in filters.iter().zip(&expected) {
            assert!(read(Arc::new(storage.clone()), filter) == *expected, "{filter:?}");
        }
    }
}

#[tokio::test]
async fn the_index_of_another_segment_is_not_taken() {
    let mut rng = StdRng::seed_from_u64(8);
    let (storage, other) = (random_log(&mut rng).await, random_log(&mut rng).await);
    let all = frames(&storage);
    index_all(&other);
    let path = dir().join(index_name(0));
    storage.put(&path, other.content(&path));
    assert!(!index::is_sound(&dir_of(&storage), 0).unwrap());
    for source in 1..4 {
        let filter = Filter { selection: Selection::of_sources([source]), ..Filter::default() };
        assert!(read(Arc::new(storage.clone()), &filter) == naive(&all, &filter));
    }
}

/// Returns the offsets of the frames found and the offsets reported as lost. Checks each frame against `all`.
fn reported(storage: &MemStorage, filter: &Filter, all: &[StoredFrame]) -> (Vec<u64>, Vec<u64>) {
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    for item in items(storage, filter.clone()) {
        match item {
            Item::Frame(stored) => {
                let written = &all[stored.offset as usize].frame;
                assert!(fields(&stored.frame) == fields(written), "offset {}", stored.offset);
                found.push(stored.offset);
            }
            Item::Damage(damage) => lost.extend(damage.offsets),
            Item::Expired(offsets) => panic!("expired: {offsets:?}"),
        }
    }
    (found, lost)
}

#[tokio::test]
async fn damage_in_an_indexed_segment_is_always_reported() {
    let mut rng = StdRng::seed_from_u64(9);
    let plain = random_log(&mut rng).await;
    let all = frames(&plain);
    let indexed = plain.clone_disk();
    index_all(&indexed);
    let path = dir_of(&plain).segment(0);
    // The damage is in the first segment. Where the next one begins, all of it must have been reported.
    let to_offset = Some(dir_of(&plain).segments().unwrap()[1]);
    let sound = plain.content(&path);
    let mut fell_back = 0;
    for (number, at) in (0..sound.len()).step_by(sound.len() / 24).enumerate() {
        let mut bytes = sound.clone();
        match number % 2 {
            0 => bytes[at] ^= 1,
            _ => bytes[at..(at + 200).min(sound.len())].fill(0xA5),
        }
        plain.put(&path, bytes.clone());
        indexed.put(&path, bytes);
        for source in 1..4 {
            let selection = Selection::of_sources([source]);
            let filter = Filter { selection, to_offset, ..Filter::default() };
            let expected: Vec<u64> = naive(&all, &filter).into_iter().map(|(offset, _)| offset).collect();
            let (found, lost) = reported(&indexed, &filter, &all);
            // A run may be sound in a damaged block. Then the index finds more frames than a walk, but none twice.
            let (found_by_walk, _) = reported(&plain, &filter, &all);
            assert!(found.is_sorted_by(|one, other| one < other), "at {at}, source {source}");
            assert!(found_by_walk.iter().all(|offset| found.binary_search(offset).is_ok()));
            for offset in expected {
                let known = found.binary_search(&offset).is_ok() || lost.contains(&offset);
                assert!(known, "at {at}, source {source}: offset {offset} is neither found nor lost");
            }
            fell_back += u32::from(!lost.is_empty());
        }
        // A reader that asks for everything gets every report.
        let everything = Filter { from_offset: 1, to_offset, ..Filter::default() };
        assert_eq!(reported(&indexed, &everything, &all), reported(&plain, &everything, &all), "at {at}");
    }
    assert!(fell_back > 6, "only {fell_back} of 72 queries met the damage");
}

#[tokio::test]
async fn one_source_of_many_costs_little_more_than_what_it_returns() {
    let storage = MemStorage::default();
    let config = Config {
        segment_bytes: 8 << 20,
        reserve_bytes: 4 << 20,
        max_streams: 64,
        payload_bytes_max: 1_115,
        ..config()
    };
    let mut running = start_with(config, storage.clone(), None);
    let origins: Vec<_> = (0..48).map(|source| origin(source, 1)).collect();
    let mut rng = StdRng::seed_from_u64(10);
    let mut sequence = 0;
    while segment_count(&storage) < 3 {
        for origin in &origins {
            let turn = sequence..sequence + 16;
            sequence += 16;
            let frame = |sequence| routine_of(origin, sequence, rng.random_range(64..=1_115));
            running.append(turn.map(frame).collect()).await;
        }
        running.commits.recv().await.unwrap();
    }
    running.finish().await;
    index_all(&storage);
    let sealed = *dir_of(&storage).segments().unwrap().last().unwrap();
    let watched = Watched::new(storage);
    let filter =
        Filter { selection: Selection::of_sources([7]), to_offset: Some(sealed), ..Filter::default() };
    let found = read(Arc::new(watched.clone()), &filter);
    let returned: u64 = found.iter().map(|(_, fields)| 32 + fields.6.len() as u64).sum();
    assert!(returned > 100_000, "{returned}");
    // Size of chunk table and directory of two indexes. Tests have 64 times as many chunks.
    let tables = 2 * (8 << 20) / (16 << 10) * 32 + 2 * 48 * 88;
    let read = watched.take_read_bytes();
    assert!(read < returned * 3 / 2 + tables, "{read} bytes read for {returned}, tables {tables}");
}

fn routine_of(origin: &Arc<Origin>, sequence: u64, len: usize) -> Frame {
    frame(origin, FramePriority::Routine, sequence, len)
}

#[tokio::test]
async fn a_full_disk_leaves_no_part_of_an_index() {
    let mut rng = StdRng::seed_from_u64(11);
    let storage = random_log(&mut rng).await;
    let before = storage.paths();
    storage.set_capacity(Some(storage.used() + 100));
    let dir = dir_of(&storage);
    assert_eq!(build(&dir, 0, &BuildLimits::NONE).unwrap(), Built::NoSpace);
    assert_eq!(storage.paths(), before);
    assert!(!index::is_sound(&dir, 0).unwrap());
    // The index must leave the space that the log needs.
    storage.set_capacity(Some(storage.used() + 200_000));
    let polite = BuildLimits { spare_bytes: 200_000, ..BuildLimits::NONE };
    assert_eq!(build(&dir, 0, &polite).unwrap(), Built::NoSpace);
    assert_eq!(storage.paths(), before);
    storage.set_capacity(None);
    assert!(matches!(build(&dir, 0, &BuildLimits::NONE).unwrap(), Built::Written { .. }));
}

#[tokio::test]
async fn damaged_and_unsealed_segments_get_no_index() {
    let mut rng = StdRng::seed_from_u64(12);
    let storage = random_log(&mut rng).await;
    let dir = dir_of(&storage);
    let bases = dir.segments().unwrap();
    assert_eq!(
        build(&dir, *bases.last().unwrap(), &BuildLimits::NONE).unwrap(),
        Built::Without(NoIndex::NotSealed)
    );
    assert_eq!(
        build(&dir, 3, &BuildLimits::NONE).unwrap(),
        Built::Without(NoIndex::NotSealed),
        "there is no such segment"
    );
    let mut image = storage.content(&dir.segment(0));
    let middle = image.len() / 2;
    image[middle] ^= 1;
    storage.put(&dir.segment(0), image);
    assert_eq!(build(&dir, 0, &BuildLimits::NONE).unwrap(), Built::Without(NoIndex::Damaged));
}

#[tokio::test]
async fn unfinished_and_stale_indexes_are_removed() {
    let mut rng = StdRng::seed_from_u64(13);
    let storage = random_log(&mut rng).await;
    let count = index_all(&storage);
    let dir = dir_of(&storage);
    storage.put(&PathBuf::from("/archive/00000000000000000000.idx.tmp"), vec![1]);
    storage.unlink(&dir.segment(0)).unwrap();
    dir.remove_stale(&dir.list().unwrap()).unwrap();
    let indexes = storage.paths().iter().filter(|path| path.to_string_lossy().contains(".idx")).count();
    assert_eq!(indexes, count - 1);
}

#[tokio::test]
async fn building_an_index_can_be_stopped_between_two_blocks() {
    let mut rng = StdRng::seed_from_u64(14);
    let storage = random_log(&mut rng).await;
    let before = storage.paths();
    let dir = dir_of(&storage);
    let asked = std::cell::Cell::new(0);
    let is_stopped = || asked.replace(asked.get() + 1) == 5;
    let limits = BuildLimits { is_stopped: &is_stopped, ..BuildLimits::NONE };
    assert_eq!(build(&dir, 0, &limits).unwrap(), Built::Without(NoIndex::Stopped));
    assert_eq!(asked.get(), 6, "nothing was read after that");
    assert_eq!(storage.paths(), before);
}
