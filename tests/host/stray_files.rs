//! Unexpected files in an archive or a configuration: the program refuses them by name and never waits for them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::command::aggregator;
use crate::support::{Client, Daemon, Hello, LIMIT, ROUTINE, Subscribe, Subscriber, code};

/// Runs `command`, which must end by itself with `code`. Returns its stdout and stderr.
fn ends_with(code: i32, command: &mut Command) -> (String, String) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    let (ended_tx, ended) = mpsc::channel();
    std::thread::spawn(move || ended_tx.send(child.wait_with_output()));
    let output = ended.recv_timeout(LIMIT).unwrap_or_else(|_| {
        kill_process(pid, Signal::KILL).unwrap();
        panic!("{command:?} hangs")
    });
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(code), "exit of {command:?}\nstdout: {out}\nstderr: {err}");
    (out, err)
}

/// This many frames of this size fill four segments of the tests' defaults.
const MANY: u64 = 2_000;
const PAYLOAD_BYTES: usize = 16_000;

/// A stopped daemon with `frames` routine frames of source 7 in its archive.
fn stopped(frames: u64) -> Daemon {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..frames {
        client.frame_within_credit(ROUTINE, sequence, &[sequence as u8; PAYLOAD_BYTES]);
    }
    assert_eq!(client.bye([0, frames])[ROUTINE], frames);
    daemon.stop();
    daemon
}

/// The command that runs a daemon on the directory of `daemon`, which has ended.
fn again(daemon: &Daemon) -> Command {
    let mut command = aggregator(["run", "--config"]);
    command.arg(daemon.config_path()).current_dir(daemon.config_path().parent().unwrap());
    command
}

/// The segments of `daemon`, oldest first.
fn segments(daemon: &Daemon) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(daemon.archive_dir()).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|it| it == "seg")).collect();
    paths.sort();
    paths
}

fn fifo(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o600.into()).unwrap();
}

#[test]
fn a_segment_at_an_absurd_offset_is_refused_by_all_commands_with_a_remedy() {
    let daemon = stopped(3);
    let stray = daemon.archive_dir().join("18446744073709551615.seg");
    std::fs::write(&stray, "").unwrap();
    let (_, err) = ends_with(1, &mut again(&daemon));
    let named = |text: &str| {
        assert!(text.contains(&stray.display().to_string()), "the file is not named: {text}");
        assert!(text.contains("move the file to another directory"), "no way out: {text}");
    };
    named(&err);
    for command in ["ls", "verify", "cat"] {
        named(&ends_with(1, aggregator(["archive", command]).arg(daemon.archive_dir())).1);
    }
    std::fs::remove_file(&stray).unwrap();
    let mut daemon = daemon.restart();
    let (client, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next[ROUTINE], 3, "the frames acknowledged before");
    drop(client);
    daemon.stop();
}

#[test]
fn a_pipe_in_place_of_a_segment_is_refused_by_name() {
    let daemon = stopped(1);
    for name in ["00000000000000000005.seg", "reserve"] {
        let stray = daemon.archive_dir().join(name);
        drop(std::fs::remove_file(&stray));
        fifo(&stray);
        let (_, err) = ends_with(1, &mut again(&daemon));
        assert!(err.contains(&stray.display().to_string()) && err.contains("a named pipe"), "{err}");
        std::fs::remove_file(&stray).unwrap();
    }
    let mut daemon = daemon.restart();
    daemon.stop();
}

#[test]
fn a_pipe_in_place_of_a_configured_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    fifo(&pipe);
    let config = dir.path().join("aggregator.toml");
    let settings = [
        // The daemon reads the catalog after the configuration, so this is not a usage error.
        (format!("catalog.file = {pipe:?}"), 1),
        (format!("ingest.tokens = [{{ token_file = {pipe:?} }}]"), 2),
        (format!("feed.tokens = [{{ token_file = {pipe:?} }}]"), 2),
        (format!("http.token_file = {pipe:?}"), 2),
    ];
    for (setting, code) in settings {
        let listen =
            ["ingest", "feed", "http"].map(|part| format!("{part}.listen = \"127.0.0.1:0\"\n")).concat();
        let text = format!("data_dir = {:?}\n{listen}{setting}", dir.path().join("data"));
        std::fs::write(&config, text).unwrap();
        for (command, code) in [("check", 2), ("run", code)] {
            let (_, err) = ends_with(code, aggregator([command, "--config"]).arg(&config));
            assert!(
                err.contains(&pipe.display().to_string()) && err.contains("a named pipe"),
                "{setting}: {err}"
            );
        }
    }
    for command in ["check", "run"] {
        let (_, err) = ends_with(2, aggregator([command, "--config"]).arg(&pipe));
        assert!(err.contains(&pipe.display().to_string()) && err.contains("a named pipe"), "{err}");
    }
}

#[test]
fn a_foreign_segment_is_refused_as_the_newest_and_set_aside_in_the_middle() {
    let (daemon, other) = (stopped(100), stopped(MANY));
    let copied = segments(&other).pop().unwrap();
    let stray = daemon.archive_dir().join(copied.file_name().unwrap());
    std::fs::copy(&copied, &stray).unwrap();
    let (_, err) = ends_with(1, &mut again(&daemon));
    assert!(err.contains(&stray.display().to_string()) && err.contains("different archives"), "{err}");
    assert!(err.contains("to another directory and start again"), "{err}");
    for command in ["verify", "cat"] {
        let (_, err) = ends_with(1, aggregator(["archive", command]).arg(daemon.archive_dir()));
        assert!(
            err.contains(&stray.display().to_string()) && err.contains("another archive"),
            "{command}: {err}"
        );
    }
    std::fs::remove_file(&stray).unwrap();
    let mut daemon = daemon.restart();
    let (client, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next[ROUTINE], 100, "what this archive holds");
    drop(client);
    daemon.stop();

    let daemon = stopped(MANY);
    let own = segments(&daemon);
    // Not the oldest segment, not the newest and not the one before it: the start reads those itself.
    let [_, middle, _, _, ..] = &own[..] else { panic!("too few segments: {own:?}") };
    std::fs::copy(&segments(&other)[1], middle).unwrap();
    let mut daemon = daemon.restart();
    let line = daemon.wait_line("a segment of another archive");
    assert!(line.contains(&middle.display().to_string()) && line.contains(".foreign"), "{line}");
    let metrics = crate::support::http::get(daemon.http(), "/metrics").text();
    assert!(metrics.contains("telemetry_aggregator_archive_foreign_segments 1"), "{metrics}");
    let status =
        crate::support::http::get_json(daemon.http(), "/api/v1/stats")["archive"]["status"].to_string();
    assert!(status.contains("degraded"), "{status}");
    // The file does no harm under its new name: the daemon accepts frames and forgets streams.
    assert_eq!(crate::support::http::get(daemon.http(), "/readyz").status, 200);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
}

#[test]
fn a_segment_on_a_disk_that_is_not_mounted_has_not_expired() {
    let daemon = stopped(MANY);
    let (away, link) = (daemon.config_path().with_file_name("away.seg"), segments(&daemon)[0].clone());
    std::fs::rename(&link, &away).unwrap();
    std::os::unix::fs::symlink("/nowhere/away.seg", &link).unwrap();
    let named = |text: &str| {
        assert!(text.contains(&link.display().to_string()) && text.contains("/nowhere/away.seg"), "{text}");
    };
    for command in ["ls", "verify", "cat"] {
        named(&ends_with(1, aggregator(["archive", command]).arg(daemon.archive_dir())).1);
    }
    let out = daemon.config_path().with_file_name("out");
    named(&ends_with(1, aggregator(["archive", "export"]).arg(daemon.archive_dir()).arg("--out").arg(out)).1);

    let mut daemon = daemon.restart();
    let (mut subscriber, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    let (frames, _) = subscriber.frames_to_error(code::STORAGE_FAILED);
    assert!(frames.is_empty(), "frames behind those that are away: {}", frames.len());
    let answer = crate::support::http::get(daemon.http(), "/api/v1/frames?from=0");
    assert_eq!(answer.status, 503, "{}", answer.text());
    named(&answer.text());

    // The disk is back, and the subscriber reconnects.
    std::fs::remove_file(&link).unwrap();
    std::fs::rename(&away, &link).unwrap();
    let (mut subscriber, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    assert_eq!(subscriber.expect_frames(MANY as usize).len() as u64, MANY);
    drop(subscriber);
    daemon.stop();
}
