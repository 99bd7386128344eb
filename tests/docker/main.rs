//! The image and compose.yaml of `deploy/docker` in a real engine, and the package of `deploy/debian` in a container that
//! systemd starts. The base images come from Debian's packages and from
//! the Rust of this machine (see `base-image`).

#![allow(clippy::unwrap_used, reason = "a test that cannot continue fails")]
#![allow(clippy::print_stderr, reason = "what a failed test shows")]

#[path = "../support/mod.rs"]
mod support;

mod checkout;
mod compose;
mod container;
mod engine;
mod image;
mod lifecycle;
mod machine;
mod package;
mod units;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tests under load run one by one: their times must not depend on each other.
fn alone() -> MutexGuard<'static, ()> {
    static LOAD: Mutex<()> = Mutex::new(());
    LOAD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text of a file of the repository.
fn text(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of the code blocks of `language` in a document.
fn code_lines(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}");
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text(document).lines() {
        match line {
            "```" => is_code = false,
            line if line == fence => is_code = true,
            line if is_code => lines.push(line.to_owned()),
            _ => {}
        }
    }
    lines
}

/// The only command of a document that begins with `begin`.
#[track_caller]
fn command_of(document: &str, begin: &str) -> String {
    let mut found = code_lines(document, "sh").into_iter().filter(|line| line.starts_with(begin));
    let line = found.next().unwrap_or_else(|| panic!("no command of {document} begins with {begin:?}"));
    assert_eq!(found.next(), None, "two commands of {document} begin with {begin:?}");
    line
}

/// The commands of the README of `deploy/docker`.
fn readme_commands() -> Vec<String> {
    code_lines("deploy/docker/README.md", "sh")
}

/// The only command of this README that begins with `begin`.
#[track_caller]
fn readme_command(begin: &str) -> String {
    command_of("deploy/docker/README.md", begin)
}
