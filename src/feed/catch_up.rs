//! Reading the log for a subscriber that is behind, in turns: few readers at a time, none held by one who does not take.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::archive::{Filter, History, Item, ReadError, Reader};
use crate::frame::Selection;
use crate::wire::{Deliver, Gap, GapReason};

/// Read at once, encoded.
const CHUNK_BYTES: usize = 256 << 10;
/// Offsets looked at in one go: bounds the time that a sparse selection keeps a thread.
const CHUNK_OFFSETS: u64 = 1 << 16;
/// A turn ends after so many bytes, looked at or sent, when others wait.
const TURN_CHUNKS: u32 = 32;
/// A turn ends after so long, when others wait: one who takes little at a time holds it no longer.
const TURN_TIME_MAX: Duration = Duration::from_secs(1);

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
    chunks_left: u32,
    ends_at: Instant,
    _permit: OwnedSemaphorePermit,
}

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
                let readers = Arc::clone(readers);
                *self = Self::Waiting(Box::pin(async move {
                    match readers.acquire_owned().await {
                        Ok(permit) => permit,
                        // The semaphore is never closed.
                        Err(_) => std::future::pending().await,
                    }
                }));
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

    /// Waits for what is under way; `Some` when a chunk was read. Cancel safe.
    pub(super) async fn progress(&mut self) -> Option<Result<Chunk, ReadError>> {
        match self {
            Self::Idle | Self::Paused(_) => std::future::pending().await,
            Self::Waiting(permit) => {
                let permit = permit.await;
                let ends_at = Instant::now() + TURN_TIME_MAX;
                let turn = Turn { reader: None, chunks_left: TURN_CHUNKS, ends_at, _permit: permit };
                *self = Self::Paused(Box::new(turn));
                None
            }
            Self::Reading(reading) => match reading.await {
                Ok((turn, result)) => {
                    let is_over = turn.chunks_left == 0 || Instant::now() >= turn.ends_at;
                    *self = if is_over { Self::Idle } else { Self::Paused(turn) };
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

impl Turn {
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
        read_chunk(reader, next_offset..to_offset)
    }
}

fn read_chunk(reader: &mut Reader, offsets: Range<u64>) -> Result<Chunk, ReadError> {
    let mut messages = BytesMut::new();
    let mut next_offset = offsets.start;
    while messages.len() < CHUNK_BYTES && next_offset < offsets.end {
        let gap = match reader.next().transpose()? {
            None => {
                let unread = reader.next_offset().max(next_offset)..offsets.end;
                if unread.is_empty() {
                    next_offset = offsets.end;
                    break;
                }
                // All of it was synced once: what does not show up now is lost.
                tracing::error!(
                    from_offset = unread.start,
                    to_offset = unread.end,
                    "durable frames cannot be read"
                );
                Gap { reason: GapReason::Damaged, offsets: unread }
            }
            Some(Item::Frame(stored)) => {
                Deliver::encode(stored.offset, &stored.frame, &mut messages);
                next_offset = stored.offset + 1;
                continue;
            }
            Some(Item::Damage(damage)) => Gap { reason: GapReason::Damaged, offsets: damage.offsets },
            Some(Item::Expired(offsets)) => Gap { reason: GapReason::Expired, offsets },
        };
        if !gap.offsets.is_empty() {
            next_offset = gap.offsets.end;
            gap.encode(&mut messages);
        }
    }
    Ok(Chunk { messages: messages.freeze(), next_offset })
}
