//! Exports go to a real S3 server: each frame once, whatever is killed, and with a clear word about what is wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod server;

use std::path::Path;
use std::process::Command;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use serde_json::Value;

use server::{ACCESS_KEY, BUCKET, Line, S3, SECRET_KEY, set_store};
use support::command::{aggregator, expect_exit};
use support::http::{get_json, wait_json};
use support::python::Python;
use support::{Client, Daemon, Hello, Launch, ROUTINE, archived, not_tested, wait_until};

/// What the daemon exports and uploads, with `more` keys of `[export]`.
fn config(more: &str) -> String {
    format!("[archive]\nexport = \"export\"\n[export]\nstore = \"s3://{BUCKET}/site/a\"\n{more}")
}

/// Starts a daemon whose store is at `endpoint`.
fn start(config: &str, prepare: &dyn Fn(&mut Command)) -> Daemon {
    Daemon::launch_at(tempfile::tempdir().unwrap(), config, &Launch { through: &[], prepare })
}

/// Sends `frames` frames with random payloads of 12 KiB, which are durable when this returns. About 680 of them fill a
/// segment.
fn send(daemon: &Daemon, frames: u64) {
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7).station("KIRUNA"));
    let first = welcome.resume_next[ROUTINE];
    let mut random = StdRng::seed_from_u64(first);
    let mut payload = vec![0; 12 << 10];
    for sequence in first..first + frames {
        random.fill_bytes(&mut payload);
        client.frame_within_credit(ROUTINE, sequence, &payload);
    }
    client.wait_durable(ROUTINE, first + frames);
    client.bye([0, first + frames]);
}

/// Waits until `segments` exported segments are known to be in the store, and none waits.
fn wait_uploaded(daemon: &Daemon, segments: u64) -> Value {
    let is_met = |stats: &Value| {
        stats["uploads"]["pending_segments"] == 0
            && listed(daemon).iter().filter(|row| row["stored"] == true).count() as u64 == segments
    };
    wait_json(daemon.http(), "/api/v1/stats", is_met)
}

/// The listings in the directory of the export.
fn listed(daemon: &Daemon) -> Vec<Value> {
    let Ok(entries) = std::fs::read_dir(daemon.home().join("export/_segments")) else { return Vec::new() };
    let paths = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"));
    let read = |path: std::path::PathBuf| {
        let mut listing: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        listing["stored"] = Value::Bool(listing.get("uploaded").is_some());
        listing
    };
    paths.map(read).collect()
}

/// The number of sealed segments: all but the one that is written.
fn sealed(daemon: &Daemon) -> u64 {
    get_json(daemon.http(), "/api/v1/stats")["archive"]["segments"].as_u64().unwrap() - 1
}

#[test]
fn each_frame_is_in_the_store_once_after_twenty_kills_in_uploads() {
    let python = match Python::with("s3") {
        Ok(python) => python,
        Err(missing) => return not_tested(format_args!("objects read back with pyarrow: {missing}")),
    };
    let s3 = S3::start();
    let line = Line::to(s3.address());
    let (endpoint, config) = (line.address(), config(""));
    let prepare = |command: &mut Command| set_store(command, endpoint, SECRET_KEY);
    let launch = Launch { through: &[], prepare: &prepare };
    let mut daemon = start(&config, &prepare);
    send(&daemon, 5 * 700);
    let mut random = StdRng::seed_from_u64(27);
    for _ in 0..20 {
        // A segment has about 8 MiB.
        line.let_pass(random.random_range(1..12 << 20));
        line.wait_held();
        daemon.signal(rustix::process::Signal::KILL);
        daemon.wait_exit(support::LIMIT);
        daemon = daemon.relaunch(&launch);
        // Uploads go on beside the intake.
        send(&daemon, 40);
    }
    line.let_pass(u64::MAX);
    wait_uploaded(&daemon, sealed(&daemon));
    let listings = listed(&daemon);
    let end = listings.iter().map(|listing| listing["end"].as_u64().unwrap()).max().unwrap();
    let expected: Vec<(u64, u32)> = archived(&daemon.archive_dir())
        .iter()
        .filter(|frame| frame.offset < end)
        .map(|frame| (frame.offset, crc32(&frame.payload)))
        .collect();
    assert!(expected.len() > 3_000, "{}", expected.len());

    let endpoint = s3.address().to_string();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/read_store.py");
    let mut command = python.tool("python");
    command.arg(script).args([&endpoint, ACCESS_KEY, SECRET_KEY, &format!("{BUCKET}/site/a")]);
    let (out, _) = expect_exit(&mut command, 0);
    let mut read: Vec<(u64, u32)> = out
        .lines()
        .map(|line| {
            line.split_once(' ').map(|(offset, crc)| (offset.parse().unwrap(), crc.parse().unwrap())).unwrap()
        })
        .collect();
    read.sort_unstable();
    assert!(read == expected, "{} frames in the store, {} expected", read.len(), expected.len());
    daemon.stop();
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[test]
fn uploaded_files_leave_the_directory_and_stay_in_the_list() {
    let s3 = S3::start();
    let prepare = |command: &mut Command| set_store(command, s3.address(), SECRET_KEY);
    let mut daemon = start(&config("local_retention = \"1s\""), &prepare);
    send(&daemon, 2 * 700);
    wait_until("files to leave", || {
        let listings = listed(&daemon);
        let left = listings.iter().filter(|listing| listing["removed"] == true).count();
        if left as u64 == sealed(&daemon) && left > 0 { Ok(()) } else { Err(format!("{listings:?}")) }
    });
    let files = s3.objects("site/a");
    let is_frame = |path: &&String| path.ends_with(".parquet");
    assert_eq!(files.iter().filter(is_frame).count() as u64, sealed(&daemon), "{files:?}");
    assert_eq!(local_files(&daemon), 0);

    // What is gone from the directory altogether is still listed, as the store has it.
    let listing = std::fs::read_dir(daemon.home().join("export/_segments")).unwrap().next().unwrap().unwrap();
    std::fs::remove_file(listing.path()).unwrap();
    let ls = |more: &[&str]| {
        let mut command = aggregator(["export", "ls", "--config"]);
        prepare(command.arg(daemon.config_path()).args(more).current_dir(daemon.home()));
        expect_exit(&mut command, 0).0
    };
    let rows: Vec<Value> = ls(&["--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len() as u64, sealed(&daemon));
    assert!(rows.iter().all(|row| row["local"] == false && row["stored"] == true), "{rows:?}");
    assert!(rows.windows(2).all(|two| two[0]["to_offset"] == two[1]["from_offset"]), "{rows:?}");
    let table = ls(&[]);
    assert!(table.lines().skip(1).all(|line| line.contains(" no     yes     ")), "{table}");
    daemon.stop();
}

/// The number of Parquet files in the directory of the export.
fn local_files(daemon: &Daemon) -> usize {
    let days = std::fs::read_dir(daemon.home().join("export")).unwrap().map(|entry| entry.unwrap().path());
    let days = days.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("date="));
    days.map(|day| std::fs::read_dir(day).unwrap().count()).sum()
}

#[test]
fn what_is_wrong_with_a_store_is_said_and_nothing_is_lost() {
    let s3 = S3::start();
    let dir = tempfile::tempdir().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = |command: &mut Command| set_store(command, closed, SECRET_KEY);
    let refused = |command: &mut Command| set_store(command, s3.address(), "another key");
    let right = |command: &mut Command| set_store(command, s3.address(), SECRET_KEY);

    let mut daemon = Daemon::launch_at(dir, &config(""), &Launch { through: &[], prepare: &away });
    send(&daemon, 700);
    expect_trouble(&daemon, "s3://telemetry/site/a cannot be used: ");
    assert_eq!(local_files(&daemon), 1, "the export waits for its upload");
    daemon.stop();

    daemon = daemon.relaunch(&Launch { through: &[], prepare: &refused });
    expect_trouble(&daemon, "s3://telemetry/site/a refuses the request: ");
    daemon.stop();

    let none = server::without_bucket();
    let missing = |command: &mut Command| set_store(command, none, SECRET_KEY);
    daemon = daemon.relaunch(&Launch { through: &[], prepare: &missing });
    let trouble = expect_trouble(&daemon, "the bucket of s3://telemetry/site/a does not exist: ");
    assert!(trouble.contains("create it"), "{trouble}");
    daemon.stop();

    daemon = daemon.relaunch(&Launch { through: &[], prepare: &right });
    let stats = wait_uploaded(&daemon, 1);
    assert_eq!((&stats["uploads"]["trouble"], &stats["uploads"]["segments"]), (&Value::Null, &1.into()));
    daemon.stop();

    // Another archive may not mix its frames with these.
    let mut other = start(&config(""), &right);
    send(&other, 700);
    let trouble = expect_trouble(&other, "s3://telemetry/site/a holds another export: ");
    assert!(trouble.contains("choose another prefix"), "{trouble}");
    other.stop();
}

/// Waits until the uploads are in trouble for a reason that begins with `begin`.
fn expect_trouble(daemon: &Daemon, begin: &str) -> String {
    let reason = |stats: &Value| stats["uploads"]["trouble"].as_str().map(str::to_owned);
    let is_met = |stats: &Value| reason(stats).is_some_and(|reason| reason.starts_with(begin));
    let stats = wait_json(daemon.http(), "/api/v1/stats", is_met);
    daemon.wait_line("the upload of the export failed");
    reason(&stats).unwrap()
}
