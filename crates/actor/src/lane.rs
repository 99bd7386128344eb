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
    /// How many senders at the head of the line have room and were woken.
    served: usize,
    next_ticket: u64,
}

/// A waiting sender.
struct Waiting {
    ticket: u64,
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

    /// Reserves room for one message, if there is any. The caller fills it with [`Lane::push`].
    pub(super) fn take_free(&mut self) -> bool {
        let is_free = self.used < self.limit;
        self.used += usize::from(is_free);
        is_free
    }

    /// Queues a message into room that is already reserved.
    pub(super) fn push(&mut self, message: M) {
        self.queue.push_back(Received::Message(message));
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

    /// Puts back the entry that [`Lane::pop`] returned last. Its room may have been given away meanwhile. So the lane
    /// can hold one message above its limit until the next is taken.
    pub(super) fn unpop(&mut self, entry: Received<M>) {
        self.used += usize::from(is_message(&entry));
        self.queue.push_front(entry);
    }

    /// Joins the line for one message.
    pub(super) fn join_line(&mut self, waker: &Waker) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.line.push_back(Waiting { ticket, waker: Some(waker.clone()) });
        ticket
    }

    /// Whether `ticket` has room. Then it leaves the line.
    pub(super) fn claim(&mut self, ticket: u64, waker: &Waker) -> bool {
        let Some(at) = self.place(ticket) else { return false };
        if at < self.served {
            self.served -= 1;
            self.line.remove(at);
            return true;
        }
        if let Some(known) = &mut self.line[at].waker {
            known.clone_from(waker);
        }
        false
    }

    /// Leaves the line and frees the room given to it. The caller must call [`Lane::serve`] afterwards.
    pub(super) fn leave_line(&mut self, ticket: u64) {
        let Some(at) = self.place(ticket) else { return };
        self.line.remove(at);
        if at < self.served {
            self.served -= 1;
            self.used -= 1;
        }
    }

    /// Gives free room to the line and collects the wakers to wake.
    pub(super) fn serve(&mut self, wake: &mut Wake) {
        while self.served < self.line.len() && self.take_free() {
            wake.extend(self.line[self.served].waker.take());
            self.served += 1;
        }
    }

    /// Removes all senders from the line, with their places and room.
    pub(super) fn dismiss_line(&mut self, wake: &mut Wake) {
        self.used -= std::mem::take(&mut self.served);
        for waiting in self.line.drain(..) {
            wake.extend(waiting.waker);
        }
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
