//! `replay` plays recordings of one daemon into another.

mod pauses;
mod problems;
mod resumes;
mod unchanged;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::command::{aggregator, expect_exit, uplink_sim};
use crate::support::lines::Lines;
use crate::support::{Archived, Daemon};

/// A replay that runs while the test runs.
struct Replay {
    child: Child,
    lines: Lines,
}

impl Replay {
    fn start(archive: &Path, connect: SocketAddr, args: &[&str]) -> Self {
        let connect = connect.to_string();
        let mut command = aggregator(["replay", "--connect", &connect, "--report", "json", "--archive"]);
        command.arg(archive).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = Lines::read(child.stderr.take().unwrap());
        Self { child, lines }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for a line on stderr that contains `text`.
    fn wait_line(&self, text: &str) -> String {
        self.lines.wait_line(text)
    }

    /// Waits until the replay exits with `code`. Returns the report and stderr.
    fn wait(self, code: i32) -> (Value, Vec<String>) {
        let Self { child, mut lines } = self;
        let output = child.wait_with_output().unwrap();
        let lines = lines.read_to_end();
        let report = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{report}\n{lines:#?}");
        (serde_json::from_str(&report).unwrap(), lines)
    }
}

fn replay(archive: &Path, connect: SocketAddr, args: &[&str], code: i32) -> Value {
    Replay::start(archive, connect, args).wait(code).0
}

/// Lets `uplink-sim` send to `daemon`. The daemon must acknowledge every frame.
fn simulate(daemon: &Daemon, args: &str) {
    let connect = daemon.address().to_string();
    expect_exit(uplink_sim(["--connect", &connect]).args(args.split_whitespace()), 0);
}

/// A stopped daemon with a recording of several sources. The recording has emergencies, packets of a real spacecraft
/// where the data is present, and one stream in two epochs.
fn recording() -> Daemon {
    let mut daemon = Daemon::start("");
    simulate(
        &daemon,
        "--satellites 3 --replays 1 --stations 2 --frames 300 --emergency-ratio 0.2 --payload 100",
    );
    let packets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/europa_clipper.ccsds");
    if packets.exists() {
        let packets = packets.to_str().unwrap();
        simulate(&daemon, &format!("--satellites 1 --replays 0 --stations 2 --input {packets}"));
    } else {
        simulate(&daemon, "--satellites 1 --replays 0 --stations 2 --frames 1000");
    }
    daemon.stop();
    daemon
}

/// The fields of a frame that a replay keeps.
type Content = (u64, u8, i64, Vec<u8>);

/// The frames of each stream and lane, in their order, for live and replayed streams alike.
fn by_stream(frames: &[Archived]) -> BTreeMap<(u32, String, usize), Vec<Content>> {
    let mut streams: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for frame in frames {
        let stream = (frame.source_id, frame.station.clone(), frame.lane);
        let content = (frame.sequence, frame.flags, frame.ert_ns, frame.payload.clone());
        streams.entry(stream).or_default().push(content);
    }
    streams
}

/// Asserts that both are equal. `assert_eq` would print every payload.
fn assert_same(replayed: &[Archived], recorded: &[Archived]) {
    assert!(replayed.iter().all(|frame| frame.kind == 1), "a replayed frame is not of kind replay");
    let (replayed, recorded) = (by_stream(replayed), by_stream(recorded));
    assert_eq!(replayed.keys().collect::<Vec<_>>(), recorded.keys().collect::<Vec<_>>());
    for (stream, frames) in &recorded {
        let found = &replayed[stream];
        let differs = found.iter().zip(frames).position(|(found, frame)| found != frame);
        assert!(
            differs.is_none() && found.len() == frames.len(),
            "{stream:?}: {} recorded, {} replayed, the first that differs: {differs:?}",
            frames.len(),
            found.len()
        );
    }
}

fn archive_of(daemon: &Daemon) -> PathBuf {
    daemon.archive_dir()
}
