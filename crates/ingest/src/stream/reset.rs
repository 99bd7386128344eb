//! Lowers the epoch of a stream after a faulty client has raised it.
//!
//! Between [`StreamTable::begin_reset`] and the end of the [`EpochReset`], no session may speak for the
//! stream and none of its frames is in flight. So no frame of the old epoch can reach the archive after the
//! reset.

use std::sync::Arc;

use super::{Stream, StreamTable};
use crate::flow::Position;
use connection::SessionId;
use frame::{Lanes, Origin, StreamKey};

/// Why a stream's epoch cannot be reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetRefused {
    /// No such stream is known.
    #[error("the stream is not known")]
    Unknown,
    /// This connection speaks for the stream.
    #[error("session {0} speaks for it")]
    Connected(SessionId),
    /// This many of its frames are on their way to the disk.
    #[error("{0} of its frames are on their way to the disk")]
    InFlight(u64),
    /// Another edit already resets or forgets the stream.
    #[error("another edit already resets or forgets it")]
    UnderWay,
    /// The stream has this epoch, which is not above the requested one.
    #[error("its epoch is {0}, which is not above the requested one")]
    NotAbove(u64),
}

/// A reset under way. The stream takes no connection until this value is dropped.
#[derive(Debug)]
pub struct EpochReset {
    /// The stream, which is held.
    stream: Arc<Stream>,
    /// Its position.
    old: Position,
    /// The epoch that it gets.
    epoch: u64,
}

impl StreamTable {
    /// Holds the stream of `key`, to restart it in `epoch`.
    ///
    /// # Errors
    /// [`ResetRefused`]; then nothing has changed.
    pub fn begin_reset(&self, key: &StreamKey, epoch: u64) -> Result<EpochReset, ResetRefused> {
        let stream = self.find(key).ok_or(ResetRefused::Unknown)?;
        let mut state = stream.lock();
        if let Some(owner) = &state.owner {
            return Err(ResetRefused::Connected(owner.session_id));
        }
        if state.held_because.is_some() {
            return Err(ResetRefused::UnderWay);
        }
        if state.in_flight > 0 {
            return Err(ResetRefused::InFlight(state.in_flight));
        }
        if epoch >= state.origin.epoch {
            return Err(ResetRefused::NotAbove(state.origin.epoch));
        }
        state.held_because = Some("its epoch is being reset");
        let old = state.position();
        drop(state);
        Ok(EpochReset { stream, old, epoch })
    }
}

impl EpochReset {
    /// The position of the stream until [`Self::finish`].
    #[must_use]
    pub const fn old(&self) -> Position {
        self.old
    }

    /// Moves the stream to its new position. The archive must know the new position already.
    #[must_use]
    pub fn finish(self) -> Position {
        let mut state = self.stream.lock();
        state.origin = Arc::new(Origin { stream: state.origin.stream.clone(), epoch: self.epoch });
        state.accepted_next = Lanes::default();
        state.durable_next = Lanes::default();
        state.sequences.begin_epoch();
        state.position()
    }
}

impl Drop for EpochReset {
    fn drop(&mut self) {
        self.stream.lock().held_because = None;
    }
}
