//! Exports, read by an independent reader and by hand. Also exports to a disk that is full or missing.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use archive::{Commit, Config, DiskStorage, open};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use export::{ExportConfig, ExportError, ExportFormat, Exporter};
use serde_json::Value;

use crate::support::command::{aggregator, expect_exit};
use crate::support::mount::Tmpfs;
use crate::support::python::Python;
use crate::support::recording::{Recording, send};
use crate::support::{
    Archived, Client, Daemon, EMERGENCY, Frame, Hello, Launch, ROUTINE, archived, not_tested, wait_until,
};

/// The highest epoch that the protocol allows.
const EPOCH: u64 = (1 << 63) - 1;

/// Runs `archive export` on the archive in `dir` and expects `exit` as the exit code. Returns stdout and stderr.
fn export(dir: &Path, out: &Path, format: &str, filter: &[&str], exit: i32) -> (String, String) {
    let mut command = aggregator(["archive", "export", "--format", format]);
    expect_exit(command.args(filter).arg("--out").arg(out).arg(dir), exit)
}

/// The row that Polars must find for a frame of the archive.
fn expected(frame: &Archived) -> Value {
    let day_ns = 86_400_000_000_000;
    let days = humantime::format_rfc3339(
        std::time::UNIX_EPOCH + std::time::Duration::from_nanos((frame.received_ns / day_ns * day_ns) as u64),
    );
    serde_json::json!({
        "offset": frame.offset,
        "source_id": frame.source_id,
        "source_kind": (["live", "replay"][usize::from(frame.kind)]),
        "station": frame.station,
        "epoch": frame.epoch,
        "priority": (["emergency", "routine"][frame.lane]),
        "sequence": frame.sequence,
        "flags": frame.flags,
        "ert": (frame.ert_ns != 0).then_some(frame.ert_ns),
        "received": frame.received_ns,
        "payload": hex(&frame.payload),
        "date": days.to_string()[..10],
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends frames that use every field of a frame, as protocol.md describes them. The frames are durable when this
/// returns.
fn send_by_hand(daemon: &Daemon) -> Vec<Frame> {
    let hello = Hello::new(4_000_000_000).epoch(EPOCH).station("Svålbard, \"North\"");
    let (mut client, _) = Client::open(daemon.address(), &hello);
    let frame = |lane, sequence, flags, ert_ns, payload: &[u8]| Frame {
        flags,
        ert_ns,
        ..Frame::new(lane, sequence, payload)
    };
    let frames = vec![
        frame(ROUTINE, 0, 0, 0, b""),
        frame(EMERGENCY, 5, 3, 1_785_542_399_999_999_999, b"SAFE_MODE"),
        frame(ROUTINE, u64::MAX - 1, 255, 1, &[0, 255, 10, 13, 34, 44]),
    ];
    let mut next = [0, 0];
    for frame in &frames {
        client.send_frame(frame);
        next[usize::from(frame.priority)] = frame.sequence + 1;
        client.wait_durable(usize::from(frame.priority), frame.sequence + 1);
    }
    assert_eq!(client.bye(next), next);
    frames
}

#[test]
fn polars_reads_the_sent_frames_from_parquet() {
    let python = match Python::find() {
        Ok(python) => python,
        Err(error) => return not_tested(format_args!("Parquet by an independent reader: {error}")),
    };
    let mut daemon = Daemon::start("");
    let pass = Recording::find("europa_clipper.ccsds", 1_030);
    let replay = Recording::find("ssat_hs_apid130.ccsds", 14_351);
    let by_hand = send_by_hand(&daemon);
    send(&daemon, &pass, 1, 0);
    send(&daemon, &replay, 0, 1);
    daemon.stop();
    let out = tempfile::tempdir().unwrap();
    let (said, _) = export(&daemon.archive_dir(), out.path(), "parquet", &[], 0);
    let rows = by_hand.len() + pass.packets + replay.packets;
    assert!(said.starts_with(&format!("exported {rows} rows to ")), "{said}");

    let read = python.script("read_export.py", out.path());
    let mut lines = read.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let time = "Datetime(time_unit='ns', time_zone='UTC')";
    assert_eq!(
        lines.next().unwrap(),
        serde_json::json!({
            "offset": "UInt64", "source_id": "UInt32", "source_kind": "String", "station": "String",
            "epoch": "UInt64", "priority": "String", "sequence": "UInt64", "flags": "UInt8",
            "ert": time, "received": time, "payload": "Binary", "date": "Date",
        })
    );
    let lines: Vec<Value> = lines.collect();
    assert_eq!(lines.len(), rows);
    for (line, frame) in lines.iter().zip(daemon.archived()) {
        assert_eq!(*line, expected(&frame));
    }
    // Compare with the bytes that the test itself put on the wire, without the reader of the archive.
    for (line, frame) in lines.iter().zip(&by_hand) {
        assert_eq!(line["source_id"], 4_000_000_000_u32);
        assert_eq!(line["station"], "Svålbard, \"North\"");
        assert_eq!(line["epoch"], EPOCH);
        assert_eq!(line["sequence"], frame.sequence);
        assert_eq!(line["flags"], frame.flags);
        assert_eq!(line["ert"].as_i64().unwrap_or(0), frame.ert_ns);
        assert_eq!(line["payload"], *hex(&frame.payload));
    }
    let sent_by = |kind: &str| {
        let lines = lines[by_hand.len()..].iter().filter(|line| line["source_kind"] == *kind);
        lines.map(|line| line["payload"].as_str().unwrap()).collect::<String>()
    };
    assert!(sent_by("live") == hex(&pass.bytes), "the live recording differs");
    assert!(sent_by("replay") == hex(&replay.bytes), "the replayed recording differs");
}

#[test]
fn text_exports_equal_the_output_of_cat() {
    let mut daemon = Daemon::start("");
    send_by_hand(&daemon);
    daemon.stop();
    let out = tempfile::tempdir().unwrap();
    let [jsonl, csv] = ["jsonl", "csv"].map(|format| {
        let out = out.path().join(format);
        export(&daemon.archive_dir(), &out, format, &["--priority", "routine"], 0);
        let mut entries = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
        let partition = entries.find(|path| path.is_dir()).unwrap();
        std::fs::read_to_string(partition.join(format!("{:020}.{format}", 0))).unwrap()
    });
    let mut cat = aggregator(["archive", "cat", "--priority", "routine"]);
    let (cat, _) = expect_exit(cat.arg(daemon.archive_dir()), 0);
    assert_eq!(jsonl, cat);
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    let frames = daemon.archived();
    let routine: Vec<&Archived> = frames.iter().filter(|frame| frame.lane == ROUTINE).collect();
    assert_eq!(rows.len(), routine.len());
    for (row, frame) in rows.iter().zip(routine) {
        assert_eq!(row[3], frame.station);
        assert_eq!(row[8], frame.ert_ns.to_string());
        assert_eq!(row[9], frame.received_ns.to_string());
        assert_eq!(STANDARD.decode(&row[10]).unwrap(), frame.payload);
    }
}

/// Makes an archive of about `bytes` bytes in `dir`. Its payloads do not compress.
fn noise(dir: &Path, bytes: usize) {
    const PAYLOAD_BYTES: usize = 4_000;
    let stream = frame::StreamKey {
        source_id: 1,
        source_kind: frame::SourceKind::LiveUplink,
        station: frame::Station::default(),
    };
    let origin = Arc::new(frame::Origin { stream, epoch: 1 });
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut frame = |sequence| frame::Frame {
        source_id: 1,
        source_kind: frame::SourceKind::LiveUplink,
        priority: frame::FramePriority::Routine,
        flags: frame::FrameFlags::default(),
        sequence,
        ert_ns: 0,
        received_ns: 0,
        origin: Arc::clone(&origin),
        payload: (0..PAYLOAD_BYTES).map(|_| byte()).collect::<Bytes>(),
    };
    let config = Config::new(dir.to_owned(), 16, PAYLOAD_BYTES);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (appender, archive, _) = open(config, DiskStorage, |_: &Commit<'_>| {}).unwrap();
        for batch in 0..bytes / PAYLOAD_BYTES / 16 {
            for batch in frame::batches_of((0..16).map(|index| frame((batch * 16 + index) as u64))) {
                appender.append(batch).await.unwrap();
            }
        }
        drop(appender);
        archive.finish().await.unwrap();
    });
}

#[test]
fn a_full_disk_ends_an_export_without_partial_files() {
    let Some(disk) = Tmpfs::mount(8 << 20) else {
        return not_tested(format_args!("exports to a full disk: a tmpfs cannot be mounted"));
    };
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("archive");
    noise(&dir, 12 << 20);
    for format in ExportFormat::ALL {
        let out = disk.path().join(format.name());
        let free = disk.free_bytes();
        let (_, error) = export(&dir, &out, format.name(), &[], 1);
        assert!(error.contains("no space to export to "), "{error}");
        assert!(
            error.contains("for one segment; free space there or export to another directory"),
            "{error}"
        );
        let left: Vec<_> = std::fs::read_dir(out.join("date=1970-01-01")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(disk.free_bytes() + (64 << 10) > free, "{} of {free} bytes came back", disk.free_bytes());
    }
    // The exporter in the background starts no file that could take the space of the archive itself.
    let config = ExportConfig { dir: dir.clone(), out: disk.path().join("csv"), format: ExportFormat::Csv };
    let exporter = Exporter::new(config);
    let error = exporter.export_segment(0, archived(&dir).len() as u64).unwrap_err();
    assert!(matches!(error, ExportError::NoSpace { .. }), "{error}");
    assert!(!exporter.is_exported(0));

    let (said, _) = export(&dir, &disk.path().join("some"), "parquet", &["--limit", "96"], 0);
    assert!(said.starts_with("exported 96 rows to 1 files, "), "{said}");
    let elsewhere = home.path().join("out");
    export(&dir, &elsewhere, "parquet", &[], 0);
}

#[test]
fn a_failed_export_names_the_path_and_a_remedy() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("archive");
    noise(&dir, 64 << 10);
    let out = home.path().join("no/such/disk");
    let (_, error) = export(&dir, &out, "csv", &[], 1);
    let cannot = format!("cannot create {}: ", out.display());
    assert!(error.contains(&cannot) && error.contains("create the directory it lies in first"), "{error}");
    let (_, error) = export(&dir, &dir, "csv", &[], 1);
    assert!(error.contains("choose a directory beside the archive"), "{error}");
}

/// The permission bits of `path`.
fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

/// Everything below `dir`.
fn below(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { [below(&path), vec![path]].concat() } else { vec![path] })
        .collect()
}

/// With the most generous umask.
#[test]
fn no_other_user_can_read_what_the_daemon_keeps_except_an_export() {
    let home = tempfile::tempdir().unwrap();
    let (data, out) = (home.path().join("data"), home.path().join("export"));
    let reader = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "[archive]\nexport = {out:?}\n[[outputs]]\nname = \"yamcs\"\nconnect = \"{}\"\nstart = \"cursor\"\n",
        reader.local_addr().unwrap()
    );
    let generous = Launch { through: &["sh", "-c", "umask 000; exec \"$@\"", "sh"], prepare: &|_| {} };
    let mut daemon = Daemon::launch_at(home, &config, &generous);
    let connection = reader.accept().unwrap();
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    let frames = 600;
    for sequence in 0..frames {
        client.frame_within_credit(ROUTINE, sequence, &[7; 16_000]);
    }
    client.bye([0, frames]);
    daemon.wait_line("segment exported");
    let cursor = data.join("outputs/yamcs");
    wait_until("the cursor", || if cursor.exists() { Ok(()) } else { Err("no file".to_owned()) });
    drop(connection);
    daemon.stop();
    assert!(!daemon.lines().iter().any(|line| line.contains("open to everyone")), "the directory is private");

    assert_eq!(mode(&data), 0o700);
    let kept = below(&data);
    for suffix in [".seg", ".idx", ".exported", "yamcs", "outputs", "archive"] {
        let is_there = kept.iter().any(|path| path.to_string_lossy().ends_with(suffix));
        assert!(is_there, "no {suffix} in {kept:?}");
    }
    for path in kept {
        let expected = if path.is_dir() { 0o750 } else { 0o640 };
        assert_eq!(mode(&path), expected, "{}: {:o}", path.display(), mode(&path));
    }
    for path in below(&out) {
        let expected = if path.is_dir() { 0o777 } else { 0o666 };
        assert_eq!(mode(&path), expected, "{}", path.display());
    }

    std::fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    let mut daemon = daemon.restart();
    let warning = daemon.wait_line("open to everyone on this host (mode 0755)");
    assert!(warning.contains(&format!("chmod o-rwx {}", data.display())), "{warning}");
    assert_eq!(mode(&data), 0o755, "the mode of an operator is kept");
    daemon.stop();
}
