//! Recordings of real spacecraft go through the daemon and come back byte for byte.

mod support;

use std::path::{Path, PathBuf};

use support::Daemon;
use support::command::{aggregator, expect_exit, output, say_aloud, uplink_sim};

/// A recording, and where a made-up one stands in for it.
struct Recording {
    path: PathBuf,
    bytes: Vec<u8>,
    packets: usize,
    _made_up: Option<tempfile::TempDir>,
}

impl Recording {
    /// `name` of the shared data, `packets` in it; made-up packets where the data is not there, which is said.
    fn find(name: &str, packets: usize) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Self { path, bytes, packets, _made_up: None },
            Err(error) => {
                let missing = path.display();
                say_aloud(&format!(
                    "{missing} is not there ({error}): testing with {packets} made-up packets"
                ));
                let dir = tempfile::tempdir().expect("no temporary directory");
                let (path, bytes) = (dir.path().join(name), made_up(packets));
                std::fs::write(&path, &bytes).expect("the packets cannot be written");
                Self { path, bytes, packets, _made_up: Some(dir) }
            }
        }
    }
}

/// Space packets of 7 to 1,506 bytes, sequence counts ascending, contents different from one another.
fn made_up(packets: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for index in 0..packets {
        let data_bytes = index * 37 % 1_500 + 1;
        out.extend_from_slice(&(0x0800 | (index % 6) as u16).to_be_bytes());
        out.extend_from_slice(&(0xC000 | (index as u16 & 0x3FFF)).to_be_bytes());
        out.extend_from_slice(&((data_bytes - 1) as u16).to_be_bytes());
        out.extend((0..data_bytes).map(|at| (at * 31 + index * 7) as u8));
    }
    out
}

/// Sends `recording` from as many sources; everything must be acknowledged.
fn send(daemon: &Daemon, recording: &Recording, satellites: usize, replays: usize) {
    let (connect, satellites, replays) =
        (daemon.address().to_string(), satellites.to_string(), replays.to_string());
    let args =
        ["--connect", &connect, "--satellites", &satellites, "--replays", &replays, "--report", "json"];
    let (report, _) = expect_exit(uplink_sim(args).arg("--input").arg(&recording.path), 0);
    let report: serde_json::Value = serde_json::from_str(&report).expect("a report in JSON");
    assert_eq!((&report["sent"], &report["acked"]), (&recording.packets.into(), &recording.packets.into()));
}

/// `archive cat --format payload` on the daemon's data directory.
fn payloads(daemon: &Daemon, filter: &[&str]) -> Vec<u8> {
    let data_dir = daemon.archive_dir().parent().expect("the data directory").to_owned();
    let mut command = aggregator(["archive", "cat", "--format", "payload"]);
    let ran = output(command.args(filter).arg(data_dir));
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
}

/// Not `assert_eq`, which would print both files.
fn assert_same(found: &[u8], recording: &Recording) {
    let differs = found.iter().zip(&recording.bytes).position(|(found, sent)| found != sent);
    assert!(
        differs.is_none() && found.len() == recording.bytes.len(),
        "{}: {} bytes sent, {} came back, the first that differs is at {differs:?}",
        recording.path.display(),
        recording.bytes.len(),
        found.len()
    );
}

#[test]
fn a_live_recording_comes_back_byte_for_byte() {
    let mut daemon = Daemon::start("");
    let recording = Recording::find("europa_clipper.ccsds", 1_030);
    send(&daemon, &recording, 1, 0);
    let books = daemon.stop();
    assert_eq!(books.archived, recording.packets as u64);
    assert_same(&payloads(&daemon, &[]), &recording);
    assert_same(&payloads(&daemon, &["--kind", "live", "--source", "0"]), &recording);
    assert!(payloads(&daemon, &["--kind", "replay"]).is_empty());
}

#[test]
fn a_replayed_recording_comes_back_byte_for_byte() {
    let mut daemon = Daemon::start("");
    let recording = Recording::find("ssat_hs_apid130.ccsds", 14_351);
    send(&daemon, &recording, 0, 1);
    let books = daemon.stop();
    assert_eq!(books.archived, recording.packets as u64);
    assert_same(&payloads(&daemon, &["--kind", "replay"]), &recording);
    assert!(payloads(&daemon, &["--kind", "live"]).is_empty());
}

#[test]
fn a_pass_and_a_replay_at_the_same_time_do_not_mix() {
    let mut daemon = Daemon::start("");
    let pass = Recording::find("europa_clipper.ccsds", 1_030);
    let replay = Recording::find("ssat_hs_apid130.ccsds", 14_351);
    std::thread::scope(|scope| {
        scope.spawn(|| send(&daemon, &pass, 1, 0));
        scope.spawn(|| send(&daemon, &replay, 0, 1));
    });
    daemon.stop();
    assert_same(&payloads(&daemon, &["--kind", "live"]), &pass);
    assert_same(&payloads(&daemon, &["--kind", "replay"]), &replay);
}
