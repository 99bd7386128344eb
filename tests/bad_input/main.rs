//! Bad input: the daemon answers each offence with its ERROR, and no other session is affected.
//!
//! A healthy session runs during every offence. Its frames are acknowledged before and after, and the books must
//! balance at the end. The bytes after the offending message must not destroy the ERROR.

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod crowd;
mod garbage;
mod hello;
mod limits;
mod messages;
mod sequences;
mod slow;
