//! Reading the log for a subscriber that is behind, in turns: few readers at a time, none held by one who does not take.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::archive::{Filter, History, Item, ReadError, Reader, Visited};
use crate::frame::Selection;
use crate::logging::{Kind, by_peer};
use crate::wire::{Deliver, Gap, GapReason};

/// Read at once, encoded.
const CHUNK_BYTES: usize = 256 << 10;
/// Offsets looked at in one go: bounds the time that a sparse selection keeps a thread.
const CHUNK_OFFSETS: u64 = 1 << 16;
/// Chunks of a turn that may be under way to the subscriber: one in its outbox, one ahead.
const BUFFERS_MAX: usize = 2;
/// A turn ends after so many bytes, looked at or sent, when others wait.
const TURN_CHUNKS: u32 = 32;
/// A turn ends after so long, when others wait: one who takes little at a time holds it no longer.
const TURN_TIME_MAX: Duration = Duration::from_secs(1);

/// After this long a reader tries again that could open no file.
pub(super) const NO_FILES_PAUSE: Duration = Duration::from_millis(100);

/// Where a subscriber stands with reading the log.
#[derive(Default)]
pub(super) enum CatchUp {
    /// It has no turn, and waits for none.
    #[default]
    Idle,
    /// It waits for its turn.
    Waiting(std::pin::Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>),
    /// A chunk is being read.
    Reading(JoinHandle<(Box<Turn>, Result<Chunk, ReadError>)>),
    /// It has the turn and does nothing at the moment.
    Paused(Box<Turn>),
}

/// The right to read, and the reader. Given up when dropped.
pub(super) struct Turn {
    reader: Option<Reader>,
    buffers: Buffers,
    chunks_left: u32,
    ends_at: Instant,
    permit: Option<OwnedSemaphorePermit>,
}

/// The chunks of a turn, to be used again once the subscriber has taken them: new memory costs more than what is done
/// with it.
#[derive(Default)]
struct Buffers(VecDeque<Bytes>);

/// What was read of the log.
pub(super) struct Chunk {
    /// DELIVERs and GAPs.
    pub(super) messages: Bytes,
    /// Everything below is in them, or was filtered out.
    pub(super) next_offset: u64,
}

impl CatchUp {
    /// Begins to wait, or to read from `next_offset` on, if neither is under way.
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

    /// Waits for what is under way; `Some` when a chunk was read. Cancel safe.
    pub(super) async fn progress(&mut self) -> Option<Result<Chunk, ReadError>> {
        match self {
            Self::Idle | Self::Paused(_) => std::future::pending().await,
            Self::Waiting(permit) => {
                let permit = permit.await;
                *self = Self::Paused(Box::new(Turn::new(permit)));
                None
            }
            Self::Reading(reading) => match reading.await {
                Ok((turn, Err(error))) if error.is_no_files() => {
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
                    // The runtime is ending.
                    Err(_) => std::future::pending().await,
                },
            },
        }
    }

    /// Whether it may read at once.
    pub(super) fn has_turn(&self) -> bool {
        matches!(self, Self::Paused(_))
    }

    /// Gives the turn to others while nothing is read.
    pub(super) fn give_up(&mut self) {
        if !matches!(self, Self::Reading(_)) {
            *self = Self::Idle;
        }
    }

    /// When the turn ends that is held while nothing is read.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        match self {
            Self::Paused(turn) => Some(turn.ends_at),
            _ => None,
        }
    }
}

impl Buffers {
    /// An empty buffer.
    fn take(&mut self) -> BytesMut {
        let oldest = if self.0.len() < BUFFERS_MAX { None } else { self.0.pop_front() };
        match oldest.map(Bytes::try_into_mut) {
            Some(Ok(mut buffer)) => {
                buffer.clear();
                buffer
            }
            // A chunk ends behind the message that fills it.
            Some(Err(_)) | None => BytesMut::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 16),
        }
    }

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

    fn is_over(&self) -> bool {
        self.chunks_left == 0 || Instant::now() >= self.ends_at
    }

    /// Begins anew with the reader it has, if nobody waits: a new reader would have to find its place.
    fn renew(&mut self) -> bool {
        let readers = self.permit.take().map(|permit| Arc::clone(permit.semaphore()));
        // What is given back goes to those who wait, in their order.
        self.permit = readers.and_then(|readers| readers.try_acquire_owned().ok());
        (self.chunks_left, self.ends_at) = (TURN_CHUNKS, Instant::now() + TURN_TIME_MAX);
        self.permit.is_some()
    }

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
                // All of it was synced once: what does not show up now is lost.
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
