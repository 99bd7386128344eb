//! The source part of `protocol.md`, sentence by sentence, tested with an independent client.

#[path = "../support/mod.rs"]
mod support;

mod backpressure;
mod crash;
mod drain;
mod ending;
mod example;
mod frames;
mod greeting;
mod heartbeat;
mod identity;
mod recovery;
