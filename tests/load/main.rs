//! Real load: fleets, floods, kill -9 and SIGTERM under load. No acknowledged frame is lost, each arrives once, and deadlines
//! hold. Each test has the machine for itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue fails")]
#![allow(clippy::print_stdout, reason = "what a test measured belongs to its output")]

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod drain;
mod emergency_flood;
mod filesystems;
mod fleet;
mod subscribers;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits until no other test of this binary loads the machine: two loads would make each other miss deadlines.
fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}
