//! Edits of positions that the commit thread makes between two commits.

use super::ResetError;
use frame::StreamKey;

/// What becomes of positions.
pub(super) enum Edit {
    /// The stream begins anew in this epoch, unless its durable epoch is lower anyway.
    Reset(StreamKey, u64),
    /// Nothing is known of these streams any more.
    Forget(Vec<StreamKey>),
}

/// What the commit thread is to do between two commits.
pub(super) struct Request {
    pub(super) edit: Edit,
    pub(super) done: Box<dyn FnOnce(Result<(), ResetError>) + Send>,
}

impl Request {
    /// Tells who asked.
    pub(super) fn done(self, result: Result<(), ResetError>) {
        (self.done)(result);
    }
}
