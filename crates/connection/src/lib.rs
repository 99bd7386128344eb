//! What connections of sources and of subscribers share: accepting, the entrance, credentials, closing.
//!
//! This crate never depends on sessions, queues or the configuration.

pub mod closing;
pub mod credentials;
pub mod entrance;
pub mod listener;
pub mod refusals;
pub mod shares;
pub mod tcp;
mod unauthenticated;

use wire::{ErrorCode, WireError};

pub use credentials::{CertifiedClient, Credential, Credentials, Proof, Rights};
pub use entrance::{Entrance, PARTING_MAX, UNAUTHENTICATED_BYTES, UNAUTHENTICATED_MAX};
pub use refusals::{Listener, Refusals};

/// Identifies a session; unique while the daemon runs.
pub type SessionId = u64;

/// The order to a session to end, with the ERROR its peer gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop(pub WireError);

/// The ERROR for a client whose TLS handshake was done with a certificate or authorities that are not in force any more.
pub fn renewed() -> WireError {
    WireError::new(ErrorCode::Busy, "the certificates have been renewed during the handshake: connect again")
}

/// Upper bound in bytes of a connection without its windows, its outbox and its read buffer: task, timers, unsent answers,
/// tables.
pub const CONNECTION_BYTES: u64 = 32 << 10;
