//! The way into the log.

use std::sync::Arc;

use super::shared::Shared;
use crate::AppendError;
use frame::Batch;

/// Hands batches to the commit thread. Cheap to clone. The archive ends after the last clone is dropped.
#[derive(Clone)]
pub struct Appender(Arc<AppenderGuard>);

struct AppenderGuard(Arc<Shared>);

impl Drop for AppenderGuard {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

impl Appender {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(AppenderGuard(shared)))
    }

    /// Hands `batch`, at most [`BATCH_FRAMES_MAX`](crate::BATCH_FRAMES_MAX) frames, to the commit thread. Waits while
    /// the block of its lane is full.
    ///
    /// When this returns, the frames are not yet durable: the [`CommitObserver`](crate::CommitObserver) reports when
    /// they are. Within a lane, batches of one caller keep their order. Emergencies have blocks of their own and go
    /// first.
    ///
    /// # Errors
    /// [`AppendError::Failed`] once storage has failed, [`AppendError::Oversized`] for a batch over the limits.
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped before it completes, the batch is not handed over.
    pub async fn append(&self, batch: Batch) -> Result<(), AppendError> {
        self.0.0.queue.push(&batch).await
    }

    /// Returns whether a batch of routine needs no wait. Also true when the batch would be refused.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.0.queue.has_room()
    }

    /// Waits until [`Self::has_room`] is true. Cancel safe.
    pub async fn room(&self) {
        self.0.0.queue.room().await;
    }
}
