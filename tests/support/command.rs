//! Runs the binaries as commands until they end.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// `telemetry-aggregator` with these arguments. It inherits no environment variable that would configure it.
pub fn aggregator<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_telemetry-aggregator"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TELEMETRY_AGGREGATOR") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// `uplink-sim` with these arguments.
pub fn uplink_sim<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uplink-sim"));
    command.args(args).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// A pipe whose reader is gone.
pub fn unread_pipe() -> Stdio {
    let (_, writer) = std::io::pipe().expect("no pipe");
    writer.into()
}

/// A device that is full.
pub fn full_device() -> Stdio {
    std::fs::File::create("/dev/full").expect("/dev/full cannot be opened").into()
}

/// Runs `command` to its end.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"))
}

/// Runs `command`, which must exit with `code`, and returns what it wrote to stdout and stderr.
pub fn expect_exit(command: &mut Command, code: i32) -> (String, String) {
    let ran = output(command);
    let (out, err) = (text(&ran.stdout), text(&ran.stderr));
    assert_eq!(ran.status.code(), Some(code), "exit of {command:?}\nstdout: {out}\nstderr: {err}");
    (out, err)
}

/// A process. If the test fails before the process ends, the drop kills the process.
pub struct Running(pub Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("it cannot be started"))
    }

    /// Sends SIGTERM and returns the exit code.
    pub fn stop(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("no signal");
        self.0.wait().expect("waiting fails").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Writes a text that is visible even when the test passes. The output of a passed test is otherwise hidden.
pub fn say_aloud(text: &str) {
    writeln!(std::io::stderr(), "{text}").expect("stderr is gone");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output of a command is not UTF-8")
}
