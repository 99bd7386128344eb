//! What the commit thread is asked to change in the positions.

use crate::PositionEditError;
use frame::StreamKey;

/// An edit of positions.
pub(crate) enum PositionEdit {
    /// Sets the stream to the start of this epoch, unless its durable epoch is lower.
    LowerEpoch(StreamKey, u64),
    /// Removes the positions of these streams.
    Forget(Vec<StreamKey>),
}

/// A request to the commit thread for an edit between two commits.
pub(crate) struct EditRequest {
    /// What to change.
    pub(crate) edit: PositionEdit,
    /// Called once with the result. Dropped without a call if the archive fails first.
    pub(crate) done: Box<dyn FnOnce(Result<(), PositionEditError>) + Send>,
}

impl EditRequest {
    /// Reports the result to the sender of the request.
    pub(crate) fn done(self, result: Result<(), PositionEditError>) {
        (self.done)(result);
    }
}
