//! Actors on tokio: a bounded two-lane mailbox per actor, monitors, links and supervision.
//!
//! An actor is a task that owns a [`Mailbox`]. All other parts hold an [`Address`]. `examples/counter.rs` shows an
//! actor with supervision and a restart.
//!
//! This crate does not depend on the protocol, the archive or the daemon. From `frame` it uses only the liveness of a
//! stage.
//!
//! | file | purpose |
//! |---|---|
//! | `lane.rs` | a bounded queue and the senders that wait for room in it; pure |
//! | `core.rs` | what a mailbox and its addresses share |
//! | `address.rs` | [`Address`], the sending side |
//! | `mailbox.rs` | [`Mailbox`], the receiving side |
//! | `stash.rs` | the messages that selective receive has passed over |
//! | `call.rs` | [`Reply`]: request and response |
//! | `peer.rs` | an actor as other actors see it |
//! | `relations.rs` | monitors and links: which actors learn that an actor ended |
//! | `spawn.rs` | [`spawn()`]: the one place where tasks of actors are started |
//! | `supervise.rs` | [`supervise()`]: a failed body is run again, up to an intensity |
//! | `tasks.rs` | [`Tasks`]: an owner of named tasks that are not actors |
//!
//! Rules for the whole crate:
//!
//! * Urgent messages are received before routine ones. Each lane keeps its order.
//! * A lane holds at most its [`Capacity`]. A full lane makes senders wait, first come first served.
//! * A [`Down`] or [`Exit`] takes no room: there is at most one per monitor or link. It is queued at the end of the
//!   routine lane, so it follows everything that the ended actor had sent to this mailbox.
//! * No function panics because an actor is gone. No lock is held while foreign code runs (a message's destructor, a
//!   predicate, a wake-up). No two locks are held at once.
//! * Every task has an owner: [`ActorHandle`] and [`Tasks`] abort their tasks when dropped.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod address;
mod call;
mod core;
mod lane;
mod mailbox;
mod peer;
mod relations;
mod spawn;
mod stash;
mod supervise;
mod tasks;
#[cfg(test)]
mod tests;

pub use address::{Address, SendError, TrySendError};
pub use call::{CallError, Reply};
pub use mailbox::{Mailbox, mailbox};
pub use spawn::{ActorHandle, Outcome, spawn, spawn_stage};
pub use stash::StashFull;
pub use supervise::{Restart, supervise, supervise_task};
pub use tasks::Tasks;

/// An entry of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received<M> {
    /// A message from an [`Address`].
    Message(M),
    /// A monitored actor has ended, see [`Mailbox::monitor`].
    Down(Down),
    /// A linked actor has not ended normally, see [`Mailbox::link`].
    Exit(Exit),
}

/// A monitored actor has ended. Received exactly once per monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// The id that [`Mailbox::monitor`] returned.
    pub monitor: MonitorId,
    /// The actor that ended.
    pub actor: ActorId,
    /// The reason.
    pub reason: ExitReason,
}

/// A linked actor has not ended normally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The actor that ended.
    pub from: ActorId,
    /// The reason, never [`ExitReason::Normal`].
    pub reason: ExitReason,
}

/// Why an actor or a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// The body returned without an error.
    Normal,
    /// The body returned this error, or was aborted.
    Error(Arc<str>),
    /// The body panicked with this message.
    Panic(Arc<str>),
    /// The actor was gone before the monitor or link was set, so the reason is not known.
    Gone,
}

impl ExitReason {
    /// Whether this is [`ExitReason::Normal`].
    #[must_use]
    pub const fn is_normal(&self) -> bool {
        matches!(self, Self::Normal)
    }

    pub(crate) fn aborted() -> Self {
        Self::Error("aborted".into())
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::Error(error) => write!(f, "error: {error}"),
            Self::Panic(message) => write!(f, "panic: {message}"),
            Self::Gone => f.write_str("ended before"),
        }
    }
}

/// Id of an actor. Unique in the process and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorId(u64);

impl ActorId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "actor-{}", self.0)
    }
}

/// Id of a monitor. Unique in the process and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MonitorId(u64);

impl MonitorId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// How many messages each lane of a mailbox holds.
///
/// 0 counts as 1, because a lane needs room for one message. Nothing is allocated in advance. [`Mailbox::recv_match`]
/// may pass over `urgent + routine` further messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Messages in the urgent lane.
    pub urgent: usize,
    /// Messages in the routine lane.
    pub routine: usize,
}
