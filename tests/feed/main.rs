//! The feed part of `protocol.md`, sentence by sentence, tested with an independent client.

#[path = "../support/mod.rs"]
mod support;

mod choice;
mod delivery;
mod drain;
mod framing;
mod greeting;
mod heartbeat;
mod loss;
mod policy;
mod position;
mod scene;
