//! The daemon as shipped, in its own directory.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::receiver::{Receiver, Usage};

const BINARY: &str = env!("CARGO_BIN_EXE_telemetry-aggregator");
/// The environment variable that names another build of the daemon to measure.
const BINARY_VARIABLE: &str = "BENCH_DAEMON";
const ENV_PREFIX: &str = "TELEMETRY_AGGREGATOR__";
/// Longest time of a start, far above the usual time.
const START_MAX: Duration = Duration::from_secs(30);

/// A running daemon. Dropping it kills the process and removes its archive.
pub struct Daemon {
    /// Declared before the directory, so that the process ends before the directory is removed.
    process: Receiver,
    /// The address for sources.
    pub ingest: SocketAddr,
    /// The address for subscribers.
    pub feed: SocketAddr,
    /// The address for operators.
    pub http: SocketAddr,
    /// The sum of the daemon's limits in MiB, as `check` prints it.
    pub bound_mib: f64,
    /// `ingest.memory_limit`, in MiB.
    pub limit_mib: f64,
    dir: TempDir,
}

impl Daemon {
    /// Starts a daemon with the defaults and `overrides`, such as `("ARCHIVE__STORE_REPLAYS", "false")`.
    pub fn start(overrides: &[(&str, &str)]) -> Self {
        Self::start_under(&[], overrides)
    }

    /// Starts a daemon with the defaults and `config`, the text of a configuration file.
    pub fn start_configured(config: &str) -> Self {
        let dir = new_dir();
        std::fs::write(dir.path().join("aggregator.toml"), config).unwrap();
        Self::start_in(dir, &[], &[], |_| {})
    }

    /// Like [`Daemon::start`], through another program, such as `["valgrind", "--tool=callgrind"]`.
    pub fn start_under(program: &[&str], overrides: &[(&str, &str)]) -> Self {
        Self::start_with(program, overrides, |_| {})
    }

    /// Like [`Daemon::start_under`]. `prepare` changes the command last.
    pub fn start_with(
        program: &[&str],
        overrides: &[(&str, &str)],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        Self::start_in(new_dir(), program, overrides, prepare)
    }

    fn start_in(
        dir: TempDir,
        program: &[&str],
        overrides: &[(&str, &str)],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let check = command(&[], &dir, overrides).arg("check").output().unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        let (bound_mib, limit_mib) = memory(&check.stdout);
        let ready = dir.path().join("ready.json");
        let mut command = command(program, &dir, overrides);
        command.args(["run", "--ready-file"]).arg(&ready);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        prepare(&mut command);
        let mut process = Receiver::spawn(&mut command);
        // The command holds what `prepare` gave to the process.
        drop(command);
        let started = Instant::now();
        // The file is complete when it appears.
        while !ready.exists() {
            process.assert_running();
            assert!(started.elapsed() < START_MAX, "the daemon does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        let ready: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        Self {
            process,
            ingest: address("ingest"),
            feed: address("feed"),
            http: address("http"),
            bound_mib,
            limit_mib,
            dir,
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn usage(&self) -> Usage {
        self.process.usage()
    }

    /// Drains it and waits for its end.
    pub fn stop(self) {
        drop(self.stop_and_keep());
    }

    /// Like [`Daemon::stop`]. The archive stays until the returned directory is dropped.
    pub fn stop_and_keep(mut self) -> TempDir {
        self.process.terminate();
        self.dir
    }

    /// The directory of the segments.
    pub fn archive(&self) -> std::path::PathBuf {
        self.dir.path().join("data/archive")
    }
}

/// A directory in the build directory, which is on a real disk. /tmp may be in memory.
fn new_dir() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn command(program: &[&str], dir: &TempDir, overrides: &[(&str, &str)]) -> Command {
    let binary = std::env::var(BINARY_VARIABLE).unwrap_or_else(|_| BINARY.to_owned());
    let mut words = program.iter().copied().chain([binary.as_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TELEMETRY_AGGREGATOR") {
            command.env_remove(name);
        }
    }
    command.current_dir(dir.path());
    let own = [
        ("INGEST__LISTEN", "127.0.0.1:0"),
        ("FEED__LISTEN", "127.0.0.1:0"),
        ("HTTP__LISTEN", "127.0.0.1:0"),
        ("LOG__LEVEL", "error"),
    ];
    for (name, value) in own.iter().chain(overrides) {
        command.env(format!("{ENV_PREFIX}{name}"), value);
    }
    command
}

/// Sum and limit in MiB, from the line `# memory: 678.1 MiB in all, ingest.memory_limit is 720 MiB`.
fn memory(check: &[u8]) -> (f64, f64) {
    let text = String::from_utf8_lossy(check);
    let line = text.lines().find(|line| line.contains(" in all, ingest.memory_limit is "));
    let line = line.unwrap_or_else(|| panic!("`check` names no memory: {text}"));
    let (sum, limit) = line.trim_start_matches("# memory:").split_once(" in all, ").unwrap();
    (mib(sum), mib(limit.trim_start_matches("ingest.memory_limit is")))
}

fn mib(size: &str) -> f64 {
    let mut words = size.split_whitespace();
    let number: f64 = words.next().unwrap().parse().unwrap();
    number
        * match words.next() {
            Some("KiB") => 1.0 / 1024.0,
            Some("MiB") => 1.0,
            Some("GiB") => 1024.0,
            unit => panic!("{unit:?} is no unit of {size:?}"),
        }
}
