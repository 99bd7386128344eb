//! What the disk does by itself, written as the archive writes: into preallocated files, with `fdatasync`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::fs::{FallocateFlags, fallocate};
use tempfile::TempDir;

use super::median;

/// Written at a time in order, the most a commit of the archive holds.
const PIECE_BYTES: usize = 1 << 20;
const PIECES: usize = 64;
/// What a small commit takes.
const APPEND_BYTES: usize = 4 << 10;

/// The disk the archives of the benches lie on.
pub struct Disk {
    dir: TempDir,
    /// Bytes per second of each file written.
    rates: Vec<f64>,
}

impl Disk {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), rates: Vec::new() }
    }

    /// Writes one file in order, each piece synced, for [`Self::sequential_bytes_per_s`].
    pub fn write_sequential(&mut self) {
        let file = self.file((PIECE_BYTES * PIECES) as u64);
        let piece = vec![7; PIECE_BYTES];
        let started = Instant::now();
        for at in 0..PIECES {
            file.write_all_at(&piece, (at * PIECE_BYTES) as u64).unwrap();
            file.sync_data().unwrap();
        }
        self.rates.push((PIECE_BYTES * PIECES) as f64 / started.elapsed().as_secs_f64());
    }

    /// The median of the files written so far.
    pub fn sequential_bytes_per_s(&self) -> f64 {
        median(self.rates.iter().copied())
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
