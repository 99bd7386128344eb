//! The newest durable frames, encoded once for all subscribers.
//!
//! The commit thread only leaves a copy of its frames here ([`Tail::publish`]). A task encodes the copies
//! into a ring of bounded size ([`Tail::run`]). A subscriber asks by offset, and reads frames that the ring
//! does not have from the log. So nothing can be lost or repeated between tail and log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, watch};

use archive::{Commit, KeptFrames};
use frame::{FramePriority, FrameView, Selection, SourceKind};
use wire::Deliver;
use wire::feed::deliver_bytes;

/// Most bytes in a piece of the ring, unless a single message is longer. So a slice of a piece keeps little
/// memory.
const PIECE_BYTES: usize = 128 << 10;
/// Approximate bytes of a piece besides its messages and marks. A slow log has a piece for each frame.
const PIECE_OVERHEAD_BYTES: usize = 256;
/// This fraction (1/n) of the tail's room may wait to be encoded.
const PENDING_DIVISOR: usize = 4;

/// The ring, and the commits that wait to be encoded into it.
pub struct Tail {
    /// Most bytes of the ring and of the waiting commits together.
    bytes_max: usize,
    /// The commits that wait to be encoded.
    pending: Mutex<Pending>,
    /// Wakes [`Tail::run`].
    work: Notify,
    /// The encoded frames.
    ring: Mutex<Ring>,
    /// Offset behind the newest frame in the ring.
    next: watch::Sender<u64>,
    /// Number of subscribers: [`Follower`]s that are not dropped. Without any, commits are not kept.
    subscribers: AtomicUsize,
}

/// The commits that wait to be encoded.
#[derive(Default)]
struct Pending {
    /// The commits, oldest first.
    commits: VecDeque<PendingCommit>,
    /// Memory of their frames, including the commit that is being encoded.
    bytes: usize,
    /// Commits were discarded up to this offset, for lack of room.
    skipped_to: Option<u64>,
    /// No more commits come.
    closed: bool,
}

/// Frames with consecutive offsets.
struct PendingCommit {
    /// Offset of the first frame.
    first_offset: u64,
    /// Counted in [`Pending::bytes`] until they are encoded.
    frames: KeptFrames,
}

/// Encoded frames with consecutive offsets. Cheap to clone.
#[derive(Clone)]
pub(super) struct Piece(Arc<PieceData>);

/// The content of a piece. The number of its frames is that of its marks.
struct PieceData {
    /// Offset of the first frame.
    first_offset: u64,
    /// A DELIVER message for each frame.
    messages: Bytes,
    /// A mark for each frame.
    marks: Box<[Mark]>,
    /// Memory of the whole piece in bytes.
    weight: usize,
}

/// Where a message ends, and the values that a selection checks.
struct Mark {
    /// Where the message ends, in bytes from the start of the piece.
    end: u32,
    /// The source of the frame.
    source_id: u32,
    /// Its kind.
    kind: SourceKind,
    /// Its lane.
    priority: FramePriority,
}

/// Consecutive pieces.
struct Ring {
    /// The pieces, oldest first.
    pieces: VecDeque<Piece>,
    /// Memory of the pieces.
    bytes: usize,
    /// Offset behind the newest frame.
    next_offset: u64,
}

/// The content of the ring at an offset.
pub(super) enum Found {
    /// Frames from this offset on.
    Piece(Piece),
    /// Nothing yet: the offset is the next to come.
    AtEnd,
    /// The ring begins at this later offset.
    Behind(u64),
}

impl Tail {
    /// Keeps up to `bytes_max` bytes, including commits that wait to be encoded.
    #[must_use]
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            pending: Mutex::default(),
            work: Notify::new(),
            ring: Mutex::new(Ring { pieces: VecDeque::new(), bytes: 0, next_offset: 0 }),
            next: watch::Sender::new(0),
            subscribers: AtomicUsize::new(0),
        })
    }

    /// Copies a commit. Never blocks for long, because the commit thread calls it.
    ///
    /// Without subscribers nothing is kept. When too many bytes wait to be encoded, all of them are
    /// discarded. Subscribers then read them from the log. A commit that finds nothing waiting is always kept.
    pub fn publish(&self, commit: &Commit<'_>) {
        if self.subscribers.load(Ordering::Acquire) == 0 {
            return;
        }
        let frames = commit.frames.to_kept();
        let bytes = frames.weight();
        let mut pending = lock(&self.pending);
        if pending.bytes > 0 && pending.bytes + bytes > self.bytes_max / PENDING_DIVISOR {
            let dropped: usize = pending.commits.drain(..).map(|commit| commit.frames.weight()).sum();
            pending.bytes -= dropped;
            pending.skipped_to = Some(commit.next_offset);
        } else {
            pending.bytes += bytes;
            pending.commits.push_back(PendingCommit { first_offset: commit.first_offset, frames });
        }
        drop(pending);
        self.work.notify_one();
    }

    /// Encodes published commits until [`Tail::close`].
    pub async fn run(&self) {
        loop {
            let taken = {
                let mut pending = lock(&self.pending);
                let skipped_to = pending.skipped_to.take();
                match pending.commits.pop_front() {
                    None if skipped_to.is_none() && pending.closed => return,
                    commit => (commit, skipped_to),
                }
            };
            match taken {
                (None, None) => self.work.notified().await,
                (commit, skipped_to) => {
                    if let Some(offset) = skipped_to {
                        lock(&self.ring).skip_to(offset);
                    }
                    if let Some(commit) = commit {
                        self.encode(&commit);
                    }
                    self.announce();
                    // Encoding takes time, so other tasks get their turn in between.
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Lets [`Tail::run`] end when every published commit is encoded.
    pub fn close(&self) {
        lock(&self.pending).closed = true;
        self.work.notify_one();
    }

    /// Encodes a commit into the ring.
    fn encode(&self, commit: &PendingCommit) {
        let mut encoder = Encoder::new(commit);
        for frame in commit.frames.frames().iter() {
            let bytes = deliver_bytes(frame);
            if !encoder.has_room(bytes) {
                self.push(encoder.finish());
            }
            encoder.push(frame, bytes);
        }
        self.push(encoder.finish());
        lock(&self.pending).bytes -= commit.frames.weight();
    }

    /// Wakes the subscribers if the end of the ring has moved.
    fn announce(&self) {
        let next_offset = lock(&self.ring).next_offset;
        self.next.send_if_modified(|next| std::mem::replace(next, next_offset) != next_offset);
    }

    fn push(&self, piece: Piece) {
        let bytes_max = self.bytes_max - self.bytes_max / PENDING_DIVISOR;
        lock(&self.ring).push(piece, bytes_max);
    }

    /// Counts a subscriber, which begins at `head` at the latest.
    ///
    /// `head` is read after the count went up, so that no commit falls between the two.
    pub(super) fn subscribe(self: &Arc<Self>, head: impl FnOnce() -> u64) -> (Follower, u64) {
        let mut ring = lock(&self.ring);
        let is_first = self.subscribers.fetch_add(1, Ordering::AcqRel) == 0;
        let head = head();
        if is_first {
            ring.restart(head);
        }
        drop(ring);
        let changed = self.next.subscribe();
        (Follower { tail: Arc::clone(self), changed }, head)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ring {
    /// Clears the ring, which continues at `offset`.
    fn restart(&mut self, offset: u64) {
        self.pieces.clear();
        self.bytes = 0;
        self.next_offset = offset;
    }

    /// Continues at `offset`, unless the ring is already further: it may have restarted since commits were
    /// discarded.
    fn skip_to(&mut self, offset: u64) {
        if offset > self.next_offset {
            self.restart(offset);
        }
    }

    fn push(&mut self, piece: Piece, bytes_max: usize) {
        if piece.next_offset() <= self.next_offset {
            // The piece was committed before the ring restarted.
            return;
        }
        if piece.first_offset() != self.next_offset {
            self.restart(piece.first_offset());
        }
        self.next_offset = piece.next_offset();
        self.bytes += piece.weight();
        self.pieces.push_back(piece);
        while self.bytes > bytes_max
            && let Some(oldest) = self.pieces.pop_front()
        {
            self.bytes -= oldest.weight();
        }
    }

    fn find(&self, offset: u64) -> Found {
        if offset >= self.next_offset {
            return Found::AtEnd;
        }
        let first = self.pieces.front().map_or(self.next_offset, Piece::first_offset);
        if offset < first {
            return Found::Behind(first);
        }
        let index = self.pieces.partition_point(|piece| piece.next_offset() <= offset);
        self.pieces.get(index).map_or(Found::AtEnd, |piece| Found::Piece(piece.clone()))
    }

    /// Bytes of the ring from `offset` on, rounded to a piece.
    fn bytes_from(&self, offset: u64) -> usize {
        let index = self.pieces.partition_point(|piece| piece.next_offset() <= offset);
        self.pieces.range(index..).map(|piece| piece.0.messages.len()).sum()
    }
}

/// A subscriber's handle to the tail.
pub(super) struct Follower {
    /// The tail. While there is a follower, it keeps commits.
    tail: Arc<Tail>,
    /// Notified when the end of the ring has moved.
    changed: watch::Receiver<u64>,
}

impl Follower {
    pub(super) fn find(&self, offset: u64) -> Found {
        lock(&self.tail.ring).find(offset)
    }

    /// Whether so many bytes lie between `offset` and the newest frame that a timely subscriber skips them.
    pub(super) fn is_late(&self, offset: u64) -> bool {
        lock(&self.tail.ring).bytes_from(offset) > self.tail.bytes_max / PENDING_DIVISOR
    }

    /// Offset behind the newest frame in the ring.
    pub(super) fn next_offset(&self) -> u64 {
        lock(&self.tail.ring).next_offset
    }

    /// Waits until the ring has something new. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            // The tail outlives its followers, because they hold it.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.tail.subscribers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Encodes a commit piece by piece.
struct Encoder {
    /// Offset of the first frame of the current piece.
    first_offset: u64,
    /// Bytes of the commit that are not encoded yet.
    left_bytes: usize,
    /// The messages of the current piece.
    messages: BytesMut,
    /// Their marks.
    marks: Vec<Mark>,
}

impl Encoder {
    fn new(commit: &PendingCommit) -> Self {
        let left_bytes = commit.frames.frames().iter().map(deliver_bytes).sum();
        Self { first_offset: commit.first_offset, left_bytes, messages: BytesMut::new(), marks: Vec::new() }
    }

    /// Whether a message of `bytes` bytes belongs to the current piece.
    fn has_room(&self, bytes: usize) -> bool {
        self.messages.is_empty() || self.messages.len() + bytes <= PIECE_BYTES
    }

    fn push(&mut self, frame: FrameView<'_>, bytes: usize) {
        let offset = self.first_offset + self.marks.len() as u64;
        if self.messages.capacity() == 0 {
            // No more than will be used: a piece keeps the whole capacity.
            self.messages.reserve(self.left_bytes.min(PIECE_BYTES).max(bytes));
        }
        self.left_bytes -= bytes;
        Deliver::encode(offset, frame, &mut self.messages);
        self.marks.push(Mark {
            end: self.messages.len() as u32,
            source_id: frame.origin.stream.source_id,
            kind: frame.origin.stream.source_kind,
            priority: frame.priority,
        });
    }

    /// Returns what was pushed so far. The encoder continues behind it.
    fn finish(&mut self) -> Piece {
        let first_offset = self.first_offset;
        self.first_offset += self.marks.len() as u64;
        let messages = std::mem::take(&mut self.messages);
        let marks = std::mem::take(&mut self.marks).into_boxed_slice();
        let weight = messages.capacity() + size_of_val(&*marks) + PIECE_OVERHEAD_BYTES;
        Piece(Arc::new(PieceData { first_offset, messages: messages.freeze(), marks, weight }))
    }
}

impl Piece {
    fn first_offset(&self) -> u64 {
        self.0.first_offset
    }

    pub(super) fn next_offset(&self) -> u64 {
        self.0.first_offset + self.0.marks.len() as u64
    }

    fn weight(&self) -> usize {
        self.0.weight
    }

    /// The messages, from `offset` on, of the frames that `selection` matches.
    pub(super) fn select(&self, offset: u64, selection: &Selection) -> Bytes {
        let skipped = usize::try_from(offset.saturating_sub(self.0.first_offset)).unwrap_or(usize::MAX);
        let skipped = skipped.min(self.0.marks.len());
        let start = self.start_of(skipped);
        if selection.is_all() {
            return self.0.messages.slice(start..);
        }
        let mut chosen = BytesMut::new();
        let mut start = start;
        for mark in &self.0.marks[skipped..] {
            let end = mark.end as usize;
            if selection.takes_stream(mark.source_id, mark.kind, mark.priority) {
                chosen.extend_from_slice(&self.0.messages[start..end]);
            }
            start = end;
        }
        chosen.freeze()
    }

    /// Where the message of the frame with this index begins.
    fn start_of(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.0.marks[before].end as usize)
    }
}
