//! Bad input: each offence gets its ERROR and touches nobody else.
//!
//! A healthy session runs beside every offence, with frames acknowledged before and after, and the books must balance
//! at the end. What an offender sends behind the offending message must not destroy the ERROR.

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
