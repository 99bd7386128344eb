//! The positions of all streams, as of one offset.

use std::collections::HashMap;

use super::edit_request::PositionEdit;
use crate::format::{Durable, StreamPosition};
use frame::{Frame, FramePriority, StreamKey};

impl StreamPosition {
    /// Advances the position. A higher epoch begins at 0. A lower epoch changes nothing, however late its frames
    /// arrive. Only a reset lowers the epoch, see [`PositionTable::edit`].
    fn advance(&mut self, epoch: u64, priority: FramePriority, next: u64) {
        if epoch > self.epoch {
            *self = Self { epoch, ..Self::default() };
        }
        if epoch == self.epoch {
            self.next[priority] = self.next[priority].max(next);
        }
    }
}

/// Positions by stream, at most `streams_max` of them.
pub(crate) struct PositionTable {
    /// The position of each known stream. Anonymous epochs have none.
    positions: HashMap<StreamKey, StreamPosition>,
    /// A stream that is not known is refused at this number.
    streams_max: usize,
    /// How often a position was not kept because of the limit.
    refused: u64,
}

impl PositionTable {
    /// An empty table for recovery, without a limit: recovery keeps every stream in the log.
    pub(crate) fn unlimited() -> Self {
        Self { positions: HashMap::new(), streams_max: usize::MAX, refused: 0 }
    }

    /// Sets the limit for new streams. Known streams are never dropped, even above the limit.
    pub(crate) fn set_limit(&mut self, streams_max: usize) {
        self.streams_max = streams_max.max(self.positions.len());
    }

    /// Replaces all positions by those that a segment has at its start. These are the positions of all streams at that
    /// offset. A stream that is not among them was forgotten.
    pub(crate) fn restore(&mut self, entries: Vec<(StreamKey, StreamPosition)>) {
        self.positions.clear();
        self.positions.extend(entries);
    }

    /// Applies what a commit made durable. Skips anonymous epochs, see [`is_anonymous`](frame::is_anonymous).
    pub(crate) fn apply(&mut self, durable: &[Durable]) {
        for entry in durable {
            let origin = &*entry.origin;
            if !origin.is_anonymous() {
                self.advance(&origin.stream, origin.epoch, entry.priority, entry.next);
            }
        }
    }

    /// Applies one frame of the log.
    pub(crate) fn apply_frame(&mut self, frame: &Frame) {
        if !frame.origin.is_anonymous() {
            let next = frame.sequence.saturating_add(1);
            let origin = &*frame.origin;
            self.advance(&origin.stream, origin.epoch, frame.priority, next);
        }
    }

    fn advance(&mut self, stream: &StreamKey, epoch: u64, priority: FramePriority, next: u64) {
        if let Some(position) = self.positions.get_mut(stream) {
            return position.advance(epoch, priority, next);
        }
        if self.positions.len() >= self.streams_max {
            return self.refuse(stream);
        }
        let mut position = StreamPosition { epoch, ..StreamPosition::default() };
        position.advance(epoch, priority, next);
        self.positions.insert(stream.clone(), position);
    }

    /// Makes `edit` in memory. Returns the old positions of the streams that changed, so that [`Self::undo`] can
    /// restore them. Empty if the edit changes no position.
    pub(crate) fn edit(&mut self, edit: &PositionEdit) -> Vec<(StreamKey, StreamPosition)> {
        match edit {
            PositionEdit::LowerEpoch(stream, epoch) => {
                let found = self.positions.get_mut(stream).filter(|position| position.epoch >= *epoch);
                let lowered = StreamPosition { epoch: *epoch, ..StreamPosition::default() };
                found
                    .map(|position| (stream.clone(), std::mem::replace(position, lowered)))
                    .into_iter()
                    .collect()
            }
            PositionEdit::Forget(streams) => {
                streams.iter().filter_map(|stream| self.positions.remove_entry(stream)).collect()
            }
        }
    }

    /// Restores the `old` positions after an edit that did not become durable.
    pub(crate) fn undo(&mut self, old: Vec<(StreamKey, StreamPosition)>) {
        self.positions.extend(old);
    }

    fn refuse(&mut self, stream: &StreamKey) {
        self.refused += 1;
        if self.refused.is_power_of_two() {
            tracing::error!(
                %stream,
                max_streams = self.streams_max,
                commits = self.refused,
                "more streams than max_streams: the position of this stream is not kept"
            );
        }
    }

    /// All positions, ordered by stream.
    pub(crate) fn sorted(&self) -> Vec<(&StreamKey, &StreamPosition)> {
        let mut entries: Vec<_> = self.positions.iter().collect();
        entries.sort_unstable_by_key(|(stream, _)| *stream);
        entries
    }

    pub(crate) fn to_vec(&self) -> Vec<(StreamKey, StreamPosition)> {
        let clone = |(stream, position): (&StreamKey, &StreamPosition)| (stream.clone(), *position);
        self.sorted().into_iter().map(clone).collect()
    }
}
