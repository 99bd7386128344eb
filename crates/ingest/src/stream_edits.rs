//! Edits of streams that an operator asks for: lowering an epoch, forgetting streams.
//!
//! An edit has three steps. The table holds the streams, so that no session can open them. The commit thread
//! of the archive makes the new positions durable. Then the table, which the sessions read, changes. The
//! commit thread completes every edit that has begun, also when the operator's connection is gone.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Forgetting, Position, ResetRefused, Selected, Selector, StreamTable};
use archive::{PositionEditError, PositionEdits};
use frame::{SourceKind, StreamKey};

/// Most streams that one log line names.
const LOGGED_MAX: usize = 8;

/// Edits streams for an operator.
#[derive(Clone)]
pub struct StreamEdits {
    /// All streams, as sessions see them.
    table: Arc<StreamTable>,
    /// Makes the new positions durable.
    archive: PositionEdits,
}

/// Why an edit was not made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The state of the stream does not allow the edit.
    #[error("the stream's epoch cannot be reset: {0}")]
    Refused(ResetRefused),
    /// The archive refused the edit.
    #[error(transparent)]
    Archive(#[from] PositionEditError),
    /// The archive failed during the edit. Only the next start shows whether the edit was made.
    #[error("the archive failed meanwhile")]
    ArchiveFailed,
}

impl StreamEdits {
    /// Edits of the streams in `table`, made durable through `archive`.
    #[must_use]
    pub const fn new(table: Arc<StreamTable>, archive: PositionEdits) -> Self {
        Self { table, archive }
    }

    /// Restarts `stream` at sequence 0 of `epoch`, which must be lower than its current epoch. Returns the
    /// position before and the position after the edit.
    ///
    /// `peer` is the address of the operator, for the log.
    ///
    /// # Errors
    /// [`EditError`].
    ///
    /// # Cancel safety
    /// When the future is dropped while it waits, the commit thread still completes the edit.
    pub async fn lower_epoch(
        &self,
        stream: &StreamKey,
        epoch: u64,
        peer: SocketAddr,
    ) -> Result<[Position; 2], EditError> {
        let reset = self.table.begin_reset(stream, epoch).map_err(EditError::Refused)?;
        let (done_tx, done) = oneshot::channel();
        let name = stream.clone();
        let finish = move |result: Result<(), PositionEditError>| {
            let result = result.map(|()| {
                let old = reset.old();
                let new = reset.finish();
                tracing::warn!(
                    stream = %name,
                    old_epoch = old.epoch,
                    epoch = new.epoch,
                    old_emergency = old.durable_next.emergency,
                    old_routine = old.durable_next.routine,
                    %peer,
                    "the epoch of a stream was reset over HTTP; the next session starts at sequence 0"
                );
                [old, new]
            });
            // The operator may be gone.
            let _ = done_tx.send(result);
        };
        self.archive.lower_epoch(stream.clone(), epoch, finish)?;
        Ok(done.await.map_err(|_| EditError::ArchiveFailed)??)
    }

    /// Selects the streams that match `selector` and holds them, so that no session can open them until
    /// [`Self::forget`] has forgotten them. A dry run (`dry_run` of the HTTP API) selects the same streams and
    /// holds none.
    #[must_use]
    pub fn select(&self, selector: &Selector, is_dry_run: bool) -> Selected {
        self.table.begin_forget(selector, is_dry_run)
    }

    /// Forgets the streams of `forgetting`, which [`Self::select`] has returned.
    ///
    /// `selector` and `peer`, the address of the operator, are only for the log.
    ///
    /// # Errors
    /// [`EditError::Archive`], [`EditError::ArchiveFailed`].
    ///
    /// # Cancel safety
    /// When the future is dropped while it waits, the commit thread still completes the edit.
    pub async fn forget(
        &self,
        forgetting: Forgetting,
        selector: Selector,
        peer: SocketAddr,
    ) -> Result<(), EditError> {
        let keys: Vec<StreamKey> = forgetting.streams().map(|(key, _)| key.clone()).collect();
        let (done_tx, done) = oneshot::channel();
        let table = Arc::clone(&self.table);
        let names = keys.iter().take(LOGGED_MAX).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let count = keys.len();
        let finish = move |result: Result<(), PositionEditError>| {
            let result = result.map(|()| {
                table.finish_forget(forgetting);
                let Selector { source_ids, kind, station, station_glob, offline_for } = selector;
                let source_ids = (!source_ids.is_empty())
                    .then(|| source_ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
                tracing::warn!(
                    count,
                    first = names,
                    source_ids,
                    kind = kind.map(SourceKind::name),
                    station,
                    station_glob,
                    offline_for = offline_for.map(tracing::field::debug),
                    %peer,
                    "streams were forgotten over HTTP; their old epochs and frames are accepted again"
                );
            });
            // The operator may be gone.
            let _ = done_tx.send(result);
        };
        self.archive.forget(keys, finish)?;
        Ok(done.await.map_err(|_| EditError::ArchiveFailed)??)
    }
}
