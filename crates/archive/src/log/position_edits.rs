//! Edits of positions: lowers the epoch of a stream that a client has raised by mistake, and forgets streams.
//!
//! No frame can do that: a lower epoch never changes a position, however late it arrives. For an edit, the commit
//! thread begins a new segment with the edited positions. In recovery and in a repair, the positions of a segment take
//! precedence over earlier frames. So the format needs no addition. One new segment forgets many streams.

use std::sync::Arc;

use super::edit_request::{EditRequest, PositionEdit};
use super::shared::Shared;
use crate::PositionEditError;
use frame::StreamKey;

/// Requests edits of positions from the commit thread, one at a time. Cheap to clone. It does not keep the log open.
#[derive(Clone)]
pub struct PositionEdits(pub(crate) Arc<Shared>);

impl PositionEdits {
    /// Sets `stream` to the start of `epoch`, unless its durable epoch is lower.
    ///
    /// The commit thread calls `done` when the edit is durable or not possible. If the archive fails during the edit,
    /// `done` is dropped without a call, and only the next start shows whether the edit is durable. The caller must
    /// ensure that no frame of the stream is on its way meanwhile: a frame of the old epoch would raise the epoch
    /// again.
    ///
    /// # Errors
    /// [`PositionEditError`] if the commit thread does not try the edit. `done` is dropped then.
    pub fn lower_epoch(
        &self,
        stream: StreamKey,
        epoch: u64,
        done: impl FnOnce(Result<(), PositionEditError>) + Send + 'static,
    ) -> Result<(), PositionEditError> {
        self.0
            .queue
            .request(EditRequest { edit: PositionEdit::LowerEpoch(stream, epoch), done: Box::new(done) })
    }

    /// Forgets the positions of `streams`, all of them or none.
    ///
    /// The commit thread calls `done` as in [`Self::lower_epoch`], and the caller has the same duty.
    ///
    /// # Errors
    /// [`PositionEditError`] if the commit thread does not try the edit. `done` is dropped then.
    pub fn forget(
        &self,
        streams: Vec<StreamKey>,
        done: impl FnOnce(Result<(), PositionEditError>) + Send + 'static,
    ) -> Result<(), PositionEditError> {
        self.0.queue.request(EditRequest { edit: PositionEdit::Forget(streams), done: Box::new(done) })
    }
}
