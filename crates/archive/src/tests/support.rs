//! Helpers for the tests: frames, archives and comparisons.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::maintain::{Clock, Maintenance, Parts, Step, SystemClock};
use crate::storage::dir::Dir;
use crate::storage::mem::MemStorage;
use crate::{
    Appender, Archive, Commit, Config, DirectIo, Durable, Filter, Item, PositionEditError, Reader, Recovery,
    Retention, Storage, StoredFrame, open::open_with,
};
use frame::{Frame, FrameFlags, FramePriority, FrameRun, Origin, StreamKey, batches_of};

pub(crate) use frame::sample::{emergency, frame, origin, routine};

/// Writes to stderr what could not be tested on this host. Bypasses the output capture of passed tests.
pub(crate) fn not_tested(what: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "NOT TESTED HERE: {what}").unwrap();
}

/// A small archive that rotates after little data.
pub(crate) fn config() -> Config {
    Config {
        dir: PathBuf::from("/archive"),
        commit_delay: Duration::ZERO,
        segment_bytes: 192 << 10,
        reserve_bytes: 128 << 10,
        max_streams: 16,
        payload_bytes_max: 256,
        retention: Retention::default(),
        direct_io: DirectIo::Auto,
    }
}

pub(crate) fn dir() -> &'static Path {
    Path::new("/archive")
}

/// All fields of a frame, so that frames can be compared.
pub(crate) type Fields = (Arc<Origin>, FramePriority, FrameFlags, u64, i64, i64, Bytes);

pub(crate) fn fields(frame: &Frame) -> Fields {
    assert_eq!(frame.source_id, frame.origin.stream.source_id);
    assert_eq!(frame.source_kind, frame.origin.stream.source_kind);
    (
        Arc::clone(&frame.origin),
        frame.priority,
        frame.flags,
        frame.sequence,
        frame.ert_ns,
        frame.received_ns,
        frame.payload.clone(),
    )
}

/// A commit as the observer received it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) first_offset: u64,
    pub(crate) next_offset: u64,
    pub(crate) frames: Vec<Frame>,
    pub(crate) positions: Vec<Durable>,
}

/// A running archive. The test can wait for its commits.
pub(crate) struct Running {
    pub(crate) appender: Appender,
    pub(crate) archive: Archive,
    pub(crate) recovery: Recovery,
    pub(crate) commits: mpsc::UnboundedReceiver<Seen>,
}

pub(crate) fn start(storage: &MemStorage) -> Running {
    start_on(config(), storage.clone())
}

pub(crate) fn start_on(config: Config, storage: impl Storage) -> Running {
    start_with(config, storage, Some(Arc::new(SystemClock)))
}

/// Like [`start`], but without maintenance: nothing changes what the test does to sealed segments.
pub(crate) fn start_untended(storage: &MemStorage) -> Running {
    start_with(config(), storage.clone(), None)
}

/// Replaces the content of a file. Open handles stay valid and see the new content.
pub(crate) fn overwrite(storage: &MemStorage, path: &Path, content: &[u8]) {
    storage.overwrite(path, content);
}

/// Starts an archive whose maintenance uses `clock`. Without a clock there is no maintenance.
pub(crate) fn start_with(config: Config, storage: impl Storage, clock: Option<Arc<dyn Clock>>) -> Running {
    let (commits_tx, commits) = mpsc::unbounded_channel();
    let observer = move |commit: &Commit<'_>| {
        let frames: Vec<Frame> = commit.frames.iter().map(|frame| frame.to_frame()).collect();
        _ = commits_tx.send(Seen {
            first_offset: commit.first_offset,
            next_offset: commit.next_offset,
            frames,
            positions: commit.positions.to_vec(),
        });
    };
    let (appender, archive, recovery) = open_with(config, storage, observer, Vec::new(), clock).unwrap();
    Running { appender, archive, recovery, commits }
}

/// Creates the maintenance of an archive that was started without one. The test calls it directly.
pub(crate) fn maintenance_of(
    running: &Running,
    storage: &MemStorage,
    retention: Retention,
    clock: Arc<dyn Clock>,
    steps: Vec<Box<dyn Step>>,
) -> Maintenance {
    let dir = Dir::new(Arc::new(storage.clone()), dir().to_owned());
    Maintenance::new(Parts {
        id: dir.id().unwrap(),
        log_id: running.recovery.log_id,
        dir,
        retention,
        clock,
        steps,
        control: Arc::clone(&running.archive.retention),
        shared: Arc::clone(&running.archive.shared),
        published: Arc::clone(&running.archive.published),
    })
}

/// Makes a run of each frame.
pub(crate) fn runs(frames: impl IntoIterator<Item = Frame>) -> Vec<FrameRun> {
    frames.into_iter().map(FrameRun::from).collect()
}

impl Running {
    /// Appends one batch per lane of `frames`, emergencies first.
    pub(crate) async fn append(&self, frames: Vec<Frame>) {
        for batch in batches_of(frames) {
            self.appender.append(batch).await.unwrap();
        }
    }

    /// Appends frames and waits until they are durable. This takes one commit per lane.
    pub(crate) async fn commit(&mut self, frames: Vec<Frame>) -> Seen {
        let count = frames.len();
        self.append(frames).await;
        let mut seen = self.commits.recv().await.unwrap();
        while seen.frames.len() < count {
            let more = self.commits.recv().await.unwrap();
            assert_eq!(more.first_offset, seen.next_offset);
            seen.next_offset = more.next_offset;
            seen.frames.extend(more.frames);
            seen.positions.extend(more.positions);
        }
        seen
    }

    pub(crate) async fn finish(self) -> crate::Summary {
        drop(self.appender);
        self.archive.finish().await.unwrap()
    }
}

/// Lowers an epoch and waits for the result. Returns `None` if the archive fails.
pub(crate) async fn reset(
    running: &Running,
    stream: &StreamKey,
    epoch: u64,
) -> Option<Result<(), PositionEditError>> {
    let (done_tx, done) = tokio::sync::oneshot::channel();
    let asked = running
        .archive
        .position_edits()
        .lower_epoch(stream.clone(), epoch, |result| _ = done_tx.send(result));
    match asked {
        Ok(()) => done.await.ok(),
        refused => Some(refused),
    }
}

/// Forgets streams and waits for the result. Returns `None` if the archive fails.
pub(crate) async fn forget(
    running: &Running,
    streams: &[StreamKey],
) -> Option<Result<(), PositionEditError>> {
    let (done_tx, done) = tokio::sync::oneshot::channel();
    let asked = running.archive.position_edits().forget(streams.to_vec(), |result| _ = done_tx.send(result));
    match asked {
        Ok(()) => done.await.ok(),
        refused => Some(refused),
    }
}

/// Returns all items of a reader.
pub(crate) fn items(storage: &MemStorage, filter: Filter) -> Vec<Item> {
    let reader = Reader::open_on(Arc::new(storage.clone()), dir(), filter).unwrap();
    reader.map(Result::unwrap).collect()
}

/// Returns all frames of an archive without damage.
pub(crate) fn frames(storage: &MemStorage) -> Vec<StoredFrame> {
    let frame = |item| match item {
        Item::Frame(frame) => Some(frame),
        Item::Expired(_) => None,
        other => panic!("the archive is not whole: {other:?}"),
    };
    items(storage, Filter::default()).into_iter().filter_map(frame).collect()
}

pub(crate) fn sequences(frames: &[StoredFrame]) -> Vec<u64> {
    frames.iter().map(|stored| stored.frame.sequence).collect()
}
