//! What connections of sources and of subscribers share: accepting, the heartbeat, credentials, last words.

pub(crate) mod clock;
pub(crate) mod closing;
pub mod credentials;
pub mod listener;

pub use credentials::{Credential, Credentials};

/// What a connection takes beside what waits in its windows, or in its outbox, and its read buffer: task, timers, unsent
/// answers, tables, in bytes.
pub const CONNECTION_BYTES: u64 = 32 << 10;
