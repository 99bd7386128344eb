//! The daemon under systemd: its units, the passed sockets, its notifications, and the watchdog.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue fails")]

#[path = "../support/mod.rs"]
mod support;

mod activation;
mod notify;
mod restart;
mod units;
mod watchdog;

/// Whether `tool` of systemd is installed. If not, this reports what is not tested.
fn has(tool: &str, what: &str) -> bool {
    let found = std::process::Command::new(tool).arg("--version").output();
    let is_there = found.is_ok_and(|ran| ran.status.success());
    if !is_there {
        support::not_tested(format_args!("{what}: {tool} is missing (Debian's package systemd)"));
    }
    is_there
}
