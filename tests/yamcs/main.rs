//! A real Yamcs reads from outputs. What it has archived is read back through its HTTP API.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../outputs/software.rs"]
#[allow(dead_code, reason = "this crate uses a part of it")]
mod software;

mod example;
mod filing;
mod server;
