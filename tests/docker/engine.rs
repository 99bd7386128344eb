//! The Docker engine of this machine, through its command line.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::command::output;
use crate::support::wait::poll;

/// Longest time for a state of a container. A busy machine starts containers slowly, and a health check comes every 10 s.
pub const ENGINE_LIMIT: Duration = Duration::from_secs(120);
/// Time between two looks. Each look starts a process.
const LOOK: Duration = Duration::from_millis(100);

/// Runs `docker` with these arguments, which must succeed. Returns its stdout without the white space at the end.
#[track_caller]
pub fn docker<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> String {
    try_docker(args).unwrap_or_else(|error| panic!("{error}"))
}

/// Like [`docker`].
///
/// # Errors
/// The command and its stderr, if the command fails.
pub fn try_docker<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Result<String, String> {
    run(Command::new("docker").args(args))
}

/// Runs a command. Returns its stdout without the white space at the end.
///
/// # Errors
/// The command and its stderr, if it fails.
pub fn run(command: &mut Command) -> Result<String, String> {
    let ran = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !ran.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&ran.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&ran.stdout).trim_end().to_owned())
}

/// Whether an engine answers and Compose is there.
///
/// # Errors
/// What is missing.
pub fn engine() -> Result<(), String> {
    static ENGINE: LazyLock<Result<(), String>> = LazyLock::new(|| {
        let asked = try_docker(["version", "--format", "{{.Server.Version}}"]);
        asked.map_err(|error| format!("no engine answers: {error}"))?;
        let compose = try_docker(["compose", "version", "--short"]);
        compose.map_err(|error| format!("no plugin compose: {error}"))?;
        Ok(())
    });
    ENGINE.clone()
}

/// The name of a base image, which this makes unless it exists.
///
/// # Errors
/// The missing tool or right.
pub fn base_image(kind: &str) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker/base-image");
    let ran = output(Command::new(script).arg(kind));
    let said = String::from_utf8_lossy(&ran.stderr);
    match ran.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned()),
        Some(3) => Err(said.lines().last().unwrap_or_default().to_owned()),
        code => panic!("base-image {kind} exits with {code:?}: {said}"),
    }
}

/// A name that no other run and no other test has.
pub fn unique(what: &str) -> String {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    format!("telemetry-aggregator-test-{}-{number}-{what}", std::process::id())
}

/// Returns what `look` finds. An error of `look` says what is there instead.
///
/// Panics with the last error after [`ENGINE_LIMIT`].
#[track_caller]
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    poll(LOOK, ENGINE_LIMIT, what, look)
}
