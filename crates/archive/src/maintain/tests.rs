//! Tests that call maintenance tick by tick with a fake clock, and tests that run its thread.

mod faults;
mod retention;
mod work;

use std::path::PathBuf;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::trust::EPOCH_NS;
use super::{Clock, Maintenance, Step, StepError};
use crate::Retention;
use crate::storage::dir::Dir;
use crate::storage::mem::MemStorage;
use crate::tests::support::{Running, config, frame, maintenance_of, origin, start_with};
use frame::FramePriority::Routine;

const COMMIT_FRAMES: u64 = 40;
/// Maximum size of a segment in these tests, without side files.
const SEGMENT_BYTES: u64 = 192 << 10;

/// Clocks that advance only when the test moves them. The wall clock starts at [`EPOCH_NS`].
#[derive(Default)]
pub(super) struct FakeClock {
    /// Nanoseconds since [`EPOCH_NS`].
    wall_ns: AtomicI64,
    monotonic: Mutex<Duration>,
}

impl FakeClock {
    /// Advances both clocks by `time`.
    fn pass(&self, time: Duration) {
        *self.monotonic.lock().unwrap() += time;
        self.wall_ns.fetch_add(time.as_nanos() as i64, Relaxed);
    }

    /// Sets the wall clock forward or back by `by_s` seconds.
    fn step(&self, by_s: i64) {
        self.wall_ns.fetch_add(by_s * 1_000_000_000, Relaxed);
    }
}

impl Clock for FakeClock {
    fn wall_ns(&self) -> i64 {
        EPOCH_NS + self.wall_ns.load(Relaxed)
    }

    fn monotonic(&self) -> Duration {
        *self.monotonic.lock().unwrap()
    }
}

/// An archive without a maintenance thread, and a `Maintenance` that the test calls.
struct Kept {
    storage: MemStorage,
    running: Running,
    maintenance: Maintenance,
    clock: Arc<FakeClock>,
    written: u64,
}

fn steps_none() -> Vec<Box<dyn Step>> {
    Vec::new()
}

impl Kept {
    fn new(retention: Retention, steps: Vec<Box<dyn Step>>) -> Self {
        Self::on(MemStorage::default(), retention, steps)
    }

    fn on(storage: MemStorage, retention: Retention, steps: Vec<Box<dyn Step>>) -> Self {
        Self::at(storage, retention, steps, Arc::default())
    }

    /// Starts the archive with the given clock.
    fn at(
        storage: MemStorage,
        retention: Retention,
        steps: Vec<Box<dyn Step>>,
        clock: Arc<FakeClock>,
    ) -> Self {
        let running = start_with(config(), storage.clone(), None);
        let maintenance =
            maintenance_of(&running, &storage, retention, Arc::clone(&clock) as Arc<dyn Clock>, steps);
        let written = running.recovery.next_offset;
        Self { storage, running, maintenance, clock, written }
    }

    /// Records that an operator confirms the clock.
    fn trust_clock(&mut self) {
        self.maintenance.control.confirm_clock();
        self.maintenance.shared.signal.wake();
        self.maintenance.note_clock();
    }

    /// Writes until there are `count` segments, including the one being written. The frames are received at
    /// `received_s` seconds after [`EPOCH_NS`].
    async fn fill(&mut self, count: usize, received_s: i64) {
        while self.segments().len() < count {
            self.commit(received_s).await;
        }
        self.settle().await;
    }

    async fn commit(&mut self, received_s: i64) {
        let origin = origin(1, 1);
        let frames = (self.written..self.written + COMMIT_FRAMES).map(|sequence| {
            let received_ns = EPOCH_NS + received_s * 1_000_000_000;
            frame::Frame { received_ns, ..frame(&origin, Routine, sequence, 200) }
        });
        let mut watermark = self.running.archive.watermark();
        self.running.append(frames.collect()).await;
        self.running.commits.recv().await.unwrap();
        self.written += COMMIT_FRAMES;
        watermark.wait_for(|offset| *offset == self.written).await.unwrap();
        self.settle().await;
    }

    /// Waits until the commit thread has published which segment it writes.
    async fn settle(&self) {
        // A rotation follows the commit. The commit thread rests only after it has rotated and notified maintenance.
        let [(_, commit_thread), _] = self.running.archive.liveness();
        loop {
            let newest = self.segments().pop().unwrap();
            let path = self.maintenance.dir.segment(self.maintenance.shared.handover.current_base());
            if commit_thread.look().is_at_rest && newest == path {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        let paths = self.storage.paths().into_iter();
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect()
    }

    fn bases(&self) -> Vec<u64> {
        let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        self.segments().iter().map(stem).collect()
    }

    /// Advances the clock by a second, then lets maintenance check everything.
    fn tick(&mut self) {
        self.clock.pass(Duration::from_secs(1));
        self.maintenance.tick(true);
    }

    /// Ticks often enough that `segments` segments can expire by age at the allowed pace.
    fn tick_for(&mut self, segments: usize) {
        self.tick();
        for _ in 1..segments {
            self.clock.pass(Duration::from_secs(59));
            self.tick();
        }
    }

    fn first_offset(&self) -> u64 {
        *self.running.archive.first_offset().borrow()
    }
}
