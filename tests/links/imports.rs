//! `telemetry-aggregator import` as a child process: recordings of equipment become replays.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, kill_process};
use serde_json::Value;

use crate::equipment::{Numbers, cadu, packet, packets, tm_frame};
use crate::recordings::snpp;
use crate::support::command::{aggregator, expect_exit};
use crate::support::recording::Recording;
use crate::support::{Archived, Daemon, Port, Signal};

/// An import into `daemon`.
pub fn import(daemon: &Daemon, file: &Path, args: &[&str]) -> Command {
    let connect = daemon.address().to_string();
    let mut command = aggregator(["import", "--connect", &connect, "--report", "json"]);
    command.arg(file).args(args);
    command
}

/// Runs an import that must exit with `code`, and returns its report.
fn report(daemon: &Daemon, file: &Path, args: &[&str], code: i32) -> Value {
    serde_json::from_str(&expect_exit(&mut import(daemon, file, args), code).0).unwrap()
}

/// A file with `bytes`, in a directory that lasts as long as the first value.
pub fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn payloads(frames: &[Archived]) -> impl Iterator<Item = &[u8]> {
    frames.iter().map(|frame| &frame.payload[..])
}

const SNPP: [&str; 8] = [
    "--framing",
    "cadu, length = 1024, strip = 128",
    "--decode",
    "aos",
    "--spacecraft",
    "157",
    "--station",
    "SVALBARD",
];

#[test]
fn cadus_of_suomi_npp_are_imported_once() {
    let Some((recording, frames)) = snpp() else { return };
    let (_dir, path) = file(&recording);
    let mut daemon = Daemon::start("");
    let first = report(&daemon, &path, &SNPP, 0);
    assert_eq!((&first["complete"], &first["sent"]), (&true.into(), &65.into()), "{first}");
    let held = &first["recording"];
    assert_eq!((&held["units"], &held["frames"], &held["missing"]), (&65.into(), &65.into(), &1.into()));
    assert_eq!((&held["bytes"], &held["skipped_bytes"]), (&recording.len().into(), &0.into()));
    let channel = &held["channels"][0];
    assert_eq!((&channel["source"], &channel["channel"]), (&157.into(), &16.into()));

    let epoch = first["epoch"].to_string();
    let second = report(&daemon, &path, &[&SNPP[..], &["--epoch", &epoch]].concat(), 0);
    assert_eq!((&second["sent"], &second["already"]), (&0.into(), &65.into()), "{second}");
    let books = daemon.stop();
    assert_eq!((books.received, books.archived), (65, 65));
    let found = daemon.archived();
    assert!(payloads(&found).eq(frames.iter().map(|frame| &frame[..])), "the frames differ");
    for (index, frame) in found.iter().enumerate() {
        let origin = (frame.source_id, frame.kind, frame.station.as_str(), frame.epoch.to_string());
        assert_eq!(origin, (157, 1, "SVALBARD", epoch.clone()));
        assert_eq!((frame.lane, frame.sequence, frame.ert_ns), (1, index as u64, 0));
    }
    // The first frame behind the one that is missing has the mark.
    let marked: Vec<_> = found.iter().filter(|frame| frame.flags != 0).collect();
    assert_eq!((marked.len(), marked[0].flags), (1, 1));
}

#[test]
fn packets_of_europa_clipper_are_imported_from_a_file_and_from_stdin() {
    let recording = Recording::find("europa_clipper.ccsds", 1_030);
    let mut daemon = Daemon::start("");
    let args = ["--framing", "packet", "--source", "159"];
    assert_eq!(report(&daemon, &recording.path, &args, 0)["acked"], 1_030);

    let args = ["--framing", "{ kind = \"packet\" }", "--source", "160"];
    let mut command = import(&daemon, Path::new("-"), &args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&recording.bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["recording"]["units"], 1_030, "{report}");

    daemon.stop();
    let found = daemon.archived();
    for source in [159, 160] {
        let frames = found.iter().filter(|frame| frame.source_id == source);
        assert!(frames.map(|frame| &frame.payload[..]).eq(packets(&recording.bytes)), "source {source}");
    }
}

/// TM frames of spacecraft 7 with ascending counts. No two of 60,000 frames are equal.
fn tm_frames(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| tm_frame(7, 1, index as u8, 100, (index / 256) as u8)).collect()
}

#[test]
fn an_import_goes_on_after_a_kill_of_the_daemon() {
    let frames = tm_frames(20_000);
    let units: Vec<_> = frames.iter().map(|frame| cadu(frame, 0)).collect();
    let (_dir, path) = file(&units.concat());
    let port = Port::hold();
    let config = format!("[ingest]\nlisten = \"{}\"\n[log]\nlevel = \"debug\"", port.address());
    let daemon = Daemon::start(&config);
    let args = ["--framing", "cadu, length = 104", "--decode", "tm, fecf = \"crc16\""];
    let mut command = import(&daemon, &path, &args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    daemon.wait_line(" seq=500 ");
    let mut daemon = daemon.kill_and_restart();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["reconnects"].as_u64() > Some(0), "nothing was interrupted: {report}");
    daemon.stop();
    let found = daemon.archived();
    assert!(payloads(&found).eq(frames.iter().map(|frame| &frame[..])), "{} frames", found.len());
}

#[test]
fn a_truncated_recording_is_imported_up_to_its_last_whole_unit() {
    let whole: Vec<u8> = (0..10).flat_map(|count| packet(5, count, b"content")).collect();
    let cut = [&whole[..], &packet(5, 10, b"content")[..9]].concat();
    let (_dir, path) = file(&cut);
    let mut daemon = Daemon::start("");
    let report = report(&daemon, &path, &["--framing", "packet", "--source", "apid"], 0);
    let held = &report["recording"];
    assert_eq!(
        (&held["frames"], &held["left_over_bytes"], &held["skipped_bytes"]),
        (&10.into(), &9.into(), &9.into())
    );
    daemon.stop();
    assert_eq!(payloads(&daemon.archived()).collect::<Vec<_>>(), packets(&whole));
}

#[test]
fn garbage_ends_an_import_with_its_place_and_its_bytes() {
    let whole: Vec<u8> = (0..10).flat_map(|count| packet(5, count, b"content")).collect();
    let (_dir, path) = file(&[&whole[..], &[0xFE; 100]].concat());
    let mut daemon = Daemon::start("");
    let stopped = report(&daemon, &path, &["--framing", "packet", "--source", "apid"], 1);
    let problem = stopped["problems"][0].as_str().unwrap();
    let expected = format!("packet version 7, expected 0 at byte {} of the stream", whole.len());
    assert!(problem.contains(&expected) && problem.contains(&"fe".repeat(32)), "{problem}");
    assert_eq!((&stopped["acked"], &stopped["complete"]), (&10.into(), &false.into()), "{stopped}");

    let (_dir, path) = file(&Numbers::new(5).bytes(100_000));
    let nothing = report(&daemon, &path, &SNPP, 1);
    let problem = nothing["problems"][0].as_str().unwrap();
    assert!(problem.contains("no unit found in 100000 bytes"), "{problem}");
    daemon.stop();
    assert_eq!(
        payloads(&daemon.archived()).collect::<Vec<_>>(),
        packets(&whole),
        "what came before is there"
    );
}

#[test]
fn rules_choose_lane_and_source_and_drop_bad_and_idle_frames() {
    let mut damaged = tm_frame(7, 1, 2, 100, 0);
    damaged[50] ^= 1;
    let frames = [tm_frame(7, 1, 0, 100, 0), tm_frame(7, 3, 0, 100, 0), damaged, tm_frame(8, 1, 0, 100, 0)];
    let (_dir, path) = file(&frames.concat());
    let mut daemon = Daemon::start("");
    let rules = ["--framing", "fixed, length = 100", "--decode", "tm, fecf = \"crc16\"", "--spacecraft", "7"];
    let rest = ["--emergency", "{ vcid = [3] }", "--source", "scid-vcid", "--bad", "drop"];
    let report = report(&daemon, &path, &[&rules[..], &rest].concat(), 0);
    let held = &report["recording"];
    assert_eq!(
        (&held["frames"], &held["bad"], &held["bad_dropped"]),
        (&2.into(), &2.into(), &2.into()),
        "{held}"
    );
    let first_bad = held["first_bad"].as_str().unwrap();
    assert!(
        first_bad.starts_with("the unit that ends at byte 300: the frame error control field"),
        "{first_bad}"
    );
    daemon.stop();
    let mut found: Vec<_> = daemon.archived().iter().map(|frame| (frame.source_id, frame.lane)).collect();
    found.sort_unstable();
    assert_eq!(found, [(7 << 8 | 1, 1), (7 << 8 | 3, 0)]);
}

#[test]
fn wrong_rules_are_bad_usage() {
    let args = ["import", "nothing", "--framing", "cadu, lenght = 1024", "--idle", "no"];
    let (_, said) = expect_exit(&mut aggregator(args), 2);
    assert!(said.contains("--framing: framing.lenght: unknown key, did you mean length?"), "{said}");
    assert!(said.contains("--idle: "), "{said}");
    let args = ["import", "nothing", "--framing", "packet", "--source", "1"];
    let (_, said) = expect_exit(&mut aggregator(args), 1);
    assert!(said.contains("cannot read nothing"), "{said}");
}

#[test]
fn an_import_goes_on_with_the_options_it_began_with() {
    let recording: Vec<u8> = (0..10).flat_map(|count| packet(5, count, b"content")).collect();
    let (_dir, path) = file(&recording);
    let mut daemon = Daemon::start("");
    let args = ["--framing", "packet", "--source", "1"];
    let (_, said) = expect_exit(&mut import(&daemon, &path, &args), 0);
    let (_, epoch) = said.lines().next().unwrap().rsplit_once("--epoch ").unwrap();

    let with = |args: &[&str], epoch: &str, code| {
        let args = [args, &["--epoch", epoch]].concat();
        expect_exit(&mut import(&daemon, &path, &args), code)
    };
    let again: Value = serde_json::from_str(&with(&args, epoch, 0).0).unwrap();
    assert_eq!((&again["sent"], &again["already"]), (&0.into(), &10.into()), "{again}");
    // The same options may be written in another way.
    with(&["--framing", "{ kind = \"packet\" }", "--source", "1", "--decode", "packet"], epoch, 0);
    for other in [
        ["--framing", "packet", "--source", "2"],
        ["--framing", "packet", "--source", "apid"],
        ["--framing", "packet, max = 100", "--source", "1"],
        ["--framing", "fixed, length = 13", "--source", "1"],
    ] {
        let (_, said) = with(&other, epoch, 2);
        assert!(said.contains("had other options"), "{said}");
    }
    let (plain, _) = epoch.split_once('-').unwrap();
    with(&args, plain, 0);
    for unreadable in ["0", "5-", "5-xyz"] {
        let (_, said) = with(&args, unreadable, 2);
        assert!(said.contains("--epoch"), "{unreadable}: {said}");
    }
    assert_eq!(daemon.stop().archived, 10);
}

/// An interrupt ends an import whose input does not come.
#[test]
fn an_interrupt_ends_an_import_that_waits_for_its_input() {
    let mut daemon = Daemon::start("[log]\nlevel = \"debug\"");
    let mut command = import(&daemon, Path::new("-"), &["--framing", "packet", "--source", "1"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&packet(5, 0, b"content")).unwrap();
    daemon.wait_line(" processed ");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let lines: Vec<_> = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok).collect();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{lines:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["acked"], &report["complete"]), (&1.into(), &false.into()), "{report}");
    let last = lines.last().unwrap();
    assert!(last.contains("not complete; to continue: ") && last.contains("--epoch "), "{last}");
    drop(stdin);
    daemon.stop();
}
