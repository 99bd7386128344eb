//! Reading a running archive from within the daemon.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Filter, ReadError, Reader, Storage};

/// The durable part of a running archive. Cheap to clone.
#[derive(Clone)]
pub struct History {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) dir: PathBuf,
    pub(super) log_id: u64,
    pub(super) first_offset: watch::Receiver<u64>,
    pub(super) watermark: watch::Receiver<u64>,
}

impl History {
    /// Names the log: offsets of one log mean nothing in another.
    #[must_use]
    pub fn log_id(&self) -> u64 {
        self.log_id
    }

    /// Offset of the oldest frame that is kept.
    #[must_use]
    pub fn first_offset(&self) -> u64 {
        *self.first_offset.borrow()
    }

    /// Offset behind the last durable frame.
    #[must_use]
    pub fn watermark(&self) -> u64 {
        *self.watermark.borrow()
    }

    /// Reads what `filter` chooses and is durable by now. Blocks, as the reader does.
    ///
    /// # Errors
    /// [`ReadError`] when the directory or the first segment cannot be read.
    pub fn read(&self, filter: Filter) -> Result<Reader, ReadError> {
        let durable = self.watermark();
        let to_offset = Some(filter.to_offset.map_or(durable, |to| to.min(durable)));
        let filter = Filter { to_offset, ..filter };
        Reader::open_log(Arc::clone(&self.storage), &self.dir, filter, Some(self.log_id))
    }
}
