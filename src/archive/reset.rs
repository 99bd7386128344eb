//! Lowering the epoch of a stream that a mistaken client has raised.
//!
//! No frame can do that: a lower epoch never changes a position, however late it arrives. So a new segment is begun, whose
//! positions are the lowered ones: what a segment says of the offsets below it counts more than the frames before it, for
//! recovery and for a repair, of this build and of older ones alike. Nothing is added to the format.

use std::sync::Arc;

use super::ResetError;
use super::gather::Gather;
use crate::frame::StreamKey;

/// Asks the commit thread to lower epochs, one after the other. Cheap to clone; does not keep the log open.
#[derive(Clone)]
pub struct Resets(pub(super) Arc<Gather>);

/// What the commit thread is to do between two commits.
pub(super) struct Request {
    pub(super) stream: StreamKey,
    pub(super) epoch: u64,
    done: Box<dyn FnOnce(Result<(), ResetError>) + Send>,
}

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
        self.0.request(Request { stream, epoch, done: Box::new(done) })
    }
}

impl Request {
    /// Tells who asked.
    pub(super) fn done(self, result: Result<(), ResetError>) {
        (self.done)(result);
    }
}
