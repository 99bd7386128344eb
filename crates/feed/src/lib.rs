//! The subscriber side: durable frames over TCP, from any point of history into live.
//!
//! Modules, in the order in which a frame meets them:
//!
//! * [`tail`]: the newest durable frames, encoded once for all subscribers,
//! * [`connection::entrance`]: holds a connection until the client has sent a valid SUBSCRIBE,
//! * `session`: one subscriber, from SUBSCRIBE to its last byte,
//! * `follow`: the position of a subscriber, which moves through the tail, or through the log when it is behind,
//! * `catch_up`: reads the log in turns, a few subscribers at a time,
//! * [`registry`]: the actor that owns the sessions and enforces the limits.
//!
//! A subscription is one number, the next offset. The tail or the log, whichever has the frames from this
//! offset on, serves it. So history continues into live without a hole or a repeat. A subscriber that does
//! not read costs only its own buffer.
//!
//! This crate never depends on `ingest`, the configuration, or on what shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use connection::{Credentials, Entrance};
use wire::{ErrorCode, WireError};

mod catch_up;
pub mod follow;
pub mod outbox;
pub mod registry;
mod session;
pub mod subscribers;
pub mod tail;
#[cfg(test)]
mod tests;

pub use follow::{Durable, Following};
pub use registry::Registry;
pub use subscribers::{SubscriberView, Subscribers};
pub use tail::Tail;

/// Most subscribers that read the log at the same time; the others wait for their turn.
pub const READERS_MAX: usize = 4;

/// Limits and defaults of the subscriber side.
#[derive(Clone, Debug)]
pub struct FeedConfig {
    /// Most subscribers at a time. One more gets `busy`.
    pub max_subscribers: usize,
    /// Longest time from connecting to a complete SUBSCRIBE; then `idle`.
    pub subscribe_timeout: Duration,
    /// Heartbeat of both sides; whole seconds.
    pub heartbeat: Duration,
    /// Longest body on the source side, in bytes.
    pub message_bytes_max: usize,
}

/// The limits and credentials that are in force for new subscribers.
#[derive(Debug)]
pub struct SessionPolicy {
    /// Limits and defaults. A subscriber keeps those that were in force when it sent SUBSCRIBE.
    pub config: FeedConfig,
    /// Which client may read which source. The handshake checks this once, when SUBSCRIBE has come.
    pub credentials: Credentials,
    /// TLS of new connections, if they are encrypted.
    pub tls: Option<tls::Server>,
}

/// The state that all sessions share.
pub struct Context {
    /// The policy in force. Reading it takes a lock: sessions read it once per connection.
    policy: watch::Receiver<Arc<SessionPolicy>>,
    /// Holds connections before they are let in.
    entrance: Arc<Entrance>,
    /// The frames.
    durable: Durable,
    /// Places of subscribers that are taken, see [`FeedConfig::max_subscribers`].
    places_taken: AtomicUsize,
    /// The current subscribers, for readers such as the HTTP API.
    subscribers: Arc<Subscribers>,
    /// How far the shutdown of the daemon has come.
    ending: watch::Receiver<Ending>,
}

/// How far the shutdown of the daemon has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The daemon runs.
    NotYet,
    /// The daemon drains: no new subscriber is let in.
    Draining,
    /// No more frames are committed. Subscribers get the frames below this offset, then `draining`.
    Final(u64),
}

impl Context {
    /// The shared state of the sessions, which read `durable`.
    #[must_use]
    pub fn new(
        policy: watch::Receiver<Arc<SessionPolicy>>,
        entrance: Arc<Entrance>,
        durable: Durable,
        ending: watch::Receiver<Ending>,
    ) -> Arc<Self> {
        Arc::new(Self {
            policy,
            entrance,
            durable,
            places_taken: AtomicUsize::new(0),
            subscribers: Arc::default(),
            ending,
        })
    }

    /// The current subscribers.
    #[must_use]
    pub fn subscribers(&self) -> Arc<Subscribers> {
        Arc::clone(&self.subscribers)
    }

    /// The policy in force.
    fn policy(&self) -> Arc<SessionPolicy> {
        Arc::clone(&self.policy.borrow())
    }

    /// Takes one of `max` places for subscribers.
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

/// One of the places for subscribers. Dropping it frees the place.
struct Permit(Arc<Context>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.places_taken.fetch_sub(1, Ordering::AcqRel);
    }
}
