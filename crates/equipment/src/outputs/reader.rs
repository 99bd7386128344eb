//! What every reader of an output has, whatever it is connected with: its position, the conversion, the cursor.
//!
//! Three positions move on, one behind the other. [`Following::next_offset`]: what was read from the log.
//! [`Converter::position`]: what was converted and handed to the connection. The cursor: what has arrived at the
//! reader. A [`Position`] of the cursor is two offsets. Frames below `next_offset` have arrived. After a restart the
//! output reads from `read_from` on, which is lower where a packet begins in an earlier frame than it ends: that frame
//! is read again, and what ends below `next_offset` is not sent again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::convert::{Converted, Converter};
use super::cursor::{self, Cursor, CursorError, CursorFile, Keeper, Position};
use super::status::{Client, OutputStatus};
use super::{Context, Leave};
use archive::ReadError;
use config::{Output, OutputStart};
use feed::{Ending, Following};
use frame::FramePriority;
use support::logging::{Kind, by_peer};

/// Why a connection of an output ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    /// The software that the output has connected to has closed its writing side.
    #[error("the reader closed the connection")]
    Eof,
    /// The log cannot be read.
    #[error("the archive cannot be read: {0}")]
    Unreadable(#[from] ReadError),
    /// The cursor cannot be read, so it is not known where to begin.
    #[error("{0}")]
    Cursor(#[from] CursorError),
    /// The output has ordered the end.
    #[error("{0}")]
    Stopped(Leave),
    /// The daemon drains, and everything was sent.
    #[error("the daemon drains")]
    Drained,
    /// The daemon drains, and the reader takes nothing.
    #[error("the reader took nothing while the daemon drained")]
    Stalled,
}

/// A lane of a forwarder, and where it begins.
pub(super) struct Part {
    /// The lane.
    pub(super) lane: FramePriority,
    /// The offset to begin with. `None`: the cursor.
    pub(super) next_offset: Option<u64>,
    /// Behind the last frame that the other side has; `None` if it has none. Not above [`Self::next_offset`].
    pub(super) stored: Option<u64>,
    /// [`Cursor::sequence`].
    pub(super) sequence: u64,
}

/// The reading side of a connection.
pub(super) struct Reader {
    /// The configuration of the output.
    pub(super) config: Arc<Output>,
    /// The state and the counts of the output.
    pub(super) status: Arc<OutputStatus>,
    /// The entry of this reader among those of the output.
    pub(super) client: Client,
    /// The lane, if the reader has only one.
    pub(super) lane: Option<FramePriority>,
    /// The position in the log, and what it needs to read from there.
    pub(super) following: Following,
    /// Messages of [`Reader::following`] that are not converted yet.
    messages: Bytes,
    /// Turns messages into the format of the reader.
    converter: Converter,
    /// Saves the cursor. `None` unless the output has `start = "cursor"`.
    pub(super) keeper: Option<Keeper>,
}

impl Reader {
    /// Begins where the configuration says: at the newest frame, at the oldest, or at the cursor. With `part`, it reads a
    /// lane from an offset that is known, and has a cursor for this lane.
    ///
    /// # Errors
    /// When the cursor is unreadable.
    pub(super) async fn start(
        config: Arc<Output>,
        status: Arc<OutputStatus>,
        client: Client,
        context: &Context,
        part: Option<Part>,
    ) -> Result<Self, Ended> {
        let history = context.durable.history();
        let lane = part.as_ref().map(|part| part.lane);
        let file =
            CursorFile::new(&context.data_dir.join(cursor::DIR), &cursor::file_name(&config.name, lane));
        let has_cursor = config.start == OutputStart::Cursor;
        let mut cursor = if has_cursor { load(file.clone(), &config.name).await? } else { None };
        if let Some(next_offset) = part.as_ref().and_then(|part| part.next_offset) {
            let sequence = part.as_ref().map_or(0, |part| part.sequence);
            cursor = Some(Cursor { log_id: history.log_id(), next_offset, read_from: next_offset, sequence });
        }
        let mut position = Position::at(0);
        let selection = match lane {
            Some(lane) => config.select.frames.clone().with_priority(Some(lane)),
            None => config.select.frames.clone(),
        };
        let following = context.durable.follow(selection, config.policy, |head| {
            position = match config.start {
                OutputStart::Live => Position::at(head),
                OutputStart::Earliest => Position::at(history.first_offset().min(head)),
                OutputStart::Cursor => {
                    resume(cursor, history.log_id(), history.first_offset(), head, &config.name)
                }
            };
            position.read_from
        });
        client.status.next_offset.store(position.next_offset, Relaxed);
        let keeper = has_cursor.then(|| Keeper::new(file, history.log_id(), position));
        if has_cursor {
            status.cursor_at(lane, position.next_offset);
        }
        let (own, all) = (Arc::clone(&config), Arc::clone(&context.config.borrow()));
        let converter = Converter::new(own, all, Arc::clone(&status), position.next_offset, has_cursor);
        Ok(Self { config, status, client, lane, following, messages: Bytes::new(), converter, keeper })
    }

    /// The next bytes to send; `None` if there are none yet. `has_taken_all` says that the reader has taken everything
    /// that it was given. While it has not, [`Following::next`] keeps back a chunk that was read ahead from the log,
    /// and lets a timely reader that is late skip to the newest frame.
    pub(super) fn next(&mut self, has_taken_all: bool) -> Option<Converted> {
        if self.messages.is_empty() {
            self.messages = self.following.next(has_taken_all)?;
        }
        let converted = self.converter.convert(&mut self.messages, self.following.next_offset());
        self.client.status.next_offset.store(self.converter.position(), Relaxed);
        Some(converted)
    }

    /// Whether [`Self::next`] has returned everything. Always false before the daemon drains and its last frame is
    /// durable ([`Ending::Final`] with the end of the log).
    pub(super) fn is_served(&self, ending: &Ending) -> bool {
        let next_offset = self.following.next_offset();
        matches!(ending, Ending::Final(head) if next_offset >= *head) && self.messages.is_empty()
    }

    /// Moves the cursor. The session calls it when the kernel of the reader has acknowledged all bytes up to
    /// `position`, and the sender of datagrams when they are sent. Without a cursor it does nothing.
    pub(super) fn moved_to(&mut self, position: Position) {
        if let Some(keeper) = &mut self.keeper {
            keeper.moved_to(position);
            self.status.cursor_at(self.lane, position.next_offset);
        }
    }

    /// Every frame below this offset was returned by [`Self::next`] or left out.
    pub(super) const fn position(&self) -> u64 {
        self.converter.position()
    }

    /// Saves the cursor for the last time.
    pub(super) async fn finish(self) {
        let Some(keeper) = self.keeper else { return };
        let next_offset = keeper.position().next_offset;
        let saved = keeper.finish().await;
        if saved.is_ok() {
            tracing::debug!(output = self.config.name, next_offset, "cursor saved");
        }
        note_saved(&self.config, &self.status, saved);
    }
}

/// Waits until a save of the cursor of `keeper` has ended, and reports it. Never completes without one.
///
/// # Cancel safety
/// Cancel safe.
pub(super) async fn cursor_saved(keeper: &mut Option<Keeper>, config: &Output, status: &OutputStatus) {
    let Some(keeper) = keeper else { return std::future::pending().await };
    let saved = keeper.saved().await;
    note_saved(config, status, saved);
}

pub(super) async fn load(file: CursorFile, name: &str) -> Result<Option<Cursor>, Ended> {
    let loaded = tokio::task::spawn_blocking(move || file.load()).await.map_err(io::Error::other)?;
    Ok(loaded.inspect_err(|error| by_peer!(Kind::Unread, ERROR, output = name, "{error}"))?)
}

/// Where an output with `cursor` goes on, in the log `log_id` that has the frames from `first_offset` up to `head`. A
/// cursor below `first_offset` stays: [`Following`] then returns a gap, which is counted.
pub(super) fn resume(
    cursor: Option<Cursor>,
    log_id: u64,
    first_offset: u64,
    head: u64,
    name: &str,
) -> Position {
    let earliest = Position::at(first_offset.min(head));
    let Some(cursor) = cursor else { return earliest };
    if cursor.log_id != log_id {
        tracing::warn!(
            output = name,
            cursor_log = cursor.log_id,
            log = log_id,
            "the cursor belongs to another archive; the output begins with the oldest frame of this one"
        );
        return earliest;
    }
    if cursor.next_offset > head {
        tracing::warn!(
            output = name,
            cursor = cursor.next_offset,
            head,
            "the cursor is beyond the archive, which must be an older copy; the output goes on with the next frame"
        );
        return Position::at(head);
    }
    Position { next_offset: cursor.next_offset, read_from: cursor.read_from }
}

/// Reports the outcome of a save. On a full disk each save fails: only the first failure and the next success are
/// logged.
fn note_saved(config: &Output, status: &OutputStatus, saved: io::Result<()>) {
    let has_changed = status.cursor_saved(&saved);
    match saved {
        Err(error) if has_changed => tracing::error!(
            output = config.name, %error,
            "the cursor cannot be saved; until it can, a restart repeats all frames since the last save"
        ),
        Ok(()) if has_changed => tracing::info!(output = config.name, "the cursor is saved again"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_goes_on_at_its_cursor_if_the_archive_is_the_same() {
        let cursor =
            |log_id, next_offset, read_from| Some(Cursor { log_id, next_offset, read_from, sequence: 0 });
        let position = |cursor| resume(cursor, 5, 10, 100, "yamcs");
        assert_eq!(position(None), Position::at(10));
        assert_eq!(position(cursor(5, 50, 40)), Position { next_offset: 50, read_from: 40 });
        assert_eq!(
            position(cursor(5, 3, 2)),
            Position { next_offset: 3, read_from: 2 },
            "the gap is counted"
        );
        assert_eq!(position(cursor(6, 50, 40)), Position::at(10), "another archive");
        assert_eq!(position(cursor(5, 101, 40)), Position::at(100), "an older copy of the archive");
    }
}
