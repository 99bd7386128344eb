//! The daemon as a process of its own, and what it took.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

/// Ticks of /proc/PID/stat per second on Linux.
const TICKS: f64 = 100.0;

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    pub ingest: SocketAddr,
    pub feed: SocketAddr,
}

impl Daemon {
    /// Starts one in `dir`, and returns when it is up.
    pub fn start(dir: &Path) -> Self {
        let ready = dir.join("ready.json");
        // An earlier one may have been killed there.
        let _ = std::fs::remove_file(&ready);
        let child = Command::new(env!("CARGO_BIN_EXE_telemetry-aggregator"))
            .args(["run", "--ready-file"])
            .arg(&ready)
            .current_dir(dir)
            .env("TELEMETRY_AGGREGATOR__INGEST__LISTEN", "127.0.0.1:0")
            .env("TELEMETRY_AGGREGATOR__FEED__LISTEN", "127.0.0.1:0")
            .env("TELEMETRY_AGGREGATOR__FEED__MAX_SUBSCRIBERS", "64")
            .env("TELEMETRY_AGGREGATOR__INGEST__MEMORY_LIMIT", "1 GiB")
            .env("TELEMETRY_AGGREGATOR__LOG__LEVEL", "error")
            .spawn()
            .unwrap();
        while !ready.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let addresses: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        let address = |name: &str| addresses[name].as_str().unwrap().parse().unwrap();
        Self { child, ingest: address("ingest"), feed: address("feed") }
    }

    pub fn cpu_s(&self) -> f64 {
        cpu_s(self.child.id())
    }

    /// Bytes read from files so far: sockets are read in another way.
    pub fn read_bytes(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
        read.trim().parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a process so far, in user and system mode.
pub fn cpu_s(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // utime and stime are the 14th and 15th fields; the 2nd, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
}
