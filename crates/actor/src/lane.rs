//! One lane of a mailbox: a bounded queue and the senders that wait for room in it.
//!
//! This module takes no lock and wakes no task. Free room goes to the waiting senders in their order. Other senders get
//! only room that no waiting sender wants, so `free() > 0` implies that no sender waits.

use std::collections::VecDeque;
use std::task::Waker;

use super::{MonitorId, Received};

/// An empty lane keeps room for this many entries and frees the rest.
const RETAINED_ENTRIES: usize = 64;

/// A bounded queue with a line of waiting senders.
pub(super) struct Lane<M> {
    queue: VecDeque<Received<M>>,
    limit: usize,
    /// Queued messages plus room given to waiting senders. Signals do not count.
    used: usize,
    /// Waiting senders, sorted by ticket. Tickets rise, and senders join at the back.
    line: VecDeque<Waiting>,
    /// How many senders at the head of the line have all the room they want and were woken.
    served: usize,
    next_ticket: u64,
}

/// A waiting sender.
struct Waiting {
    ticket: u64,
    wanted: usize,
    given: usize,
    /// `None` after the wake-up. The waker is moved and never cloned under the lock, because other threads contend for
    /// its reference count.
    waker: Option<Waker>,
}

impl<M> Lane<M> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            limit: limit.max(1),
            used: 0,
            line: VecDeque::new(),
            served: 0,
            next_ticket: 0,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Reserves up to `wanted` of the free room. The caller fills it with [`Lane::fill`] under the same lock.
    pub(super) fn take_free(&mut self, wanted: usize) -> usize {
        let taken = wanted.min(self.limit.saturating_sub(self.used));
        self.used += taken;
        taken
    }

    /// Queues a message into room that is already reserved.
    pub(super) fn push(&mut self, message: M) {
        self.queue.push_back(Received::Message(message));
    }

    /// Queues messages into room that is already reserved.
    pub(super) fn fill(&mut self, messages: impl Iterator<Item = M>) {
        self.queue.extend(messages.map(Received::Message));
    }

    /// Queues a `Down` or `Exit`, which takes no room.
    pub(super) fn push_signal(&mut self, signal: Received<M>) {
        debug_assert!(!matches!(signal, Received::Message(_)), "a message needs room");
        self.queue.push_back(signal);
    }

    /// Takes the oldest entry and frees its room. The caller must call [`Lane::serve`] afterwards.
    pub(super) fn pop(&mut self) -> Option<Received<M>> {
        let entry = self.queue.pop_front()?;
        self.used -= usize::from(is_message(&entry));
        Some(entry)
    }

    /// Moves up to `max` of the oldest entries to `out` and frees their room, like [`Lane::pop`].
    pub(super) fn pop_many(&mut self, out: &mut Vec<Received<M>>, max: usize) -> usize {
        let count = max.min(self.queue.len());
        let before = out.len();
        out.extend(self.queue.drain(..count));
        self.used -= out[before..].iter().filter(|entry| is_message(entry)).count();
        count
    }

    /// Puts back the entry that [`Lane::pop`] returned last. Its room may have been given away meanwhile. So the lane
    /// can hold one message above its limit until the next is taken.
    pub(super) fn unpop(&mut self, entry: Received<M>) {
        self.used += usize::from(is_message(&entry));
        self.queue.push_front(entry);
    }

    /// Joins the line for `wanted` places. More than the limit would never be served.
    pub(super) fn join_line(&mut self, wanted: usize, waker: &Waker) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.line.push_back(Waiting {
            ticket,
            wanted: wanted.min(self.limit),
            given: 0,
            waker: Some(waker.clone()),
        });
        ticket
    }

    /// The room given to `ticket`. The ticket then leaves the line. `None` while it has to wait.
    pub(super) fn claim(&mut self, ticket: u64, waker: &Waker) -> Option<usize> {
        let at = self.place(ticket)?;
        if at < self.served {
            self.served -= 1;
            return self.line.remove(at).map(|waiting| waiting.given);
        }
        if let Some(known) = &mut self.line[at].waker {
            known.clone_from(waker);
        }
        None
    }

    /// Leaves the line and frees the room given to it. The caller must call [`Lane::serve`] afterwards.
    pub(super) fn leave_line(&mut self, ticket: u64) {
        let Some(at) = self.place(ticket) else { return };
        if let Some(waiting) = self.line.remove(at) {
            self.used -= waiting.given;
            self.served -= usize::from(at < self.served);
        }
    }

    /// Gives free room to the line and collects the wakers to wake.
    pub(super) fn serve(&mut self, wake: &mut Wake) {
        while self.served < self.line.len() {
            let waiting = &self.line[self.served];
            let missing = waiting.wanted - waiting.given;
            let given = self.take_free(missing);
            let waiting = &mut self.line[self.served];
            waiting.given += given;
            if given < missing {
                return;
            }
            wake.extend(waiting.waker.take());
            self.served += 1;
        }
    }

    /// Removes all senders from the line, with their places and room.
    pub(super) fn dismiss_line(&mut self, wake: &mut Wake) {
        for waiting in self.line.drain(..) {
            self.used -= waiting.given;
            wake.extend(waiting.waker);
        }
        self.served = 0;
    }

    /// Takes all queued entries.
    pub(super) fn clear(&mut self) -> VecDeque<Received<M>> {
        self.used -= self.queue.iter().filter(|entry| is_message(entry)).count();
        std::mem::take(&mut self.queue)
    }

    /// Removes the `Down` of `monitor`.
    pub(super) fn purge(&mut self, monitor: MonitorId) {
        self.queue.retain(|entry| !is_down_of(entry, monitor));
    }

    /// Frees memory that a burst needed. For a lane that becomes idle.
    pub(super) fn trim(&mut self) {
        if self.queue.capacity() > RETAINED_ENTRIES {
            self.queue.shrink_to(RETAINED_ENTRIES);
        }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.queue.capacity()
    }

    fn place(&self, ticket: u64) -> Option<usize> {
        let head = self.line.front()?.ticket;
        // Tickets rise by one. So this is the position, unless a sender in between has left.
        let guess = usize::try_from(ticket.checked_sub(head)?).ok()?;
        match self.line.get(guess) {
            Some(waiting) if waiting.ticket == ticket => Some(guess),
            _ => self.line.binary_search_by_key(&ticket, |waiting| waiting.ticket).ok(),
        }
    }
}

/// Whether `entry` takes room in a lane.
pub(super) fn is_message<M>(entry: &Received<M>) -> bool {
    matches!(entry, Received::Message(_))
}

/// Whether `entry` is the `Down` of `monitor`.
pub(super) fn is_down_of<M>(entry: &Received<M>, monitor: MonitorId) -> bool {
    matches!(entry, Received::Down(down) if down.monitor == monitor)
}

/// Wakers that are collected under a lock and woken after it. The first needs no allocation.
#[derive(Default)]
pub(super) struct Wake {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Wake {
    pub(super) fn extend(&mut self, waker: Option<Waker>) {
        match self.first {
            None => self.first = waker,
            Some(_) => self.more.extend(waker),
        }
    }

    #[inline]
    pub(super) fn wake(self) {
        if self.first.is_some() {
            self.wake_all();
        }
    }

    fn wake_all(self) {
        for waker in self.first.into_iter().chain(self.more) {
            waker.wake();
        }
    }
}
