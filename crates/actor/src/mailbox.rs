//! The receiving side, owned by an actor's body.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use super::core::{Core, Phase};
use super::stash::{Stash, StashFull};
use super::{ActorId, Address, Capacity, ExitReason, MonitorId, Received};

/// Receives the messages of an actor.
///
/// When the body drops it, the mailbox refuses messages, drops queued messages and wakes waiting senders. The mailbox
/// of a supervised body goes to the next run instead.
pub struct Mailbox<M> {
    pub(super) core: Arc<Core<M>>,
    stash: Stash<M>,
    on_drop: OnDrop,
}

/// What happens when a mailbox is dropped.
#[derive(Clone, Copy)]
pub(super) enum OnDrop {
    /// The drop counts as the end of its owner, because the mailbox belongs to no actor's body.
    End,
    /// No more messages are received. The actor continues until its body ends.
    Abandon,
    /// The next run of the body receives the remaining entries.
    Park,
}

/// Creates a mailbox that belongs to no actor, for a main task or a test. Dropping it counts as a normal end.
#[must_use]
pub fn mailbox<M>(capacity: Capacity) -> (Address<M>, Mailbox<M>) {
    let core = Arc::new(Core::new(capacity));
    (Address::new(&core), Mailbox::new(&core, OnDrop::End))
}

impl<M> Mailbox<M> {
    /// Creates a receiver on `core`. It first receives the messages that the last receiver had passed over.
    pub(super) fn new(core: &Arc<Core<M>>, on_drop: OnDrop) -> Self {
        let stash = std::mem::take(&mut core.inbox().parked);
        Self { core: Arc::clone(core), stash, on_drop }
    }

    /// The id of the actor.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.core.id
    }

    /// Creates an address of this mailbox.
    ///
    /// It counts like every other address. An actor that keeps its own address never sees the end of its mailbox.
    #[must_use]
    pub fn address(&self) -> Address<M> {
        Address::new(&self.core)
    }

    /// The next entry: first the messages that [`Mailbox::recv_match`] passed over, then urgent, then routine.
    ///
    /// `None` if nothing is queued, no monitor is outstanding, and either no address is left or [`Mailbox::close`] was
    /// called. Links are not waited for.
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

    /// The next entry, if there is one.
    pub fn try_recv(&mut self) -> Option<Received<M>> {
        self.stash.pop().or_else(|| {
            let taken = self.core.try_take(|inbox, wake| inbox.pop(wake));
            taken.map(|(_, entry)| entry)
        })
    }

    /// The first entry for which `matches` is true. Entries that it passes over keep their order and free their room in
    /// the lanes. They are received before all other entries afterwards.
    ///
    /// `None` as in [`Mailbox::recv`], if no remaining entry matches.
    ///
    /// # Errors
    /// [`StashFull`] if `urgent + routine` messages of [`Capacity`] have been passed over and the next does not match
    /// either. That message stays queued.
    ///
    /// # Cancel safety
    /// Cancel safe: the messages passed over so far are kept.
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

    /// Refuses further messages and wakes waiting senders. Queued messages can still be received.
    pub fn close(&mut self) {
        self.core.close();
    }
}

impl<M: Send + 'static> Mailbox<M> {
    /// Monitors `target`: exactly one [`Down`](super::Down) follows its end.
    ///
    /// The `Down` takes no room in the mailbox and comes after everything that `target` sent to it. If the target is
    /// already gone, the reason is [`ExitReason::Gone`]. A restart under supervision is not an end. This holds for the
    /// target and for this actor, whose monitors stay set. Each call sets a separate monitor.
    pub fn monitor<N: Send + 'static>(&mut self, target: &Address<N>) -> MonitorId {
        self.core.monitor(Arc::clone(&target.core) as _, target.id())
    }

    /// Unsets a monitor. Its `Down` is not received afterwards, even if it was already queued.
    pub fn demonitor(&mut self, monitor: MonitorId) {
        self.core.demonitor(monitor);
        self.stash.purge(monitor);
    }

    /// Links this actor and `target`: if one does not end normally, the other receives an [`Exit`](super::Exit).
    ///
    /// If the target is already gone, the reason is [`ExitReason::Gone`]. A second link to the same actor or a link to
    /// itself changes nothing. Like a monitor, a link survives restarts and takes no room in the mailbox.
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
