//! The client side of the wire protocol: a source with credit, resume and reconnect.
//!
//! A [`Script`] decides what is sent, and when. The simulated fleet has one, the replay of an archive another.
//!
//! This crate depends on `frame` and `wire` alone, never on the daemon: clients find out what the daemon gets wrong.
//!
//! | file | purpose |
//! |---|---|
//! | `lane.rs` | [`Lane`]: the books of one lane: credit, positions, frames without an acknowledgement |
//! | `conversation.rs` | [`Conversation`]: one connection after WELCOME, as decisions without I/O |
//! | `connection.rs` | opens connections and carries their bytes |
//! | `backoff.rs` | [`Backoff`]: the wait before a reconnect |
//! | `trouble.rs` | [`Trouble`]: why there is no connection |
//! | `error.rs` | [`SourceError`]: why a source ended before everything was acknowledged |

use std::future::Future;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

mod backoff;
mod connection;
mod conversation;
mod error;
mod lane;
mod trouble;

pub use backoff::Backoff;
pub use connection::{Refusal, connect, converse, greet, open};
pub use conversation::{Conversation, End};
pub use error::SourceError;
pub use lane::{Kept, Lane};
pub use trouble::Trouble;

use wire::{Ack, Bye, CatalogPart, Welcome};

/// Longest wait of a source before a reconnect, unless the server asks for more.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A write takes no further frame once it holds this much.
pub const WRITE_BYTES: usize = 64 << 10;

/// What a source has to say on its connections, and what it makes of the answers.
pub trait Script: Send {
    /// A new connection begins.
    ///
    /// # Errors
    /// What the server knows cannot be reconciled with what was sent.
    fn welcome(&mut self, welcome: &Welcome) -> Result<(), SourceError>;

    /// Appends the next frames, emergencies first, until `out` holds [`WRITE_BYTES`] or nothing may go.
    ///
    /// # Errors
    /// A frame can never be sent here.
    fn fill(&mut self, out: &mut BytesMut, now: Instant) -> Result<(), SourceError>;

    /// The BYE to say, once no frame will be written any more.
    fn bye(&self) -> Option<Bye>;

    /// Takes in an ACK; says whether frames became durable.
    ///
    /// # Errors
    /// It covers frames that were never sent.
    fn acknowledge(&mut self, ack: &Ack, now: Instant) -> Result<bool, SourceError>;

    /// Takes in the server's BYE; says whether frames became durable.
    ///
    /// # Errors
    /// It covers frames that were never sent.
    fn finish(&mut self, bye: Bye, now: Instant) -> Result<bool, SourceError>;

    /// Takes in a part of the catalog, which comes to who asked for it in HELLO.
    fn catalog(&mut self, _part: &CatalogPart) {}

    /// Whether after both BYEs nothing is missing, or nothing more can be learnt.
    fn is_settled(&self) -> bool;

    /// When more may be written than at `now`, if time alone brings it.
    fn next_due(&self, now: Instant) -> Option<Instant>;

    /// When to give up waiting for the server.
    fn gives_up_at(&self) -> Option<Instant>;

    /// Waits until there may be more to write for another reason than time and the server. Cancel safe.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}
