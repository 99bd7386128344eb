//! Reads the log for subscribers that are behind, in turns: few readers at a time, and no slow subscriber
//! keeps one.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use archive::{Filter, History, Item, ReadError, Reader, Visited};
use frame::Selection;
use support::logging::{Kind, by_peer};
use wire::{Deliver, Gap, GapReason};

/// Encoded bytes of one read.
const CHUNK_BYTES: usize = 256 << 10;
/// Most offsets of one read. Bounds the time that a sparse selection keeps a thread.
const CHUNK_OFFSETS: u64 = 1 << 16;
/// Most chunks of a turn that are on the way to the subscriber: one in its outbox, one ahead.
const BUFFERS_MAX: usize = 2;
/// While others wait, a turn ends after this many chunks, whether they are scanned or sent.
const TURN_CHUNKS: u32 = 32;
/// While others wait, a turn ends after this time. So a subscriber that takes little at a time does not hold
/// the turn longer.
const TURN_TIME_MAX: Duration = Duration::from_secs(1);

/// Pause before a reader that could open no file tries again.
pub(super) const NO_FILES_PAUSE: Duration = Duration::from_millis(100);

/// The state of a subscriber's reading of the log.
#[derive(Default)]
pub(super) enum CatchUp {
    /// The subscriber has no turn, and waits for none.
    #[default]
    Idle,
    /// The subscriber waits for its turn.
    Waiting(std::pin::Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>),
    /// A chunk is being read.
    Reading(JoinHandle<(Box<Turn>, Result<Chunk, ReadError>)>),
    /// The subscriber has the turn; nothing is being read.
    Paused(Box<Turn>),
}

/// The right to read, and the reader. Dropping it gives the right up.
pub(super) struct Turn {
    /// The reader of the log; `None` before the first read.
    reader: Option<Reader>,
    /// The memory of the chunks.
    buffers: Buffers,
    /// Chunks until the turn ends.
    chunks_left: u32,
    /// When the turn ends even if chunks are left.
    ends_at: Instant,
    /// The permit of the turn. `None` only while [`Self::renew`] asks for another one.
    permit: Option<OwnedSemaphorePermit>,
}

/// The chunks of a turn, reused once the subscriber has taken them. Allocating new memory costs more than
/// filling it.
#[derive(Default)]
struct Buffers(VecDeque<Bytes>);

/// The result of one read of the log.
pub(super) struct Chunk {
    /// Encoded DELIVER and GAP messages.
    pub(super) messages: Bytes,
    /// Every frame below this offset is in the messages, or was filtered out.
    pub(super) next_offset: u64,
}

impl CatchUp {
    /// Starts to wait for a turn, or to read from `next_offset` on, unless one of them is under way.
    ///
    /// The reader of a turn goes on where its last chunk ended. So within a turn `next_offset` must be that of the last
    /// chunk; a caller that continues elsewhere gives the turn up before.
    pub(super) fn go_on(
        &mut self,
        next_offset: u64,
        selection: &Selection,
        history: &History,
        readers: &Arc<Semaphore>,
    ) {
        match std::mem::take(self) {
            Self::Idle => {
                *self = Self::wait(Arc::clone(readers), Duration::ZERO);
            }
            Self::Paused(turn) => {
                let (history, selection) = (history.clone(), selection.clone());
                *self = Self::Reading(tokio::task::spawn_blocking(move || {
                    turn.read(next_offset, &selection, &history)
                }));
            }
            other => *self = other,
        }
    }

    /// Waits for `pause`, then for a turn.
    fn wait(readers: Arc<Semaphore>, pause: Duration) -> Self {
        Self::Waiting(Box::pin(async move {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            match readers.acquire_owned().await {
                Ok(permit) => permit,
                // The semaphore is never closed.
                Err(_) => std::future::pending().await,
            }
        }))
    }

    /// Waits for the turn or the read; `Some` when a chunk was read. Cancel safe.
    pub(super) async fn progress(&mut self) -> Option<Result<Chunk, ReadError>> {
        match self {
            Self::Idle | Self::Paused(_) => std::future::pending().await,
            Self::Waiting(permit) => {
                let permit = permit.await;
                *self = Self::Paused(Box::new(Turn::new(permit)));
                None
            }
            Self::Reading(reading) => match reading.await {
                Ok((turn, Err(error))) if error.is_too_many_files() => {
                    by_peer!(Kind::Unread, WARN, %error, "a subscriber waits until files can be opened again");
                    *self = turn.permit.map_or(Self::Idle, |permit| {
                        Self::wait(Arc::clone(permit.semaphore()), NO_FILES_PAUSE)
                    });
                    None
                }
                Ok((mut turn, result)) => {
                    let goes_on = !turn.is_over() || turn.renew();
                    *self = if goes_on { Self::Paused(turn) } else { Self::Idle };
                    Some(result)
                }
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime shuts down.
                    Err(_) => std::future::pending().await,
                },
            },
        }
    }

    /// Whether a read may start at once.
    pub(super) fn has_turn(&self) -> bool {
        matches!(self, Self::Paused(_))
    }

    /// Gives up the turn, unless a read is under way.
    pub(super) fn give_up(&mut self) {
        if !matches!(self, Self::Reading(_)) {
            *self = Self::Idle;
        }
    }

    /// When the turn ends, if it is held and nothing is read.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        match self {
            Self::Paused(turn) => Some(turn.ends_at),
            _ => None,
        }
    }
}

impl Buffers {
    /// Returns an empty buffer, reused if possible.
    fn take(&mut self) -> BytesMut {
        let oldest = if self.0.len() < BUFFERS_MAX { None } else { self.0.pop_front() };
        match oldest.map(Bytes::try_into_mut) {
            Some(Ok(mut buffer)) => {
                buffer.clear();
                buffer
            }
            // A chunk ends after the message that fills it.
            Some(Err(_)) | None => BytesMut::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 16),
        }
    }

    /// Keeps the memory of a whole chunk for reuse.
    fn keep(&mut self, messages: &Bytes) {
        if messages.len() >= CHUNK_BYTES {
            self.0.push_back(messages.clone());
        }
    }
}

impl Turn {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        let ends_at = Instant::now() + TURN_TIME_MAX;
        Self {
            reader: None,
            buffers: Buffers::default(),
            chunks_left: TURN_CHUNKS,
            ends_at,
            permit: Some(permit),
        }
    }

    /// Whether the turn has had its chunks or its time.
    fn is_over(&self) -> bool {
        self.chunks_left == 0 || Instant::now() >= self.ends_at
    }

    /// Renews the turn with the same reader, if no other subscriber waits. A new reader would have to find
    /// its position.
    fn renew(&mut self) -> bool {
        let readers = self.permit.take().map(|permit| Arc::clone(permit.semaphore()));
        // The returned permit goes to the waiting subscribers first, in their order.
        self.permit = readers.and_then(|readers| readers.try_acquire_owned().ok());
        (self.chunks_left, self.ends_at) = (TURN_CHUNKS, Instant::now() + TURN_TIME_MAX);
        self.permit.is_some()
    }

    /// Reads the next chunk, from `next_offset` on. Returns the turn too, because another thread reads.
    fn read(
        mut self: Box<Self>,
        next_offset: u64,
        selection: &Selection,
        history: &History,
    ) -> (Box<Self>, Result<Chunk, ReadError>) {
        self.chunks_left -= 1;
        let result = self.try_read(next_offset, selection, history);
        (self, result)
    }

    fn try_read(
        &mut self,
        next_offset: u64,
        selection: &Selection,
        history: &History,
    ) -> Result<Chunk, ReadError> {
        let to_offset = history.watermark().min(next_offset + CHUNK_OFFSETS);
        let reader = match &mut self.reader {
            Some(reader) => {
                reader.set_to_offset(Some(to_offset));
                reader
            }
            empty => empty.insert(history.read(Filter {
                from_offset: next_offset,
                to_offset: Some(to_offset),
                selection: selection.clone(),
                ..Filter::default()
            })?),
        };
        let chunk = read_chunk(reader, next_offset..to_offset, self.buffers.take())?;
        self.buffers.keep(&chunk.messages);
        Ok(chunk)
    }
}

/// Encodes the frames and gaps of `offsets` until the chunk is full. `offsets` lie below the watermark, so all of them
/// must be there: what the reader does not return is a gap.
fn read_chunk(reader: &mut Reader, offsets: Range<u64>, mut messages: BytesMut) -> Result<Chunk, ReadError> {
    let mut next_offset = offsets.start;
    while messages.len() < CHUNK_BYTES && next_offset < offsets.end {
        let visited = reader.visit(|offset, frame| {
            Deliver::encode(offset, *frame, &mut messages);
            next_offset = offset + 1;
            if messages.len() < CHUNK_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let gap = match visited {
            Visited::Enough | Visited::Gap(Item::Frame(_)) => continue,
            Visited::End => {
                let unread = reader.next_offset().max(next_offset)..offsets.end;
                if unread.is_empty() {
                    next_offset = offsets.end;
                    break;
                }
                // All of these frames were synced once, so an unreadable frame is lost.
                by_peer!(
                    Kind::Unread,
                    ERROR,
                    from_offset = unread.start,
                    to_offset = unread.end,
                    "durable frames cannot be read"
                );
                Gap { reason: GapReason::Damaged, offsets: unread }
            }
            Visited::Gap(Item::Damage(damage)) => Gap { reason: GapReason::Damaged, offsets: damage.offsets },
            Visited::Gap(Item::Expired(offsets)) => Gap { reason: GapReason::Expired, offsets },
        };
        if !gap.offsets.is_empty() {
            next_offset = gap.offsets.end;
            gap.encode(&mut messages);
        }
    }
    Ok(Chunk { messages: messages.freeze(), next_offset })
}
