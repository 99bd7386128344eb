//! Output links: durable frames for software that does not speak the protocol of this daemon.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../chaos/netns.rs"]
#[allow(dead_code, reason = "this crate uses a part of it")]
mod netns;

mod cosmos;
mod cursor;
mod drain;
mod gone;
mod packets;
mod readers;
mod selection;
mod slow;
mod software;
mod transports;
