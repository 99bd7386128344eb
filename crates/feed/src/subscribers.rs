//! The current subscribers and their positions, for readers such as the HTTP API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frame::unix_now_ns;
use wire::Policy;

/// The current subscribers, by session.
#[derive(Debug, Default)]
pub struct Subscribers(Mutex<BTreeMap<u64, Arc<Entry>>>);

/// A subscriber, see [`SubscriberView`].
#[derive(Debug)]
struct Entry {
    /// The address of the subscriber.
    peer: SocketAddr,
    /// What happens to frames for which it is too slow.
    policy: Policy,
    /// When it subscribed, in unix nanoseconds.
    since_ns: i64,
    /// As [`SubscriberView::next_offset`].
    next_offset: AtomicU64,
}

/// A snapshot of one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriberView {
    /// The connection; unique while the daemon runs.
    pub session_id: u64,
    /// The address of the subscriber.
    pub peer: SocketAddr,
    /// What happens to frames for which the subscriber is too slow.
    pub policy: Policy,
    /// When it subscribed, unix nanoseconds.
    pub since_ns: i64,
    /// Every frame below this offset was sent, is being sent, was filtered out, or is named in a GAP.
    pub next_offset: u64,
}

impl Subscribers {
    /// All subscribers, ordered by session.
    #[must_use]
    pub fn views(&self) -> Vec<SubscriberView> {
        let view = |(session_id, entry): (&u64, &Arc<Entry>)| SubscriberView {
            session_id: *session_id,
            peer: entry.peer,
            policy: entry.policy,
            since_ns: entry.since_ns,
            next_offset: entry.next_offset.load(Relaxed),
        };
        self.lock().iter().map(view).collect()
    }

    /// Adds a subscriber. Dropping the returned value removes it.
    pub(super) fn enter(
        self: &Arc<Self>,
        session_id: u64,
        peer: SocketAddr,
        policy: Policy,
        next_offset: u64,
    ) -> Entered {
        let next_offset = AtomicU64::new(next_offset);
        let entry = Arc::new(Entry { peer, policy, since_ns: unix_now_ns(), next_offset });
        self.lock().insert(session_id, Arc::clone(&entry));
        Entered { session_id, entry, subscribers: Arc::clone(self) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One subscriber among [`Subscribers`].
#[derive(Debug)]
pub(super) struct Entered {
    /// Its key.
    session_id: u64,
    /// Its entry.
    entry: Arc<Entry>,
    /// Where the entry is removed.
    subscribers: Arc<Subscribers>,
}

impl Entered {
    /// Notes the position of the subscriber.
    pub(super) fn has_come_to(&self, next_offset: u64) {
        self.entry.next_offset.store(next_offset, Relaxed);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.subscribers.lock().remove(&self.session_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_that_left_is_not_listed() {
        let subscribers = Arc::new(Subscribers::default());
        let peer = "127.0.0.1:9".parse().unwrap();
        let first = subscribers.enter(1, peer, Policy::Complete, 40);
        let second = subscribers.enter(2, peer, Policy::Timely, 7);
        first.has_come_to(50);
        let offsets: Vec<_> =
            subscribers.views().iter().map(|view| (view.session_id, view.next_offset)).collect();
        assert_eq!(offsets, [(1, 50), (2, 7)]);
        drop(first);
        assert_eq!(subscribers.views().len(), 1);
        drop(second);
        assert!(subscribers.views().is_empty());
    }
}
