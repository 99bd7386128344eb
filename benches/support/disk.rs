//! Measures the disk without the daemon, with writes like those of the archive: into preallocated files, with
//! `fdatasync`.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use tempfile::TempDir;

use super::median;

/// Bytes of one sequential write: the most that a commit of the archive holds.
const PIECE_BYTES: usize = 1 << 20;
/// Number of writes. Together they are a file of 1 GiB, more than the caches of the disk hold.
const PIECES: usize = 1 << 10;
/// Alignment of direct writes, in memory and in the file.
const ALIGN_BYTES: usize = 4 << 10;
/// Bytes of a small commit.
const APPEND_BYTES: usize = 4 << 10;

/// How bytes reach the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through the page cache.
    Buffered,
    /// Past the page cache, with `O_DIRECT`.
    Direct,
}

/// The disk that holds the archives of the benches.
pub struct Disk {
    dir: TempDir,
    /// Bytes per second of each file written, `[buffered, direct]`.
    rates: [Vec<f64>; 2],
}

impl Disk {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), rates: Default::default() }
    }

    /// Writes one file in order in each way and syncs each piece. See [`Self::sequential_bytes_per_s`].
    pub fn write_sequential(&mut self) {
        for way in [Way::Buffered, Way::Direct] {
            // Some file systems do not support direct writes.
            if let Ok(rate) = self.write_file(way) {
                self.rates[way as usize].push(rate);
            }
        }
    }

    /// Writes a file and returns the bytes per second.
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

    /// The median over the files written so far, for the faster way.
    pub fn sequential_bytes_per_s(&self) -> f64 {
        let [buffered, direct] = self.ways_bytes_per_s();
        buffered.max(direct)
    }

    /// The medians `[buffered, direct]`. 0 if the file system does not support the way.
    pub fn ways_bytes_per_s(&self) -> [f64; 2] {
        self.rates.each_ref().map(|rates| if rates.is_empty() { 0.0 } else { median(rates.iter().copied()) })
    }

    /// Appends and syncs a small piece `count` times, with `pause` in between. Returns the times in nanoseconds.
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

    /// Makes a file with `bytes` allocated on the disk.
    fn file(&self, bytes: u64) -> File {
        let file = tempfile::tempfile_in(self.dir.path()).unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, bytes).unwrap();
        file.sync_all().unwrap();
        file
    }
}
