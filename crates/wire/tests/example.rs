//! Runs the test of the example.

#[path = "../examples/conversation.rs"]
#[allow(dead_code, reason = "`main` is for the example")]
mod conversation;
