//! `run`: why a start fails, the ready file, the status lines of `--simulate`.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::home::{home, run, wait_for_file};
use crate::support::command::{Running, aggregator, expect_exit};
use crate::support::daemon::DEFAULTS as CONFIG;
use crate::support::{Client, Daemon, Hello, LIMIT, ROUTINE};

#[test]
fn a_port_in_use_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("no port");
    let address = taken.local_addr().expect("an address").to_string();
    let (_dir, path) = home(&CONFIG.replacen("127.0.0.1:0", &address, 1));
    let (_, said) = expect_exit(&mut run(&path), 1);
    for part in [&address, "ingest.listen", "in use"] {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused_and_the_first_continues() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    client.deliver(ROUTINE, 0, b"before");
    let (_, said) = expect_exit(&mut run(&daemon.config_path()), 1);
    let dir = daemon.archive_dir();
    assert!(said.contains(&dir.display().to_string()), "{} is missing in: {said}", dir.display());
    client.deliver(ROUTINE, 1, b"after");
    client.bye([0, 2]);
    assert_eq!(daemon.stop().archived, 2);
}

#[test]
fn a_data_directory_that_is_a_file_or_cannot_be_written_is_named() {
    let (dir, path) = home(CONFIG);
    let data = dir.path().join("data");
    std::fs::write(&data, "a file").expect("writing fails");
    let (_, said) = expect_exit(&mut run(&path), 1);
    assert!(said.contains(&data.display().to_string()), "{said}");
    assert_eq!(std::fs::read(&data).expect("still there"), b"a file");

    // Root can write everywhere except in /proc.
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let read_only = "/proc/telemetry-aggregator";
    std::fs::write(&path, text.replace(&data.display().to_string(), read_only)).expect("writing fails");
    let (_, said) = expect_exit(&mut run(&path), 1);
    assert!(said.contains(read_only), "{said}");
}

#[test]
fn a_cause_is_printed_once() {
    let (_, said) = expect_exit(&mut aggregator(["replay", "--archive", "/nonexistent"]), 1);
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    let (dir, path) = home(CONFIG);
    std::fs::write(dir.path().join("data"), "a file").expect("writing fails");
    let (_, said) = expect_exit(&mut run(&path), 1);
    assert_eq!(said.matches("is not a directory").count(), 1, "{said}");
}

#[test]
fn the_ready_file_holds_the_bound_addresses() {
    let (dir, path) = home(CONFIG);
    let ready = dir.path().join("ready.json");
    let daemon = Running::start(run(&path).arg("--ready-file").arg(&ready).stderr(Stdio::null()));
    let text = wait_for_file(&ready);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON, whole from the first moment on");
    let object = json.as_object().expect("an object");
    assert_eq!(object.keys().collect::<Vec<_>>(), ["feed", "http", "ingest"], "{text}");
    let address: SocketAddr = object["ingest"].as_str().expect("a string").parse().expect("an address");
    let (client, _) = Client::open(address, &Hello::new(1));
    client.bye([0, 0]);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_ready_file_that_cannot_be_written_is_named() {
    let (dir, path) = home(CONFIG);
    let ready = dir.path().join("missing/ready.json");
    let (_, said) = expect_exit(run(&path).arg("--ready-file").arg(&ready), 1);
    assert!(said.contains(&ready.display().to_string()), "{said}");
}

/// The text of a log line must not depend on whether the line is written.
#[test]
fn a_quiet_log_and_a_hangup_do_not_stop_the_daemon() {
    let (dir, path) = home(&format!("{CONFIG}[log]\nlevel = \"error\"\n"));
    let ready = dir.path().join("ready.json");
    let daemon = Running::start(run(&path).arg("--ready-file").arg(&ready));
    let json: serde_json::Value = serde_json::from_str(&wait_for_file(&ready)).expect("JSON");
    let address: SocketAddr = json["ingest"].as_str().expect("a string").parse().expect("an address");
    let (mut client, _) = Client::open(address, &Hello::new(1));
    kill_process(Pid::from_child(&daemon.0), Signal::HUP).expect("no signal");
    client.deliver(ROUTINE, 0, b"still there");
    client.bye([0, 1]);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn simulate_prints_a_line_a_second_until_it_is_stopped() {
    let (_dir, path) = home(CONFIG);
    let mut command = run(&path);
    command.arg("--simulate").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut daemon = Running::start(&mut command);
    let stdout = BufReader::new(daemon.0.stdout.take().expect("stdout is piped"));
    let mut lines = stdout.lines().map(|line| line.expect("reading its lines fails"));
    let first = lines.next().expect("a first line");
    let since_first = Instant::now();
    let mut seen: Vec<_> = std::iter::once(first).chain(lines.by_ref().take(2)).collect();
    let elapsed = since_first.elapsed();
    assert!(elapsed >= Duration::from_millis(1_500), "two lines in {elapsed:?}");
    // The machine determines how soon all sources are connected.
    while !seen.last().is_some_and(|line| line.contains("50 sources")) && since_first.elapsed() < LIMIT {
        seen.extend(lines.next());
    }
    for (second, line) in (1..).zip(&seen) {
        assert!(line.trim_start().starts_with(&format!("{second} s")), "{line}");
        assert!(line.contains("frames/s") && line.contains("archive ok"), "{line}");
    }
    assert!(seen.last().is_some_and(|line| line.contains("50 sources")), "{seen:?}");
    let stopped = Instant::now();
    assert_eq!(daemon.stop(), Some(0));
    assert!(stopped.elapsed() < Duration::from_secs(5), "the drain took {:?}", stopped.elapsed());
}
