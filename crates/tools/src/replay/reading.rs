//! Reads the range on a blocking thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::{Progress, Recording};
use archive::{Filter, Item, ReadError, Reader, StoredFrame};

/// At most this many batches wait for the scheduler.
pub(crate) const BATCHES_MAX: usize = 4;
/// Maximum number of frames in a batch.
const BATCH_FRAMES_MAX: usize = 256;
/// A batch is cut when its payloads reach this.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// The next item of the range.
#[derive(Debug)]
pub(crate) enum Read {
    /// Frames, in the order of the log.
    Frames(Vec<StoredFrame>),
    /// A message about frames that are missing.
    Problem(String),
}

/// Opens the archive in `dir` and reads `filter` until its end, or until the receiver is dropped. A continued run ends
/// where frames are gone that the earlier run may have read.
///
/// # Errors
/// The archive cannot be opened.
///
/// # Panics
/// If the thread panics while it opens the archive.
pub(super) async fn start(
    dir: PathBuf,
    filter: Filter,
    goes_on: bool,
    progress: Arc<Progress>,
) -> Result<Recording, ReadError> {
    let opening = spawn_blocking(move || open(&dir, filter, &progress));
    let reader = match opening.await {
        Ok(opened) => opened?,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("only the end of the runtime cancels it"),
        },
    };
    let (read_tx, items) = mpsc::channel(BATCHES_MAX);
    Ok(Recording { items, thread: spawn_blocking(move || read(reader, goes_on, &read_tx)) })
}

/// The current offset behind the last frame of the archive in `dir`. Blocks on the file system.
///
/// # Errors
/// The archive cannot be read.
pub fn end_of(dir: &Path) -> Result<u64, ReadError> {
    let mut to_end = Reader::open(dir, Filter { from_offset: u64::MAX, ..Filter::default() })?;
    while to_end.next().transpose()?.is_some() {}
    Ok(to_end.next_offset())
}

/// Opens the archive. A range without an end gets the current end of the log. Otherwise a replay into the daemon that
/// writes this log would never end.
fn open(dir: &Path, mut filter: Filter, progress: &Progress) -> Result<Reader, ReadError> {
    let end_offset = end_of(dir)?;
    let to_offset = filter.to_offset.map_or(end_offset, |to| to.min(end_offset));
    filter.to_offset = Some(to_offset);
    progress.set_range(filter.from_offset, to_offset);
    Reader::open(dir, filter)
}

fn read(mut reader: Reader, goes_on: bool, read_tx: &mpsc::Sender<Read>) {
    let mut batch = Batch::default();
    let mut is_over = false;
    for item in &mut reader {
        let problem = match item {
            Ok(Item::Frame(stored)) => {
                batch.add(stored);
                None
            }
            Ok(Item::Damage(damage)) if damage.offsets.is_empty() => None,
            Ok(Item::Damage(damage)) => {
                let (offsets, segment) = (damage.offsets, damage.segment.display());
                Some(format!("offsets {offsets:?} are damaged ({segment}, bytes {:?})", damage.bytes))
            }
            // If an epoch is not counted, the daemon would take new frames for frames that it already has.
            Ok(Item::Expired(offsets)) if goes_on => {
                is_over = true;
                Some(format!(
                    "offsets {offsets:?} were removed by retention, so the epochs that the earlier replay gave to \
                     later frames are unknown; replay the rest as a new replay, with --from-offset {} and without \
                     --epoch",
                    offsets.end
                ))
            }
            Ok(Item::Expired(offsets)) => Some(format!("offsets {offsets:?} were removed by retention")),
            Err(error) => {
                is_over = true;
                Some(format!("reading ended early: {error}"))
            }
        };
        if (batch.is_full() || problem.is_some()) && !batch.send(read_tx) {
            return;
        }
        if let Some(problem) = problem
            && read_tx.blocking_send(Read::Problem(problem)).is_err()
        {
            return;
        }
        if is_over {
            return;
        }
    }
    if !batch.send(read_tx) {
        return;
    }
    for found in reader.misnamed().iter().filter(|found| !found.is_duplicate()) {
        if read_tx.blocking_send(Read::Problem(found.explain())).is_err() {
            return;
        }
    }
}

/// Frames on their way to the scheduler.
#[derive(Default)]
pub(crate) struct Batch {
    frames: Vec<StoredFrame>,
    bytes: usize,
}

impl Batch {
    /// Adds a frame. The payload is copied, because a slice would keep a whole block of the recording in memory.
    pub(crate) fn add(&mut self, mut stored: StoredFrame) {
        stored.frame.payload = Bytes::copy_from_slice(&stored.frame.payload);
        self.bytes += stored.frame.payload.len();
        self.frames.push(stored);
    }

    /// Whether the batch is to be sent before more frames are added.
    pub(crate) fn is_full(&self) -> bool {
        self.frames.len() >= BATCH_FRAMES_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Sends the batch. Returns false if the receiver is dropped.
    pub(crate) fn send(&mut self, read_tx: &mpsc::Sender<Read>) -> bool {
        let batch = std::mem::take(self);
        batch.frames.is_empty() || read_tx.blocking_send(Read::Frames(batch.frames)).is_ok()
    }
}
