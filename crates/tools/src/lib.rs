//! The commands that speak the protocol with a daemon, as libraries.
//!
//! | module | purpose |
//! |---|---|
//! | [`replay`] | sends what an archive holds |
//! | [`import`] | sends a recording of equipment |
//! | [`tail`] | is a subscriber |
//!
//! This crate knows of the daemon nothing but its protocol. [`import`] also has the rules of links, from `config` and
//! `equipment`.

pub mod import;
pub mod replay;
pub mod tail;
