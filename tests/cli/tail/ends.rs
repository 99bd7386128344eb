//! How `tail` ends: exit codes, reasons, and where to continue.

use std::io::{BufRead as _, BufReader, Read as _};

use rustix::process::{Pid, kill_process};

use super::{Tail, cat, fixed, send, spawn, tail};
use crate::support::command::expect_exit;
use crate::support::lines::Lines;
use crate::support::{Client, Daemon, Hello, ROUTINE, Signal};

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
    waiting.err.wait_line("trying again");
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
    live.err.wait_line("from offset 10");
    daemon.stop();
    // A daemon at the same address, with its own directory.
    let daemon = Daemon::start(&config);
    let (code, _, err) = history.end();
    assert_eq!(code, Some(1), "{err:#?}");
    assert!(err.last().unwrap().contains("another archive"), "{err:#?}");
    live.err.wait_line("another archive");
    send(daemon.address(), 0..1);
    live.wait_out(2);
    let (code, out, err) = live.interrupt();
    assert_eq!((code, out), (Some(0), cat(&daemon, "")), "{err:#?}");
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
    let mut said = Lines::read(err);
    said.wait_line("connected");
    kill_process(Pid::from_child(&child), Signal::INT).expect("no signal");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let said = said.read_to_end();
    let last = said.last().expect("it prints where to continue");
    let next: usize = last.split("next offset ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    // All lines up to that offset are complete. A client that continues from there misses none.
    let lines = BufReader::new(out).lines().map_while(Result::ok).count();
    assert!(lines >= next, "{lines} lines were written, {last}");
    assert!(next < 300, "{last}");
}
