//! The feed side of `protocol.md`, sentence by sentence, as an independent client sees it.

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
