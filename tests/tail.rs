//! `tail` as a process: its output, its messages and its end.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue fails")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, kill_process};
use support::command::{aggregator, expect_exit};
use support::{Client, Daemon, EMERGENCY, Hello, LIMIT, Port, ROUTINE, Signal};

fn tail(feed: SocketAddr, args: &str) -> Command {
    let mut command = aggregator(["tail", "--connect", &feed.to_string()]);
    command.args(args.split_whitespace());
    command
}

/// A running `tail`. If the test fails before it ends, the drop kills it.
struct Tail {
    child: Child,
    out: Arc<Lines>,
    err: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Lines {
    lines: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Lines {
    fn read(self: &Arc<Self>, from: impl std::io::Read + Send + 'static) -> JoinHandle<()> {
        let lines = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                lines.lines.lock().unwrap().push(line.expect("text"));
                lines.changed.notify_all();
            }
        })
    }

    fn wait(&self, what: &str, is_met: impl Fn(&[String]) -> bool) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        let waited = self.changed.wait_timeout_while(lines, LIMIT, |lines| !is_met(lines)).unwrap();
        assert!(!waited.1.timed_out(), "waiting for {what}, but: {:#?}", waited.0);
        waited.0.clone()
    }

    fn wait_text(&self, text: &str) -> String {
        let lines = self.wait(text, |lines| lines.iter().any(|line| line.contains(text)));
        lines.into_iter().find(|line| line.contains(text)).unwrap()
    }
}

impl Tail {
    fn start(command: &mut Command) -> Self {
        let (mut child, out, err) = spawn(command);
        let (out_lines, err_lines) = (Arc::new(Lines::default()), Arc::new(Lines::default()));
        let readers = vec![out_lines.read(out), err_lines.read(err)];
        assert!(child.try_wait().expect("it can be waited for").is_none_or(|status| !status.success()));
        Self { child, out: out_lines, err: err_lines, readers }
    }

    fn wait_out(&self, count: usize) -> Vec<String> {
        self.out.wait(&format!("{count} lines"), |lines| lines.len() >= count)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("no signal");
    }

    /// Waits until `tail` ends. Returns the exit code, stdout and stderr.
    fn end(mut self) -> (Option<i32>, Vec<String>, Vec<String>) {
        let status = self.child.wait().expect("it can be waited for");
        self.readers.drain(..).for_each(|reader| reader.join().expect("a reader failed"));
        let lines = |lines: &Lines| lines.lines.lock().unwrap().clone();
        (status.code(), lines(&self.out), lines(&self.err))
    }

    fn interrupt(self) -> (Option<i32>, Vec<String>, Vec<String>) {
        self.signal(Signal::INT);
        self.end()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(command: &mut Command) -> (Child, ChildStdout, ChildStderr) {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it cannot be started");
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    (child, out, err)
}

/// Sends one frame of each of two sources for every sequence in `sequences`, on both lanes. Returns when all are
/// durable.
fn send(ingest: SocketAddr, sequences: std::ops::Range<u64>) {
    for source_id in [1, 2] {
        let (mut client, _) = Client::open(ingest, &Hello::new(source_id).station("Kiruna"));
        for sequence in sequences.clone() {
            client.frame_within_credit(
                if sequence % 10 == 3 { EMERGENCY } else { ROUTINE },
                sequence,
                format!("{source_id}/{sequence}").as_bytes(),
            );
        }
        let last = |lane: usize| sequences.clone().rev().find(|s| (s % 10 == 3) == (lane == EMERGENCY));
        for lane in [EMERGENCY, ROUTINE] {
            if let Some(last) = last(lane) {
                client.wait_durable(lane, last + 1);
            }
        }
    }
}

/// The output of `archive cat` for the daemon's archive.
fn cat(daemon: &Daemon, args: &str) -> Vec<String> {
    let mut command = aggregator(["archive", "cat"]);
    command.arg(daemon.archive_dir()).args(args.split_whitespace());
    expect_exit(&mut command, 0).0.lines().map(str::to_owned).collect()
}

/// A configuration that gives the feed a fixed port, and that port. The port stays reserved while no daemon runs.
fn fixed() -> (String, Port) {
    let port = Port::hold();
    (format!("[feed]\nlisten = \"{}\"", port.address()), port)
}

#[test]
fn every_frame_is_written_once_like_cat_through_a_stop_and_a_kill() {
    let (config, port) = fixed();
    let feed = port.address();
    let mut daemon = Daemon::start(&config);
    send(daemon.address(), 0..200);
    let tail = Tail::start(&mut tail(feed, "--from earliest"));
    tail.wait_out(400);
    send(daemon.address(), 200..300);
    tail.wait_out(600);
    daemon.stop();
    let daemon = daemon.restart();
    send(daemon.address(), 300..400);
    tail.wait_out(800);
    let daemon = daemon.kill_and_restart();
    send(daemon.address(), 400..500);
    tail.wait_out(1_000);
    let (code, out, err) = tail.interrupt();
    assert_eq!(code, Some(0), "{err:#?}");
    assert_eq!(out.len(), 1_000);
    assert!(out == cat(&daemon, ""), "stdout is not what archive cat writes");
    let last = err.last().expect("it prints where to continue");
    assert!(last.contains("next offset 1000 of log") && last.contains("--from 1000 --log-id "), "{last}");
    assert!(err.iter().any(|line| line.contains("draining")), "{err:#?}");
    assert_eq!(err.iter().filter(|line| line.contains("connected to log")).count(), 3, "{err:#?}");
}

#[test]
fn filters_select_the_same_frames_as_cat() {
    let daemon = Daemon::start("");
    send(daemon.address(), 0..50);
    let (mut replay, _) = Client::open(daemon.address(), &Hello::new(2).kind(1).epoch(9));
    replay.deliver(ROUTINE, 0, b"replayed");
    for (args, cat_args) in [
        ("--source 2", "--source 2"),
        ("--source 2 --source 1 --priority emergency", "--priority emergency"),
        ("--kind replay", "--kind replay"),
        ("--format payload --source 1", "--format payload --source 1"),
    ] {
        let expected = cat(&daemon, cat_args);
        let frames = if args.contains("payload") { 50 } else { expected.len() };
        let args = format!("--from earliest --limit {frames} {args}");
        let (out, err) = expect_exit(&mut tail(daemon.feed(), &args), 0);
        assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{args}");
        assert!(err.contains("next offset"), "{err}");
    }
    let (out, _) = expect_exit(&mut tail(daemon.feed(), "--from 7 --limit 2 --format text"), 0);
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].starts_with("7 20") && lines[0].contains(" live/1@Kiruna "), "{out}");
    assert_eq!(lines.len(), 2, "{out}");
}

#[test]
fn a_start_may_be_an_offset_or_a_time() {
    let daemon = Daemon::start("");
    send(daemon.address(), 0..1);
    send(daemon.address(), 1..2);
    let archived = daemon.archived();
    let from = archived[2].received_ns;
    let (out, _) = expect_exit(&mut tail(daemon.feed(), &format!("--from {from}ns --limit 2")), 0);
    assert_eq!(out.lines().collect::<Vec<_>>(), cat(&daemon, "--from-offset 2"));
    let (out, _) = expect_exit(&mut tail(daemon.feed(), "--from 1 --limit 3"), 0);
    assert_eq!(out.lines().collect::<Vec<_>>(), cat(&daemon, "--from-offset 1"));
}

#[test]
fn live_writes_each_frame_as_it_becomes_durable() {
    let daemon = Daemon::start("");
    send(daemon.address(), 0..5);
    let tail = Tail::start(&mut tail(daemon.feed(), ""));
    tail.err.wait_text("from offset 10");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(9));
    for sequence in 0..5 {
        client.deliver(ROUTINE, sequence, b"now");
        // No other frame follows, and `tail` still writes the line.
        tail.wait_out(sequence as usize + 1);
    }
    tail.signal(Signal::TERM);
    let (code, out, err) = tail.end();
    assert_eq!((code, out), (Some(0), cat(&daemon, "--from-offset 10")), "{err:#?}");
}

#[test]
fn a_closed_stdout_ends_tail_with_0() {
    let daemon = Daemon::start("");
    send(daemon.address(), 0..20);
    let (mut child, out, mut err) = spawn(&mut tail(daemon.feed(), "--from earliest"));
    let mut out = BufReader::new(out);
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    drop(out);
    send(daemon.address(), 20..21);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    err.read_to_string(&mut said).unwrap();
    assert!(!said.contains("error") && !said.contains("panicked"), "{said}");
    assert_eq!(first.trim_end(), cat(&daemon, "--limit 1")[0]);
}

#[test]
fn tokens_come_from_a_file_or_the_environment_and_a_wrong_one_ends_tail() {
    let daemon = Daemon::start("[[feed.tokens]]\ntoken = \"hunter2\"\nsources = [1]");
    let feed = daemon.feed();
    for (args, name) in [("", "unauthorized"), ("--source 1", "unauthorized")] {
        let (_, err) = expect_exit(&mut tail(feed, args), 1);
        assert!(err.contains(name), "{err}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "hunter2\n").unwrap();
    let (_, err) = expect_exit(tail(feed, "--source 2 --token-file").arg(&file), 1);
    assert!(err.contains("forbidden"), "{err}");
    send(daemon.address(), 0..1);
    let args = "--source 1 --from earliest --limit 1";
    expect_exit(tail(feed, args).arg("--token-file").arg(&file), 0);
    expect_exit(tail(feed, args).env("TELEMETRY_AGGREGATOR_TOKEN", "hunter2"), 0);
    let (_, err) = expect_exit(tail(feed, args).env("TELEMETRY_AGGREGATOR_TOKEN", "hunter3"), 1);
    assert!(err.contains("unauthorized") && !err.contains("hunter"), "{err}");
    expect_exit(tail(feed, "--token-file").arg(dir.path().join("none")), 2);
}

#[test]
fn an_offset_above_the_head_ends_tail_with_the_head_in_the_error() {
    let daemon = Daemon::start("");
    send(daemon.address(), 0..1);
    let (_, err) = expect_exit(&mut tail(daemon.feed(), "--from 99"), 1);
    assert!(err.contains("protocol") && err.contains("99") && err.contains('2'), "{err}");
}

#[test]
fn a_position_is_refused_by_another_log() {
    let daemon = Daemon::start("");
    send(daemon.address(), 0..5);
    let (_, err) = expect_exit(&mut tail(daemon.feed(), "--from earliest --limit 4"), 0);
    let go_on = err.lines().last().and_then(|line| line.split_once("continue with ")).unwrap().1.to_owned();
    assert!(go_on.starts_with("--from 4 --log-id "), "{err}");
    let (out, _) = expect_exit(&mut tail(daemon.feed(), &format!("{go_on} --limit 6")), 0);
    assert_eq!(out.lines().count(), 6);
    let (_, err) = expect_exit(&mut tail(daemon.feed(), "--from 4 --log-id 7"), 1);
    assert!(err.contains("log 7 ") && err.contains("another archive"), "{err}");
}

#[test]
fn a_history_without_a_match_is_reported() {
    let daemon = Daemon::start("[ingest]\nheartbeat = \"1s\"");
    send(daemon.address(), 0..5);
    let tail = Tail::start(&mut tail(daemon.feed(), "--from -1h --source 99"));
    tail.err.wait_text("no frame before offset 10 matches");
    tail.signal(Signal::INT);
    let (code, out, err) = tail.end();
    assert_eq!((code, out.len()), (Some(0), 0));
    assert!(err.last().unwrap().contains("no frame matched; next offset 10"), "{err:#?}");
}

#[test]
fn silence_counts_toward_the_retry_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let started = std::time::Instant::now();
    let (_, err) = expect_exit(&mut tail(silent.local_addr().unwrap(), "--retry-for 500ms"), 1);
    assert!(err.contains("gave up after 500ms") && err.contains("no answer from"), "{err}");
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn tail_waits_for_a_daemon_and_gives_up_after_the_retry_time() {
    let (config, port) = fixed();
    let feed = port.address();
    let tail_at = |args: &str| Tail::start(&mut tail(feed, args));
    let waiting = tail_at("--from earliest --limit 2");
    waiting.err.wait_text("trying again");
    let (code, _, err) = tail_at("--retry-for 200ms").end();
    assert_eq!(code, Some(1), "{err:#?}");
    assert!(err.last().unwrap().contains("gave up after 200ms"), "{err:#?}");
    let daemon = Daemon::start(&config);
    send(daemon.address(), 0..1);
    let (code, out, err) = waiting.end();
    assert_eq!((code, out), (Some(0), cat(&daemon, "")), "{err:#?}");
}

#[test]
fn another_archive_ends_tail_unless_it_follows_live() {
    let (config, port) = fixed();
    let feed = port.address();
    let mut daemon = Daemon::start(&config);
    send(daemon.address(), 0..5);
    let history = Tail::start(&mut tail(feed, "--from earliest"));
    let live = Tail::start(&mut tail(feed, ""));
    history.wait_out(10);
    live.err.wait_text("from offset 10");
    daemon.stop();
    // A daemon at the same address, with its own directory.
    let daemon = Daemon::start(&config);
    let (code, _, err) = history.end();
    assert_eq!(code, Some(1), "{err:#?}");
    assert!(err.last().unwrap().contains("another archive"), "{err:#?}");
    live.err.wait_text("another archive");
    send(daemon.address(), 0..1);
    live.wait_out(2);
    let (code, out, err) = live.interrupt();
    assert_eq!((code, out), (Some(0), cat(&daemon, "")), "{err:#?}");
}

#[test]
fn a_stalled_output_loses_nothing_and_survives_the_heartbeat() {
    let daemon = Daemon::start("[ingest]\nheartbeat = \"1s\"");
    let (mut child, out, err) = spawn(&mut tail(daemon.feed(), "--from earliest --limit 3000"));
    let said = Arc::new(Lines::default());
    let reader = said.read(err);
    said.wait_text("connected");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..3_000 {
        client.frame_within_credit(ROUTINE, sequence, &[b'x'; 4_000]);
    }
    client.wait_durable(ROUTINE, 3_000);
    // Longer than three heartbeats, without a byte read.
    std::thread::sleep(std::time::Duration::from_secs(5));
    let lines: Vec<String> = BufReader::new(out).lines().map(|line| line.unwrap()).collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    reader.join().unwrap();
    assert!(lines == cat(&daemon, ""), "stdout is not what archive cat writes");
    let said = said.lines.lock().unwrap().clone();
    assert!(!said.iter().any(|line| line.contains("no connection")), "it was cut off: {said:#?}");
}

#[test]
fn a_signal_ends_tail_while_its_output_is_stalled() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..300 {
        client.frame_within_credit(ROUTINE, sequence, &[b'x'; 4_000]);
    }
    client.wait_durable(ROUTINE, 300);
    let (mut child, out, err) = spawn(&mut tail(daemon.feed(), "--from earliest"));
    let said = Arc::new(Lines::default());
    let reader = said.read(err);
    said.wait_text("connected");
    kill_process(Pid::from_child(&child), Signal::INT).expect("no signal");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    reader.join().unwrap();
    let last = said.wait_text("next offset");
    let next: usize = last.split("next offset ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    // All lines up to that offset are complete. A client that continues from there misses none.
    let lines = BufReader::new(out).lines().map_while(Result::ok).count();
    assert!(lines >= next, "{lines} lines were written, {last}");
    assert!(next < 300, "{last}");
}
