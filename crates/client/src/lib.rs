//! The client side of the wire protocol: a source with credit, resume and reconnect.
//!
//! A [`Script`] decides what is sent, and when. The simulated fleet and the replay of an archive have one
//! each. `examples/source.rs` is a whole source with a small one.
//!
//! This crate depends on `frame`, `wire` and `tls` only, never on the daemon, so that clients find errors of the
//! daemon.
//!
//! | file | purpose |
//! |---|---|
//! | `lane.rs` | [`Lane`]: the books of one lane: credit, positions, frames without an acknowledgement |
//! | `conversation.rs` | [`Conversation`]: one connection after WELCOME, as decisions without I/O |
//! | `connection.rs` | opens connections and carries their bytes |
//! | `connections.rs` | [`Connections`]: how many connections a run has, and why a source has none |
//! | `backoff.rs` | [`Backoff`]: the wait before a reconnect |
//! | `trouble.rs` | [`Trouble`]: why there is no connection |
//! | `error.rs` | [`SourceError`]: why a source ended before everything was acknowledged |

use std::future::Future;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

mod backoff;
mod connection;
mod connections;
mod conversation;
mod error;
mod lane;
mod trouble;

pub use backoff::Backoff;
pub use connection::{Refusal, connect, converse, greet, open};
pub use connections::{Connected, Connections};
pub use conversation::{Conversation, End};
pub use error::SourceError;
pub use lane::{Kept, Lane};
pub use trouble::Trouble;

use wire::{Ack, Bye, CatalogPart, Welcome};

/// Longest wait of a source before a reconnect, unless the server asks for more.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A write with this many bytes takes no further frame.
pub const WRITE_BYTES: usize = 64 << 10;

/// Decides what a source sends on its connections, and handles the answers.
pub trait Script: Send {
    /// Starts a new connection.
    ///
    /// # Errors
    /// When the positions of the server do not fit what was sent.
    fn welcome(&mut self, welcome: &Welcome) -> Result<(), SourceError>;

    /// Appends the next frames, emergencies first, until `out` holds [`WRITE_BYTES`] or nothing may go.
    ///
    /// # Errors
    /// When a frame can never be sent on this connection.
    fn fill(&mut self, out: &mut BytesMut, now: Instant) -> Result<(), SourceError>;

    /// The BYE to send, once no more frames will be written.
    fn bye(&self) -> Option<Bye>;

    /// Handles an ACK. Returns whether frames became durable.
    ///
    /// # Errors
    /// When the ACK covers frames that were never sent.
    fn acknowledge(&mut self, ack: &Ack, now: Instant) -> Result<bool, SourceError>;

    /// Handles the server's BYE. Returns whether frames became durable.
    ///
    /// # Errors
    /// When the BYE covers frames that were never sent.
    fn finish(&mut self, bye: Bye, now: Instant) -> Result<bool, SourceError>;

    /// Handles a part of the catalog. The server sends it to clients that asked for it in HELLO.
    fn catalog(&mut self, _part: &CatalogPart) {}

    /// Whether, after both BYEs, no frame is missing, or nothing more can be learnt.
    fn is_settled(&self) -> bool;

    /// When more may be written than at `now`, if time alone allows it.
    fn next_due(&self, now: Instant) -> Option<Instant>;

    /// When to give up waiting for the server.
    fn gives_up_at(&self) -> Option<Instant>;

    /// Waits until more may be written, for a reason other than time or the server. Cancel safe.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}
