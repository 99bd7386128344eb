//! Monitors and links: the actors that are notified when an actor ends.
//!
//! A monitor is stored in two places. Its slot in the watcher's inbox stands for exactly one `Down`. Its entry in the
//! target's [`Life`](super::peer::Life) names the watcher. The slot decides: a `Down` without a slot is discarded. So
//! [`Mailbox::demonitor`](super::Mailbox::demonitor) wins every race with the target's end.

use std::sync::Arc;

use super::core::{Core, Phase};
use super::peer::Peer;
use super::{ActorId, Down, Exit, ExitReason, MonitorId, Received};

impl<M: Send> Peer for Core<M> {
    fn watch(&self, monitor: MonitorId, watcher: Arc<dyn Peer>) -> bool {
        let mut life = self.life();
        if !life.ended {
            life.watchers.insert(monitor, watcher);
        }
        !life.ended
    }

    fn unwatch(&self, monitor: MonitorId) {
        let watcher = self.life().watchers.remove(&monitor);
        drop(watcher);
    }

    fn down(&self, down: Down) {
        let mut inbox = self.inbox();
        let Some(target) = inbox.monitors.remove(&down.monitor) else {
            return;
        };
        inbox.push_signal(Received::Down(down));
        let receiver = inbox.take_receiver();
        drop(inbox);
        drop(target);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    fn link(&self, id: ActorId, peer: Arc<dyn Peer>) -> bool {
        let mut life = self.life();
        if !life.ended {
            life.links.insert(id, peer);
        }
        !life.ended
    }

    fn exit(&self, exit: Exit) {
        let link = self.life().links.remove(&exit.from);
        if link.is_none() || exit.reason.is_normal() {
            return;
        }
        let mut inbox = self.inbox();
        if inbox.phase == Phase::Abandoned {
            return;
        }
        inbox.push_signal(Received::Exit(exit));
        let receiver = inbox.take_receiver();
        drop(inbox);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }
}

impl<M> Core<M> {
    /// Whether the actor has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.life().ended
    }

    /// Ends the actor: abandons its mailbox and notifies every watcher and linked actor once.
    ///
    /// The caller must have dropped all parts of the actor's body that could send.
    pub(super) fn end(&self, reason: &ExitReason) {
        let leftovers = self.abandon();
        let mut life = self.life();
        if life.ended {
            return;
        }
        life.ended = true;
        let watchers = std::mem::take(&mut life.watchers);
        let links = std::mem::take(&mut life.links);
        drop(life);
        for (monitor, watcher) in watchers {
            watcher.down(Down { monitor, actor: self.id, reason: reason.clone() });
        }
        for peer in links.into_values() {
            peer.exit(Exit { from: self.id, reason: reason.clone() });
        }
        self.ended.notify_waiters();
        drop(leftovers);
    }
}

impl<M: Send + 'static> Core<M> {
    pub(super) fn monitor(self: &Arc<Self>, target: Arc<dyn Peer>, actor: ActorId) -> MonitorId {
        let monitor = MonitorId::next();
        let mut inbox = self.inbox();
        if inbox.phase == Phase::Abandoned {
            return monitor;
        }
        inbox.monitors.insert(monitor, Arc::clone(&target));
        drop(inbox);
        if !target.watch(monitor, Arc::clone(self) as Arc<dyn Peer>) {
            self.down(Down { monitor, actor, reason: ExitReason::Gone });
        }
        monitor
    }

    pub(super) fn demonitor(&self, monitor: MonitorId) {
        let mut inbox = self.inbox();
        let target = inbox.monitors.remove(&monitor);
        if target.is_none() {
            inbox.purge(monitor);
        }
        drop(inbox);
        if let Some(target) = target {
            target.unwatch(monitor);
        }
    }

    pub(super) fn link_to(self: &Arc<Self>, target: &Arc<dyn Peer>, id: ActorId) {
        if id == self.id || !Peer::link(&**self, id, Arc::clone(target)) {
            return;
        }
        if !target.link(self.id, Arc::clone(self) as Arc<dyn Peer>) {
            self.exit(Exit { from: id, reason: ExitReason::Gone });
        }
    }
}
