//! The source side of `protocol.md`, sentence by sentence, as an independent client sees it.

#[path = "../support/mod.rs"]
mod support;

mod backpressure;
mod crash;
mod drain;
mod ending;
mod frames;
mod greeting;
mod heartbeat;
mod identity;
mod recovery;
