//! What the host does to a daemon, and what the daemon then promises: full disks, no more open files, links and files that
//! somebody has planted, outputs that no program reads.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue fails")]
#![allow(clippy::print_stdout, reason = "what a test measured belongs to its output")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../links/equipment.rs"]
#[allow(dead_code, reason = "this crate uses a part of it")]
mod equipment;
#[path = "../outputs/software.rs"]
#[allow(dead_code, reason = "this crate uses a part of it")]
mod software;

mod disk_full;
mod open_files;
mod planted_links;
mod stderr;
mod stray_files;
