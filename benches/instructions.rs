//! Counts the instructions that the daemon executes for a frame that is archived, synced and acknowledged. The count
//! guards against gradual slowdowns. Unlike time, it is nearly the same on any machine and under any load.
//!
//!     cargo bench --bench instructions
//!
//! The daemon runs under callgrind (Debian: valgrind), which counts instructions outside the kernel. The daemon
//! receives first few frames and then many: the difference is the cost of the frames without the start. One
//! connection sends, so that batches and blocks fill the same way each time. About one percent of variation remains,
//! because timers and threads depend on the clock.
//!
//! Exits with 1 above a bound. The bounds are next to the values measured when the bounds were set. A change that
//! makes the daemon faster should lower the bounds.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

mod support;

use std::process::ExitCode;

use support::{Amount, Daemon, Flood, is_asked_for};

/// Payload bytes, and the bound in instructions for a frame with such a payload. Measured: 447 to 455 and 1,329 to
/// 1,356; before sources could compress, 399 and 1,274.
const BOUNDS: [(usize, f64); 2] = [(64, 480.0), (1_115, 1_400.0)];
/// Number of frames of the run with few frames, and of the run with many.
const FRAMES: [u64; 2] = [20_000, 220_000];
/// callgrind runs one thread at a time. With a long heartbeat the daemon does not end a connection whose thread must
/// wait.
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

/// glibc copies larger pieces by `rep movsb` or by a loop, depending on their alignment. Valgrind counts each byte of
/// `rep movsb` as an instruction, so the count would vary between runs. With this setting every copy is a loop.
const SAME_COPIES: &str = "glibc.cpu.x86_rep_movsb_threshold=1000000000";

/// Instructions of a daemon that starts, receives `frames`, and drains.
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
    total.unwrap_or_else(|| panic!("callgrind prints no total: {log}")).unwrap()
}
