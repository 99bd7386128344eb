//! Edits of positions that the commit thread makes between two commits.

use super::ResetError;
use frame::StreamKey;

/// An edit of positions.
pub(super) enum Edit {
    /// Sets the stream to the start of this epoch, unless its durable epoch is lower.
    Reset(StreamKey, u64),
    /// Removes the positions of these streams.
    Forget(Vec<StreamKey>),
}

/// A request to the commit thread for an edit between two commits.
pub(super) struct Request {
    pub(super) edit: Edit,
    pub(super) done: Box<dyn FnOnce(Result<(), ResetError>) + Send>,
}

impl Request {
    /// Reports the result to the sender of the request.
    pub(super) fn done(self, result: Result<(), ResetError>) {
        (self.done)(result);
    }
}
