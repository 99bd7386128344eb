//! The source part of `protocol.md` once more, over TLS: the same tests with the same client. Then what only TLS can do: a record
//! that comes slowly.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../protocol/backpressure.rs"]
mod backpressure;
#[path = "../protocol/crash.rs"]
mod crash;
#[path = "../protocol/drain.rs"]
mod drain;
#[path = "../protocol/ending.rs"]
mod ending;
mod floods;
#[path = "../protocol/frames.rs"]
mod frames;
#[path = "../protocol/greeting.rs"]
mod greeting;
#[path = "../protocol/heartbeat.rs"]
mod heartbeat;
#[path = "../protocol/identity.rs"]
mod identity;
#[path = "../protocol/recovery.rs"]
mod recovery;
mod slow;
