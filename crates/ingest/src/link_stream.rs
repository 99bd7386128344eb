//! A stream that a link carries: frames of a foreign protocol, without credit and without acknowledgements.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;

use super::flow::StreamState;
use super::opened::Opened;
use crate::pipeline::SharedCost;
use actor::Address;
use connection::{SessionId, Stop};
use frame::{BufferPool, FrameRun, Lanes, ReadBuffer, StreamKey};
use wire::ErrorCode;

/// The connection of a link that asks for a stream.
#[derive(Clone, Debug)]
pub struct Carrier {
    /// The name of the link.
    pub link: Arc<str>,
    /// Where the frames come from.
    pub peer: SocketAddr,
    /// The mailbox that receives the order to end.
    pub session: Address<Stop>,
    /// Notified when the queue of a stream becomes empty in a lane, or a quarter of the window has left it.
    pub room: Arc<Notify>,
    /// What waits in the queues of all streams of the link. It outlives a connection.
    pub queued: Arc<SharedCost>,
}

/// A stream that a link carries. Dropping it releases the stream.
///
/// The foreign protocol has no sequences, so the first frame of a lane gets the stream's next sequence.
#[derive(Debug)]
pub struct LinkStream {
    /// The right to speak for the stream.
    opened: Opened,
    /// The sequence of the next frame, per lane.
    next_sequences: Lanes<u64>,
}

impl LinkStream {
    pub(super) fn new(mut opened: Opened) -> Self {
        opened.ended = Some(StreamState::Lost);
        Self { next_sequences: opened.position.accepted_next, opened }
    }

    /// The key of the stream.
    #[must_use]
    pub fn key(&self) -> &StreamKey {
        &self.opened.origin.stream
    }

    /// The sequence of the next frame, per lane.
    #[must_use]
    pub const fn next_sequences(&self) -> Lanes<u64> {
        self.next_sequences
    }

    /// Whether a later connection continues the sequences of this one. Otherwise the stream has an epoch of its own,
    /// because the peer has invented too many sources.
    #[must_use]
    pub fn has_position(&self) -> bool {
        !self.opened.origin.is_anonymous()
    }

    /// Hands over the frames of `buffer`, which were read at `received_ns` (unix nanoseconds). Their sequences continue
    /// at [`LinkStream::next_sequences`]. Returns the number of frames. `buffer` returns to `pool` in the end.
    ///
    /// The queue takes all frames. The caller must keep to the window that all streams of the link share
    /// ([`Carrier::queued`]): it reads only while there is room.
    ///
    /// # Errors
    /// [`NotOwner`] when the link does not speak for the stream any more. The frames are counted as rejected.
    pub fn deliver(
        &mut self,
        mut buffer: ReadBuffer,
        pool: &Arc<BufferPool>,
        received_ns: i64,
    ) -> Result<u64, NotOwner> {
        for (priority, first) in self.next_sequences {
            for (meta, sequence) in buffer.metas[priority].iter_mut().zip(first..) {
                meta.sequence = sequence;
            }
        }
        let counts = buffer.metas.each_ref().map(|metas| metas.len() as u64);
        let frames = counts.values().sum();
        let next = Lanes::from_fn(|priority| self.next_sequences[priority] + counts[priority]);
        let Opened { stream, origin, session_id, .. } = &self.opened;
        let has_credit = false;
        let lanes = FrameRun::of_read(origin, received_ns, buffer, has_credit, pool);
        let duplicates = 0;
        stream.books.add_received(frames, duplicates, None);
        let Ok(accepted) = stream.accept(*session_id, next, lanes) else {
            stream.books.add_rejected(ErrorCode::TakenOver, frames);
            return Err(NotOwner);
        };
        stream.books.add_accepted(&accepted);
        self.next_sequences = next;
        Ok(frames)
    }

    pub(super) const fn session_id(&self) -> SessionId {
        self.opened.session_id
    }

    /// Releases the stream. `state` is what operators see from here on.
    pub fn end(mut self, state: StreamState) {
        self.opened.ended = Some(state);
    }
}

/// The link does not speak for the stream any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link does not speak for the stream any more")]
pub struct NotOwner;
