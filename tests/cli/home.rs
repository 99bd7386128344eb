//! A configuration in a directory of its own, and the command that runs a daemon with it.

use std::path::{Path, PathBuf};
use std::process::Command;

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

/// The text of a file, as soon as the file exists.
pub fn wait_for_file(path: &Path) -> String {
    let read = || std::fs::read_to_string(path).map_err(|error| error.to_string());
    wait_until(&path.display().to_string(), read)
}
