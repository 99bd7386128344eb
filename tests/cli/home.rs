//! A configuration in a directory of its own, and the daemon as a bare process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::command::aggregator;
use crate::support::wait_until;

/// Makes a directory with `aggregator.toml`. The `data_dir` is `data` in the same directory.
pub fn home(config: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("no temporary directory");
    let path = dir.path().join("aggregator.toml");
    let data_dir = dir.path().join("data");
    let text = format!("data_dir = {:?}\n{config}", data_dir.display().to_string());
    std::fs::write(&path, text).expect("the configuration cannot be written");
    (dir, path)
}

pub fn run(config: &Path) -> Command {
    let mut command = aggregator(["run", "--config"]);
    command.arg(config);
    command
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

/// The text of a file, as soon as the file exists.
pub fn wait_for_file(path: &Path) -> String {
    let read = || std::fs::read_to_string(path).map_err(|error| error.to_string());
    wait_until(&path.display().to_string(), read)
}
