//! Reads a running archive from within the daemon.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::{Filter, ReadError, Reader, Storage};

/// The durable part of a running archive. Cheap to clone.
#[derive(Clone)]
pub struct History {
    /// The file system.
    pub(crate) storage: Arc<dyn Storage>,
    /// The archive's directory.
    pub(crate) dir: PathBuf,
    /// The id of the log.
    pub(crate) log_id: u64,
    /// Offset of the oldest frame kept, as maintenance publishes it.
    pub(crate) first_offset: watch::Receiver<u64>,
    /// Offset behind the last durable frame, as the commit thread publishes it.
    pub(crate) watermark: watch::Receiver<u64>,
}

impl History {
    /// The id of the log. An offset is meaningful only within its log.
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

    /// Reads the frames that `filter` selects and that are durable at the time of this call. This call and the reader
    /// block on the disk.
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
