//! The right of one connection to speak for a stream.

use std::sync::Arc;

use super::flow::{Position, StreamState};
use super::stream::{Stream, StreamTable};
use connection::SessionId;
use frame::Origin;

/// A stream that a session may speak for. Dropping this value releases the stream.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Arc<Stream>,
    pub(crate) origin: Arc<Origin>,
    pub(crate) position: Position,
    /// The state of the stream after this value is dropped. `None` until the session serves the stream.
    pub(crate) ended: Option<StreamState>,
    pub(crate) session_id: SessionId,
    pub(crate) table: Arc<StreamTable>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.stream.release(self.session_id, self.ended);
        if self.origin.is_anonymous() {
            self.table.remove_anonymous(self.origin.epoch);
        }
    }
}
