//! `telemetry-aggregator import` of recordings that are none, or that somebody has made to do harm.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, kill_process};
use serde_json::Value;

use crate::equipment::{Numbers, packet};
use crate::imports::{file, import};
use crate::inventions::uslp_frame;
use crate::support::command::Running;
use crate::support::process::rss_max_kib_if_running;
use crate::support::wait::wait_within;
use crate::support::{Daemon, LIMIT, Signal};

/// No import may need more memory.
const RSS_MAX_KIB: u64 = 200 << 10;

const FRAMINGS: [&str; 6] = [
    "packet, max = 2000",
    "cadu, length = 1024",
    "fixed, length = 1000",
    "length, length_field_length = 4, num_skip = 4, max_frame_length = 2000",
    "kiss, max = 4000",
    "nctrs, max = 4000",
];

/// How an import ended.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn report(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// Runs `args` on `path` to its end. It must not panic, and must stay within [`RSS_MAX_KIB`].
fn run(daemon: &Daemon, path: &Path, args: &[&str], within: Duration) -> Ran {
    let mut command = import(daemon, path, args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait(child, within)
}

fn wait(mut child: Child, within: Duration) -> Ran {
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |from: &mut dyn std::io::Read| {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    };
    let out = std::thread::spawn(move || read(&mut out));
    let err = std::thread::spawn(move || read(&mut err));
    let (mut child, mut peak_kib) = (Running(child), 0);
    let status = wait_within(within, "the end of the import", || {
        peak_kib = peak_kib.max(rss_max_kib_if_running(child.0.id()).unwrap_or(0));
        child.0.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
    });
    let (out, err) = (out.join().unwrap(), err.join().unwrap());
    assert!(!err.contains("panicked"), "{err}");
    assert!(peak_kib < RSS_MAX_KIB, "{peak_kib} KiB were resident");
    Ran { code: status.code(), out, err }
}

fn hostile() -> Vec<Vec<u8>> {
    let mut numbers = Numbers::new(3);
    let random = [1, 31, 1_000, 300_000].map(|length| numbers.bytes(length));
    // Absurd lengths, delimiters without frames, and frames without delimiters.
    let fills = [0xFF, 0x00, 0xC0, 0x1A].map(|fill| vec![fill; 300_000]);
    let claims = [[0xFF; 4], [0x7F, 0xFF, 0xFF, 0xFF], [0, 0, 0, 0]];
    let claims = claims.map(|claim| [&claim[..], &numbers.bytes(10_000)].concat());
    let cut = packet(5, 0, &[7; 1_500])[..700].to_vec();
    random.into_iter().chain(fills).chain(claims).chain([Vec::new(), cut]).collect()
}

#[test]
fn no_recording_makes_an_import_hang_or_panic() {
    let mut daemon = Daemon::start("");
    for content in hostile() {
        let (_dir, path) = file(&content);
        for framing in FRAMINGS {
            let ran = run(&daemon, &path, &["--framing", framing, "--source", "5"], LIMIT);
            let report = ran.report();
            match ran.code {
                Some(0) => assert_eq!(report["complete"], true, "{framing}: {report}"),
                Some(1) => assert!(!report["problems"][0].is_null(), "{framing}: {report}"),
                code => panic!("{framing}: exit {code:?}: {}", ran.err),
            }
            assert_eq!(report["sent"], report["acked"], "{framing}: {report}");
        }
    }
    daemon.stop();
}

#[test]
fn a_directory_and_an_empty_file_are_named() {
    let mut daemon = Daemon::start("");
    let args = ["--framing", "packet", "--source", "5"];
    let ran = run(&daemon, daemon.home(), &args, LIMIT);
    assert_eq!(ran.code, Some(1));
    let expected = format!("cannot read {}: is a directory", daemon.home().display());
    assert!(ran.err.contains(&expected), "{}", ran.err);
    let (_dir, path) = file(b"");
    let ran = run(&daemon, &path, &args, LIMIT);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("the recording is empty, nothing was sent"), "{}", ran.err);
    daemon.stop();
}

#[test]
fn a_pipe_without_a_writer_can_be_interrupted_and_a_writer_ends_the_wait() {
    let mut daemon = Daemon::start("");
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
    let start = || {
        let mut command = import(&daemon, &pipe, &["--framing", "packet", "--source", "5"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut waiting = start();
    kill_process(Pid::from_child(&waiting), Signal::INT).unwrap();
    let status = waiting.wait().unwrap();
    assert!(status.signal() == Some(Signal::INT.as_raw()) || status.code() == Some(1), "{status}");

    let child = start();
    // This waits until the import has opened the pipe.
    let mut writer = OpenOptions::new().write(true).open(&pipe).unwrap();
    writer.write_all(&[packet(5, 0, b"one"), packet(5, 1, b"two")[..4].to_vec()].concat()).unwrap();
    drop(writer);
    let ran = wait(child, LIMIT);
    assert_eq!((ran.code, &ran.report()["acked"]), (Some(0), &1.into()), "{}", ran.err);
    assert_eq!(daemon.stop().archived, 1);
}

#[test]
fn a_file_that_grows_is_imported_up_to_an_end() {
    const PACKETS_MAX: u16 = 16_000;
    let mut daemon = Daemon::start("");
    let (_dir, path) = file(&packet(5, 0, b"content"));
    let is_over = AtomicBool::new(false);
    let (ran, written) = std::thread::scope(|scope| {
        let growing = scope.spawn(|| {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            let mut count = 1;
            while count < PACKETS_MAX && !is_over.load(Ordering::Relaxed) {
                file.write_all(&packet(5, count, b"content")).unwrap();
                count += 1;
            }
            u64::from(count)
        });
        let ran = run(&daemon, &path, &["--framing", "packet", "--source", "5"], LIMIT);
        is_over.store(true, Ordering::Relaxed);
        (ran, growing.join().unwrap())
    });
    let report = ran.report();
    assert_eq!((ran.code, &report["complete"]), (Some(0), &true.into()), "{}", ran.err);
    let sent = report["sent"].as_u64().unwrap();
    assert!((1..=written).contains(&sent), "{sent} of {written} packets");
    assert_eq!((&report["acked"], &report["recording"]["missing"]), (&sent.into(), &0.into()), "{report}");
    assert_eq!(daemon.stop().archived, sent);
}

/// Each frame names a spacecraft and a channel of its own.
#[test]
fn a_recording_of_100_000_sources_ends_with_a_reason_and_in_bounded_memory() {
    const SOURCES_MAX: u64 = 4_096;
    let frames = (0..100_000_u32).flat_map(|id| {
        let mut frame = uslp_frame((id >> 1) as u16, 0);
        // The lowest bit of the virtual channel that this byte contains.
        frame[2] |= (id & 1) as u8;
        frame
    });
    let (_dir, path) = file(&frames.collect::<Vec<_>>());
    let mut daemon = Daemon::start("[ingest]\nmax_streams = 10000");
    let args = ["--framing", "fixed, length = 16", "--decode", "uslp", "--source", "scid-vcid"];
    let ran = run(&daemon, &path, &args, 2 * LIMIT);
    let report = ran.report();
    assert_eq!((ran.code, &report["acked"]), (Some(1), &SOURCES_MAX.into()), "{}", ran.err);
    let problem = report["problems"][0].as_str().unwrap();
    assert!(problem.contains(&format!("more than {SOURCES_MAX} sources")), "{problem}");
    assert_eq!(daemon.stop().archived, SOURCES_MAX);
}
