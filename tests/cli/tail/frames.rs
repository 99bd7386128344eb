//! The frames that `tail` writes are those that `archive cat` writes.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use super::{Tail, cat, fixed, send, spawn, tail};
use crate::support::command::expect_exit;
use crate::support::lines::Lines;
use crate::support::{Client, Daemon, Hello, ROUTINE, Signal};

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
    tail.err.wait_line("from offset 10");
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
fn a_history_without_a_match_is_reported() {
    let daemon = Daemon::start("[ingest]\nheartbeat = \"1s\"");
    send(daemon.address(), 0..5);
    let tail = Tail::start(&mut tail(daemon.feed(), "--from -1h --source 99"));
    tail.err.wait_line("no frame before offset 10 matches");
    tail.signal(Signal::INT);
    let (code, out, err) = tail.end();
    assert_eq!((code, out.len()), (Some(0), 0));
    assert!(err.last().unwrap().contains("no frame matched; next offset 10"), "{err:#?}");
}

#[test]
fn a_stalled_output_loses_nothing_and_survives_the_heartbeat() {
    const HEARTBEAT: Duration = Duration::from_secs(1);
    let daemon = Daemon::start("[ingest]\nheartbeat = \"1s\"");
    let (mut child, out, err) = spawn(&mut tail(daemon.feed(), "--from earliest --limit 3000"));
    let mut said = Lines::read(err);
    said.wait_line("connected");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..3_000 {
        client.frame_within_credit(ROUTINE, sequence, &[b'x'; 4_000]);
    }
    client.wait_durable(ROUTINE, 3_000);
    // Time is what this tests: the daemon ends a connection that is silent for three heartbeats.
    std::thread::sleep(4 * HEARTBEAT);
    let lines: Vec<String> = BufReader::new(out).lines().map(|line| line.unwrap()).collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(lines == cat(&daemon, ""), "stdout is not what archive cat writes");
    let said = said.read_to_end();
    assert!(!said.iter().any(|line| line.contains("no connection")), "it was cut off: {said:#?}");
}
