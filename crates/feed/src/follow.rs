//! Follows the log: from any offset through history into live, without a hole or a repeat.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::READERS_MAX;
use super::catch_up::{CatchUp, Chunk};
use super::tail::{Follower, Found, Tail};
use archive::{History, ReadError};
use frame::Selection;
use wire::{Gap, GapReason, Policy};

/// The durable frames: the log, the tail of the newest frames, and the turns at the log. The holder of a turn may read
/// the log; at most [`READERS_MAX`] have one at a time. Cheap to clone; all clones share the turns.
#[derive(Clone)]
pub struct Durable {
    /// The log.
    history: History,
    /// The newest frames.
    tail: Arc<Tail>,
    /// The turns at the log.
    readers: Arc<Semaphore>,
}

impl Durable {
    /// The frames that `history` reads and `tail` keeps.
    #[must_use]
    pub fn new(history: History, tail: Arc<Tail>) -> Self {
        Self { history, tail, readers: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// The log.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    pub(super) const fn readers(&self) -> &Arc<Semaphore> {
        &self.readers
    }

    /// Subscribes to the tail. Also returns the offset behind the newest durable frame.
    pub(super) fn subscribe_tail(&self) -> (Follower, u64) {
        self.tail.subscribe(|| self.history.watermark())
    }

    /// Follows the frames that `selection` takes, from the offset that `start` chooses. `start` gets the offset behind
    /// the newest durable frame, and must not choose a higher one.
    pub fn follow(&self, selection: Selection, policy: Policy, start: impl FnOnce(u64) -> u64) -> Following {
        let (follower, head) = self.subscribe_tail();
        let start = start(head);
        debug_assert!(start <= head, "a following cannot start beyond the newest frame");
        Following::new(self.clone(), follower, selection, policy, start, start == head)
    }
}

/// A position in the log that moves on, with what it needs to read from there: a subscription without its connection.
///
/// It returns whole DELIVER and GAP messages. Nothing waits in it for a slow reader except one chunk of the log that
/// was read ahead.
pub struct Following {
    /// Where the frames come from.
    durable: Durable,
    /// The place at the tail, which keeps the newest frames while there are subscribers.
    follower: Follower,
    /// Which frames are returned.
    selection: Selection,
    /// Whether a reader that is too slow skips ([`Policy::Timely`]) or reads everything.
    policy: Policy,
    /// Every frame below this offset was returned or filtered out, or is named in a GAP.
    next_offset: u64,
    /// Whether the newest frame was reached once. From then on, a timely following skips.
    has_caught_up: bool,
    /// The reading of the log while the frames are not in the tail.
    catch_up: CatchUp,
    /// A chunk that was read before the reader had taken everything. [`Following::next`] returns it next.
    ahead: Option<Chunk>,
}

impl Following {
    /// Follows from `next_offset` on. `has_caught_up` says that this is the end of the log: a timely reader may skip
    /// from the beginning.
    pub(super) fn new(
        durable: Durable,
        follower: Follower,
        selection: Selection,
        policy: Policy,
        next_offset: u64,
        has_caught_up: bool,
    ) -> Self {
        Self {
            durable,
            follower,
            selection,
            policy,
            next_offset,
            has_caught_up,
            catch_up: CatchUp::default(),
            ahead: None,
        }
    }

    /// Every frame below this offset was returned or filtered out, or is named in a GAP.
    #[must_use]
    pub const fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Returns the next messages and moves on; `None` if there are none yet. The result is empty if the selection takes
    /// no frame of those that were read. `has_taken_all` says that the reader has taken everything it was given.
    pub fn next(&mut self, has_taken_all: bool) -> Option<Bytes> {
        if self.ahead.is_some() && !has_taken_all {
            // A reader may hold at most two chunks.
            return None;
        }
        if let Some(chunk) = self.ahead.take() {
            self.next_offset = chunk.next_offset;
            return Some(chunk.messages);
        }
        let from = self.next_offset;
        match self.follower.find(from) {
            Found::AtEnd => {
                self.has_caught_up = true;
                self.catch_up.give_up();
                None
            }
            Found::Behind(first) if !self.skips() => {
                debug_assert!(from < first);
                self.read_on();
                None
            }
            Found::Behind(_) => Some(self.skip()),
            // A reader that has taken everything skips nothing here: most new frames may be filtered out, and a message
            // larger than the limit for late readers would never be sent.
            Found::Piece(_) if !has_taken_all && self.is_late() => Some(self.skip()),
            Found::Piece(piece) => {
                self.catch_up.give_up();
                self.next_offset = piece.next_offset();
                Some(piece.select(from, &self.selection))
            }
        }
    }

    /// Reads the log while the reader takes what it was given: one chunk, and only if it has a turn.
    pub fn read_ahead(&mut self) {
        if self.ahead.is_none()
            && self.catch_up.has_turn()
            && matches!(self.follower.find(self.next_offset), Found::Behind(_))
            && !self.skips()
        {
            self.read_on();
        }
    }

    /// Waits until [`Following::next`] may have more. If `wants_new` is false, new frames do not end
    /// the wait.
    ///
    /// # Errors
    /// When the log cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn progress(&mut self, wants_new: bool) -> Result<(), ReadError> {
        tokio::select! {
            read = self.catch_up.progress() => {
                if let Some(chunk) = read {
                    self.ahead = Some(chunk?);
                }
            }
            () = self.follower.changed(), if wants_new => {}
        }
        Ok(())
    }

    /// Whether a chunk waits that was read ahead.
    #[must_use]
    pub const fn has_chunk(&self) -> bool {
        self.ahead.is_some()
    }

    /// When the turn at the log ends, if it is held and nothing is read.
    #[must_use]
    pub fn turn_ends_at(&self) -> Option<Instant> {
        self.catch_up.paused_until()
    }

    /// Gives up the turn at the log, unless a read is under way.
    pub fn give_up_turn(&mut self) {
        self.catch_up.give_up();
    }

    /// Asks for a turn at the log, or reads the next chunk if there is one.
    fn read_on(&mut self) {
        let Durable { history, readers, .. } = &self.durable;
        self.catch_up.go_on(self.next_offset, &self.selection, history, readers);
    }

    /// Whether frames far behind are skipped.
    fn skips(&self) -> bool {
        self.policy == Policy::Timely && self.has_caught_up
    }

    /// Whether a timely reader is further behind than its limit.
    fn is_late(&self) -> bool {
        self.skips() && self.follower.is_late(self.next_offset)
    }

    /// Moves to the newest frame, and returns the GAP.
    fn skip(&mut self) -> Bytes {
        let newest = self.follower.next_offset();
        let gap = Gap { reason: GapReason::Skipped, offsets: self.next_offset..newest };
        self.next_offset = newest;
        let mut message = BytesMut::new();
        gap.encode(&mut message);
        message.freeze()
    }
}
