//! The real daemon as a child process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use toml::{Table, Value};

use super::lines::Lines;
use super::{Archived, LIMIT, archived, pki, wait_until};

/// Small values, so that many daemons can share a machine. A test overrides the values it needs.
pub const DEFAULTS: &str = r#"
    [ingest]
    listen = "127.0.0.1:0"
    max_message = "16 KiB"
    [archive]
    segment_size = "8 MiB"
    reserve = "4 MiB"
    [feed]
    listen = "127.0.0.1:0"
    [http]
    listen = "127.0.0.1:0"
"#;

/// The file to which a daemon writes its addresses.
const READY_FILE: &str = "ready.json";

/// A running or ended daemon. Dropping it kills the process, and shows its log if the test failed.
pub struct Daemon {
    child: Child,
    address: SocketAddr,
    log: Lines,
    has_exited: bool,
    /// Frames in the archive when the daemon began to listen.
    archived_before: u64,
    home: Home,
}

/// The directory that a daemon keeps across restarts.
struct Home {
    dir: TempDir,
    config: String,
}

/// How the process is started.
pub struct Launch<'a> {
    /// A program that becomes the daemon, with its arguments, which stand before the arguments of the daemon. Empty
    /// means the daemon itself.
    pub through: &'a [&'a str],
    /// Changes the command last, just before it starts.
    pub prepare: &'a dyn Fn(&mut Command),
}

/// Starts the daemon itself, with an unchanged command.
const ALONE: Launch<'static> = Launch { through: &[], prepare: &|_| {} };
/// Variables of a service manager. The tests' daemons must not see those of the test itself.
const OF_SERVICE_MANAGER: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// How a daemon ended.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The time since the call that waited for the exit.
    pub elapsed: Duration,
}

/// The last line of a daemon: the counts of frames of all sources together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Books {
    pub received: u64,
    pub archived: u64,
    pub duplicates: u64,
    pub rejected: u64,
    pub undelivered: u64,
    /// Replayed frames that passed without being archived.
    pub not_stored: u64,
}

impl Books {
    /// Asserts that received = archived + not stored + duplicates + rejected + undelivered.
    pub fn assert_balanced(&self) {
        let sum = self.archived + self.not_stored + self.duplicates + self.rejected + self.undelivered;
        assert_eq!(self.received, sum, "the books do not balance: {self:?}");
    }
}

impl Daemon {
    /// Starts a daemon in its own directory. `config` is TOML that overrides the tests' defaults.
    ///
    /// Returns when the daemon listens.
    pub fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("no temporary directory");
        Self::start_in(Home { dir, config: config.to_owned() })
    }

    /// Like [`Self::start`], in a directory that the test has prepared. The archive is in its `data`.
    pub fn start_at(dir: TempDir, config: &str) -> Self {
        Self::start_in(Home { dir, config: config.to_owned() })
    }

    /// Like [`Self::start_at`], with `launch`.
    pub fn launch_at(dir: TempDir, config: &str, launch: &Launch<'_>) -> Self {
        Self::launch_in(Home { dir, config: config.to_owned() }, launch)
    }

    fn start_in(home: Home) -> Self {
        Self::launch_in(home, &ALONE)
    }

    fn launch_in(home: Home, launch: &Launch<'_>) -> Self {
        let path = home.dir.path().join("aggregator.toml");
        std::fs::write(&path, merged(home.dir.path(), &home.config))
            .expect("the configuration cannot be written");
        let aggregator = env!("CARGO_BIN_EXE_telemetry-aggregator");
        let mut command = match launch.through {
            [] => Command::new(aggregator),
            [program, args @ ..] => {
                let mut command = Command::new(program);
                command.args(args).arg(aggregator);
                command
            }
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TELEMETRY_AGGREGATOR") {
                command.env_remove(name);
            }
        }
        for name in OF_SERVICE_MANAGER {
            command.env_remove(name);
        }
        let ready = home.dir.path().join(READY_FILE);
        // Remove the ready file of the previous process.
        drop(std::fs::remove_file(&ready));
        command.args(["run", "--config"]).arg(&path).arg("--ready-file").arg(&ready);
        command.current_dir(home.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        (launch.prepare)(&mut command);
        let mut child = command.spawn().expect("the daemon cannot be started");
        let stderr = child.stderr.take().expect("stderr is piped");
        // Build the value before the daemon listens, so that a failed start also kills the process.
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut daemon = Self {
            child,
            address: unknown,
            log: Lines::read(stderr),
            has_exited: false,
            archived_before: 0,
            home,
        };
        let line = daemon.wait_line(" listening ingest=");
        daemon.address = field(&line, "ingest").parse().expect("the address in the log");
        // Use the count in the log: reading the archive would race with connected clients.
        let recovered = daemon.wait_line(" archive recovered ");
        daemon.archived_before = field(&recovered, "next_offset").parse().expect("an offset in the log");
        daemon
    }

    /// Starts a new process in the directory of this one, which must have ended.
    pub fn restart(self) -> Self {
        let config = self.home.config.clone();
        self.restart_with(&config)
    }

    /// Like [`Self::restart`], with another configuration.
    pub fn restart_with(self, config: &str) -> Self {
        self.relaunch_with(config, &ALONE)
    }

    /// Like [`Self::restart`], with `launch`.
    pub fn relaunch(self, launch: &Launch<'_>) -> Self {
        let config = self.home.config.clone();
        self.relaunch_with(&config, launch)
    }

    fn relaunch_with(mut self, config: &str, launch: &Launch<'_>) -> Self {
        assert!(self.has_exited, "the daemon still runs");
        let empty = Home { dir: tempfile::tempdir().expect("no temporary directory"), config: String::new() };
        let mut home = std::mem::replace(&mut self.home, empty);
        home.config = config.to_owned();
        Self::launch_in(home, launch)
    }

    /// kill -9, then a new start on the same archive.
    pub fn kill_and_restart(mut self) -> Self {
        self.signal(Signal::KILL);
        let exit = self.wait_exit(LIMIT);
        assert_eq!(exit.code, None, "the daemon ended before it was killed");
        self.restart()
    }

    /// The address for sources.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for subscribers.
    pub fn feed(&self) -> SocketAddr {
        self.listener("feed")
    }

    /// The address for operators.
    pub fn http(&self) -> SocketAddr {
        self.listener("http")
    }

    fn listener(&self, name: &str) -> SocketAddr {
        let path = self.home.dir.path().join(READY_FILE);
        // The file appears complete, right after the log line about listening.
        let text = wait_until("the ready file", || {
            std::fs::read_to_string(&path).map_err(|error| error.to_string())
        });
        let ready: serde_json::Value = serde_json::from_str(&text).expect("the ready file is JSON");
        let address = ready[name].as_str().unwrap_or_else(|| panic!("no {name} address in {text}"));
        address.parse().expect("an address in the ready file")
    }

    /// The directory of this daemon. It exists as long as the daemon.
    pub fn home(&self) -> &Path {
        self.home.dir.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory of the process in KiB.
    pub fn rss_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The peak of the resident memory of the process in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("the process is gone");
        let line = status.lines().find(|line| line.starts_with(name)).expect("its line in the status");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("waiting for the daemon fails").is_none()
    }

    pub fn signal(&self, signal: Signal) {
        assert!(!self.has_exited, "a process that was waited for gets no signal");
        let pid = Pid::from_raw(self.pid() as i32).expect("a process id");
        kill_process(pid, signal).expect("the daemon cannot be signalled");
    }

    /// Waits until the process has ended.
    pub fn wait_exit(&mut self, within: Duration) -> Exit {
        let started = Instant::now();
        assert!(self.log.wait_closed(within), "the daemon did not end within {within:?}");
        // The end of the log is the end of the process, apart from the kernel's clean-up.
        let status = self.child.wait().expect("waiting for the daemon fails");
        self.has_exited = true;
        Exit { code: status.code(), elapsed: started.elapsed() }
    }

    /// Sends SIGTERM. The daemon must exit with 0 within 5 s (plus what a busy machine adds), and its books must
    /// balance.
    pub fn stop(&mut self) -> Books {
        self.signal(Signal::TERM);
        let exit = self.wait_exit(LIMIT);
        assert_eq!(exit.code, Some(0), "exit code after SIGTERM");
        assert!(exit.elapsed < Duration::from_secs(6), "the drain took {:?}", exit.elapsed);
        let books = self.final_books();
        books.assert_balanced();
        assert_eq!(books.undelivered, 0, "accepted frames were lost: {books:?}");
        let frames = self.archived();
        assert_eq!(frames.len() as u64, self.archived_before + books.archived, "frames in the archive");
        books
    }

    /// The books in the line `drained`.
    pub fn final_books(&self) -> Books {
        let line = self.wait_line(" drained ");
        let number = |name: &str| field(&line, name).parse().expect("a number in the books");
        Books {
            received: number("received"),
            archived: number("archived"),
            duplicates: number("duplicates"),
            rejected: number("rejected"),
            undelivered: number("undelivered"),
            not_stored: if line.contains(" not_stored=") { number("not_stored") } else { 0 },
        }
    }

    /// All lines of the log so far.
    pub fn lines(&self) -> Vec<String> {
        self.log.all()
    }

    /// Waits for a line that contains `text`. Returns the first such line.
    #[track_caller]
    pub fn wait_line(&self, text: &str) -> String {
        self.log.wait_line(text)
    }

    /// Like [`Self::wait_line`], for something that takes longer than other steps.
    #[track_caller]
    pub fn wait_line_within(&self, text: &str, within: Duration) -> String {
        self.log.wait_line_within(text, within)
    }

    /// Replaces the configuration by `config` over the tests' defaults, and makes the running daemon read it.
    ///
    /// Returns the lines of the log up to the result.
    pub fn reload(&self, config: &str) -> Vec<String> {
        let text = merged(self.home.dir.path(), config);
        self.reload_text(&text)
    }

    /// Like [`Self::reload`], with exactly this text as the file.
    pub fn reload_text(&self, text: &str) -> Vec<String> {
        std::fs::write(self.config_path(), text).expect("the configuration cannot be written");
        self.hang_up()
    }

    /// Sends SIGHUP. Returns the lines of the log up to the result.
    pub fn hang_up(&self) -> Vec<String> {
        let before = self.log.count();
        self.signal(Signal::HUP);
        let is_outcome = |line: &String| {
            line.contains("configuration reloaded") || line.contains("in force has not changed")
        };
        let up_to_outcome = |lines: &[String]| {
            let lines = &lines[before..];
            lines.iter().position(is_outcome).map(|at| lines[..=at].to_vec())
        };
        self.log.wait("the outcome of a reload", up_to_outcome)
    }

    /// The path of the configuration that the daemon was started with.
    pub fn config_path(&self) -> PathBuf {
        self.home.dir.path().join("aggregator.toml")
    }

    /// The directory of the segments.
    pub fn archive_dir(&self) -> PathBuf {
        self.home.dir.path().join("data/archive")
    }

    /// All frames in the archive.
    pub fn archived(&self) -> Vec<Archived> {
        archived(&self.archive_dir())
    }
}

impl Drop for Daemon {
    #[allow(clippy::print_stderr, reason = "the log of a failed test")]
    fn drop(&mut self) {
        if !self.has_exited {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            self.log.wait_closed(LIMIT);
            for line in self.log.all() {
                eprintln!("daemon: {line}");
            }
        }
    }
}

/// The value of `name=value` in a line of the log.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let mut words = line.split_whitespace();
    let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name}= in {line:?}"))
}

/// The tests' defaults with `config` laid over them, for a daemon whose data directory is in `home`.
pub fn merged(home: &Path, config: &str) -> String {
    let mut table: Table = DEFAULTS.parse().expect("the tests' defaults are TOML");
    table.insert("data_dir".into(), Value::String(home.join("data").display().to_string()));
    if pki::is_over_tls() {
        let (_, identity) = pki::shared();
        let tls = format!("[feed]\ntls = false\n[http]\ntls = false\n{}", pki::section(identity));
        overlay(&mut table, tls.parse().expect("this is TOML"));
    }
    overlay(&mut table, config.parse().expect("the test's configuration is TOML"));
    table.to_string()
}

/// Lays `over` on `table`, key by key.
fn overlay(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => overlay(below, above),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}
