//! Output links: durable frames for software that does not speak the protocol of this daemon.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod cosmos;
mod cursor;
mod drain;
mod packets;
mod readers;
mod selection;
mod slow;
mod software;
mod transports;
