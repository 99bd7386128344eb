//! What every reader of an output has, whatever it is connected with: its position, the conversion, the cursor.

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
use support::logging::{Kind, by_peer};

/// Why a connection of an output ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    #[error("the reader closed the connection")]
    Eof,
    #[error("the archive cannot be read: {0}")]
    Unreadable(#[from] ReadError),
    #[error("{0}")]
    Cursor(#[from] CursorError),
    #[error("{0}")]
    Stopped(Leave),
    #[error("the daemon drains")]
    Drained,
    #[error("the reader took nothing while the daemon drained")]
    Stalled,
}

/// The reading side of a connection.
pub(super) struct Reader {
    pub(super) config: Arc<Output>,
    pub(super) status: Arc<OutputStatus>,
    pub(super) client: Client,
    pub(super) following: Following,
    /// Messages of [`Reader::following`] that are not converted yet.
    messages: Bytes,
    converter: Converter,
    pub(super) keeper: Option<Keeper>,
}

impl Reader {
    /// Begins where the configuration says.
    ///
    /// # Errors
    /// When the cursor is unreadable.
    pub(super) async fn start(
        config: Arc<Output>,
        status: Arc<OutputStatus>,
        client: Client,
        context: &Context,
    ) -> Result<Self, Ended> {
        let history = context.durable.history();
        let file = CursorFile::new(&context.data_dir.join(cursor::DIR), &config.name);
        let has_cursor = config.start == OutputStart::Cursor;
        let cursor = if has_cursor { load(file.clone(), &config.name).await? } else { None };
        let mut position = Position::at(0);
        let selection = config.select.frames.clone();
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
            status.cursor_at(position.next_offset);
        }
        let (own, all) = (Arc::clone(&config), Arc::clone(&context.config.borrow()));
        let converter = Converter::new(own, all, Arc::clone(&status), position.next_offset, has_cursor);
        Ok(Self { config, status, client, following, messages: Bytes::new(), converter, keeper })
    }

    /// The next bytes to send; `None` if there are none yet. `has_taken_all` says that the reader has taken everything
    /// that it was given.
    pub(super) fn next(&mut self, has_taken_all: bool) -> Option<Converted> {
        if self.messages.is_empty() {
            self.messages = self.following.next(has_taken_all)?;
        }
        let converted = self.converter.convert(&mut self.messages, self.following.next_offset());
        self.client.status.next_offset.store(self.converter.position(), Relaxed);
        Some(converted)
    }

    /// Whether everything below the end of the log was returned, once the daemon drains and no more frames come.
    pub(super) fn is_served(&self, ending: &Ending) -> bool {
        let next_offset = self.following.next_offset();
        matches!(ending, Ending::Final(head) if next_offset >= *head) && self.messages.is_empty()
    }

    /// The reader has come to `position`.
    pub(super) fn moved_to(&mut self, position: Position) {
        if let Some(keeper) = &mut self.keeper {
            keeper.moved_to(position);
            self.status.cursor_at(position.next_offset);
        }
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

async fn load(file: CursorFile, name: &str) -> Result<Option<Cursor>, Ended> {
    let loaded = tokio::task::spawn_blocking(move || file.load()).await.map_err(io::Error::other)?;
    Ok(loaded.inspect_err(|error| by_peer!(Kind::Unread, ERROR, output = name, "{error}"))?)
}

/// Where an output with `cursor` goes on, in a log with these offsets.
fn resume(cursor: Option<Cursor>, log_id: u64, first_offset: u64, head: u64, name: &str) -> Position {
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

/// Reports the outcome of a save. On a full disk each save fails: only the first failure and the next success are logged.
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
        let cursor = |log_id, next_offset, read_from| Some(Cursor { log_id, next_offset, read_from });
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
