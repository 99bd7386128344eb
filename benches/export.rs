//! Measures how fast a segment is exported, and how much memory that takes, for each format.
//!
//!     cargo bench --bench export
//!
//! One segment of 256 MiB with frames of 48 satellites at 12 stations. Half of each payload is random. Each export
//! runs in its own process, so that its memory can be measured. The segment is in the page cache.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use archive::{Commit, Config, DiskStorage, Filter, open};
use bytes::Bytes;
use export::{ExportConfig, ExportFormat, Exporter};
use frame::{
    Frame, FrameFlags, FramePriority, Origin, SourceKind, Station, StreamKey, batch_of, unix_now_ns,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const SATELLITES: u32 = 48;
const STATIONS: u32 = 12;
const BATCH_FRAMES: u64 = 64;
const SEGMENT_BYTES: u64 = 256 << 20;
/// Left for block headers and positions, so that the frames fit in one segment.
const MARGIN_BYTES: u64 = 32 << 20;
/// Bytes of a frame in a segment besides its payload.
const FRAME_HEADER_BYTES: u64 = 32;
const ROUNDS: usize = 3;
/// Ticks of /proc/PID/stat per second on Linux.
const TICKS: f64 = 100.0;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().position(|arg| arg == "--export") {
        Some(at) => export(Path::new(&args[at + 1]), Path::new(&args[at + 2]), &args[at + 3]),
        // `cargo test --benches` runs benches only to see that they work, so nothing is measured then.
        None if !args.iter().any(|arg| arg == "--bench") => {
            println!("run it with: cargo bench --bench export")
        }
        None => [64, 1_115].into_iter().for_each(measure),
    }
}

fn measure(payload_bytes: usize) {
    // In the build directory, which is on a real disk. /tmp may be in memory.
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = home.path().join("archive");
    fill(&dir, payload_bytes);
    for format in ["parquet", "csv", "jsonl", "background"] {
        let mut found: Vec<String> = Vec::new();
        for round in 0..ROUNDS {
            let out = home.path().join(format!("{format}-{round}"));
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.arg("--export").args([&dir, &out]).arg(format);
            found.push(String::from_utf8(command.output().unwrap().stdout).unwrap());
            std::fs::remove_dir_all(out).unwrap();
        }
        for line in found {
            print!("{payload_bytes:>5} B  {format:<10} {line}");
        }
    }
}

/// One segment of frames, in the order in which 48 connections would bring them.
fn fill(dir: &Path, payload_bytes: usize) {
    let origins: Vec<Arc<Origin>> = (0..SATELLITES)
        .map(|source_id| {
            let station = Station::new(&format!("station-{}", source_id % STATIONS)).unwrap();
            let stream = StreamKey { source_id, source_kind: SourceKind::LiveUplink, station };
            Arc::new(Origin { stream, epoch: 1_700_000_000 + u64::from(source_id) })
        })
        .collect();
    let mut random = StdRng::seed_from_u64(7);
    let mut sequences = vec![0; SATELLITES as usize];
    let batches = (SEGMENT_BYTES - MARGIN_BYTES) / (payload_bytes as u64 + FRAME_HEADER_BYTES) / BATCH_FRAMES;
    let config = Config {
        dir: dir.to_owned(),
        segment_bytes: SEGMENT_BYTES,
        ..config::Config::default().archive_config()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (appender, archive, _) = open(config, DiskStorage, |_: &Commit<'_>| {}).unwrap();
        for _ in 0..batches {
            let of = (random.next_u32() % SATELLITES) as usize;
            let received_ns = unix_now_ns();
            let batch: Vec<Frame> = (0..BATCH_FRAMES)
                .map(|_| {
                    let mut payload = vec![0; payload_bytes];
                    random.fill_bytes(&mut payload[payload_bytes / 2..]);
                    sequences[of] += 1;
                    Frame {
                        source_id: of as u32,
                        source_kind: SourceKind::LiveUplink,
                        priority: FramePriority::Routine,
                        flags: FrameFlags::default(),
                        sequence: sequences[of],
                        ert_ns: received_ns - 1_000_000_000 + i64::from(random.next_u32() % 1_000_000),
                        received_ns,
                        origin: Arc::clone(&origins[of]),
                        payload: Bytes::from(payload),
                    }
                })
                .collect();
            appender.append(batch_of(batch)).await.unwrap();
        }
        drop(appender);
        archive.finish().await.unwrap();
    });
}

/// Runs the export. The bench calls this in a separate process.
fn export(dir: &Path, out: &Path, format: &str) {
    // Any other name means the export in the background: Parquet, at the daemon's pace.
    let known = ExportFormat::ALL.into_iter().find(|known| known.name() == format);
    let segment = std::fs::metadata(dir.join("00000000000000000000.seg")).unwrap().len();
    let config = ExportConfig { dir: dir.to_owned(), out: out.to_owned(), format: known.unwrap_or_default() };
    let exporter = Exporter::new(config);
    let started = Instant::now();
    let exported = match known {
        Some(_) => exporter.export_all(&Filter::default(), &|_| {}).unwrap(),
        None => exporter.export_segment(0, u64::MAX).unwrap(),
    };
    let seconds = started.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let cpu_s = (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS;
    println!(
        "{:>9.0} rows/s  {:>6.1} MB/s of segment  {:>6.1} MB out  {seconds:>5.2} s  {cpu_s:>5.2} s CPU  peak {peak}",
        exported.rows as f64 / seconds,
        segment as f64 / 1e6 / seconds,
        exported.bytes as f64 / 1e6,
    );
}
