//! The archive: an append-only segment log on stable storage.
//!
//! Every acknowledged frame is synced. Batches of frames come in through an [`Appender`], which puts them into the
//! block of their lane: emergency or routine. The commit thread writes and syncs one block after the other. After the
//! sync it reports to the [`CommitObserver`] which positions became durable. [`open`] recovers what a crash left. A
//! [`Reader`] reads the same files from any process.
//!
//! This crate never depends on the protocol, on actors, on a command line or on the daemon. All file access goes
//! through [`Storage`].
//!
//! | file | purpose |
//! |---|---|
//! | `format.rs` | the files, byte by byte |
//! | `config.rs` | [`Config`] and the limits that follow from it |
//! | `storage.rs` | [`Storage`]: the file system behind a trait |
//! | `dir.rs` | the archive's directory: names, listing, torn tails that are kept |
//! | `commit_queue.rs` | the blocks that are being filled |
//! | `commit.rs` | the commit thread: take a block, write, sync, publish |
//! | `edit.rs` | edits of positions between two commits |
//! | `writing.rs` | direct or cached writes: which, and why |
//! | `log_file.rs` | a file of the log, written at its end and nowhere else |
//! | `segment.rs` | the segment that is being written |
//! | `space.rs` | allocation ahead of need, the reserve, the gate for routine frames |
//! | `positions.rs` | the positions of all streams, as of one offset |
//! | `published.rs` | the state of the archive that other parts can read |
//! | `scan.rs` | walks the blocks of one segment, over damage |
//! | `reader.rs` | [`Reader`]: reads an archive, also while a daemon writes it |
//! | `history.rs` | [`History`]: reads a running archive from within the daemon |
//! | `index.rs` | the index of a sealed segment |
//! | `inspect.rs` | [`inspect`]: what a directory holds, its segments and indexes |
//! | `recover.rs` | recovery after a crash |
//! | `recover/repair.rs` | [`repair`]: copies what can be read of a damaged archive |
//! | `reset.rs` | [`Resets`]: lowers the epoch of a stream, forgets streams |
//! | `maintenance.rs` | the thread that indexes, exports and expires sealed segments |
//! | `line.rs` | [`mod@line`]: a frame as a line of text |
//! | `error.rs` | what can go wrong |

mod commit;
mod commit_queue;
mod config;
mod dir;
mod edit;
mod error;
mod format;
mod history;
mod index;
pub mod inspect;
pub mod line;
mod log_file;
mod maintenance;
mod positions;
mod published;
mod reader;
mod recover;
mod reset;
mod scan;
mod segment;
mod space;
mod storage;
#[cfg(test)]
mod tests;
mod writing;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use commit::{Committer, Log};
use commit_queue::CommitQueue;
use config::Limits;
use dir::Dir;
use frame::histogram::Histogram;
use frame::liveness::Liveness;
use frame::{Batch, FramePriority, Origin};
use maintenance::{Clock, Maintenance, MaintenanceControl, SystemClock};
use published::Published;
use space::Space;
use storage::Context;
use writing::Writing;

pub use config::{
    BATCH_FRAMES_MAX, BATCH_PAYLOAD_BYTES, BLOCK_BYTES, Config, ConfigError, PAYLOAD_BYTES_MAX, Retention,
};
pub use error::{AppendError, ArchiveError, OpenError, ResetError};
#[cfg(any(test, feature = "test-support"))]
pub use format::encoded;
pub use format::{BlockFrames, KeptFrames, Received, charge};
pub use history::History;
pub use index::{BUILD_BYTES as INDEX_BUILD_BYTES, READER_BYTES as INDEX_READER_BYTES, build_indexes};
pub use log_file::COPY_BYTES;
pub use maintenance::{AgeHold, SealedSegment, SegmentStep, SegmentStepError};
pub use positions::StreamPosition;
pub use reader::{Damage, Filter, Item, Misnamed, ReadError, Reader, StoredFrame, Visited};
pub use recover::{Hole, LostFrames, Recovery, RepairError, RepairReport, repair};
pub use reset::Resets;
pub use storage::{Access, DiskStorage, Storage, StorageError, StorageFile, is_no_space};
pub use writing::DirectIo;

/// Receives every commit, on the commit thread, after its frames are durable and before the next block is taken.
///
/// The next commit waits for the observer, so the observer must be quick and never block.
pub trait CommitObserver: Send + 'static {
    /// Reports that `commit` is on stable storage.
    fn committed(&mut self, commit: &Commit<'_>);
}

impl<F: FnMut(&Commit<'_>) + Send + 'static> CommitObserver for F {
    fn committed(&mut self, commit: &Commit<'_>) {
        self(commit);
    }
}

/// Frames that became durable together.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// Offset of the first frame. The other frames follow without a gap.
    pub first_offset: u64,
    /// Offset behind the last frame: the new watermark.
    pub next_offset: u64,
    /// The frames in the order of the log.
    pub frames: BlockFrames<'a>,
    /// When the frames were read from the sockets, in the same order.
    pub received: &'a [Received],
    /// What became durable, with one entry for each origin and lane, anonymous origins included.
    pub positions: &'a [Durable],
}

/// What a commit made durable of one origin and lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    /// The stream and epoch.
    pub origin: Arc<Origin>,
    /// The lane.
    pub priority: FramePriority,
    /// One past the highest sequence of this origin and lane in the commit.
    pub next: u64,
    /// Frames of this origin and lane in the commit.
    pub frames: u64,
    /// When the first of these frames was read from the socket, unix nanoseconds.
    pub received_min_ns: i64,
}

/// The state of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The archive works normally.
    Ok,
    /// The archive is out of disk space, or can open no more files. Emergencies are still written, routine waits. The
    /// archive returns to `Ok` by itself when there is enough.
    Degraded {
        /// Names the directory, the free space, and a remedy.
        reason: Arc<str>,
    },
    /// Storage failed or the commit thread panicked. The archive writes nothing until a restart recovers it.
    Failed {
        /// What failed.
        error: Arc<str>,
    },
}

/// Counters since the start; read them with any ordering.
#[derive(Debug, Default)]
pub struct ArchiveStats {
    /// Frames made durable.
    pub frames: AtomicU64,
    /// Bytes of the blocks that hold these frames.
    pub bytes: AtomicU64,
    /// Commits: blocks written and synced.
    pub commits: AtomicU64,
    /// Time spent in writes, nanoseconds.
    pub write_ns: AtomicU64,
    /// How long each sync took.
    pub sync_times: Histogram,
    /// Segments begun after the first.
    pub rotations: AtomicU64,
    /// Times a commit had to wait because even the reserve was used up.
    pub space_waits: AtomicU64,
    /// Times that the commit thread or maintenance could not open a file, because too many files were open.
    pub file_shortages: AtomicU64,
    /// Segments of another archive that were set aside in `lost/`.
    pub foreign_segments: AtomicU64,
    /// Number of segments, the one being written included.
    pub segments: AtomicU64,
    /// Bytes of the segments and their side files, space allocated ahead included.
    pub segment_bytes: AtomicU64,
    /// Segments removed by retention.
    pub expired_segments: AtomicU64,
    /// Offsets that were removed with the expired segments.
    pub expired_frames: AtomicU64,
    /// Bytes of the segments removed and their side files.
    pub expired_bytes: AtomicU64,
    /// Errors of maintenance. None of them stops the archive; each is tried again.
    pub upkeep_errors: AtomicU64,
    /// Segments whose last maintenance failed. They wait for the next try.
    pub upkeep_failing: AtomicU64,
}

/// The result of a run of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Frames made durable since the start.
    pub frames: u64,
    /// Offset behind the last durable frame.
    pub next_offset: u64,
}

/// Recovers the log in `config.dir` and starts the commit thread.
///
/// Blocks while it recovers. Recovery reads the newest segment twice, and a few times more if a crash left a tail or
/// damage. It reads older segments only if positions or the newest segment are damaged. The initial routine limit and
/// status are set when this function returns.
///
/// # Errors
/// [`OpenError`]; nothing was started then.
pub fn open(
    config: Config,
    storage: impl Storage,
    observer: impl CommitObserver,
) -> Result<(Appender, Archive, Recovery), OpenError> {
    open_with_steps(config, storage, observer, Vec::new())
}

/// As [`open`]. Maintenance also runs `steps` on each sealed segment, in their order.
///
/// # Errors
/// [`OpenError`]; nothing was started then.
pub fn open_with_steps(
    config: Config,
    storage: impl Storage,
    observer: impl CommitObserver,
    steps: Vec<Box<dyn SegmentStep>>,
) -> Result<(Appender, Archive, Recovery), OpenError> {
    open_with(config, storage, observer, steps, Some(Arc::new(SystemClock)))
}

/// As [`open_with_steps`], with the given clock. Without a clock there is no maintenance.
fn open_with(
    config: Config,
    storage: impl Storage,
    observer: impl CommitObserver,
    steps: Vec<Box<dyn SegmentStep>>,
    clock: Option<Arc<dyn Clock>>,
) -> Result<(Appender, Archive, Recovery), OpenError> {
    config.validate()?;
    let mut dir = Dir::new(Arc::new(storage), config.dir.clone());
    dir.storage.create_dir(&dir.path).context("create", &dir.path)?;
    let lock = dir.storage.lock(&dir.path).map_err(|source| {
        if source.kind() == std::io::ErrorKind::WouldBlock {
            return OpenError::Locked(dir.path.clone());
        }
        OpenError::Storage(StorageError { op: "lock", path: dir.path.clone(), source })
    })?;
    let lock: Lock = lock.into();
    let id = dir.id()?;
    if dir.is_incomplete()? {
        return Err(OpenError::Incomplete(dir.path));
    }
    dir.writing = Writing::choose(config.direct_io, &*dir.storage, &dir.path)?;
    let recovered = recover::recover(&dir, &config)?;
    let report = recovered.report;
    let queue = Arc::new(CommitQueue::new(&Limits::new(&config)));
    let control = Arc::new(MaintenanceControl::new(Arc::clone(&queue)));
    control.set_commit_delay(config.commit_delay);
    let published = Arc::new(Published::new(&report));
    let space = Space::new(dir.clone(), &config, report.log_id, recovered.current, Arc::clone(&control));
    let log = Log::new(space, recovered.table, report.next_offset, recovered.attested)?;
    let history = History {
        storage: Arc::clone(&dir.storage),
        dir: dir.path.clone(),
        log_id: report.log_id,
        first_offset: published.first_offset.subscribe(),
        watermark: published.watermark.subscribe(),
    };
    let (mut archive, appender) = start(log, &control, published, history, observer, Arc::clone(&lock))?;
    if let Some(clock) = clock {
        let published = Arc::clone(&archive.published);
        let (retention, steps) = (config.retention, maintenance::steps(steps, config.spare_bytes()));
        let log_id = report.log_id;
        let parts = maintenance::Parts { dir, id, log_id, retention, clock, steps, control, published };
        archive.maintenance =
            Some(maintenance::start(Maintenance::new(parts), lock).map_err(OpenError::Thread)?);
    }
    Ok((appender, archive, report))
}

/// Name of the commit thread.
const COMMIT: &str = "archive-commit";

/// The lock of the directory. It is held until the last thread that writes has ended.
type Lock = Arc<dyn std::any::Any + Send + Sync>;

fn start(
    log: Log,
    control: &Arc<MaintenanceControl>,
    published: Arc<Published>,
    history: History,
    observer: impl CommitObserver,
    lock: Lock,
) -> Result<(Archive, Appender), OpenError> {
    let queue = Arc::clone(control.queue());
    let mut committer = Committer {
        queue: Arc::clone(&queue),
        control: Arc::clone(control),
        published: Arc::clone(&published),
        observer,
        log,
        shortage: None,
        told_at: None,
    };
    committer.publish();
    let (ended_tx, ended_rx) = oneshot::channel();
    let end = EndGuard {
        queue: Arc::clone(&queue),
        published: Arc::clone(&published),
        control: Arc::clone(control),
        error: Some("the commit thread could not be started".into()),
        _ended_tx: ended_tx,
    };
    let thread = std::thread::Builder::new()
        .name(COMMIT.into())
        .spawn(move || {
            // The directory stays locked until the last byte is written.
            let _lock = lock;
            let mut end = end;
            end.error = Some("the commit thread panicked".into());
            let result = committer.run();
            end.error = result.as_ref().err().map(|error| error.to_string().into());
            result
        })
        .map_err(OpenError::Thread)?;
    let (commit_queue, control) = (Arc::clone(&queue), Arc::clone(control));
    let thread = Some((ended_rx, thread));
    let archive = Archive { queue: commit_queue, published, history, control, thread, maintenance: None };
    let appender = Appender(Arc::new(AppenderGuard(queue)));
    Ok((archive, appender))
}

/// Reports the end of the commit thread to all other parts when it is dropped, also after a panic.
struct EndGuard {
    queue: Arc<CommitQueue>,
    published: Arc<Published>,
    control: Arc<MaintenanceControl>,
    error: Option<Arc<str>>,
    _ended_tx: oneshot::Sender<()>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.queue.liveness().end();
        self.control.stop();
        let Some(error) = self.error.take() else {
            self.queue.fail("the archive has ended".into());
            return;
        };
        tracing::error!(%error, "archive failed");
        // In this order: once the status says `Failed`, the queue already refuses batches.
        self.queue.fail(Arc::clone(&error));
        self.published.status.send_replace(Status::Failed { error });
    }
}

/// Hands batches to the commit thread. Cheap to clone. The archive ends after the last clone is dropped.
#[derive(Clone)]
pub struct Appender(Arc<AppenderGuard>);

struct AppenderGuard(Arc<CommitQueue>);

impl Drop for AppenderGuard {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Appender {
    /// Hands `batch`, at most [`BATCH_FRAMES_MAX`] frames, to the commit thread. Waits while the block of its lane is
    /// full.
    ///
    /// When this returns, the frames are not yet durable: the [`CommitObserver`] reports when they are. Within a lane,
    /// batches of one caller keep their order. Emergencies have blocks of their own and go first.
    ///
    /// # Errors
    /// [`AppendError::Failed`] once storage has failed, [`AppendError::Oversized`] for a batch over the limits.
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped before it completes, the batch is not handed over.
    pub async fn append(&self, batch: Batch) -> Result<(), AppendError> {
        self.0.0.push(&batch).await
    }

    /// Returns whether a batch of routine needs no wait. Also true when the batch would be refused.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.0.has_room()
    }

    /// Waits until [`Self::has_room`] is true. Cancel safe.
    pub async fn room(&self) {
        self.0.0.room().await;
    }
}

/// The running archive.
///
/// If it is dropped without [`Archive::finish`], its threads end after the current commit and the current step of
/// maintenance. The directory stays locked until then.
pub struct Archive {
    queue: Arc<CommitQueue>,
    published: Arc<Published>,
    history: History,
    control: Arc<MaintenanceControl>,
    thread: Option<(oneshot::Receiver<()>, CommitThread)>,
    maintenance: Option<maintenance::Handle>,
}

/// Changes settings of a running archive. Cheap to clone. It does not keep the archive running.
#[derive(Clone)]
pub struct Tuning(Arc<MaintenanceControl>);

impl Tuning {
    /// Applies [`Config::commit_delay`] and [`Config::retention`]. All other settings stay as the archive was opened.
    pub fn set(&self, config: &Config) {
        self.0.set_commit_delay(config.commit_delay);
        self.0.set_retention(config.retention);
    }

    /// Why no segment expires by age; `None` if there is no age limit or it is in force.
    #[must_use]
    pub fn age_hold(&self) -> Option<AgeHold> {
        self.0.age_hold()
    }

    /// Records that an operator confirms the wall clock. The confirmation holds until the clock is stepped.
    ///
    /// # Errors
    /// [`AgeHold`] if the clock was never set.
    pub fn trust_clock(&self) -> Result<(), AgeHold> {
        maintenance::check_word(frame::unix_now_ns())?;
        self.0.give_word();
        Ok(())
    }
}

type CommitThread = JoinHandle<Result<Summary, StorageError>>;

impl Archive {
    /// The current state of the archive, and each change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.published.status.subscribe()
    }

    /// The limit of the gate for routine frames, see [`charge`]. It only grows.
    #[must_use]
    pub fn routine_limit(&self) -> watch::Receiver<u64> {
        self.published.routine_limit.subscribe()
    }

    /// Offset behind the last durable frame.
    #[must_use]
    pub fn watermark(&self) -> watch::Receiver<u64> {
        self.published.watermark.subscribe()
    }

    /// A handle to read what is durable.
    #[must_use]
    pub fn history(&self) -> History {
        self.history.clone()
    }

    /// A handle that lowers epochs and forgets streams while the archive runs.
    #[must_use]
    pub fn resets(&self) -> Resets {
        Resets(Arc::clone(&self.queue))
    }

    /// Offset of the oldest frame that is kept. It only grows.
    #[must_use]
    pub fn first_offset(&self) -> watch::Receiver<u64> {
        self.published.first_offset.subscribe()
    }

    /// A handle that changes settings while the archive runs.
    #[must_use]
    pub fn tuning(&self) -> Tuning {
        Tuning(Arc::clone(&self.control))
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Arc<ArchiveStats> {
        Arc::clone(&self.published.stats)
    }

    /// The name and the liveness of each thread of the archive.
    #[must_use]
    pub fn liveness(&self) -> [(&'static str, Liveness); 2] {
        [(COMMIT, self.queue.liveness().clone()), (maintenance::NAME, self.control.liveness().clone())]
    }

    /// Waits until every [`Appender`] is dropped, every batch is durable and the threads have ended.
    ///
    /// Maintenance ends at once, or after its current step.
    ///
    /// # Errors
    /// [`ArchiveError`] if storage failed or the commit thread panicked, now or earlier.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the archive: frames that are not yet durable are discarded.
    pub async fn finish(mut self) -> Result<Summary, ArchiveError> {
        self.control.stop();
        if let Some((ended_rx, _)) = &mut self.thread {
            // The sender is never used: its drop is the signal.
            _ = ended_rx.await;
        }
        let Some((_, thread)) = self.thread.take() else {
            unreachable!("only `finish` takes the thread, and it consumes the archive");
        };
        let joined = thread.join();
        if let Some(maintenance) = self.maintenance.take() {
            maintenance.join().await;
        }
        match joined {
            Ok(result) => Ok(result?),
            Err(panic) => Err(ArchiveError::Panicked(panic_text(&*panic))),
        }
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.control.stop();
        if self.thread.is_some() {
            self.queue.abandon();
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
