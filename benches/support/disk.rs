//! What the disk does by itself, written as the archive writes: into preallocated files, with `fdatasync`.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use tempfile::TempDir;

use super::median;

/// Written at a time in order, the most a commit of the archive holds.
const PIECE_BYTES: usize = 1 << 20;
/// As many as leave the caches of the disk behind: a file of 1 GiB.
const PIECES: usize = 1 << 10;
/// What direct writes are aligned to, in memory and in the file.
const ALIGN_BYTES: usize = 4 << 10;
/// What a small commit takes.
const APPEND_BYTES: usize = 4 << 10;

/// How bytes go to the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By way of the page cache.
    Buffered,
    /// Past the page cache, with `O_DIRECT`.
    Direct,
}

/// The disk the archives of the benches lie on.
pub struct Disk {
    dir: TempDir,
    /// Bytes per second of each file written, `[buffered, direct]`.
    rates: [Vec<f64>; 2],
}

impl Disk {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), rates: Default::default() }
    }

    /// Writes a file in order in each way, each piece synced, for [`Self::sequential_bytes_per_s`].
    pub fn write_sequential(&mut self) {
        for way in [Way::Buffered, Way::Direct] {
            // Some file systems have no direct writes.
            if let Ok(rate) = self.write_file(way) {
                self.rates[way as usize].push(rate);
            }
        }
    }

    /// Bytes per second.
    fn write_file(&self, way: Way) -> std::io::Result<f64> {
        let path = self.dir.path().join("sequential");
        let flags = if way == Way::Direct { OFlags::DIRECT } else { OFlags::empty() };
        let file = File::options().write(true).create(true).custom_flags(flags.bits() as i32).open(&path)?;
        std::fs::remove_file(&path)?;
        fallocate(&file, FallocateFlags::empty(), 0, (PIECE_BYTES * PIECES) as u64)?;
        file.sync_all()?;
        let memory = vec![7; PIECE_BYTES + ALIGN_BYTES];
        let aligned_at = memory.as_ptr().align_offset(ALIGN_BYTES);
        let piece = &memory[aligned_at..][..PIECE_BYTES];
        let started = Instant::now();
        for at in 0..PIECES {
            file.write_all_at(piece, (at * PIECE_BYTES) as u64)?;
            file.sync_data()?;
        }
        Ok((PIECE_BYTES * PIECES) as f64 / started.elapsed().as_secs_f64())
    }

    /// The median of the files written so far, in the way in which it is higher.
    pub fn sequential_bytes_per_s(&self) -> f64 {
        let [buffered, direct] = self.ways_bytes_per_s();
        buffered.max(direct)
    }

    /// The medians `[buffered, direct]`; 0 where the file system has no such writes.
    pub fn ways_bytes_per_s(&self) -> [f64; 2] {
        self.rates.each_ref().map(|rates| if rates.is_empty() { 0.0 } else { median(rates.iter().copied()) })
    }

    /// Appends and syncs a small piece `count` times, `pause` apart, and returns how long each took in nanoseconds.
    pub fn sync_small(&self, count: usize, pause: Duration) -> Histogram<u64> {
        let file = self.file((count * APPEND_BYTES) as u64);
        let piece = vec![7; APPEND_BYTES];
        let mut syncs = Histogram::new(3).unwrap();
        for at in 0..count {
            std::thread::sleep(pause);
            let started = Instant::now();
            file.write_all_at(&piece, (at * APPEND_BYTES) as u64).unwrap();
            file.sync_data().unwrap();
            syncs.record(started.elapsed().as_nanos() as u64).unwrap();
        }
        syncs
    }

    /// A file of `bytes` that the disk has room for.
    fn file(&self, bytes: u64) -> File {
        let file = tempfile::tempfile_in(self.dir.path()).unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, bytes).unwrap();
        file.sync_all().unwrap();
        file
    }
}
