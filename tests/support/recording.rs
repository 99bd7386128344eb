//! Recordings of real spacecraft that tests send through a daemon.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::command::{expect_exit, say_aloud, uplink_sim};
use super::{Daemon, not_tested};

/// A recording, or a made-up one if the real one is missing.
pub struct Recording {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub packets: usize,
    _made_up: Option<tempfile::TempDir>,
}

impl Recording {
    /// The recording `name` of the shared data with `packets` packets. If the data is missing, this reports that and
    /// makes up packets.
    pub fn find(name: &str, packets: usize) -> Self {
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

/// The recording of CADUs of Suomi NPP: its path and its bytes. Reports it if the shared data is missing.
pub fn snpp_cadus() -> Option<(PathBuf, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/snpp_cadus.dat");
    let bytes = std::fs::read(&path);
    if bytes.is_err() {
        not_tested(format_args!("CADUs of Suomi NPP, {} is not there", path.display()));
    }
    Some((path, bytes.ok()?))
}

/// Space packets of 7 to 1,506 bytes with ascending sequence counts. The contents differ from packet to packet.
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

/// Sends `recording` from this many satellites and replays. The daemon must acknowledge every frame.
pub fn send(daemon: &Daemon, recording: &Recording, satellites: usize, replays: usize) {
    let options = format!("--satellites {satellites} --replays {replays}");
    send_to(daemon.address(), recording, &options);
}

/// Sends `recording` to `address` with more `options`. The daemon must acknowledge every frame.
pub fn send_to(address: SocketAddr, recording: &Recording, options: &str) {
    let connect = address.to_string();
    let args = ["--connect", &connect, "--report", "json"].into_iter().chain(options.split(' '));
    let (report, _) = expect_exit(uplink_sim(args).arg("--input").arg(&recording.path), 0);
    let report: serde_json::Value = serde_json::from_str(&report).expect("a report in JSON");
    assert_eq!((&report["sent"], &report["acked"]), (&recording.packets.into(), &recording.packets.into()));
}
