//! Tests that write log files on the real file system, direct and through the page cache, while a reader reads them.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::disk::Tmpfs;
use super::support::not_tested;
use crate::storage::is_not_direct;
use crate::storage::log_file::LogFile;
use crate::{Access, DiskStorage, Storage as _};

/// Opens a log file at `path`. Returns `None` if the file system does not support this way of writing.
fn open(path: &Path, access: Access, end: u64, is_direct: bool) -> Option<LogFile> {
    let file = DiskStorage.open(path, access).unwrap();
    if !is_direct {
        return Some(LogFile::cached(file, end));
    }
    match LogFile::direct(file, end) {
        Err(error) if is_not_direct(&error) => {
            not_tested(format_args!("direct writes in {}: {error}", path.display()));
            None
        }
        result => Some(result.unwrap()),
    }
}

/// The test byte at position `at`. The pages differ from each other.
fn byte_at(at: u64) -> u8 {
    ((at ^ (at >> 7)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8 | 1
}

fn bytes_from(at: u64, len: u64) -> Vec<u8> {
    (at..at + len).map(byte_at).collect()
}

fn holds(path: &Path, end: u64) -> bool {
    let read = std::fs::read(path).unwrap();
    read.len() as u64 >= end && read.iter().zip(0..end).all(|(byte, at)| *byte == byte_at(at))
}

/// A reader finds exactly what was written, at any position and with either way of writing.
#[test]
fn pieces_appended_in_order_read_back_as_one() {
    for is_direct in [false, true] {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("file");
        let Some(mut log) = open(&path, Access::Create, 0, is_direct) else { continue };
        log.file().allocate(0, 1 << 20).unwrap();
        let mut end = 0;
        let lens = [5_000, 1, 8, 4_095, 4_096, 4_097, 100_000, 64, 12_288, 500_001, 3];
        for (round, len) in lens.into_iter().enumerate() {
            if round == 5 {
                // A file that is opened again has no copy of its last page in memory.
                log = open(&path, Access::ReadWrite, end, is_direct).unwrap();
            }
            log.append(&bytes_from(end, len), end).unwrap();
            log.file().sync_data().unwrap();
            end += len;
            assert!(holds(&path, end), "after {len} bytes");
            let read = std::fs::read(&path).unwrap();
            assert_eq!(read.len(), 1 << 20, "what is allocated stays");
            assert!(read[end as usize..].iter().all(|byte| *byte == 0), "after {len} bytes");
        }
    }
}

/// Reads `path` repeatedly until `synced` is `u64::MAX`. Every other time it opens the file again; otherwise it uses a
/// descriptor that stays open. It also reads beyond `synced`, so that pages enter the cache while they are written.
/// Returns how many bytes it has seen.
fn watch(path: &Path, synced: &AtomicU64) -> u64 {
    let stays = File::open(path).unwrap();
    let (mut seen, mut round) = (0, 0u64);
    loop {
        let end = synced.load(Acquire);
        if end == u64::MAX {
            return seen;
        }
        let reopened;
        let file = match round % 2 {
            0 => &stays,
            _ => {
                reopened = File::open(path).unwrap_or_else(|_| stays.try_clone().unwrap());
                &reopened
            }
        };
        let from = if round.is_multiple_of(16) { 0 } else { end.saturating_sub(20_000) };
        let mut bytes = vec![0; (end - from) as usize + 50_000];
        let count = file.read_at(&mut bytes, from).unwrap();
        assert!(count as u64 >= end - from, "{count} bytes from {from}, synced to {end}");
        for (at, byte) in (from..).zip(&bytes[..count]) {
            let is_right = *byte == byte_at(at) || (*byte == 0 && at >= end);
            assert!(is_right, "byte {at} is {byte}, synced to {end}");
        }
        seen += count as u64;
        round += 1;
    }
}

/// Appends 400 pieces. Allocates, cuts and renames the file meanwhile.
fn grow(mut log: LogFile, path: &Path, synced: &AtomicU64) -> u64 {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut end, mut allocated) = (0, 0);
    for round in 0..400 {
        let len = rng.random_range(1..[200, 5_000, 60_000][round % 3]);
        if round % 50 == 10 {
            // Space is not always allocated ahead, as on a full disk. The allocated length is never a multiple of a
            // page.
            log.file().allocate(allocated, end + 300_001).unwrap();
            allocated = end + 300_001;
        }
        if round == 200 {
            DiskStorage.rename(path, &path.with_extension("renamed")).unwrap();
        }
        if round % 100 == 99 {
            log.file().set_len(end).unwrap();
            allocated = end;
        }
        log.append(&bytes_from(end, len), end).unwrap();
        log.file().sync_data().unwrap();
        end += len;
        synced.store(end, Release);
    }
    log.file().set_len(end).unwrap();
    end
}

#[test]
fn a_reader_of_a_growing_file_never_sees_other_bytes() {
    for is_direct in [false, true] {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("file");
        let Some(log) = open(&path, Access::Create, 0, is_direct) else { continue };
        let synced = Arc::new(AtomicU64::new(0));
        let watchers: Vec<_> = (0..2)
            .map(|_| {
                let (path, synced) = (path.clone(), Arc::clone(&synced));
                std::thread::spawn(move || watch(&path, &synced))
            })
            .collect();
        let end = grow(log, &path, &synced);
        synced.store(u64::MAX, Release);
        for watcher in watchers {
            assert!(watcher.join().unwrap() > 0);
        }
        let renamed = path.with_extension("renamed");
        assert_eq!(std::fs::metadata(&renamed).unwrap().len(), end);
        assert!(holds(&renamed, end));
    }
}

#[test]
fn a_write_refused_by_a_full_disk_changes_nothing() {
    let Some(tmpfs) = Tmpfs::mount() else {
        return not_tested(format_args!("a full tmpfs, for none can be mounted"));
    };
    for is_direct in [false, true] {
        let ballast = tmpfs.path().join("ballast");
        std::fs::write(&ballast, vec![1; 300 << 10]).unwrap();
        let path = tmpfs.path().join("file");
        let Some(mut log) = open(&path, Access::Create, 0, is_direct) else { continue };
        let (mut end, mut refused) = (0, 0);
        while end < 900_000 {
            match log.append(&bytes_from(end, 30_011), end) {
                Ok(()) => end += 30_011,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
                    refused += 1;
                    std::fs::remove_file(&ballast).unwrap();
                }
            }
            assert!(holds(&path, end));
        }
        assert_eq!(refused, 1);
        std::fs::remove_file(&path).unwrap();
    }
}
