//! Actors on tokio: a bounded two-lane mailbox per actor, monitors, links and supervision.
//!
//! An actor is a task that owns a [`Mailbox`]; everyone else holds an [`Address`].
//!
//! This crate never depends on the protocol, on the archive or on the daemon. Of `frame` it takes the liveness of a stage
//! alone.
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
//! What holds everywhere:
//!
//! * Urgent messages are received before routine ones; each lane keeps its order.
//! * A lane holds at most its [`Capacity`]; a full lane makes senders wait, first come first served.
//! * A [`Down`] or [`Exit`] takes no room: there is at most one per monitor or link set. It stands at the
//!   end of the routine lane, so it follows everything the ended actor had sent to this mailbox.
//! * Nothing here panics because an actor is gone. A lock is never held while foreign code runs (a
//!   message's destructor, a predicate, a wake-up), and no two locks are held at once.
//! * Every task has an owner: [`ActorHandle`] and [`Tasks`] abort what they own when dropped.

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

/// What a mailbox gives out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received<M> {
    /// Sent by an [`Address`].
    Message(M),
    /// A monitored actor has ended, see [`Mailbox::monitor`].
    Down(Down),
    /// A linked actor has ended otherwise than normally, see [`Mailbox::link`].
    Exit(Exit),
}

/// A monitored actor has ended. Received exactly once per monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// As returned by [`Mailbox::monitor`].
    pub monitor: MonitorId,
    /// Who ended.
    pub actor: ActorId,
    /// Why.
    pub reason: ExitReason,
}

/// A linked actor has ended otherwise than normally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Who ended.
    pub from: ActorId,
    /// Why; never [`ExitReason::Normal`].
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
    /// It was gone before the monitor or link was set, so nobody can say why.
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
            Self::Gone => f.write_str("gone before"),
        }
    }
}

/// Names an actor; unique in the process and never used again.
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

/// Names a monitor; unique in the process and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MonitorId(u64);

impl MonitorId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// How many messages a mailbox holds, per lane.
///
/// A lane needs room for one message to be of any use, so 0 counts as 1. Nothing is allocated in
/// advance. [`Mailbox::recv_match`] may pass over `urgent + routine` further messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Messages in the urgent lane.
    pub urgent: usize,
    /// Messages in the routine lane.
    pub routine: usize,
}
