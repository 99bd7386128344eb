//! The receiving side, owned by an actor's body.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use super::core::{Core, Phase};
use super::stash::{Stash, StashFull};
use super::{ActorId, Address, Capacity, ExitReason, MonitorId, Received};

/// Where an actor receives.
///
/// Dropped by its body, it refuses messages, drops what is queued, and wakes waiting senders; a
/// supervised body's mailbox goes on to the next run instead.
pub struct Mailbox<M> {
    pub(super) core: Arc<Core<M>>,
    stash: Stash<M>,
    on_drop: OnDrop,
}

/// What dropping a mailbox means.
#[derive(Clone, Copy)]
pub(super) enum OnDrop {
    /// The end of whoever held it, as it belongs to no actor's body.
    End,
    /// Nothing is received any more; the actor goes on until its body ends.
    Abandon,
    /// The next run of the body receives what is left.
    Park,
}

/// A mailbox that belongs to no actor, for a main task or a test; dropping it counts as a normal end.
#[must_use]
pub fn mailbox<M>(capacity: Capacity) -> (Address<M>, Mailbox<M>) {
    let core = Arc::new(Core::new(capacity));
    (Address::new(&core), Mailbox::new(&core, OnDrop::End))
}

impl<M> Mailbox<M> {
    /// A receiver on `core` that goes on with what the last one had passed over.
    pub(super) fn new(core: &Arc<Core<M>>, on_drop: OnDrop) -> Self {
        let stash = std::mem::take(&mut core.inbox().parked);
        Self { core: Arc::clone(core), stash, on_drop }
    }

    /// Whose mailbox this is.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.core.id
    }

    /// An address to hand to others.
    ///
    /// It counts like any other: an actor that keeps its own address never sees the end of its mailbox.
    #[must_use]
    pub fn address(&self) -> Address<M> {
        Address::new(&self.core)
    }

    /// The next entry: first what [`Mailbox::recv_match`] passed over, then urgent, then routine.
    ///
    /// `None` when nothing is queued, every address is gone or [`Mailbox::close`] was called, and no
    /// monitor is outstanding. Links are not waited for.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn recv(&mut self) -> Option<Received<M>> {
        if let Some(entry) = self.stash.pop() {
            return Some(entry);
        }
        let taken = poll_fn(|cx| self.core.poll_take(cx, |inbox, wake| inbox.pop(wake))).await;
        taken.map(|(_, entry)| entry)
    }

    /// The next entry if there is one now.
    pub fn try_recv(&mut self) -> Option<Received<M>> {
        self.stash.pop().or_else(|| {
            let taken = self.core.try_take(|inbox, wake| inbox.pop(wake));
            taken.map(|(_, entry)| entry)
        })
    }

    /// Appends up to `max` entries to `out`, in the order of [`Mailbox::recv`], and returns how many.
    ///
    /// Waits for the first only. 0 means the end, as `None` does there, or that `max` is 0.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn recv_batch(&mut self, out: &mut Vec<Received<M>>, max: usize) -> usize {
        if max == 0 {
            return 0;
        }
        if !self.stash.is_empty() {
            return self.try_recv_batch(out, max);
        }
        let taken = poll_fn(|cx| self.core.poll_take(cx, |inbox, wake| inbox.pop_many(out, max, wake)));
        taken.await.unwrap_or(0)
    }

    /// Like [`Mailbox::recv_batch`], but takes only what is there now.
    pub fn try_recv_batch(&mut self, out: &mut Vec<Received<M>>, max: usize) -> usize {
        let before = out.len();
        while out.len() - before < max {
            let Some(entry) = self.stash.pop() else { break };
            out.push(entry);
        }
        let stashed = out.len() - before;
        let rest = max - stashed;
        stashed + self.core.try_take(|inbox, wake| inbox.pop_many(out, rest, wake)).unwrap_or(0)
    }

    /// The first entry that `matches` likes. What it passes over keeps its order, leaves its room in the
    /// lanes to others, and is received before anything else afterwards.
    ///
    /// `None` as in [`Mailbox::recv`], once nothing that is left matches.
    ///
    /// # Errors
    /// [`StashFull`] when `urgent + routine` messages of [`Capacity`] have been passed over and the next
    /// does not match either; it stays queued.
    ///
    /// # Cancel safety
    /// Cancel safe: what was passed over so far is kept.
    pub async fn recv_match(
        &mut self,
        mut matches: impl FnMut(&Received<M>) -> bool,
    ) -> Result<Option<Received<M>>, StashFull> {
        if let Some(entry) = self.stash.take_match(&mut matches) {
            return Ok(Some(entry));
        }
        loop {
            let taken = poll_fn(|cx| {
                self.core.poll_take(cx, |inbox, wake| Some((inbox.pop(wake)?, inbox.stash_limit())))
            });
            let Some(((lane, entry), limit)) = taken.await else {
                return Ok(None);
            };
            if matches(&entry) {
                return Ok(Some(entry));
            }
            if let Err(entry) = self.stash.push(entry, limit) {
                self.core.inbox().lane(lane).unpop(entry);
                return Err(StashFull { limit });
            }
        }
    }

    /// Refuses messages from now on; senders that wait are told at once. What is queued can be received.
    pub fn close(&mut self) {
        self.core.close();
    }
}

impl<M: Send + 'static> Mailbox<M> {
    /// Promises exactly one [`Down`](super::Down) for the end of `target`.
    ///
    /// It takes no room in the mailbox and follows everything `target` sent to it. A target that is gone
    /// already gives [`ExitReason::Gone`]. A restart under supervision is no end, neither of the target
    /// nor of this actor, whose monitors stay set. Each call sets a monitor of its own.
    pub fn monitor<N: Send + 'static>(&mut self, target: &Address<N>) -> MonitorId {
        self.core.monitor(Arc::clone(&target.core) as _, target.id())
    }

    /// Unsets a monitor: afterwards its `Down` is not received, even if it was queued already.
    pub fn demonitor(&mut self, monitor: MonitorId) {
        self.core.demonitor(monitor);
        self.stash.purge(monitor);
    }

    /// Links this actor and `target`: when one ends otherwise than normally, the other receives an
    /// [`Exit`](super::Exit).
    ///
    /// A target that is gone already gives [`ExitReason::Gone`]. Linking twice, or to itself, changes
    /// nothing. Like a monitor, a link outlasts restarts and takes no room in the mailbox.
    pub fn link<N: Send + 'static>(&mut self, target: &Address<N>) {
        self.core.link_to(&(Arc::clone(&target.core) as _), target.id());
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        match self.on_drop {
            OnDrop::End => self.core.end(&ExitReason::Normal),
            OnDrop::Abandon => drop(self.core.abandon()),
            OnDrop::Park => self.park(),
        }
    }
}

impl<M> Mailbox<M> {
    fn park(&mut self) {
        let mut inbox = self.core.inbox();
        if inbox.phase != Phase::Abandoned {
            inbox.parked = std::mem::take(&mut self.stash);
        }
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({})", self.id())
    }
}
