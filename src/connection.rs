//! What connections of sources and of subscribers share: accepting, the way in, the heartbeat, credentials, last words.

pub(crate) mod closing;
pub mod credentials;
pub mod entrance;
pub mod listener;
pub mod refusals;
pub(crate) mod shares;
mod unauthenticated;

pub use credentials::{Credential, Credentials};
pub use entrance::{Entrance, PARTING_MAX, UNAUTHENTICATED_BYTES, UNAUTHENTICATED_MAX};
pub use refusals::{Listener, Refusals};

/// What a connection takes beside what waits in its windows, or in its outbox, and its read buffer: task, timers, unsent
/// answers, tables, in bytes.
pub const CONNECTION_BYTES: u64 = 32 << 10;
