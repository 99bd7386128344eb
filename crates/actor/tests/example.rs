//! Runs the test of the example.

#[path = "../examples/counter.rs"]
#[allow(dead_code, reason = "`main` is for the example")]
mod counter;
