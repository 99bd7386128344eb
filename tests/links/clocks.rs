//! Wrong clocks: equipment with absurd reception times, and steps of the daemon's own clock.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use crate::equipment::{connect, listening, wait_for};
use crate::shim::{Field, Shim};
use crate::support::command::{aggregator, expect_exit};
use crate::support::http::get_json;
use crate::support::{Daemon, Launch, not_tested};

const DAY_NS: i64 = 86_400_000_000_000;
const YEAR_NS: i64 = 365 * DAY_NS;
/// Days from 1958 to 1970.
const EPOCH_DAYS: i64 = 4_383;
/// Frames of this size fill a segment of the tests' defaults soon.
const CONTENT_BYTES: usize = 12_000;

/// Unix milliseconds of KISS, and the reception time that a frame gets: the same, or none.
const KISS_TIMES: [(u64, i64); 6] = [
    (0, 0),
    (1, 1_000_000),
    (9_223_372_036_854, 9_223_372_036_854_000_000),
    (9_223_372_036_855, 0),
    (i64::MAX as u64, 0),
    (u64::MAX, 0),
];
/// Days since 1958, milliseconds and microseconds of an NCTRS, and the reception time that a frame gets.
const NCTRS_TIMES: [(u16, u32, u16, i64); 5] = [
    (0, 0, 0, -EPOCH_DAYS * DAY_NS),
    (u16::MAX, 86_399_999, 999, (u16::MAX as i64 - EPOCH_DAYS + 1) * DAY_NS - 1_000),
    (u16::MAX, u32::MAX, u16::MAX, 0),
    (EPOCH_DAYS as u16, 86_401_000, 0, 0),
    (EPOCH_DAYS as u16, 0, 1_000, 0),
];

/// A frame of KISS with the time before it.
fn kiss(unix_ms: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xC0, 0x09];
    for byte in unix_ms.to_be_bytes() {
        match byte {
            0xC0 => bytes.extend_from_slice(&[0xDB, 0xDC]),
            0xDB => bytes.extend_from_slice(&[0xDB, 0xDD]),
            plain => bytes.push(plain),
        }
    }
    bytes.extend_from_slice(&[0xC0, 0xC0, 0x00]);
    bytes.extend_from_slice(content);
    bytes.push(0xC0);
    bytes
}

/// A data unit of an NCTRS with this time.
fn nctrs(days: u16, ms: u32, us: u16, content: &[u8]) -> Vec<u8> {
    let mut unit = (20 + content.len() as u32).to_be_bytes().to_vec();
    unit.extend_from_slice(&[0, 123, 0, 2, 0, 7]);
    unit.extend_from_slice(&days.to_be_bytes());
    unit.extend_from_slice(&ms.to_be_bytes());
    unit.extend_from_slice(&us.to_be_bytes());
    unit.extend_from_slice(&[0, 0]);
    [&unit, content].concat()
}

/// Equipment with wrong clocks, and the number of frames that it has sent.
struct Equipment {
    kiss: TcpStream,
    nctrs: TcpStream,
    sent: usize,
}

impl Equipment {
    /// Sends one frame with each time over both links, and waits until all are frames.
    fn send(&mut self, daemon: &Daemon, content: &[u8]) {
        for (ms, _) in KISS_TIMES {
            self.kiss.write_all(&kiss(ms, content)).unwrap();
        }
        for (days, ms, us, _) in NCTRS_TIMES {
            self.nctrs.write_all(&nctrs(days, ms, us, content)).unwrap();
        }
        self.sent += 1;
        let rounds = self.sent;
        wait_for(daemon, "kiss", "frames", |link| link["counts"]["kept"] == rounds * KISS_TIMES.len());
        wait_for(daemon, "nctrs", "frames", |link| link["counts"]["kept"] == rounds * NCTRS_TIMES.len());
    }

    fn frames(&self) -> usize {
        self.sent * (KISS_TIMES.len() + NCTRS_TIMES.len())
    }
}

/// The reception times of the frames of `source`, in the order in which they were sent.
fn reception_times(daemon: &Daemon, source: u32) -> Vec<i64> {
    let frames = daemon.archived();
    frames.iter().filter(|frame| frame.source_id == source).map(|frame| frame.ert_ns).collect()
}

/// The time that the daemon reads, in nanoseconds since 1970.
fn daemon_time_ns(daemon: &Daemon) -> i64 {
    get_json(daemon.http(), "/api/v1/stats")["time_ms"].as_i64().unwrap().saturating_mul(1_000_000)
}

#[test]
fn absurd_times_of_equipment_and_steps_of_the_own_clock_lose_no_frame() {
    let shim = match Shim::build() {
        Ok(shim) => shim,
        Err(why) => return not_tested(format_args!("steps of the clock: {why}")),
    };
    let station = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "[archive]\nretention_age = \"1h\"\n{}[[links]]\nname = \"nctrs\"\nconnect = \"{}\"\nstation = \"KOUROU\"\n\
         source = 8\nframing = {{ kind = \"nctrs\", max = 16000 }}\n",
        listening("kiss", "station = \"KIRUNA\"\nframing = { kind = \"kiss\", max = 16000 }\nsource = 7"),
        station.local_addr().unwrap()
    );
    let prepare = |command: &mut Command| shim.preload(command);
    let launch = Launch { through: &[], prepare: &prepare };
    let mut daemon = Daemon::launch_at(tempfile::tempdir().unwrap(), &config, &launch);
    let mut equipment =
        Equipment { kiss: connect(&daemon, "kiss"), nctrs: station.accept().unwrap().0, sent: 0 };
    let content = vec![7; CONTENT_BYTES];
    let start_ns = daemon_time_ns(&daemon);
    // One step is to a time before 1970, which the daemon reads as 1970.
    for offset_ns in [0, 40 * YEAR_NS, -40 * YEAR_NS, -start_ns - DAY_NS, 0] {
        shim.set(Field::ClockOffsetNs, offset_ns);
        let off_ns = daemon_time_ns(&daemon) - (start_ns + offset_ns).max(0);
        assert!(off_ns.abs() < 60_000_000_000, "the clock of the daemon is off by {off_ns} ns more");
        // More than a segment: retention looks at the sealed ones.
        (0..80).for_each(|_| equipment.send(&daemon, &content));
    }
    let books = daemon.stop();
    assert_eq!(books.archived, equipment.frames() as u64);
    assert_eq!(daemon.archived().len(), equipment.frames(), "nothing has expired");
    let kiss = KISS_TIMES.map(|(_, ert_ns)| ert_ns).repeat(equipment.sent);
    let nctrs = NCTRS_TIMES.map(|(.., ert_ns)| ert_ns).repeat(equipment.sent);
    assert!(reception_times(&daemon, 7) == kiss && reception_times(&daemon, 8) == nctrs);
    assert!(!daemon.lines().iter().any(|line| line.contains("panicked")));
    expect_exit(aggregator(["archive", "verify"]).arg(daemon.archive_dir()), 0);
    for format in ["csv", "parquet"] {
        let out = daemon.home().join(format);
        let mut export = aggregator(["archive", "export", "--format", format, "--out"]);
        expect_exit(export.arg(out).arg(daemon.archive_dir()), 0);
    }
    // The next start reads the absurd times.
    let mut daemon = daemon.relaunch(&launch);
    daemon.stop();
}
