//! Measures the cost of reading an archive: the whole log compared with plain reads of the same files, and one source
//! of 48.
//!
//!     cargo bench --bench archive -- 2000
//!
//! The argument is the size of the archive in MB. The default is 1000. The bench first writes the archive to a
//! temporary directory in the build directory. Files that were just written are in the page cache. The extra cost of
//! a cold disk depends on the bytes read, so the bench counts them. Compare only figures of the same run: machines
//! differ.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench prints and may fail")]

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use archive::{self, Access, Commit, Config, DiskStorage, Filter, Item, Reader, Storage, StorageFile};
use bytes::Bytes;
use frame::{Frame, FrameFlags, FramePriority, Origin, Selection, SourceKind, Station, StreamKey, batch_of};
use tokio::runtime::Runtime;

const SOURCES: u32 = 48;
/// Consecutive frames of one source, as sessions deliver them.
const TURN: u64 = 16;
const PAYLOAD_BYTES: std::ops::Range<usize> = 64..1_116;
const ROUNDS: usize = 5;

fn main() {
    // `cargo test --benches` runs benches only to see that they work, so nothing is measured then.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("run it with: cargo bench --bench archive");
        return;
    }
    let megabytes: u64 = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(1_000);
    // In the build directory, which is on a real disk. /tmp may be in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    write(dir.path(), megabytes * 1_000_000);
    let bytes = segment_bytes(dir.path());
    println!("{:.2} GB in {} segments", bytes as f64 / 1e9, segments(dir.path()).len());
    remove_indexes(dir.path());
    let without = query(dir.path(), 7, None);
    let started = Instant::now();
    let written = archive::build_indexes(Arc::new(DiskStorage), dir.path()).unwrap();
    let elapsed = started.elapsed();
    println!(
        "indexes: {written} built at {:.0} MB/s, {:.2} % of the archive",
        bytes as f64 / 1e6 / elapsed.as_secs_f64(),
        index_bytes(dir.path()) as f64 / bytes as f64 * 100.0,
    );
    sequential(dir.path(), bytes);
    let sealed = newest_base(dir.path());
    println!("one source of {SOURCES}, no index:         {without}");
    println!("one source of {SOURCES}, indexes:          {}", query(dir.path(), 7, None));
    println!("one source of {SOURCES}, sealed segments:  {}", query(dir.path(), 7, Some(sealed)));
    println!("a source without frames, sealed:    {}", query(dir.path(), 1_000, Some(sealed)));
}

/// Removes the indexes that the archive has built by itself.
fn remove_indexes(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "idx") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// Writes an archive of about `bytes` bytes. The sources take turns.
fn write(dir: &Path, bytes: u64) {
    let config = Config::new(dir.to_owned(), 64, PAYLOAD_BYTES.end);
    let (appender, log, _) = archive::open(config, DiskStorage, |_: &Commit<'_>| {}).unwrap();
    let origins: Vec<Arc<Origin>> = (0..SOURCES).map(origin).collect();
    let payload = Bytes::from((0..PAYLOAD_BYTES.end).map(|at| at as u8).collect::<Vec<_>>());
    Runtime::new().unwrap().block_on(async {
        let (mut written, mut count) = (0, 0_u64);
        for turn in 0_u64.. {
            let origin = &origins[turn as usize % origins.len()];
            let batch: Vec<Frame> = (0..TURN)
                .map(|_| {
                    count += 1;
                    // Lengths spread over the whole range, the same in each run.
                    let spread = (count * 7_919) as usize % PAYLOAD_BYTES.len();
                    frame(origin, count, payload.slice(..PAYLOAD_BYTES.start + spread))
                })
                .collect();
            written += batch.iter().map(|frame| 32 + frame.payload.len() as u64).sum::<u64>();
            appender.append(batch_of(batch)).await.unwrap();
            if written >= bytes {
                break;
            }
        }
        drop(appender);
        log.finish().await.unwrap();
    });
}

fn origin(source_id: u32) -> Arc<Origin> {
    let station = Station::new("Svalbard").unwrap();
    let stream = StreamKey { source_id, source_kind: SourceKind::LiveUplink, station };
    Arc::new(Origin { stream, epoch: 1 })
}

fn frame(origin: &Arc<Origin>, sequence: u64, payload: Bytes) -> Frame {
    Frame {
        source_id: origin.stream.source_id,
        source_kind: origin.stream.source_kind,
        priority: FramePriority::Routine,
        flags: FrameFlags::default(),
        sequence,
        ert_ns: 0,
        received_ns: sequence as i64 * 1_000,
        origin: Arc::clone(origin),
        payload,
    }
}

fn files(dir: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}

fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    files(dir, "seg")
}

fn segment_bytes(dir: &Path) -> u64 {
    segments(dir).iter().map(|path| path.metadata().unwrap().len()).sum()
}

fn index_bytes(dir: &Path) -> u64 {
    files(dir, "idx").iter().map(|path| path.metadata().unwrap().len()).sum()
}

/// Compares reading the whole archive with the reader to plain reads of its files of the same size.
fn sequential(dir: &Path, bytes: u64) {
    let speed = |elapsed: Duration| bytes as f64 / 1e6 / elapsed.as_secs_f64();
    let plain = median(|| {
        let mut buffer = vec![0; 256 << 10];
        for path in segments(dir) {
            let mut file = std::fs::File::open(path).unwrap();
            while io::Read::read(&mut file, &mut buffer).unwrap() > 0 {}
        }
    });
    let mut frames = 0;
    let reader =
        median(|| frames = Reader::open(dir, Filter::default()).unwrap().map(Result::unwrap).count());
    println!(
        "everything in order: {:.0} MB/s, {:.1} M frames/s; plain reads {:.0} MB/s; ratio {:.2}",
        speed(reader),
        frames as f64 / 1e6 / reader.as_secs_f64(),
        speed(plain),
        plain.as_secs_f64() / reader.as_secs_f64(),
    );
}

fn median(mut act: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            act();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

/// The base of the newest segment. It is still being written and has no index, so readers read it in full.
fn newest_base(dir: &Path) -> u64 {
    let newest = segments(dir).pop().unwrap();
    newest.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// Reads all frames of one source below `to_offset`. Returns a text with the cost.
fn query(dir: &Path, source: u32, to_offset: Option<u64>) -> String {
    let selection = Selection::of_sources([source]);
    let filter = Filter { selection, to_offset, ..Filter::default() };
    let (mut returned, mut frames, mut read) = (0, 0_u64, 0);
    let elapsed = median(|| {
        let storage = Counting(Arc::default());
        let reader = Reader::open_on(Arc::new(storage.clone()), dir, filter.clone()).unwrap();
        (returned, frames) = (0, 0);
        for item in reader {
            let Item::Frame(stored) = item.unwrap() else { panic!("the archive is not whole") };
            returned += 32 + stored.frame.payload.len() as u64;
            frames += 1;
        }
        read = storage.0.load(Ordering::Relaxed);
    });
    format!(
        "{:.1} ms, {frames} frames, {:.1} MB returned, {:.1} MB read",
        elapsed.as_secs_f64() * 1e3,
        returned as f64 / 1e6,
        read as f64 / 1e6,
    )
}

/// A disk storage that counts the bytes read.
#[derive(Clone)]
struct Counting(Arc<AtomicU64>);

impl Storage for Counting {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DiskStorage.create_dir(dir)
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        DiskStorage.lock(dir)
    }

    fn identity(&self, dir: &Path) -> io::Result<(u64, u64)> {
        DiskStorage.identity(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        DiskStorage.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(CountedFile(DiskStorage.open(path, access)?, Arc::clone(&self.0))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        DiskStorage.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        DiskStorage.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        DiskStorage.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        DiskStorage.free_bytes(dir)
    }
}

struct CountedFile(Box<dyn StorageFile>, Arc<AtomicU64>);

impl StorageFile for CountedFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn is_linked(&self) -> io::Result<bool> {
        self.0.is_linked()
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let count = self.0.read_at(buffer, at)?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.0.write_at(bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        self.0.allocate(from, to)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}
