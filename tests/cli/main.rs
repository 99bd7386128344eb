//! The programs as their users start them: exit codes, the texts on stdout and stderr, signals, and the files that they
//! read and write.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue fails")]

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod archive_tools;
mod check;
mod closed_output;
mod demo;
mod export;
mod health;
mod home;
mod peer;
mod reload;
mod replay;
mod run;
mod tail;
mod top;
mod uplink_sim;
mod usage;
