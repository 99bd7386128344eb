//! What selective receive has passed over.

use std::collections::VecDeque;

use super::lane::{is_down_of, is_message};
use super::{MonitorId, Received};

/// The stash of [`Mailbox::recv_match`](super::Mailbox::recv_match) has no room for another message.
///
/// Nothing is lost: what was passed over and what is queued can still be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} messages were passed over without a match, no more can be kept")]
pub struct StashFull {
    /// Messages the stash can hold.
    pub limit: usize,
}

/// Passed-over entries in their order. Only messages count against the limit: signals are bounded by
/// the monitors and links that were set.
pub(super) struct Stash<M> {
    entries: VecDeque<Received<M>>,
    messages: usize,
}

impl<M> Default for Stash<M> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), messages: 0 }
    }
}

impl<M> Stash<M> {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<Received<M>> {
        let entry = self.entries.pop_front()?;
        self.messages -= usize::from(is_message(&entry));
        Some(entry)
    }

    /// Takes the first entry that `matches` likes.
    pub(super) fn take_match(
        &mut self,
        matches: &mut impl FnMut(&Received<M>) -> bool,
    ) -> Option<Received<M>> {
        let at = self.entries.iter().position(matches)?;
        let entry = self.entries.remove(at)?;
        self.messages -= usize::from(is_message(&entry));
        Some(entry)
    }

    /// Keeps `entry`, or gives it back when `limit` messages are kept already.
    pub(super) fn push(&mut self, entry: Received<M>, limit: usize) -> Result<(), Received<M>> {
        if is_message(&entry) {
            if self.messages >= limit {
                return Err(entry);
            }
            self.messages += 1;
        }
        self.entries.push_back(entry);
        Ok(())
    }

    pub(super) fn purge(&mut self, monitor: MonitorId) {
        self.entries.retain(|entry| !is_down_of(entry, monitor));
    }
}
