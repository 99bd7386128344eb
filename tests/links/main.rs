//! Input links: equipment that speaks its own protocol becomes a source, by configuration alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../chaos/shim.rs"]
#[allow(dead_code, reason = "this crate uses a part of it")]
mod shim;

mod clocks;
mod direwolf;
mod emergency;
mod equipment;
mod framings;
mod hostile;
mod hostile_imports;
mod imports;
mod inventions;
mod lifecycle;
mod ownership;
mod pages;
mod recordings;
mod simulated;
