//! The `uplink-sim` binary as a child process: exit codes, signals and the report, against a scripted server.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Output, Stdio};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use rustix::process::{Pid, Signal, kill_process};
use wire::{ClientMessage, ErrorCode, ErrorMessage, ServerMessage, WireError};

use crate::peer::Peer;
use crate::support::command;

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn uplink_sim(args: &[&str]) -> Child {
    command::uplink_sim(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Starts a simulator with one satellite and no recording.
fn one_satellite(address: &str, args: &[&str]) -> Child {
    let one = ["--connect", address, "--satellites", "1", "--replays", "0"];
    uplink_sim(&[&one, args].concat())
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_whole_run_exits_with_0_and_one_json_object() {
    let (listener, address) = listener();
    let args = ["--connect", &address, "--satellites", "2", "--replays", "1", "--frames", "200"];
    let child = uplink_sim(&[&args[..], &["--report", "json"]].concat());
    let peers: Vec<_> = (0..3)
        .map(|_| {
            let mut peer = Peer::accept(&listener, 1 << 30);
            thread::spawn(move || {
                let (frames, bye) = peer.read_to_bye();
                peer.send(&ServerMessage::Bye(bye));
                frames
            })
        })
        .collect();
    let frames: Vec<_> = peers.into_iter().map(|peer| peer.join().unwrap()).collect();
    assert_eq!(frames, [200; 3]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = json(&output);
    let mut keys: Vec<_> = report.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    let mut expected = [
        "sent",
        "acked",
        "resent",
        "duplicates",
        "reconnects",
        "shared_sequence",
        "elapsed_s",
        "frames_per_s",
        "bytes_per_s",
        "ack_latency_us",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!((&report["sent"], &report["acked"]), (&600.into(), &600.into()));
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn unacknowledged_frames_exit_with_1() {
    let (listener, address) = listener();
    let args =
        ["--satellites", "1", "--replays", "0", "--frames", "5", "--linger", "50ms", "--report", "json"];
    let child = uplink_sim(&[&["--connect", &address][..], &args].concat());
    let mut peer = Peer::accept(&listener, 1 << 30);
    peer.read_to_bye();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = json(&output);
    assert_eq!((&report["sent"], &report["acked"]), (&5.into(), &0.into()));
    assert!(report["errors"][0].as_str().unwrap().contains("5 frames not acknowledged"));
}

#[test]
fn an_interrupt_ends_with_bye_and_a_second_one_at_once() {
    let (listener, address) = listener();
    let start = || {
        let child = uplink_sim(&["--connect", &address, "--satellites", "1", "--replays", "0"]);
        let mut peer = Peer::accept(&listener, 10_000);
        assert!(matches!(peer.next(), ClientMessage::Frame(_)));
        interrupt(&child);
        let (frames, bye) = peer.read_to_bye();
        assert!(frames > 10);
        (child, peer, bye)
    };

    let (child, mut peer, bye) = start();
    peer.send(&ServerMessage::Bye(bye));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.starts_with(b"sent "), "{output:?}");

    let (child, _peer, _) = start();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("stopped at once"), "{said}");
}

#[test]
fn bad_usage_and_bad_input_exit_with_2() {
    for args in [&["--rate", "fast"][..], &["--input", "/nonexistent/pass.ccsds"]] {
        let output = uplink_sim(args).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(args[1]), "{said}");
    }
}

#[test]
fn a_refused_source_is_a_failure_with_its_reason() {
    let (listener, address) = listener();
    let child = one_satellite(
        &address,
        &["--rate", "50", "--duration", "300ms", "--linger", "60s", "--report", "json"],
    );
    // The server refuses with `busy` for as long as the feed lasts. Then it accepts, and acknowledges everything
    // sent.
    let (mut first, _) = listener.accept().unwrap();
    let busy = ErrorMessage::new(
        &WireError::new(ErrorCode::Busy, "4 connections are open"),
        Duration::from_millis(600),
    );
    let mut out = BytesMut::new();
    ServerMessage::Error(busy).encode(&mut out);
    first.write_all(&out).unwrap();
    drop(first);
    let mut peer = Peer::accept(&listener, 1 << 30);
    let (frames, bye) = peer.read_to_bye();
    assert_eq!(frames, 0);
    peer.send(&ServerMessage::Bye(bye));
    let output = child.wait_with_output().unwrap();
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    let error = report["errors"][0].as_str().unwrap();
    assert!(error.contains("shut out: 0 of 1") && error.contains("4 connections are open"), "{error}");
}

#[test]
fn a_hanging_connection_is_named() {
    let (_silent, address) = listener();
    let child = one_satellite(&address, &["--duration", "100ms", "--linger", "200ms"]);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("never connected (no answer to HELLO from {address} for ")), "{said}");
}
