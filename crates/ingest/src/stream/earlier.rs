//! Streams in epochs that are over: a forwarder still brings frames of them.
//!
//! Such a stream lies beside the one of the current epoch. It has a queue and positions of its own, and it shares the
//! books.

use std::sync::Arc;

use super::{Position, SourceQueue, Stream, StreamTable};
use frame::{Lanes, Origin};
use wire::{ErrorCode, WireError};

/// At most this many streams in earlier epochs are kept. One more takes the place of one without a connection.
pub const EARLIER_MAX: usize = 1_024;

impl StreamTable {
    /// Returns the stream of `origin`, whose epoch is over. If it is not kept, creates it with `queue`, and `next` says
    /// what the archive has.
    ///
    /// # Errors
    /// `busy` while frames of earlier epochs are on their way to the disk, because the archive does not have them yet;
    /// `limit` when all places have connections.
    pub(crate) fn earlier(
        &self,
        origin: &Arc<Origin>,
        next: Lanes<u64>,
        queue: impl Fn() -> Arc<SourceQueue>,
    ) -> Result<Arc<Stream>, WireError> {
        let mut tables = self.write();
        if let Some(stream) = tables.earlier.get(origin) {
            return Ok(Arc::clone(stream));
        }
        let current = tables.named.get(&origin.stream);
        if let Some(in_flight) =
            current.map(|stream| stream.lock().in_flight_earlier).filter(|count| *count > 0)
        {
            let text =
                format!("{in_flight} frames of earlier epochs of this stream are on their way to the disk");
            return Err(WireError::new(ErrorCode::Busy, text));
        }
        let books = current.map_or_else(|| self.books_of_stream(), |stream| Arc::clone(&stream.books));
        if tables.earlier.len() >= EARLIER_MAX {
            let idle = tables
                .earlier
                .iter()
                .find(|(_, stream)| stream.is_idle())
                .map(|(origin, _)| Arc::clone(origin));
            let Some(idle) = idle else {
                let text = format!("{EARLIER_MAX} streams are connected in earlier epochs");
                return Err(WireError::new(ErrorCode::Limit, text));
            };
            tables.earlier.remove(&idle);
        }
        let position = Position { epoch: origin.epoch, accepted_next: next, durable_next: next };
        let stream = Stream::new(origin.stream.clone(), position, queue(), None, books);
        tables.earlier.insert(Arc::clone(origin), Arc::clone(&stream));
        Ok(stream)
    }
}

impl Stream {
    /// Whether no session speaks for the stream, and all of its frames are durable.
    fn is_idle(&self) -> bool {
        let state = self.lock();
        state.owner.is_none() && state.in_flight == 0
    }
}
