//! The maintenance of sealed segments, on a separate thread with a low priority.
//!
//! For each sealed segment, oldest first, the maintenance thread runs the steps (the index, then the configured steps),
//! then retention. It removes files whose segment is gone. Only two errors here stop the archive: the directory is not
//! where it was locked, or a sync of the directory failed. After either of them, the next start might not find frames
//! acknowledged later. Every other error is logged, counted, and tried again later.

mod age;
mod clock;
mod foreign;
pub(crate) mod index_file;
mod retention;
mod retention_control;
mod segments;
mod steps;
#[cfg(test)]
mod tests;
mod trust;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::config::Retention;
use crate::log::published::Published;
use crate::log::shared::Shared;
use crate::log::thread::panic_text;
use crate::read::segments::misnamed;
use crate::storage::StorageError;
use crate::storage::dir::{Dir, DirId, Lock, gone};
use crate::thread::OwnedThread;
use clock::Reading;
use retention::Aging;
use segments::SealedSegments;
use trust::Trust;

pub(super) use clock::{Clock, SystemClock};
pub use index_file::build_indexes;
pub(super) use retention_control::RetentionControl;
pub use steps::{SealedSegment, SegmentStep, SegmentStepError};
pub(super) use steps::{Step, StepError, steps};
pub use trust::AgeHold;
pub(super) use trust::check_confirmable;

/// Name of the thread.
pub(super) const NAME: &str = "archive-upkeep";
/// Time between two checks that the directory is where it was locked.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Time between two passes, unless a segment was sealed.
const PASS_EVERY: Duration = Duration::from_secs(60);
/// The first pause after an error. The pause doubles with each further error.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The longest pause after an error.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// The nice value of the thread: a positive value gives way to other threads.
const NICENESS: i32 = 10;

/// What [`Maintenance::new`] needs.
pub(super) struct Parts {
    /// The archive's directory.
    pub(super) dir: Dir,
    /// The identity of the directory when it was locked.
    pub(super) id: DirId,
    /// The id of the log.
    pub(super) log_id: u64,
    /// The retention of the configuration.
    pub(super) retention: Retention,
    /// The clocks, which tests replace.
    pub(super) clock: Arc<dyn Clock>,
    /// The steps for each sealed segment, in their order.
    pub(super) steps: Vec<Box<dyn Step>>,
    /// Where operators set another retention and confirm the clock.
    pub(super) control: Arc<RetentionControl>,
    /// What the threads share.
    pub(super) shared: Arc<Shared>,
    /// What the threads publish.
    pub(super) published: Arc<Published>,
}

/// All state of the maintenance thread.
pub(super) struct Maintenance {
    /// The archive's directory.
    dir: Dir,
    /// Its identity when it was locked.
    id: DirId,
    /// The id of the log. Segments of another one are moved to `lost/`.
    log_id: u64,
    /// The retention in force.
    retention: Retention,
    /// The clocks, which tests replace.
    clock: Arc<dyn Clock>,
    /// Whether the wall clock is trusted for ages.
    trust: Trust,
    /// The state of the expiry by age.
    aging: Aging,
    /// The steps for each sealed segment. The number of a step is its index here.
    steps: Vec<Box<dyn Step>>,
    /// What is known of each sealed segment.
    segments: SealedSegments,
    /// The segment that was being written when the directory was listed last. `segments` has none from this one on, so
    /// it follows them, also when the commit thread writes a later one by now.
    listed_base: u64,
    /// Segments under wrong names that were logged.
    misnamed: BTreeSet<u64>,
    /// When the next pass may begin after one that failed.
    retry: Retry,
    /// When the next pass is due, by [`Clock::monotonic`].
    next_pass: Duration,
    /// Where operators set another retention and confirm the clock.
    control: Arc<RetentionControl>,
    /// The handover of sealed segments, the signal, and the way to make the archive fail.
    shared: Arc<Shared>,
    /// Where the oldest offset and the counters appear.
    published: Arc<Published>,
}

impl Maintenance {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { dir, id, log_id, retention, clock, steps, control, shared, published } = parts;
        let start_offset = *published.watermark.borrow();
        Self {
            trust: Trust::new(Reading::of(&*clock)),
            aging: Aging::new(start_offset),
            next_pass: clock.monotonic(),
            segments: SealedSegments::default(),
            listed_base: shared.handover.current_base(),
            misnamed: BTreeSet::new(),
            retry: Retry::default(),
            dir,
            id,
            log_id,
            retention,
            clock,
            steps,
            control,
            shared,
            published,
        }
    }

    /// Runs until [`MaintenanceSignal::stop`](crate::log::MaintenanceSignal::stop).
    fn run(mut self) {
        lower_priority();
        let mut has_news = true;
        while !self.shared.signal.is_stopped() {
            self.tick(has_news);
            has_news = self.shared.signal.wait(CHECK_EVERY);
        }
    }

    /// Checks the directory, then does what is due.
    pub(super) fn tick(&mut self, has_news: bool) {
        self.note_retention();
        if !self.is_in_place() {
            return;
        }
        self.note_clock();
        let now = self.clock.monotonic();
        if has_news || now >= self.next_pass || self.is_over_size() {
            let pause = self.pass();
            // The pause counts from the end of the pass. A long pass removes segments late, and the next pass must not
            // come too early.
            self.next_pass = self.clock.monotonic() + pause;
        }
    }

    /// Makes one pass over all segments. Returns the pause until the next pass.
    fn pass(&mut self) -> Duration {
        let now = self.clock.monotonic();
        if !self.retry.is_due(now) {
            return self.retry.pause(now);
        }
        match self.try_pass() {
            Ok(()) => {
                self.retry = Retry::default();
                PASS_EVERY.min(self.segments.retry_pause(now))
            }
            Err(error) => {
                if error.is_too_many_files() {
                    // A lack of open files says nothing about the archive, and may end as soon as a connection ends.
                    self.retry = Retry::default();
                }
                let pause = self.retry.failed(now);
                self.note(&error, "no segment expires, is indexed or is exported", pause);
                pause
            }
        }
    }

    fn try_pass(&mut self) -> Result<(), StorageError> {
        self.list()?;
        self.expire()?;
        for base in self.segments.bases() {
            // A backlog may take hours. Check the directory each time, because the next start must find the frames
            // acknowledged meanwhile.
            if self.shared.signal.is_stopped() || !self.is_in_place() {
                return Ok(());
            }
            if self.work(base) {
                // Retention must not wait for the end of a long backlog.
                self.expire()?;
            }
        }
        Ok(())
    }

    /// Lists the directory and removes files whose segment is gone.
    fn list(&mut self) -> Result<(), StorageError> {
        let current = self.shared.handover.current_base();
        let listing = self.dir.list()?;
        if !listing.segments.contains(&current) && current == self.shared.handover.current_base() {
            self.shared.fail(gone(&self.dir.segment(current), "the segment being written is"));
            return Ok(());
        }
        self.dir.remove_stale(&listing)?;
        let foreign = self.move_foreign_to_lost(&listing)?;
        let mut sealed: Vec<u64> = listing.segments.into_iter().filter(|base| *base < current).collect();
        sealed.retain(|base| !foreign.contains(base) && self.is_well_named(*base));
        self.segments.set(sealed.into_iter());
        self.listed_base = current;
        self.segments.mark_all_checked();
        self.publish();
        Ok(())
    }

    /// Returns whether the header of the segment `base` agrees with its name. A segment that disagrees is not read,
    /// gets no step, and never expires.
    fn is_well_named(&mut self, base: u64) -> bool {
        if self.segments.is_checked(base) {
            return true;
        }
        let Some(header_offset) = misnamed(&*self.dir.storage, &self.dir.path, base) else {
            return true;
        };
        if self.misnamed.insert(base) {
            let segment = self.dir.segment(base);
            tracing::error!(
                segment = %segment.display(),
                header_offset,
                "this segment is not read: its header has another offset than its name; archive verify says what to do"
            );
        }
        false
    }

    /// Publishes the oldest offset kept and the counters of segments.
    fn publish(&self) {
        let oldest = self.segments.first().unwrap_or(self.listed_base);
        self.published.first_offset.send_if_modified(|known| {
            let later = oldest > *known;
            *known = oldest.max(*known);
            later
        });
        let stats = &self.published.stats;
        stats.upkeep_failing.store(self.segments.failing_count(), Relaxed);
        stats.segments.store(self.segments.len() as u64 + 1, Relaxed);
    }

    /// Runs the due steps of the segment `base`. Returns whether any step was done.
    ///
    /// The other steps run even if one fails, because they may write elsewhere.
    fn work(&mut self, base: u64) -> bool {
        let (mut worked, mut pause) = (false, None);
        if !self.segments.is_due(base, self.steps.len(), self.clock.monotonic()) {
            return worked;
        }
        for index in 0..self.steps.len() {
            if self.shared.signal.is_stopped() {
                return worked;
            }
            if self.segments.is_done(base, index) {
                continue;
            }
            let step = &mut self.steps[index];
            match step.run(&self.dir, base, &self.shared) {
                Ok(()) => {
                    self.segments.mark_step_done(base, index);
                    worked = true;
                }
                Err(_) if self.shared.signal.is_stopped() => return worked,
                Err(error) => {
                    let consequence = step.consequence();
                    let now = self.clock.monotonic();
                    if matches!(&error, StepError::Storage(error) if error.is_too_many_files()) {
                        self.segments.clear_failures(base);
                    }
                    let pause = *pause.get_or_insert_with(|| self.segments.record_failure(base, now));
                    self.note_step(base, error, consequence, pause);
                }
            }
        }
        if pause.is_none() {
            self.segments.clear_failures(base);
        }
        self.publish();
        worked
    }

    fn note_step(&self, base: u64, error: StepError, consequence: &str, pause: Duration) {
        match error {
            StepError::Storage(error) => self.note(&error, consequence, pause),
            StepError::Other(error) => {
                self.published.stats.upkeep_errors.fetch_add(1, Relaxed);
                let file = self.dir.segment(base);
                tracing::warn!(
                    file = %file.display(),
                    %error,
                    retry_s = pause.as_secs(),
                    "maintenance failed: {consequence}; it is tried again later"
                );
            }
        }
    }

    /// Logs and counts an error. If the directory could not be synced, the archive fails.
    fn note(&self, error: &StorageError, consequence: &str, pause: Duration) {
        self.published.stats.upkeep_errors.fetch_add(1, Relaxed);
        if error.is_too_many_files() {
            self.published.stats.file_shortages.fetch_add(1, Relaxed);
        }
        tracing::warn!(
            file = %error.path.display(),
            %error,
            retry_s = pause.as_secs(),
            "maintenance failed: {consequence}; it is tried again later"
        );
        if error.op == "sync" && error.path == self.dir.path && !error.is_too_many_files() {
            // The kernel reports this error only once. Without this call the commit thread would never learn of it.
            let source = io::Error::new(error.source.kind(), error.source.to_string());
            self.shared.fail(StorageError { op: error.op, path: error.path.clone(), source });
        }
    }

    /// Checks that the directory is in place. If it is gone, the archive fails.
    fn is_in_place(&self) -> bool {
        let found = self.check_directory();
        found.map_err(|error| self.shared.fail(error)).is_ok()
    }

    /// Checks that the path leads to the directory that was locked.
    fn check_directory(&self) -> Result<(), StorageError> {
        match self.dir.id() {
            Ok(id) if id == self.id => Ok(()),
            Ok(_) => Err(gone(&self.dir.path, "the directory that was locked is")),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                Err(gone(&self.dir.path, "the directory that was locked is"))
            }
            // Any other error says nothing about the directory. If something is wrong, the next write or sync fails.
            Err(_) => Ok(()),
        }
    }
}

/// When a failed pass is due again.
#[derive(Clone, Copy, Debug, Default)]
struct Retry {
    /// Failures in a row.
    failures: u32,
    /// The time of the next try, by [`Clock::monotonic`].
    at: Duration,
}

impl Retry {
    fn is_due(&self, now: Duration) -> bool {
        now >= self.at
    }

    fn pause(&self, now: Duration) -> Duration {
        self.at.saturating_sub(now)
    }

    /// Records a failure and returns the pause after it.
    fn failed(&mut self, now: Duration) -> Duration {
        let pause = RETRY_AFTER.saturating_mul(1 << self.failures.min(16)).min(RETRY_AFTER_MAX);
        self.failures = self.failures.saturating_add(1);
        self.at = now + pause;
        pause
    }
}

fn lower_priority() {
    // On Linux this changes the calling thread only.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the maintenance thread cannot lower its priority");
    }
}

/// Starts the thread. `lock` is held until it ends.
pub(super) fn start(maintenance: Maintenance, lock: Lock) -> io::Result<OwnedThread<()>> {
    let shared = Arc::clone(&maintenance.shared);
    let stats = Arc::clone(&maintenance.published.stats);
    OwnedThread::spawn(NAME, move || {
        let _lock = lock;
        let run = std::panic::AssertUnwindSafe(|| maintenance.run());
        if let Err(panic) = std::panic::catch_unwind(run) {
            stats.upkeep_errors.fetch_add(1, Relaxed);
            let panic = panic_text(&*panic);
            tracing::error!(%panic, "maintenance panicked: until a restart no segment expires, is indexed or is exported");
        }
        shared.signal.liveness().end();
    })
}
