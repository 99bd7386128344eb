//! The subscriber side: durable frames over TCP, from any point of history on into live.
//!
//! In the order a frame takes:
//!
//! * [`tail`]: the newest durable frames, encoded once for all,
//! * [`crate::connection::entrance`]: where a connection is until it has said a valid SUBSCRIBE,
//! * `session`: one subscriber, from SUBSCRIBE to its last byte: takes from the tail, or from the log where it is behind,
//! * `catch_up`: reads the log in turns, a few subscribers at a time,
//! * [`registry`]: the actor that owns the sessions and keeps the limits.
//!
//! A subscription is one number, the next offset, and whoever has the frames from there on serves it. So history runs
//! into live without a hole or a repeat, and a subscriber that does not read costs its own buffer and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::archive::History;
use crate::connection::{Credentials, Entrance};
use crate::wire::{ErrorCode, WireError};

mod catch_up;
mod outbox;
pub mod registry;
mod session;
pub mod subscribers;
pub mod tail;
#[cfg(test)]
mod tests;

pub use registry::Registry;
pub use subscribers::{SubscriberView, Subscribers};
pub use tail::Tail;

/// Subscribers that may read the log at the same time; the others wait for their turn.
pub const READERS_MAX: usize = 4;

/// Limits and defaults of the subscriber side.
#[derive(Clone, Debug)]
pub struct FeedConfig {
    /// Subscribers at a time; one more gets `busy`.
    pub max_subscribers: usize,
    /// From connecting to a complete SUBSCRIBE, else `idle`.
    pub subscribe_timeout: Duration,
    /// In force for both sides; whole seconds.
    pub heartbeat: Duration,
    /// Longest body of the source side in bytes.
    pub message_bytes_max: usize,
}

/// What a subscriber is taken on, as long as it is in force.
#[derive(Debug)]
pub struct SessionPolicy {
    /// Limits and defaults. A subscriber keeps those that were in force when it said SUBSCRIBE.
    pub config: FeedConfig,
    /// Who may be told of which source; asked once, when SUBSCRIBE is there.
    pub credentials: Credentials,
}

/// What every session shares.
pub struct Context {
    /// What is in force now. To read it takes a lock: once for a connection.
    policy: watch::Receiver<Arc<SessionPolicy>>,
    /// Where connections are before they are let in.
    entrance: Arc<Entrance>,
    history: History,
    tail: Arc<Tail>,
    readers: Arc<Semaphore>,
    places_taken: AtomicUsize,
    subscribers: Arc<Subscribers>,
    /// How far the daemon has come in ending.
    ending: watch::Receiver<Ending>,
}

/// How far the daemon has come in ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It goes on.
    NotYet,
    /// It drains: nobody new is let in.
    Draining,
    /// Nothing is committed any more: subscribers get what lies below this offset, then `draining`.
    Final(u64),
}

impl Context {
    /// What sessions need, over the archive `history` reads.
    #[must_use]
    pub fn new(
        policy: watch::Receiver<Arc<SessionPolicy>>,
        entrance: Arc<Entrance>,
        history: History,
        tail: Arc<Tail>,
        ending: watch::Receiver<Ending>,
    ) -> Arc<Self> {
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        Arc::new(Self {
            policy,
            entrance,
            history,
            tail,
            readers,
            places_taken: AtomicUsize::new(0),
            subscribers: Arc::default(),
            ending,
        })
    }

    /// Who is subscribed.
    #[must_use]
    pub fn subscribers(&self) -> Arc<Subscribers> {
        Arc::clone(&self.subscribers)
    }

    /// What is in force now.
    fn policy(&self) -> Arc<SessionPolicy> {
        Arc::clone(&self.policy.borrow())
    }

    /// Takes one of `max` places for subscribers, if there is one.
    fn take_place(self: &Arc<Self>, max: usize) -> Result<Permit, WireError> {
        let taken = self
            .places_taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < max).then_some(count + 1));
        match taken {
            Ok(_) => Ok(Permit(Arc::clone(self))),
            Err(_) => Err(WireError::new(
                ErrorCode::Busy,
                format!("all {max} places for subscribers are taken (feed.max_subscribers)"),
            )),
        }
    }
}

/// One of the places for subscribers, free again when it is dropped.
struct Permit(Arc<Context>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.places_taken.fetch_sub(1, Ordering::AcqRel);
    }
}
