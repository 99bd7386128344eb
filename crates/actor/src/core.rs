//! The state that a mailbox and its addresses share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::sync::Notify;
use tokio::task::coop;

use super::lane::{Lane, Wake};
use super::peer::{Life, Peer};
use super::stash::Stash;
use super::{ActorId, Capacity, MonitorId, Received};

/// The lane's index in [`Inbox::lanes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneName {
    Urgent = 0,
    Routine = 1,
}

/// The state of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Refuses messages. Queued messages can still be received.
    Closed,
    /// There is no receiver and there will be none.
    Abandoned,
}

/// The shared state of one actor.
pub(super) struct Core<M> {
    pub(super) id: ActorId,
    /// Number of addresses. Without addresses no more messages come.
    pub(super) addresses: AtomicUsize,
    inbox: Mutex<Inbox<M>>,
    life: Mutex<Life>,
    /// Notified once, when the actor has ended.
    pub(super) ended: Notify,
}

/// The queued messages of one actor, and the tasks that wait at either end.
pub(super) struct Inbox<M> {
    pub(super) phase: Phase,
    lanes: [Lane<M>; 2],
    receiver: Option<Waker>,
    /// Monitors that this actor has set and whose `Down` is not queued yet.
    pub(super) monitors: BTreeMap<MonitorId, Arc<dyn Peer>>,
    /// Messages that the last body had passed over, while no body runs.
    pub(super) parked: Stash<M>,
}

impl<M> Core<M> {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self {
            id: ActorId::next(),
            addresses: AtomicUsize::new(0),
            inbox: Mutex::new(Inbox {
                phase: Phase::Open,
                lanes: [Lane::new(capacity.urgent), Lane::new(capacity.routine)],
                receiver: None,
                monitors: BTreeMap::new(),
                parked: Stash::default(),
            }),
            life: Mutex::new(Life::default()),
            ended: Notify::new(),
        }
    }

    /// Locks the inbox. No foreign code runs under this lock, so a poisoned inbox is still valid.
    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox<M>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is queued and nothing more can come.
    pub(super) fn is_dry(&self, inbox: &Inbox<M>) -> bool {
        let unreachable = inbox.phase != Phase::Open || self.addresses.load(Ordering::Acquire) == 0;
        unreachable && inbox.monitors.is_empty() && inbox.lanes.iter().all(Lane::is_empty)
    }

    /// Calls `take` on the queued entries.
    pub(super) fn try_take<T>(&self, take: impl FnOnce(&mut Inbox<M>, &mut Wake) -> Option<T>) -> Option<T> {
        let mut wake = Wake::default();
        let taken = take(&mut self.inbox(), &mut wake);
        wake.wake();
        taken
    }

    /// Calls `take` on the queued entries. `None` when nothing is queued and nothing more can come.
    pub(super) fn poll_take<T>(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Inbox<M>, &mut Wake) -> Option<T>,
    ) -> Poll<Option<T>> {
        let coop = ready!(coop::poll_proceed(cx));
        let mut wake = Wake::default();
        let mut inbox = self.inbox();
        let taken = take(&mut inbox, &mut wake);
        if taken.is_none() && !self.is_dry(&inbox) {
            inbox.await_entry(cx.waker());
            return Poll::Pending;
        }
        drop(inbox);
        wake.wake();
        coop.made_progress();
        Poll::Ready(taken)
    }

    /// Whether there is no receiver and there will be none.
    pub(super) fn is_abandoned(&self) -> bool {
        self.inbox().phase == Phase::Abandoned
    }

    /// Refuses further messages. Wakes the senders that wait for room.
    pub(super) fn close(&self) {
        let mut wake = Wake::default();
        let mut inbox = self.inbox();
        if inbox.phase == Phase::Open {
            inbox.phase = Phase::Closed;
        }
        for lane in &mut inbox.lanes {
            lane.dismiss_line(&mut wake);
        }
        drop(inbox);
        wake.wake();
    }

    /// Ends receiving: closes the mailbox and unsets the monitors. Returns the queued entries, so that the caller drops
    /// them.
    pub(super) fn abandon(&self) -> Leftovers<M> {
        self.close();
        let mut inbox = self.inbox();
        inbox.phase = Phase::Abandoned;
        let left = Leftovers {
            _queued: inbox.lanes.each_mut().map(Lane::clear),
            _parked: std::mem::take(&mut inbox.parked),
            _receiver: inbox.receiver.take(),
        };
        let monitors = std::mem::take(&mut inbox.monitors);
        drop(inbox);
        for (monitor, target) in monitors {
            target.unwatch(monitor);
        }
        left
    }

    /// Wakes the receiver, because the last address or monitor may have been removed.
    pub(super) fn wake_receiver(&self) {
        let waker = self.inbox().receiver.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<M> Inbox<M> {
    pub(super) fn lane(&mut self, name: LaneName) -> &mut Lane<M> {
        &mut self.lanes[name as usize]
    }

    /// How many messages selective receive may pass over.
    pub(super) fn stash_limit(&self) -> usize {
        self.lanes.iter().fold(0, |sum, lane| sum.saturating_add(lane.limit()))
    }

    /// The waker of the receiver, if it waits. The caller has queued something.
    pub(super) fn take_receiver(&mut self) -> Option<Waker> {
        self.receiver.take()
    }

    /// Queues a signal behind all other entries.
    pub(super) fn push_signal(&mut self, signal: Received<M>) {
        self.lane(LaneName::Routine).push_signal(signal);
    }

    /// Removes the `Down` of `monitor` if it is queued.
    pub(super) fn purge(&mut self, monitor: MonitorId) {
        self.lane(LaneName::Routine).purge(monitor);
    }

    /// Takes the next entry, urgent first. Gives its room to the next sender in line.
    pub(super) fn pop(&mut self, wake: &mut Wake) -> Option<(LaneName, Received<M>)> {
        [LaneName::Urgent, LaneName::Routine].into_iter().find_map(|name| {
            let lane = self.lane(name);
            let entry = lane.pop()?;
            lane.serve(wake);
            Some((name, entry))
        })
    }

    fn await_entry(&mut self, waker: &Waker) {
        self.lanes.iter_mut().for_each(Lane::trim);
        match &mut self.receiver {
            Some(known) => known.clone_from(waker),
            None => self.receiver = Some(waker.clone()),
        }
    }
}

/// Entries that will not be received. Dropping them runs the messages' destructors, so no lock must be held.
pub(super) struct Leftovers<M> {
    _queued: [VecDeque<Received<M>>; 2],
    _parked: Stash<M>,
    _receiver: Option<Waker>,
}
