//! The HTTP side of the daemon, over plain sockets: the API with its description, events, metrics, health, and what
//! operators change.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue fails")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod answers;
mod epoch;
mod events;
mod frames;
mod limits;
mod metrics;
mod openapi;
mod status;
mod streams;
