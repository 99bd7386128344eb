//! The sending side of a mailbox.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};

use tokio::task::coop;

use super::ActorId;
use super::core::{Core, Inbox, LaneName, Phase};
use super::lane::Wake;

/// Sends messages to an actor. Cheap to clone.
///
/// The mailbox stays open while an address exists, see [`Mailbox::recv`](super::Mailbox::recv).
pub struct Address<M> {
    pub(super) core: Arc<Core<M>>,
}

/// The actor is gone or has closed its mailbox. The error returns the message.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the actor has ended")]
pub struct SendError<M>(pub M);

/// Why a message could not be sent at once. The error returns the message.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<M> {
    /// The lane is full, or other senders wait for room in it.
    #[error("the mailbox is full")]
    Full(M),
    /// The actor is gone or has closed its mailbox.
    #[error("the actor has ended")]
    Gone(M),
}

impl<M> Address<M> {
    pub(super) fn new(core: &Arc<Core<M>>) -> Self {
        core.addresses.fetch_add(1, Ordering::Relaxed);
        Self { core: Arc::clone(core) }
    }

    /// The id of the actor.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.core.id
    }

    /// Sends in the routine lane. Waits while the lane is full.
    ///
    /// # Errors
    /// [`SendError`] with the message if the actor has ended or ends during the wait.
    ///
    /// # Cancel safety
    /// If dropped before it is ready, the message was not sent, and the sender loses its place in line.
    pub async fn send(&self, message: M) -> Result<(), SendError<M>> {
        self.send_in(LaneName::Routine, message).await
    }

    /// Sends in the urgent lane. Waits while the lane is full. Otherwise like [`Address::send`].
    ///
    /// # Errors
    /// [`SendError`] with the message if the actor has ended or ends during the wait.
    pub async fn send_urgent(&self, message: M) -> Result<(), SendError<M>> {
        self.send_in(LaneName::Urgent, message).await
    }

    /// Sends in the routine lane if there is room.
    ///
    /// # Errors
    /// [`TrySendError`] with the message.
    pub fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        self.try_send_in(LaneName::Routine, message)
    }

    /// Sends in the urgent lane if there is room.
    ///
    /// # Errors
    /// [`TrySendError`] with the message.
    pub fn try_send_urgent(&self, message: M) -> Result<(), TrySendError<M>> {
        self.try_send_in(LaneName::Urgent, message)
    }

    /// Waits until the actor has ended: its body has ended, and it will not be restarted.
    ///
    /// A mailbox that is closed by [`Mailbox::close`](super::Mailbox::close) refuses messages before the actor has
    /// ended.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn closed(&self) {
        let ended = self.core.ended.notified();
        if !self.core.has_ended() {
            ended.await;
        }
    }

    /// Whether the actor has ended, as defined for [`Address::closed`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.has_ended()
    }

    pub(super) async fn send_in(&self, lane: LaneName, message: M) -> Result<(), SendError<M>> {
        let mut message = Some(message);
        let mut pending = PendingSend::new(&self.core, lane);
        poll_fn(|cx| pending.poll_send(cx, &mut message)).await;
        message.map_or(Ok(()), |message| Err(SendError(message)))
    }

    fn try_send_in(&self, lane: LaneName, message: M) -> Result<(), TrySendError<M>> {
        let mut inbox = self.core.inbox();
        if inbox.phase != Phase::Open {
            return Err(TrySendError::Gone(message));
        }
        if !inbox.lane(lane).take_free() {
            return Err(TrySendError::Full(message));
        }
        push(inbox, lane, message);
        Ok(())
    }
}

/// Queues a message into room that is already reserved, and wakes the receiver.
fn push<M>(mut inbox: MutexGuard<'_, Inbox<M>>, lane: LaneName, message: M) {
    inbox.lane(lane).push(message);
    let receiver = inbox.take_receiver();
    drop(inbox);
    if let Some(receiver) = receiver {
        receiver.wake();
    }
}

/// A message that waits for room. It takes free room at once, or joins the line. Dropping it leaves the line.
struct PendingSend<'a, M> {
    core: &'a Core<M>,
    lane: LaneName,
    ticket: Option<u64>,
}

impl<'a, M> PendingSend<'a, M> {
    fn new(core: &'a Core<M>, lane: LaneName) -> Self {
        Self { core, lane, ticket: None }
    }

    /// Sends `message` when there is room for it. If the mailbox is closed, the result is ready and `message` stays.
    fn poll_send(&mut self, cx: &mut Context<'_>, message: &mut Option<M>) -> Poll<()> {
        let coop = ready!(coop::poll_proceed(cx));
        let mut inbox = self.core.inbox();
        if inbox.phase == Phase::Open {
            let lane = inbox.lane(self.lane);
            let has_room = match self.ticket {
                Some(ticket) => lane.claim(ticket, cx.waker()),
                None => lane.take_free(),
            };
            if !has_room {
                self.ticket.get_or_insert_with(|| lane.join_line(cx.waker()));
                return Poll::Pending;
            }
            if let Some(message) = message.take() {
                push(inbox, self.lane, message);
            }
        }
        self.ticket = None;
        coop.made_progress();
        Poll::Ready(())
    }
}

impl<M> Drop for PendingSend<'_, M> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut wake = Wake::default();
        let mut inbox = self.core.inbox();
        let lane = inbox.lane(self.lane);
        lane.leave_line(ticket);
        lane.serve(&mut wake);
        drop(inbox);
        wake.wake();
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self::new(&self.core)
    }
}

impl<M> Drop for Address<M> {
    fn drop(&mut self) {
        if self.core.addresses.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.core.wake_receiver();
        }
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.id())
    }
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<M> fmt::Debug for TrySendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Gone(_) => "Gone(..)",
        })
    }
}
