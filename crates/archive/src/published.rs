//! The state of the archive that other parts can read.

use std::sync::Arc;

use tokio::sync::watch;

use super::{ArchiveStats, Recovery, Status};

/// What the commit thread and maintenance publish.
pub(super) struct Published {
    pub(super) status: watch::Sender<Status>,
    pub(super) routine_limit: watch::Sender<u64>,
    pub(super) watermark: watch::Sender<u64>,
    /// Offset of the oldest frame kept.
    pub(super) first_offset: watch::Sender<u64>,
    pub(super) stats: Arc<ArchiveStats>,
}

impl Published {
    /// The state before the first commit.
    pub(super) fn new(recovery: &Recovery) -> Self {
        Self {
            status: watch::Sender::new(Status::Ok),
            routine_limit: watch::Sender::new(0),
            watermark: watch::Sender::new(recovery.next_offset),
            first_offset: watch::Sender::new(recovery.first_offset),
            stats: Arc::default(),
        }
    }
}
