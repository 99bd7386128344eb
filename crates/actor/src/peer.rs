//! An actor as other actors see it, and the actors that are notified when it ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ActorId, Down, Exit, MonitorId};

/// The actors that are notified when this actor ends.
#[derive(Default)]
pub(super) struct Life {
    pub(super) ended: bool,
    pub(super) watchers: BTreeMap<MonitorId, Arc<dyn Peer>>,
    pub(super) links: BTreeMap<ActorId, Arc<dyn Peer>>,
}

/// An actor as other actors see it, independent of its message type.
pub(super) trait Peer: Send + Sync {
    /// Registers `watcher` for a `Down`. `false` if this actor has ended.
    fn watch(&self, monitor: MonitorId, watcher: Arc<dyn Peer>) -> bool;
    /// Removes the registration.
    fn unwatch(&self, monitor: MonitorId);
    /// Notifies this actor that an actor it monitors has ended.
    fn down(&self, down: Down);
    /// Links this actor to `peer`. `false` if this actor has ended.
    fn link(&self, id: ActorId, peer: Arc<dyn Peer>) -> bool;
    /// Notifies this actor that a linked actor has ended.
    fn exit(&self, exit: Exit);
}

#[cfg(test)]
impl Life {
    pub(super) fn relations(&self) -> usize {
        self.watchers.len() + self.links.len()
    }
}
