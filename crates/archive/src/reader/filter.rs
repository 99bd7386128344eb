//! What is asked of a reader.

use frame::{FrameView, Selection};

/// Which frames to read. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// From this offset on.
    pub from_offset: u64,
    /// Below this offset.
    pub to_offset: Option<u64>,
    /// Received at this time or later, unix nanoseconds.
    pub from_received_ns: Option<i64>,
    /// Received before this time, unix nanoseconds.
    pub to_received_ns: Option<i64>,
    /// Of these sources, lanes and kinds.
    pub selection: Selection,
    /// At most this many frames.
    pub limit: Option<u64>,
}

impl Filter {
    /// Whether `frame` is taken, wherever it lies in the log.
    pub(super) fn takes(&self, frame: &FrameView<'_>) -> bool {
        self.from_received_ns.is_none_or(|from| frame.received_ns >= from)
            && self.to_received_ns.is_none_or(|to| frame.received_ns < to)
            && self.selection.takes(*frame)
    }
}
