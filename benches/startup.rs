//! Measures the time and the memory that opening an archive after a kill takes, compared with an empty archive.
//! Neither may grow with the archive.
//!
//!     cargo bench --bench startup -- [GIB] [DIR]
//!
//! A separate process writes GIB (1) of frames into a temporary directory in DIR. The bench kills it in the middle of
//! a commit that no block attests. Other processes then open the archive, at first with none of it in the page cache.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use archive::{Commit, Config, DiskStorage};
use bytes::Bytes;
use frame::{
    Frame, FrameFlags, FramePriority, Origin, SourceKind, Station, StreamKey, batch_of, unix_now_ns,
};
use rustix::fs::{Advice, fadvise};

const PAYLOAD_BYTES: usize = 1_115;
const BATCH_FRAMES: usize = 64;
const STREAMS: u32 = 50;
/// The least part of the newest segment that is full. A start reads this segment.
const NEWEST_FULL: f64 = 0.9;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", dir, gib] => write(dir.into(), gib.parse().unwrap()),
        ["open", dir] => open(dir.into()),
        _ => {
            let gib = args.first().map_or(1.0, |gib| gib.parse().unwrap());
            let within = args.get(1).map_or_else(std::env::temp_dir, PathBuf::from);
            compare(gib, &within);
        }
    }
}

fn compare(gib: f64, within: &Path) {
    let temp = tempfile::tempdir_in(within).unwrap();
    let (full, empty) = (temp.path().join("full"), temp.path().join("empty"));
    let started = Instant::now();
    write_and_kill(&full, gib);
    let (segments, bytes, newest) = sizes(&full);
    println!(
        "written in {:.0} s: {:.2} GiB in {segments} segments, {} MiB in the newest",
        started.elapsed().as_secs_f64(),
        bytes as f64 / f64::from(1 << 30),
        newest >> 20,
    );
    evict(&full);
    println!("new             {}", opened(&empty));
    println!("empty           {}", opened(&empty));
    println!("killed, uncached{}", opened(&full));
    println!("closed well     {}", opened(&full));
}

/// Starts a process that writes, and kills it while it writes.
fn write_and_kill(dir: &Path, gib: f64) {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["write", dir.to_str().unwrap(), &gib.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(writer.stdout.take().unwrap()).read_line(&mut line).unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_eq!(line, "enough\n");
}

/// The number of segments, their bytes, and the bytes of the newest.
fn sizes(dir: &Path) -> (usize, u64, u64) {
    let mut sizes: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "seg"))
        .map(|entry| (entry.file_name(), entry.metadata().unwrap().len()))
        .collect();
    sizes.sort();
    (sizes.len(), sizes.iter().map(|(_, bytes)| bytes).sum(), sizes.last().map_or(0, |(_, bytes)| *bytes))
}

/// Removes the files from the page cache.
fn evict(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let file = std::fs::File::open(path).unwrap();
            file.sync_all().unwrap();
            fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        }
    }
}

/// Opens `dir` in a separate process and returns the output of that process.
fn opened(dir: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["open", dir.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn config(dir: PathBuf) -> Config {
    Config { dir, ..config::Config::default().archive_config() }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn open(dir: PathBuf) {
    let started = Instant::now();
    let (appender, archive, recovery) = archive::open(config(dir), DiskStorage, |_: &Commit<'_>| {}).unwrap();
    let elapsed = started.elapsed();
    println!(
        " {:>8.1} ms, peak memory {:>4} MiB, {} frames rewritten, {} segments scanned, next offset {}",
        elapsed.as_secs_f64() * 1e3,
        memory_max_mib(),
        recovery.rewritten_frames,
        recovery.segments_scanned,
        recovery.next_offset,
    );
    drop(appender);
    runtime().block_on(archive.finish()).unwrap();
}

fn memory_max_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// Writes until there is enough and reports that. Then continues to write until it is killed.
fn write(dir: PathBuf, gib: f64) {
    let enough = (gib * f64::from(1 << 30)) as u64;
    let config = config(dir.clone());
    let newest_full = (config.segment_bytes as f64 * NEWEST_FULL) as u64;
    let (appender, archive, _) = archive::open(config, DiskStorage, |_: &Commit<'_>| {}).unwrap();
    let origins: Vec<_> = (0..STREAMS).map(origin).collect();
    let payload = Bytes::from(vec![0xA5; PAYLOAD_BYTES]);
    let stats = archive.stats();
    let written = || stats.bytes.load(std::sync::atomic::Ordering::Relaxed);
    let mut said = false;
    runtime().block_on(async {
        for batch in 0_u64.. {
            let frames = (0..BATCH_FRAMES as u64).map(|index| {
                let number = batch * BATCH_FRAMES as u64 + index;
                frame(&origins[(number % u64::from(STREAMS)) as usize], number, &payload)
            });
            appender.append(batch_of(frames)).await.unwrap();
            if !said && batch.is_multiple_of(256) && written() >= enough {
                said = is_full(&dir, newest_full);
            }
        }
    });
}

/// Whether the newest segment is full enough. If so, reports that.
fn is_full(dir: &Path, newest_full: u64) -> bool {
    let (.., newest) = sizes(dir);
    if newest >= newest_full {
        println!("enough");
    }
    newest >= newest_full
}

fn origin(source_id: u32) -> Arc<Origin> {
    let station = Station::new("Svalbard").unwrap();
    let stream = StreamKey { source_id, source_kind: SourceKind::LiveUplink, station };
    Arc::new(Origin { stream, epoch: 1 })
}

fn frame(origin: &Arc<Origin>, sequence: u64, payload: &Bytes) -> Frame {
    Frame {
        source_id: origin.stream.source_id,
        source_kind: origin.stream.source_kind,
        priority: FramePriority::Routine,
        flags: FrameFlags::default(),
        sequence,
        ert_ns: 0,
        received_ns: unix_now_ns(),
        origin: Arc::clone(origin),
        payload: payload.clone(),
    }
}
