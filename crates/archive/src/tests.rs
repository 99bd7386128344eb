//! Tests of the archive as a whole, on the fake storage and on the real one.
//!
//! Tests that depend on how blocks reach the disk run both ways: `cached` and `direct` have the same tests.

mod cached;
mod coherence;
mod commit_queue;
#[allow(clippy::duplicate_mod, reason = "the same tests on another disk")]
mod direct;
mod disk;
mod foreign;
mod index;
mod reader;
mod sparse;
pub(crate) mod support;
mod visit;
pub(crate) mod watched;
mod ways;
