//! Selects the frames that a reader returns.

use frame::{FrameView, Selection};

/// Which frames to read. The default is all frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// First offset to read.
    pub from_offset: u64,
    /// Offset behind the last frame to read. `None` means no limit.
    pub to_offset: Option<u64>,
    /// Earliest receive time, in unix nanoseconds.
    pub from_received_ns: Option<i64>,
    /// Receive time below which frames must lie, in unix nanoseconds.
    pub to_received_ns: Option<i64>,
    /// Selected sources, lanes and kinds.
    pub selection: Selection,
    /// The epoch of the frames. `None` means all.
    pub epoch: Option<u64>,
    /// Maximum number of frames.
    pub limit: Option<u64>,
}

impl Filter {
    /// Whether the filter takes `frame` by its time, epoch and selection. Does not check the offset.
    pub(super) fn takes(&self, frame: &FrameView<'_>) -> bool {
        self.from_received_ns.is_none_or(|from| frame.received_ns >= from)
            && self.to_received_ns.is_none_or(|to| frame.received_ns < to)
            && self.epoch.is_none_or(|epoch| frame.origin.epoch == epoch)
            && self.selection.takes(*frame)
    }
}
