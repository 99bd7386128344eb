//! What the daemon promises to sources: the source part of `protocol.md`, sentence by sentence, tested with an independent
//! client; the acceptance criteria of RFC-0047; places, the catalog, and recordings of real spacecraft.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue fails")]

#[path = "../support/mod.rs"]
mod support;

mod backpressure;
mod catalog;
mod crash;
mod drain;
mod ending;
mod example;
mod forwarded;
mod frames;
mod greeting;
mod harness;
mod heartbeat;
mod identity;
mod packed;
mod real_data;
mod recovery;
mod rfc;
mod slots;
