//! The messages that selective receive has passed over.

use std::collections::VecDeque;

use super::lane::{is_down_of, is_message};
use super::{MonitorId, Received};

/// The stash of [`Mailbox::recv_match`](super::Mailbox::recv_match) has no room for another message.
///
/// No message is lost: messages that were passed over or queued can still be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} messages were passed over without a match, no more can be kept")]
pub struct StashFull {
    /// Messages the stash can hold.
    pub limit: usize,
}

/// Passed-over entries in their order. Only messages count against the limit. The number of signals is bounded by the
/// number of monitors and links.
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
    pub(super) fn pop(&mut self) -> Option<Received<M>> {
        let entry = self.entries.pop_front()?;
        self.messages -= usize::from(is_message(&entry));
        Some(entry)
    }

    /// Takes the first entry for which `matches` is true.
    pub(super) fn take_match(
        &mut self,
        matches: &mut impl FnMut(&Received<M>) -> bool,
    ) -> Option<Received<M>> {
        let at = self.entries.iter().position(matches)?;
        let entry = self.entries.remove(at)?;
        self.messages -= usize::from(is_message(&entry));
        Some(entry)
    }

    /// Keeps `entry`. Returns it if `limit` messages are already kept.
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

    /// Removes the `Down` of `monitor`.
    pub(super) fn purge(&mut self, monitor: MonitorId) {
        self.entries.retain(|entry| !is_down_of(entry, monitor));
    }
}
