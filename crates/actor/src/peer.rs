//! An actor as other actors see it, and those that have to be notified of its end.

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

/// An actor as seen by other actors, whatever its messages are.
pub(super) trait Peer: Send + Sync {
    /// Promises `watcher` a `Down`; `false` when this actor has ended.
    fn watch(&self, monitor: MonitorId, watcher: Arc<dyn Peer>) -> bool;
    /// Takes the promise back.
    fn unwatch(&self, monitor: MonitorId);
    /// Tells this actor that one it watches has ended.
    fn down(&self, down: Down);
    /// Links this actor to `peer`; `false` when this actor has ended.
    fn link(&self, id: ActorId, peer: Arc<dyn Peer>) -> bool;
    /// Tells this actor that a linked one has ended.
    fn exit(&self, exit: Exit);
}

#[cfg(test)]
impl Life {
    pub(super) fn relations(&self) -> usize {
        self.watchers.len() + self.links.len()
    }
}
