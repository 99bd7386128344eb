//! Tests that an index built while a segment is written equals one built by a walk.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::log::shared::Shared;
use crate::maintain::{Maintenance, Parts, SystemClock, steps};
use crate::read::index::IndexState;
use crate::storage::mem::Op;
use crate::{Access, Retention};
use frame::{Batch, FrameRun, Lanes, joined};

/// Generates the frames of a random log.
struct Writing {
    origins: Vec<Arc<Origin>>,
    payload_max: usize,
    now_ns: i64,
    sequence: u64,
}

impl Writing {
    fn new(rng: &mut StdRng, origins: usize, payload_max: usize) -> Self {
        let origins = (0..origins as u32).map(|source| match rng.random_bool(0.5) {
            true => random_origin(rng),
            false => origin(source, 1),
        });
        Self { origins: origins.collect(), payload_max, now_ns: 1_000_000, sequence: 0 }
    }

    /// Returns frames of both lanes, in runs of one or many frames.
    fn batch(&mut self, rng: &mut StdRng) -> Vec<Batch> {
        let mut batch: Vec<FrameRun> = Vec::new();
        let (mut left, mut bytes) = (rng.random_range(1..=64), 200 << 10);
        while left > 0 && bytes > 0 {
            let origin = &self.origins[rng.random_range(0..self.origins.len())];
            let priority = FramePriority::ALL[usize::from(rng.random_bool(0.9))];
            self.now_ns += rng.random_range(-50..100);
            let mut turn = Vec::new();
            for _ in 0..rng.random_range(1..=left) {
                self.sequence += 1;
                let len = rng.random_range(0..self.payload_max);
                bytes -= len as i64;
                turn.push(Frame { received_ns: self.now_ns, ..frame(origin, priority, self.sequence, len) });
                if bytes < 0 {
                    break;
                }
            }
            left -= turn.len();
            match rng.random_bool(0.5) {
                true => batch.extend(joined(&turn)),
                false => batch.extend(turn.into_iter().map(FrameRun::from)),
            }
        }
        let (emergencies, routine): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|run| run.priority() == FramePriority::Emergency);
        let lanes = Lanes::new(emergencies, routine).into_iter().filter(|(_, runs)| !runs.is_empty());
        lanes.map(|(priority, runs)| Batch::new(priority, runs)).collect()
    }

    /// Writes until there are `segments` segments.
    async fn write(&mut self, rng: &mut StdRng, running: &Running, storage: &MemStorage, segments: usize) {
        let mut written = *running.archive.watermark().borrow();
        let mut watermark = running.archive.watermark();
        while segment_count(storage) < segments {
            for _ in 0..rng.random_range(1..6) {
                for batch in self.batch(rng) {
                    written += batch.len() as u64;
                    running.appender.append(batch).await.unwrap();
                }
            }
            watermark.wait_for(|offset| *offset >= written).await.unwrap();
        }
    }
}

/// Installs the indexes that the commit thread handed over, and checks them against a walk. Returns the bases of the
/// sealed segments without such an index.
fn install(storage: &MemStorage, shared: &Shared) -> Vec<u64> {
    let dir = dir_of(storage);
    let mut bases = dir.segments().unwrap();
    bases.pop();
    bases.retain(|base| {
        let Some(ready) = shared.handover.take_index(*base) else { return true };
        let built = build_from(&dir, *base, &BuildLimits::NONE, || Some(ready)).unwrap();
        assert!(matches!(built, Built::Written { .. }));
        assert!(index::is_sound(&dir, *base).unwrap());
        assert_eq!(index::check(&dir, *base).unwrap(), IndexState::Matches);
        false
    });
    bases
}

fn large() -> Config {
    Config {
        segment_bytes: 4 << 20,
        reserve_bytes: 2 << 20,
        max_streams: 512,
        payload_bytes_max: 150 << 10,
        ..config()
    }
}

#[tokio::test]
async fn an_index_built_while_writing_finds_exactly_the_selected_frames() {
    let shapes = [
        (config(), 3, 40),
        (config(), 8, 256),
        (config(), 12, 1),
        (large(), 5, 150 << 10),
        (large(), 300, 800),
    ];
    for (seed, (config, origins, payload_max)) in shapes.into_iter().enumerate() {
        let mut rng = StdRng::seed_from_u64(seed as u64);
        let plain = MemStorage::default();
        let running = start_with(config, plain.clone(), None);
        let shared = Arc::clone(&running.archive.shared);
        Writing::new(&mut rng, origins, payload_max).write(&mut rng, &running, &plain, 4).await;
        running.finish().await;
        let indexed = plain.clone_disk();
        assert!(install(&indexed, &shared).is_empty(), "seed {seed}: a walk is needed");
        let all = frames(&plain);
        for _ in 0..8 {
            let filter = random_filter(&mut rng, &all);
            let expected = naive(&all, &filter);
            assert!(read(Arc::new(indexed.clone()), &filter) == expected, "seed {seed}: {filter:?}");
        }
    }
}

#[tokio::test]
async fn a_segment_reopened_after_a_restart_is_indexed_by_a_walk_and_later_ones_while_writing() {
    let mut rng = StdRng::seed_from_u64(20);
    let storage = MemStorage::default();
    let mut writing = Writing::new(&mut rng, 4, 200);
    let mut all_left = Vec::new();
    for (start, crash) in [(1, false), (2, true), (3, false)] {
        let running = start_untended(&storage);
        let shared = Arc::clone(&running.archive.shared);
        let went_on = *dir_of(&storage).segments().unwrap().last().unwrap();
        writing.write(&mut rng, &running, &storage, 3 * start).await;
        for batch in writing.batch(&mut rng) {
            running.appender.append(batch).await.unwrap();
        }
        running.finish().await;
        if start > 1 {
            all_left.push(went_on);
        }
        assert_eq!(install(&storage, &shared).last(), all_left.last(), "run {start}");
        if crash {
            // Remove the last attestation, as if the process was killed before it wrote one.
            let last = *dir_of(&storage).segments().unwrap().last().unwrap();
            let path = dir_of(&storage).segment(last);
            let len = storage.content(&path).len() as u64 - crate::format::BLOCK_HEADER_BYTES;
            storage.open(&path, Access::ReadWrite).unwrap().set_len(len).unwrap();
        }
    }
    index_all(&storage);
    let all = frames(&storage);
    for source in 1..4 {
        let filter = Filter { selection: Selection::of_sources([source]), ..Filter::default() };
        assert!(read(Arc::new(storage.clone()), &filter) == naive(&all, &filter));
    }
}

/// Writes while `hook` refuses space from time to time. Compares each index with a walk.
async fn with_too_little_space(
    seed: u64,
    hook: impl Fn(Op, &std::path::Path) -> bool + Send + Sync + 'static,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    let storage = MemStorage::default();
    let running = start_untended(&storage);
    let shared = Arc::clone(&running.archive.shared);
    storage.set_hook(move |op, path| hook(op, path).then(|| std::io::ErrorKind::StorageFull.into()));
    Writing::new(&mut rng, 4, 256).write(&mut rng, &running, &storage, 3).await;
    running.finish().await;
    storage.clear_hook();
    assert!(install(&storage, &shared).is_empty(), "seed {seed}");
    let all = frames(&storage);
    let filter = Filter { selection: Selection::of_sources([1, 2]), ..Filter::default() };
    assert!(read(Arc::new(storage.clone()), &filter) == naive(&all, &filter), "seed {seed}");
}

#[tokio::test]
async fn a_block_that_waited_for_space_is_indexed_at_its_final_position() {
    for nth in 0..16 {
        // A single refusal: the block goes to the same place, or to the next segment if this one is nearly full.
        let count = AtomicU64::new(0);
        let once = move |op, _: &std::path::Path| op == Op::Write && count.fetch_add(1, SeqCst) == nth;
        with_too_little_space(nth, once).await;
    }
    for after in [1, 4, 7] {
        // From some moment on the first segment accepts no more bytes. The current block moves to the next segment.
        let first = dir().join("00000000000000000000.seg");
        let count = AtomicU64::new(0);
        let full = move |op, path: &std::path::Path| {
            path == first
                && (op == Op::Write && count.fetch_add(1, SeqCst) >= after
                    || op == Op::Allocate && count.load(SeqCst) > after)
        };
        with_too_little_space(after, full).await;
    }
}

#[tokio::test]
async fn maintenance_reads_no_segment_whose_index_was_built_while_writing() {
    let mut rng = StdRng::seed_from_u64(21);
    let storage = MemStorage::default();
    let running = start_untended(&storage);
    let (shared, published) = (Arc::clone(&running.archive.shared), Arc::clone(&running.archive.published));
    Writing::new(&mut rng, 4, 200).write(&mut rng, &running, &storage, 5).await;
    // When the thread has ended, all sealed segments are reported to maintenance.
    let log_id = running.recovery.log_id;
    running.finish().await;
    let bases = dir_of(&storage).segments().unwrap();
    shared.handover.set_current(bases[4], 0);
    let watched = Watched::new(storage.clone());
    let dir = Dir::new(Arc::new(watched.clone()), dir().to_owned());
    let sealed_bytes: u64 = bases[..4].iter().map(|base| dir.size(&dir.segment(*base)).unwrap()).sum();
    // The archive's own maintenance was stopped with the archive.
    let fresh = Arc::new(Shared::new(&config()));
    bases[..4]
        .iter()
        .filter_map(|base| shared.handover.take_index(*base))
        .for_each(|index| fresh.handover.put_index(index));
    fresh.handover.set_current(bases[4], 0);
    let mut maintenance = Maintenance::new(Parts {
        id: dir.id().unwrap(),
        log_id,
        dir: dir.clone(),
        retention: Retention::default(),
        clock: Arc::new(SystemClock),
        steps: steps(Vec::new(), 0),
        control: Arc::default(),
        shared: fresh,
        published,
    });
    maintenance.tick(true);
    let read_bytes = watched.take_read_bytes();
    assert!(read_bytes < 4 * 1_024, "{read_bytes} bytes read of {sealed_bytes}");
    for base in &bases[..4] {
        assert_eq!(index::check(&dir, *base).unwrap(), IndexState::Matches);
    }
}

#[tokio::test]
async fn an_index_that_does_not_match_the_file_is_rebuilt() {
    let mut rng = StdRng::seed_from_u64(22);
    let storage = MemStorage::default();
    let running = start_untended(&storage);
    let shared = Arc::clone(&running.archive.shared);
    Writing::new(&mut rng, 3, 100).write(&mut rng, &running, &storage, 2).await;
    running.finish().await;
    let dir = dir_of(&storage);
    let mut image = storage.content(&dir.segment(0));
    image.extend([0; 8]);
    storage.put(&dir.segment(0), image);
    build_from(&dir, 0, &BuildLimits::NONE, || shared.handover.take_index(0)).unwrap();
    assert_eq!(index::check(&dir, 0).unwrap(), IndexState::Matches);
}
