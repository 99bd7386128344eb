//! The files in `deploy/` and the docs for operators match the real daemon: metrics, paths, commands, files.

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod docker;
mod examples;
mod exposed;
mod kubernetes;
mod metrics;
mod numbers;

use std::path::{Path, PathBuf};

/// A path of the repository.
fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of the repository.
#[track_caller]
fn text(path: &str) -> String {
    std::fs::read_to_string(in_repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
