//! A reader of stderr or stdout that stops reading does not block the daemon. When it reads again, it finds the
//! important lines. A reader that is gone changes nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, Write as _, pipe};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::command::{aggregator, full_device, unread_pipe};
use crate::support::daemon::merged;
use crate::support::http::get;
use crate::support::manager::FakeManager;
use crate::support::{Client, EMERGENCY, Hello, ROUTINE, code, wait_until};

/// Longest duration of a drain: five seconds, plus the time in which a busy machine notices the end.
const DRAIN_MAX: Duration = Duration::from_millis(5_200);

const TOKEN: &str = "a token for the test";
const CONFIG: &str =
    "[log]\nlevel = \"debug\"\n[[ingest.tokens]]\ntoken = \"a token for the test\"\nsources = []";

/// A daemon whose output goes where the test directs it. Dropping it kills the process.
struct Daemon {
    child: Child,
    home: TempDir,
    /// Receives a message for each reload. Otherwise only the log shows a reload.
    manager: FakeManager,
    ingest: SocketAddr,
    http: SocketAddr,
}

impl Daemon {
    fn start(args: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Self {
        let mut run = aggregator(["run"]);
        run.args(args).stdout(stdout).stderr(stderr);
        Self::spawn(run, CONFIG)
    }

    /// Runs the daemon with `run`, whose output is directed already.
    fn spawn(mut run: Command, config_text: &str) -> Self {
        let manager = FakeManager::start();
        let home = tempfile::tempdir().unwrap();
        let (config, ready) = (home.path().join("aggregator.toml"), home.path().join("ready.json"));
        std::fs::write(&config, merged(home.path(), config_text)).unwrap();
        // With one worker thread, a blocked worker stops the whole daemon.
        run.arg("--config").arg(config).arg("--ready-file").arg(&ready);
        run.env("TOKIO_WORKER_THREADS", "1");
        run.env("NOTIFY_SOCKET", manager.path());
        let child = run.spawn().unwrap();
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut daemon = Self { child, home, manager, ingest: unknown, http: unknown };
        let addresses: serde_json::Value = wait_until("the ready file", || {
            let text = std::fs::read_to_string(&ready).map_err(|error| error.to_string())?;
            Ok(serde_json::from_str(&text).unwrap())
        });
        let address = |name: &str| addresses[name].as_str().unwrap().parse().unwrap();
        (daemon.ingest, daemon.http) = (address("ingest"), address("http"));
        daemon
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait_exit(&mut self) -> ExitStatus {
        wait_exit(&mut self.child)
    }

    /// The value of a metric.
    fn metric(&self, name: &str) -> u64 {
        let text = get(self.http, "/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn wait_exit(child: &mut Child) -> ExitStatus {
    wait_until("the end of the daemon", || child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()))
}

/// Both ends of a pipe that is full, and the number of bytes in it.
fn full_pipe() -> (PipeReader, PipeWriter, usize) {
    let (reader, mut writer) = pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let mut filled = 0;
    let error = loop {
        match writer.write(&[b'\n'; 4096]) {
            Ok(written) => filled += written,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    // The flag belongs to the open file description, so the daemon would inherit it.
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer, filled)
}

/// All lines of `reader`, without the bytes that filled the pipe.
fn lines(reader: PipeReader) -> Vec<String> {
    let lines = BufReader::new(File::from(OwnedFd::from(reader))).lines();
    lines.map(Result::unwrap).filter(|line| !line.is_empty()).collect()
}

fn expect(lines: &[String], parts: &[&str]) {
    let found = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found, "no line with {parts:?} in {:#?}", &lines[lines.len().saturating_sub(200)..]);
}

/// Causes more lines than the pipe and the queue can hold: refusals, and a line per frame at `debug`.
fn cause_lines(daemon: &Daemon) -> Client {
    for _ in 0..1_200 {
        Client::refused(daemon.ingest, &Hello::new(1), code::UNAUTHORIZED);
    }
    let (mut client, _) = Client::open(daemon.ingest, &Hello::new(1).token(TOKEN));
    for sequence in 0..8_000 {
        client.frame_within_credit(ROUTINE, sequence, b"routine");
    }
    client.wait_durable(ROUTINE, 8_000);
    client
}

#[test]
fn unread_stderr_delays_no_one_and_errors_and_the_summary_are_kept() {
    let (reader, writer, _) = full_pipe();
    let mut daemon = Daemon::start(&[], Stdio::null(), writer);
    let mut client = cause_lines(&daemon);
    client.deliver(EMERGENCY, 0, b"emergency");
    assert_eq!(get(daemon.http, "/healthz").status, 200);
    let left_out = |reason: &str| {
        daemon.metric(&format!("telemetry_aggregator_log_lines_left_out_total{{reason=\"{reason}\"}}"))
    };
    assert!(left_out("queue_full") > 0);
    assert!(left_out("rate") > 0);
    // Cause an error line of the daemon itself.
    std::fs::write(daemon.home.path().join("aggregator.toml"), "nonsense").unwrap();
    daemon.signal(Signal::HUP);
    daemon.manager.wait(0, "the end of the reload", |text| text.starts_with("STATUS=reloaded: "));
    daemon.signal(Signal::TERM);
    let started = Instant::now();
    let lines = lines(reader);
    let status = daemon.wait_exit();
    assert!(started.elapsed() < DRAIN_MAX, "the drain took {:?}", started.elapsed());
    assert_eq!(status.code(), Some(0));
    expect(&lines, &[" ERROR ", "the configuration in force has not changed"]);
    expect(&lines, &["connections that got an error", "more than 100 of this kind"]);
    expect(&lines, &[" WARN ", "lines of the log were left out"]);
    expect(&lines, &[" INFO ", " drained received=8001 archived=8001 "]);
}

#[test]
fn a_reader_that_never_reads_does_not_delay_the_exit_beyond_the_deadline() {
    let (_reader, writer, _) = full_pipe();
    let mut daemon = Daemon::start(&[], Stdio::null(), writer);
    let client = cause_lines(&daemon);
    daemon.signal(Signal::TERM);
    let started = Instant::now();
    drop(client);
    let status = daemon.wait_exit();
    assert!(started.elapsed() < DRAIN_MAX, "the drain took {:?}", started.elapsed());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_failed_start_ends_while_stderr_is_not_read() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("aggregator.toml");
    let text = format!("[ingest]\nlisten = \"{}\"", taken.local_addr().unwrap());
    std::fs::write(&config, merged(home.path(), &text)).unwrap();
    let (_reader, writer, _) = full_pipe();
    let mut run = aggregator(["run", "--config"]);
    let mut child = run.arg(config).stderr(writer).spawn().unwrap();
    let status = wait_exit(&mut child);
    assert_eq!(status.code(), Some(1));
}

#[test]
fn the_status_line_waits_for_no_reader_of_stdout() {
    let (reader, writer, filled) = full_pipe();
    let (_stderr, ignored) = pipe().unwrap();
    let mut daemon = Daemon::start(&["--simulate"], writer, ignored);
    // Two samples of the counter, both taken after the first status line.
    let wait_archived = |more_than: u64| {
        wait_until("frames", || match daemon.metric("telemetry_aggregator_frames_archived_total") {
            archived if archived > more_than => Ok(archived),
            archived => Err(format!("{archived} are archived")),
        })
    };
    wait_archived(wait_archived(1_000));
    daemon.signal(Signal::TERM);
    let status = daemon.wait_exit();
    assert_eq!(status.code(), Some(0));
    drop(daemon);
    let text = std::io::read_to_string(reader).unwrap();
    assert!(text.len() >= filled);
}

/// Runs a daemon whose log is lost, from its start to its drain.
fn outlive_the_log(run: Command, format: &str) {
    let mut daemon = Daemon::spawn(run, &format!("[log]\nlevel = \"debug\"\nformat = \"{format}\""));
    let (mut client, _) = Client::open(daemon.ingest, &Hello::new(1));
    for sequence in 0..100 {
        client.frame_within_credit(ROUTINE, sequence, b"routine");
    }
    client.deliver(EMERGENCY, 0, b"emergency");
    std::fs::write(daemon.home.path().join("aggregator.toml"), "nonsense").unwrap();
    daemon.signal(Signal::HUP);
    daemon.manager.wait(0, "the end of the reload", |text| text.starts_with("STATUS=reloaded: "));
    client.wait_durable(ROUTINE, 100);
    assert_eq!(daemon.metric("telemetry_aggregator_frames_archived_total"), 101);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
}

#[test]
fn the_daemon_outlives_the_reader_of_its_log() {
    for format in ["text", "json"] {
        for lost in [unread_pipe, full_device] {
            let mut run = aggregator(["run"]);
            run.stdout(lost()).stderr(lost());
            outlive_the_log(run, format);
        }
        let mut run = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_telemetry-aggregator");
        run.args(["-c", "exec \"$0\" \"$@\" >&- 2>&-", program, "run"]);
        outlive_the_log(run, format);
    }
}

#[test]
fn the_simulated_fleet_outlives_the_reader_of_the_status_line() {
    for lost in [unread_pipe, full_device] {
        let mut daemon = Daemon::start(&["--simulate"], lost(), lost());
        // The first status line comes after a second.
        wait_until("frames of two seconds", || {
            match daemon.metric("telemetry_aggregator_frames_archived_total") {
                1_001.. => Ok(()),
                few => Err(format!("{few} frames")),
            }
        });
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.wait_exit().code(), Some(0));
    }
}
