//! How many instructions the daemon executes for a frame, archived, synced and acknowledged: a guard against slowness that
//! creeps in, since unlike time it is much the same on any machine and beside any load.
//!
//!     cargo bench --bench instructions
//!
//! The daemon runs under callgrind (Debian: valgrind), which counts what is executed outside the kernel, and gets first a
//! few frames and then many: the difference is what the frames cost, and not the start. One connection sends, so that
//! batches and blocks fill the same way each time; about one percent remains, since timers and threads go by the clock.
//!
//! Exits with 1 above a bound. The bounds stand here with what was measured when they were set; whoever makes the daemon
//! faster lowers them.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

mod support;

use std::process::ExitCode;

use support::{Amount, Daemon, Flood, is_asked_for};

/// Payload bytes, and the instructions that a frame of so many may take. Measured: 459 and 1,735.
const BOUNDS: [(usize, f64); 2] = [(64, 500.0), (1_115, 1_850.0)];
/// What is sent to warm up, and what is measured beyond it.
const FRAMES: [u64; 2] = [20_000, 220_000];
/// A thread starved by callgrind's one-at-a-time threads is not idle.
const PATIENT: [(&str, &str); 1] = [("INGEST__HEARTBEAT", "300s")];

fn main() -> ExitCode {
    if !is_asked_for("instructions") {
        return ExitCode::SUCCESS;
    }
    let mut is_within = true;
    for (payload_bytes, bound) in BOUNDS {
        let [few, many] = FRAMES.map(|frames| instructions(payload_bytes, frames));
        let per_frame = (many - few) as f64 / (FRAMES[1] - FRAMES[0]) as f64;
        let verdict = if per_frame <= bound { "within" } else { "ABOVE" };
        println!(
            "{payload_bytes:>5} B  {per_frame:>6.0} instructions a frame, {verdict} the bound of {bound}"
        );
        is_within &= per_frame <= bound;
    }
    ExitCode::from(u8::from(!is_within))
}

/// glibc copies larger pieces by `rep movsb` or by a loop, as their alignment happens to be. Valgrind counts each byte of the
/// former as an instruction, so the count would jump from run to run. With this every copy is a loop.
const SAME_COPIES: &str = "glibc.cpu.x86_rep_movsb_threshold=1000000000";

/// Of a daemon that starts, takes `frames` in, and drains.
fn instructions(payload_bytes: usize, frames: u64) -> u64 {
    let log = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log_option = format!("--log-file={}", log.path().display());
    let program = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", &log_option];
    let daemon = Daemon::start_with(&program, &PATIENT, |command| {
        command.env("GLIBC_TUNABLES", SAME_COPIES);
    });
    let flood = Flood { connections: 1, ..Flood::new(daemon.ingest, payload_bytes, Amount::Frames(frames)) };
    assert_eq!(flood.run().frames, frames);
    daemon.stop();
    let log = std::fs::read_to_string(log.path()).unwrap();
    let total =
        log.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, total)| total.trim().parse());
    total.unwrap_or_else(|| panic!("callgrind tells no total: {log}")).unwrap()
}
