//! Compares the log with a model. The log runs on the fake storage, with crashes at any operation.
//!
//! The model is a list. Acknowledged frames must be in the log, in order, exactly once. Behind them there may be frames
//! that were handed over but not acknowledged, in order and without a gap. The log holds nothing else. The oldest
//! acknowledged frames may have expired, but no position is lost.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::new_storage;
use super::support::*;
use crate::maintain::{self, Maintenance, SystemClock};
use crate::open::open_with;
use crate::storage::mem::{MemStorage, Op};
use crate::{Config, OpenError, Retention, StreamPosition};
use frame::{ANONYMOUS_EPOCH_MIN, Frame, FramePriority, Lanes, StreamKey, batches_of};

#[derive(Clone, Debug)]
enum Step {
    /// Appends batches of these sizes. Waits until all frames are acknowledged or the archive has failed.
    Append(Vec<usize>),
    /// Stops in good order and starts again.
    Restart,
    /// Loses power after `after` operations and starts again. Power also fails during the starts, as `start_after`
    /// says.
    Crash { after: u64, start_after: Vec<u64>, seed: Option<u64> },
    /// Kills the process after `after` operations.
    Kill { after: u64 },
    /// A sync fails, the process restarts, and later the power fails.
    FailSync,
    /// Lowers the epoch of a source's stream by `by`, or forgets the stream if `by` is `None`. With `cut`, the power
    /// fails after that many operations of the edit.
    Edit { source: u32, by: Option<u64>, cut: Option<(u64, Option<u64>)> },
    /// Runs maintenance over everything. With `cut`, the power fails after that many operations of maintenance.
    Maintenance { cut: Option<(u64, Option<u64>)> },
    /// Turns short writes on or off.
    ShortWrites(bool),
    /// The disk refuses space this many times.
    RefuseSpace(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = proptest::collection::vec(1_usize..20, 1..8).prop_map(Step::Append);
    let seed = proptest::option::of(any::<u64>());
    let starts = proptest::collection::vec(0_u64..12, 0..3);
    let crash = (0_u64..60, starts, seed).prop_map(|(after, start_after, seed)| Step::Crash {
        after,
        start_after,
        seed,
    });
    let cut = proptest::option::of((0_u64..14, proptest::option::of(any::<u64>())));
    let by = proptest::option::weighted(0.7, 1_u64..6);
    let edit = (0_u32..3, by, cut).prop_map(|(source, by, cut)| Step::Edit { source, by, cut });
    let step = prop_oneof![
        5 => append,
        1 => Just(Step::Restart),
        3 => crash,
        2 => (0_u64..60).prop_map(|after| Step::Kill { after }),
        1 => Just(Step::FailSync),
        3 => edit,
        2 => proptest::option::of((0_u64..8, proptest::option::of(any::<u64>()))).prop_map(|cut| Step::Maintenance { cut }),
        1 => any::<bool>().prop_map(Step::ShortWrites),
        1 => (1_u64..6).prop_map(Step::RefuseSpace),
    ];
    proptest::collection::vec(step, 1..25)
}

fn small() -> Config {
    Config { segment_bytes: 56 << 10, reserve_bytes: 56 << 10, payload_bytes_max: 64, ..config() }
}

/// Space for about two sealed segments.
const RETENTION_BYTES: u64 = 168 << 10;

struct Model {
    storage: MemStorage,
    running: Option<Running>,
    maintenance: Option<Maintenance>,
    log_id: u64,
    /// Frames that must be in the log, by offset, starting at the first offset.
    acknowledged: Vec<Frame>,
    /// Frames that may follow, by lane. The order within a lane is kept.
    pending: [VecDeque<Frame>; 2],
    made: u64,
    /// Edited streams: the number of frames in the log before the edit, the stream, and its new epoch. `None` if it was
    /// forgotten.
    edits: Vec<(usize, StreamKey, Option<u64>)>,
    is_last_edit_sure: bool,
    /// For each source, how far its epochs are lowered in total.
    lowered: [u64; 3],
    /// The last published value.
    first_offset: u64,
}

fn maintenance(running: &Running, storage: &MemStorage) -> Maintenance {
    let retention = Retention { age: None, bytes: Some(RETENTION_BYTES) };
    maintenance_of(running, storage, retention, Arc::new(SystemClock), maintain::steps(Vec::new(), 0))
}

impl Model {
    fn new() -> Self {
        let storage = new_storage();
        let running = start_with(small(), storage.clone(), None);
        Self {
            log_id: running.recovery.log_id,
            maintenance: Some(maintenance(&running, &storage)),
            running: Some(running),
            storage,
            acknowledged: Vec::new(),
            pending: Default::default(),
            made: 0,
            edits: Vec::new(),
            is_last_edit_sure: true,
            lowered: [0; 3],
            first_offset: 0,
        }
    }

    async fn run(&mut self, step: Step) {
        match step {
            Step::Append(sizes) => self.append(sizes).await,
            Step::Restart => {
                self.stop().await;
                self.start();
            }
            Step::Crash { after, start_after, seed } => {
                self.storage.cut_power_after(after);
                self.append(vec![5; 20]).await;
                self.stop().await;
                self.storage.crash(seed);
                for after in start_after {
                    self.storage.cut_power_after(after);
                    match open_with(
                        small(),
                        self.storage.clone(),
                        |_: &crate::Commit<'_>| {},
                        Vec::new(),
                        None,
                    ) {
                        Ok((appender, archive, _)) => {
                            drop(appender);
                            _ = archive.finish().await;
                        }
                        Err(OpenError::Storage(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                    self.storage.crash(seed.map(|seed| seed ^ after));
                }
                self.start();
            }
            Step::Kill { after } => {
                self.storage.cut_power_after(after);
                self.append(vec![5; 20]).await;
                self.stop().await;
                self.storage.kill();
                self.start();
            }
            Step::FailSync => {
                self.storage.set_hook(|op, _| (op == Op::Sync).then(|| std::io::Error::other("i/o error")));
                self.append(vec![3; 3]).await;
                self.stop().await;
                self.storage.clear_hook();
                self.storage.kill();
                self.start();
                // Everything that the start announced must survive, even if the kernel has not written its cached
                // pages.
                self.stop().await;
                self.storage.crash(None);
                self.start();
            }
            Step::Edit { source, by, cut } => {
                if let Some((after, _)) = cut {
                    self.storage.cut_power_after(after);
                }
                self.edit(source, by).await;
                if let Some((_, seed)) = cut {
                    self.stop().await;
                    self.storage.crash(seed);
                    self.start();
                }
            }
            Step::Maintenance { cut: None } => self.tick(),
            Step::Maintenance { cut: Some((after, seed)) } => {
                self.storage.cut_power_after(after);
                self.maintenance.as_mut().unwrap().tick(true);
                self.stop().await;
                self.storage.crash(seed);
                self.start();
            }
            Step::ShortWrites(short) => self.storage.set_short_writes(short),
            Step::RefuseSpace(times) => {
                let left = AtomicU64::new(times);
                self.storage.set_hook(move |op, _| {
                    let takes_space = matches!(op, Op::Allocate | Op::Write | Op::Create);
                    let refused =
                        takes_space && left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
                    refused.then(|| std::io::ErrorKind::StorageFull.into())
                });
                self.append(vec![19; 8]).await;
                self.storage.clear_hook();
            }
        }
    }

    /// Runs maintenance without faults. It must remove what exceeds the size limit, and nothing more.
    fn tick(&mut self) {
        // The commit thread completes its work on a segment before maintenance learns that the segment is sealed.
        let sizes = || -> Vec<(u64, u64)> {
            let segments = self
                .storage
                .paths()
                .into_iter()
                .filter(|path| path.extension().is_some_and(|it| it == "seg"));
            let size = |path: PathBuf| {
                let base = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
                (base, self.storage.content(&path).len() as u64)
            };
            segments.map(size).collect()
        };
        let before = sizes();
        self.maintenance.as_mut().unwrap().tick(true);
        let first = *self.running.as_ref().unwrap().archive.first_offset().borrow();
        let total_from =
            |base: u64| before.iter().filter(|(it, _)| *it >= base).map(|(_, size)| size).sum::<u64>();
        for (base, _) in before.iter().filter(|(base, _)| *base < first) {
            let total = total_from(*base);
            // The segment being written may have grown meanwhile, by less than a segment.
            assert!(
                total + small().segment_bytes > RETENTION_BYTES,
                "{base} expired among {total} bytes: {before:?}"
            );
        }
        let is_newest = before.last().is_none_or(|(base, _)| *base <= first);
        assert!(is_newest || total_from(first) <= RETENTION_BYTES, "{before:?} from {first} on");
    }

    async fn append(&mut self, sizes: Vec<usize>) {
        let batches: Vec<Vec<Frame>> = sizes.into_iter().map(|size| self.batch(size)).collect();
        let running = self.running.as_mut().unwrap();
        'all: for batch in batches {
            for frame in &batch {
                self.pending[frame.priority.lane()].push_back(frame.clone());
            }
            for batch in batches_of(batch) {
                if running.appender.append(batch).await.is_err() {
                    break 'all;
                }
            }
        }
        while self.pending.iter().any(|lane| !lane.is_empty()) {
            let Some(seen) = running.commits.recv().await else {
                return;
            };
            assert_eq!(seen.first_offset, self.acknowledged.len() as u64);
            for frame in seen.frames {
                let expected = self.pending[frame.priority.lane()].pop_front().unwrap();
                assert_eq!(fields(&frame), fields(&expected));
                self.acknowledged.push(frame);
            }
            assert_eq!(seen.next_offset, self.acknowledged.len() as u64);
        }
    }

    /// If the edit was not confirmed, it may or may not be done. The next start shows which.
    async fn edit(&mut self, source: u32, by: Option<u64>) {
        let stream = origin(source, 1).stream.clone();
        let Some(position) = self.positions().get(&stream).copied() else {
            return;
        };
        let epoch = by.map(|by| position.epoch.saturating_sub(by));
        let running = self.running.as_ref().unwrap();
        let reported = match epoch {
            Some(epoch) => reset(running, &stream, epoch).await,
            None => forget(running, std::slice::from_ref(&stream)).await,
        };
        self.edits.push((self.acknowledged.len(), stream, epoch));
        self.lowered[source as usize] += by.unwrap_or(0);
        match reported {
            Some(Ok(())) => {}
            // The storage refused the edit or is gone.
            Some(Err(_)) => _ = self.edits.pop(),
            None => self.is_last_edit_sure = false,
        }
    }

    fn batch(&mut self, size: usize) -> Vec<Frame> {
        let frame = |index: u64| {
            let sequence = self.made + index;
            let lowered = self.lowered[(sequence % 3) as usize];
            let epoch = match sequence % 11 {
                0 => ANONYMOUS_EPOCH_MIN + sequence,
                1 => 1,
                // The epoch stays above 1 even if all steps lower it.
                _ => 200 + sequence / 500 - lowered,
            };
            let priority = FramePriority::ALL[usize::from(!sequence.is_multiple_of(7))];
            frame(&origin((sequence % 3) as u32, epoch), priority, sequence, (sequence % 65) as usize)
        };
        let frames = (0..size as u64).map(frame).collect();
        self.made += size as u64;
        frames
    }

    /// Ends the thread. Frames that it wrote last may be found later.
    async fn stop(&mut self) {
        let mut running = self.running.take().unwrap();
        self.maintenance = None;
        self.first_offset = *running.archive.first_offset().borrow();
        drop(running.appender);
        _ = running.archive.finish().await;
        while let Ok(seen) = running.commits.try_recv() {
            for frame in seen.frames {
                self.pending[frame.priority.lane()].pop_front().unwrap();
                self.acknowledged.push(frame);
            }
        }
    }

    fn start(&mut self) {
        let running = start_with(small(), self.storage.clone(), None);
        let read = frames(&self.storage);
        let recovery = &running.recovery;
        let first = recovery.first_offset;
        assert_eq!(recovery.log_id, self.log_id);
        assert!(recovery.holes.is_empty(), "{:?}", recovery.holes);
        assert!(first >= self.first_offset, "{first} came back, {} was announced", self.first_offset);
        assert_eq!(recovery.next_offset, first + read.len() as u64);
        assert!(recovery.next_offset >= self.acknowledged.len() as u64, "acknowledged frames are missing");
        let mut acknowledged = self.acknowledged.iter().skip(first as usize);
        for (offset, stored) in (first..).zip(&read) {
            let lane = &mut self.pending[stored.frame.priority.lane()];
            let expected =
                acknowledged.next().cloned().or_else(|| lane.pop_front()).expect("an invented frame");
            assert_eq!(stored.offset, offset);
            assert_eq!(fields(&stored.frame), fields(&expected));
        }
        // Frames that recovery announces count as acknowledged.
        self.acknowledged.truncate(first as usize);
        self.acknowledged.extend(read.into_iter().map(|stored| stored.frame));
        self.pending = Default::default();
        let found: BTreeMap<_, _> = recovery.positions.iter().cloned().collect();
        if !std::mem::replace(&mut self.is_last_edit_sure, true) && found != self.positions() {
            self.edits.pop();
        }
        assert_eq!(found, self.positions());
        self.maintenance = Some(maintenance(&running, &self.storage));
        self.running = Some(running);
    }

    fn positions(&self) -> BTreeMap<StreamKey, StreamPosition> {
        let mut positions: BTreeMap<StreamKey, StreamPosition> = BTreeMap::new();
        let mut edits = self.edits.iter().peekable();
        for index in 0..=self.acknowledged.len() {
            while let Some((_, stream, epoch)) = edits.next_if(|(behind, ..)| *behind == index) {
                match *epoch {
                    Some(epoch) => {
                        positions.insert(stream.clone(), StreamPosition { epoch, next: Lanes::new(0, 0) })
                    }
                    None => positions.remove(stream),
                };
            }
            let Some(frame) = self.acknowledged.get(index).filter(|frame| !frame.origin.is_anonymous())
            else {
                continue;
            };
            let epoch = frame.origin.epoch;
            let entry = positions.entry(frame.origin.stream.clone()).or_default();
            if epoch > entry.epoch {
                *entry = StreamPosition { epoch, next: Lanes::new(0, 0) };
            }
            if epoch == entry.epoch {
                let next = &mut entry.next[frame.priority];
                *next = (*next).max(frame.sequence + 1);
            }
        }
        positions
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

fn run(steps: Vec<Step>) {
    runtime().block_on(async {
        let mut model = Model::new();
        for step in steps {
            model.run(step).await;
        }
        model.stop().await;
        model.start();
        model.stop().await;
    });
}

/// Few cases by default, because every case starts archives. `PROPTEST_CASES` sets another number.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_was_acknowledged(steps in steps()) {
        run(steps);
    }
}

#[test]
fn power_may_fail_at_any_operation() {
    // 20 batches of 20 frames before each cut begin several segments.
    for after in 0..60 {
        for seed in [None, Some(after), Some(after + 1_000)] {
            let crash = |after| Step::Crash { after, start_after: vec![after % 7, after % 13], seed };
            run(vec![Step::Append(vec![20; 20]), crash(after), crash(60 - after)]);
        }
    }
}

#[test]
fn power_may_fail_at_any_operation_of_maintenance() {
    for after in 0..12 {
        for seed in [None, Some(after), Some(after + 1_000)] {
            runtime().block_on(async {
                let mut model = Model::new();
                for _ in 0..3 {
                    model.run(Step::Append(vec![20; 160])).await;
                }
                model.run(Step::Maintenance { cut: Some((after, seed)) }).await;
                model.run(Step::Maintenance { cut: None }).await;
                model.stop().await;
                assert!(model.first_offset > 0, "nothing expired");
                model.start();
                model.stop().await;
            });
        }
    }
}
