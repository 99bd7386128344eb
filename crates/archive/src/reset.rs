//! Edits of positions: lowering the epoch of a stream that a mistaken client has raised, and forgetting streams.
//!
//! No frame can do that: a lower epoch never changes a position, however late it arrives. So a new segment is begun, whose
//! positions are the edited ones: what a segment says of the offsets below it counts more than the frames before it, for
//! recovery and for a repair. Nothing is added to the format. Many streams are forgotten with one new segment.

use std::sync::Arc;

use super::ResetError;
use super::commit_queue::CommitQueue;
use super::edit::{Edit, Request};
use frame::StreamKey;

/// Asks the commit thread to edit positions, one edit after the other. Cheap to clone; does not keep the log open.
#[derive(Clone)]
pub struct Resets(pub(super) Arc<CommitQueue>);

impl Resets {
    /// Begins `stream` anew in `epoch`, unless its durable epoch is lower anyway.
    ///
    /// `done` hears on the commit thread when that is durable, or cannot be had now. If the archive fails over it, `done`
    /// is dropped unheard, and only the next start knows which of both it is. The caller sees to it that no frame of the
    /// stream is on its way meanwhile: one of the old epoch would raise it again.
    ///
    /// # Errors
    /// [`ResetError`] when it is not even tried; `done` is dropped then.
    pub fn request(
        &self,
        stream: StreamKey,
        epoch: u64,
        done: impl FnOnce(Result<(), ResetError>) + Send + 'static,
    ) -> Result<(), ResetError> {
        self.0.request(Request { edit: Edit::Reset(stream, epoch), done: Box::new(done) })
    }

    /// Forgets the positions of `streams`, all of them or none.
    ///
    /// `done` hears as with [`Self::request`], and the caller has the same to see to.
    ///
    /// # Errors
    /// [`ResetError`] when it is not even tried; `done` is dropped then.
    pub fn forget(
        &self,
        streams: Vec<StreamKey>,
        done: impl FnOnce(Result<(), ResetError>) + Send + 'static,
    ) -> Result<(), ResetError> {
        self.0.request(Request { edit: Edit::Forget(streams), done: Box::new(done) })
    }
}
