//! The daemon as it is shipped, in a directory of its own.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::receiver::{Receiver, Usage};

const BINARY: &str = env!("CARGO_BIN_EXE_telemetry-aggregator");
/// Names another build of the daemon to measure.
const BINARY_VARIABLE: &str = "BENCH_DAEMON";
const ENV_PREFIX: &str = "TELEMETRY_AGGREGATOR__";
/// Far beyond what a start takes.
const START_MAX: Duration = Duration::from_secs(30);

/// A running daemon, killed when dropped; its archive goes with it.
pub struct Daemon {
    /// Ends before its directory does.
    process: Receiver,
    /// Where sources connect.
    pub ingest: SocketAddr,
    /// Where subscribers connect.
    pub feed: SocketAddr,
    /// Where operators look.
    pub http: SocketAddr,
    /// The sum of its limits, which `check` prints, in MiB.
    pub bound_mib: f64,
    /// `ingest.memory_limit`, in MiB.
    pub limit_mib: f64,
    dir: TempDir,
}

impl Daemon {
    /// Starts one with the defaults but for `overrides`, such as `("ARCHIVE__STORE_REPLAYS", "false")`.
    pub fn start(overrides: &[(&str, &str)]) -> Self {
        Self::start_under(&[], overrides)
    }

    /// [`Daemon::start`] by way of another program, such as `["valgrind", "--tool=callgrind"]`.
    pub fn start_under(program: &[&str], overrides: &[(&str, &str)]) -> Self {
        Self::start_with(program, overrides, |_| {})
    }

    /// [`Daemon::start_under`], where `prepare` has the last word on the command.
    pub fn start_with(
        program: &[&str],
        overrides: &[(&str, &str)],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        // Beside the build, so that it is a real disk and not a /tmp in memory.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let check = command(&[], &dir, overrides).arg("check").output().unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        let (bound_mib, limit_mib) = memory(&check.stdout);
        let ready = dir.path().join("ready.json");
        let mut command = command(program, &dir, overrides);
        command.args(["run", "--ready-file"]).arg(&ready);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        prepare(&mut command);
        let mut process = Receiver::spawn(&mut command);
        // It holds what `prepare` gave to the process.
        drop(command);
        let started = Instant::now();
        // The file comes whole.
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

    /// [`Daemon::stop`]; the archive stays until what is returned is dropped.
    pub fn stop_and_keep(mut self) -> TempDir {
        self.process.terminate();
        self.dir
    }

    /// Where the segments lie.
    pub fn archive(&self) -> std::path::PathBuf {
        self.dir.path().join("data/archive")
    }
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
