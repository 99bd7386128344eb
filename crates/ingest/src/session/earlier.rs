//! Where a stream stood in an epoch that is over, as the archive says it.
//!
//! A forwarder brings what its own archive holds, emergencies first. So frames of an epoch may come after those of a
//! later one. The stream keeps the position of its newest epoch only; that of an earlier one is read from the log.

use std::ops::{ControlFlow, Range};

use archive::{Filter, History, ReadError, Visited};
use frame::{FramePriority, Lanes, Origin, Selection};

/// How many offsets of the log are searched first, from its end. Each further search is twice as long.
const SEARCH_OFFSETS: u64 = 1 << 20;

/// One past the highest sequence of `origin` in the durable log, per lane. Blocks on the disk: it reads the frames of
/// `origin` and the indexes of segments, from the newest on.
///
/// # Errors
/// [`ReadError`] when the log cannot be read.
pub(super) fn position(history: &History, origin: &Origin) -> Result<Lanes<u64>, ReadError> {
    let mut next = Lanes::default();
    for priority in FramePriority::ALL {
        let (mut end, mut length) = (history.watermark(), SEARCH_OFFSETS);
        while next[priority] == 0 && end > history.first_offset() {
            let start = end.saturating_sub(length).max(history.first_offset());
            next[priority] = highest(history, origin, priority, start..end)?;
            (end, length) = (start, length * 2);
        }
    }
    Ok(next)
}

/// One past the highest sequence among these offsets, 0 without a frame.
fn highest(
    history: &History,
    origin: &Origin,
    priority: FramePriority,
    offsets: Range<u64>,
) -> Result<u64, ReadError> {
    let stream = &origin.stream;
    let mut reader = history.read(Filter {
        from_offset: offsets.start,
        to_offset: Some(offsets.end),
        selection: Selection::of_sources([stream.source_id])
            .with_kind(Some(stream.source_kind))
            .with_priority(Some(priority)),
        epoch: Some(origin.epoch),
        ..Filter::default()
    })?;
    let mut next = 0;
    loop {
        let visited = reader.visit(|_, frame| {
            if **frame.origin == *origin {
                next = next.max(frame.sequence + 1);
            }
            ControlFlow::Continue(())
        })?;
        // Behind a gap the reader goes on.
        if matches!(visited, Visited::End) {
            return Ok(next);
        }
    }
}
