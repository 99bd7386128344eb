//! What the end-to-end tests share: the real daemon as a child process, a client that knows `protocol.md` alone, and
//! the archive as it is found afterwards.
//!
//! Nothing here waits by sleeping: a test waits for a line of the log, a message of the server or the end of the
//! process, with [`LIMIT`] as the safety net that turns a hang into a failure.

#![allow(dead_code, unused_imports, reason = "each test crate uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

pub use rustix::process::Signal;

pub mod archive;
pub mod client;
pub mod daemon;
pub mod held;
pub mod inside;
pub mod message;

pub use archive::{Archived, archived};
pub use client::{Client, Received};
pub use daemon::{Books, Daemon, Exit};
pub use held::HeldDaemon;
pub use message::{
    Ack, EMERGENCY, ErrorMessage, Frame, Hello, NO_ACK, ROUTINE, Server, WANT_CATALOG, Welcome, code, cost,
};

/// How long anything may take before the test fails. Generous: the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(20);
