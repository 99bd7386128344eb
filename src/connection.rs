//! What connections of sources and of subscribers share: accepting, the heartbeat, credentials, last words.

pub(crate) mod clock;
pub(crate) mod closing;
pub mod credentials;
pub mod listener;

pub use credentials::{Credential, Credentials};
