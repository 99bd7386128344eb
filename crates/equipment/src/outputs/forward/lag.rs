//! How far a forwarder is behind while it is not connected.

use std::sync::Arc;

use crate::outputs::Context;
use crate::outputs::cursor::{self, Cursor, CursorFile, Position};
use crate::outputs::reader::{load, resume};
use crate::outputs::status::OutputStatus;
use archive::{Filter, History, Item, ReadError};
use config::Output;
use frame::{FrameFlags, FramePriority};

/// One look reads at most so many offsets, so that it does not keep the disk busy. The next look goes on behind them.
const LOOK_OFFSETS: u64 = 1 << 18;

/// The lanes of the output `config`.
pub(in crate::outputs) fn lanes(config: &Output) -> impl Iterator<Item = FramePriority> + use<> {
    let selected = config.select.frames.priority;
    FramePriority::ALL.into_iter().filter(move |lane| selected.is_none_or(|selected| selected == *lane))
}

/// Up to where each lane was looked through for a frame that waits.
pub(in crate::outputs) struct Lag([u64; 2]);

impl Lag {
    /// Reads the cursors. A new forwarder begins with the oldest frame, so that it misses what expires before it has
    /// connected. A cursor that cannot be read stays unknown; the connection reports why.
    pub(in crate::outputs) async fn load(config: &Output, status: &OutputStatus, context: &Context) -> Self {
        let history = context.durable.history();
        for lane in lanes(config) {
            let name = cursor::file_name(&config.name, Some(lane));
            let file = CursorFile::new(&context.data_dir.join(cursor::DIR), &name);
            let Ok(cursor) = load(file.clone(), &config.name).await else { continue };
            let (log_id, first, head) = (history.log_id(), history.first_offset(), history.watermark());
            let Position { next_offset, read_from } = resume(cursor, log_id, first, head, &config.name);
            status.cursor_at(Some(lane), next_offset);
            if cursor.is_none() {
                let cursor = Cursor { log_id, next_offset, read_from, sequence: 0 };
                // If this fails, a later save reports it.
                let _ = tokio::task::spawn_blocking(move || file.save(&cursor)).await;
            }
        }
        Self([0; 2])
    }

    /// Looks for the oldest frame of each lane that waits.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(in crate::outputs) async fn look(
        &mut self,
        config: &Arc<Output>,
        status: &OutputStatus,
        context: &Context,
    ) {
        for lane in lanes(config).filter(|lane| !status.waits(*lane)) {
            let Some(cursor) = status.cursor(lane) else { continue };
            let from = cursor.max(self.0[lane as usize]);
            let (config, history) = (Arc::clone(config), context.durable.history().clone());
            let found = tokio::task::spawn_blocking(move || oldest(&config, &history, lane, from)).await;
            // What cannot be read is reported when it is forwarded.
            let Ok(Ok((received_ns, to))) = found else { continue };
            self.0[lane as usize] = to;
            status.waits_since(lane, received_ns);
        }
    }
}

/// When the first frame from the offset `from` on was received that the lane takes, and up to where there is none.
fn oldest(
    config: &Output,
    history: &History,
    lane: FramePriority,
    from: u64,
) -> Result<(Option<i64>, u64), ReadError> {
    let to = history.watermark().min(from.saturating_add(LOOK_OFFSETS));
    let selection = config.select.frames.clone().with_priority(Some(lane));
    let filter = Filter { from_offset: from, to_offset: Some(to), selection, ..Filter::default() };
    for item in history.read(filter)? {
        let Item::Frame(frame) = item? else { continue };
        let select = &config.select;
        let is_bad = frame.frame.flags.contains(FrameFlags::BAD_QUALITY);
        let is_of_station =
            select.stations.is_empty() || select.stations.contains(&frame.frame.origin.stream.station);
        if is_of_station && (select.bad || !is_bad) {
            return Ok((Some(frame.frame.received_ns), from));
        }
    }
    Ok((None, to))
}
