//! On the real file system: the gate on a small tmpfs, the lock, and a reader beside the writer.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::space::{FanIn, full_and_back};
use super::support::*;
use crate::archive::storage::{append_all_at, write_all_at};
use crate::archive::{Access, Config, DiskStorage, Filter, Item, Reader, Storage as _};

/// A tmpfs of 1 MiB, if this process may mount one.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "archive-test"])
            .arg(dir.path())
            .output();
        let mounted = mount.is_ok_and(|output| output.status.success());
        mounted.then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        _ = std::process::Command::new("umount").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_full_tmpfs_closes_the_gate_and_space_opens_it_again() {
    let Some(tmpfs) = Tmpfs::mount() else {
        use std::io::Write as _;
        // Past the capture of passed tests' output.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "NOT TESTED HERE: a full tmpfs, for none can be mounted").unwrap();
        return;
    };
    let ballast = tmpfs.path().join("ballast");
    std::fs::write(&ballast, vec![1; 400 << 10]).unwrap();
    let dir = tmpfs.path().join("data/archive");
    let config = Config { dir: dir.clone(), ..config() };
    let fan_in = FanIn::new(start_on(config, DiskStorage));
    let passed = full_and_back(fan_in, 50, move || std::fs::remove_file(ballast).unwrap()).await;
    assert_eq!(read_disk(&dir), (0..passed).collect::<Vec<_>>());
}

/// Whatever is written where, through the page cache or past it, is what is read.
#[test]
fn what_is_appended_in_pieces_lies_there_in_one() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = dir.path().join("file");
    let mut written: Vec<u8> = (0..5_000u32).map(|at| at as u8).collect();
    let file = DiskStorage.open(&path, Access::Create).unwrap();
    file.allocate(0, 1 << 20).unwrap();
    write_all_at(&*file, &written, 0).unwrap();
    let mut file = file;
    for (round, bytes) in [1, 8, 4_095, 4_096, 4_097, 100_000, 64, 12_288, 200_001, 3].into_iter().enumerate()
    {
        if round == 5 {
            // What the page held before is not remembered any more.
            file = DiskStorage.open(&path, Access::ReadWrite).unwrap();
        }
        let piece: Vec<u8> = (0..bytes).map(|at: u32| (at * 7 + bytes) as u8).collect();
        append_all_at(&*file, &piece, written.len() as u64).unwrap();
        written.extend(piece);
        file.sync_data().unwrap();
        let read = std::fs::read(&path).unwrap();
        assert_eq!(read.len(), 1 << 20, "what is allocated stays");
        assert!(read[..written.len()] == written, "after {bytes} bytes");
        assert!(read[written.len()..].iter().all(|byte| *byte == 0), "after {bytes} bytes");
    }
}

/// What the byte at `at` is; no stretch of pages is like another.
fn byte_at(at: u64) -> u8 {
    ((at ^ (at >> 7)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8 | 1
}

/// Reads `path` over and over, anew and by one descriptor that stays open, beyond what is synced too, so that pages get
/// into the cache while they are written; returns how many bytes it has seen.
fn watch(path: &Path, synced: &AtomicU64) -> u64 {
    let stays = File::open(path).unwrap();
    let (mut seen, mut round) = (0, 0u64);
    loop {
        let end = synced.load(Acquire);
        if end == u64::MAX {
            return seen;
        }
        let anew;
        let file = match round % 2 {
            0 => &stays,
            _ => {
                anew = File::open(path).unwrap_or_else(|_| stays.try_clone().unwrap());
                &anew
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

#[test]
fn who_reads_a_file_while_it_grows_never_finds_other_bytes() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let mut path = dir.path().join("file");
    let file = DiskStorage.open(&path, Access::Create).unwrap();
    let synced = Arc::new(AtomicU64::new(0));
    let watchers: Vec<_> = (0..2)
        .map(|_| {
            let (path, synced) = (path.clone(), Arc::clone(&synced));
            std::thread::spawn(move || watch(&path, &synced))
        })
        .collect();
    let mut rng = StdRng::seed_from_u64(1);
    let (mut end, mut allocated) = (0, 0);
    for round in 0..400 {
        let len = rng.random_range(1..[200, 5_000, 60_000][round % 3]);
        let piece: Vec<u8> = (end..end + len).map(byte_at).collect();
        if round % 50 == 10 {
            // Not always there, as on a full disk, and never a multiple of a page.
            file.allocate(allocated, end + 300_001).unwrap();
            allocated = end + 300_001;
        }
        if round == 200 {
            let renamed = dir.path().join("renamed");
            DiskStorage.rename(&path, &renamed).unwrap();
            path = renamed;
        }
        if round % 100 == 99 {
            file.set_len(end).unwrap();
            allocated = end;
        }
        append_all_at(&*file, &piece, end).unwrap();
        file.sync_data().unwrap();
        end += len;
        synced.store(end, Release);
    }
    file.set_len(end).unwrap();
    synced.store(u64::MAX, Release);
    for watcher in watchers {
        assert!(watcher.join().unwrap() > 0);
    }
    let read = std::fs::read(&path).unwrap();
    assert_eq!(read.len() as u64, end);
    assert!(read.iter().zip(0..).all(|(byte, at)| *byte == byte_at(at)));
}

#[test]
fn what_a_full_disk_refuses_harms_nothing_that_was_there() {
    let Some(tmpfs) = Tmpfs::mount() else {
        use std::io::Write as _;
        let mut stderr = std::io::stderr();
        writeln!(stderr, "NOT TESTED HERE: a full tmpfs, for none can be mounted").unwrap();
        return;
    };
    let ballast = tmpfs.path().join("ballast");
    std::fs::write(&ballast, vec![1; 300 << 10]).unwrap();
    let path = tmpfs.path().join("file");
    let file = DiskStorage.open(&path, Access::Create).unwrap();
    let (mut end, mut refused) = (0, 0);
    while end < 900_000 {
        let piece: Vec<u8> = (end..end + 30_011).map(byte_at).collect();
        match append_all_at(&*file, &piece, end) {
            Ok(()) => end += piece.len() as u64,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
                refused += 1;
                std::fs::remove_file(&ballast).unwrap();
            }
        }
        let read = std::fs::read(&path).unwrap();
        assert!(read.iter().zip(0..end).all(|(byte, at)| *byte == byte_at(at)));
    }
    assert_eq!(refused, 1);
}

fn read_disk(dir: &Path) -> Vec<u64> {
    let sequence = |item| match item {
        Ok(Item::Frame(stored)) => stored.frame.sequence,
        other => panic!("{other:?}"),
    };
    Reader::open(dir, Filter::default()).unwrap().map(sequence).collect()
}

#[tokio::test]
async fn the_real_disk_keeps_what_was_written_and_locks_its_directory() {
    let temp = tempfile::tempdir().unwrap();
    let config = Config { dir: temp.path().join("data/archive"), ..config() };
    let mut running = start_on(config.clone(), DiskStorage);
    for sequence in 0..2_000 {
        running.append(vec![routine(&origin(1, 1), sequence)]).await;
    }
    let mut watermark = running.archive.watermark();
    watermark.wait_for(|offset| *offset == 2_000).await.unwrap();
    let second = crate::archive::open(config.clone(), DiskStorage, |_: &crate::archive::Commit<'_>| {});
    assert!(matches!(second, Err(crate::archive::OpenError::Locked(_))));
    assert_eq!(read_disk(&config.dir), (0..2_000).collect::<Vec<_>>());
    running.commits.close();
    running.finish().await;
    let running = start_on(config.clone(), DiskStorage);
    assert_eq!(running.recovery.next_offset, 2_000);
    running.finish().await;
    let names: Vec<PathBuf> =
        std::fs::read_dir(&config.dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(names.iter().all(|name| !name.ends_with("recovery.tmp")), "{names:?}");
}

#[tokio::test]
async fn a_reader_beside_the_writer_sees_a_growing_log_and_no_damage() {
    let temp = tempfile::tempdir().unwrap();
    let config = Config { dir: temp.path().join("archive"), ..config() };
    let running = start_on(config.clone(), DiskStorage);
    let dir = config.dir.clone();
    let reader = std::thread::spawn(move || {
        let mut following = Reader::open(&dir, Filter::default()).unwrap();
        let mut next = 0;
        while next < 20_000 {
            // One reader follows the end; each time at the end another reads from the start.
            for item in &mut following {
                match item.unwrap() {
                    Item::Frame(stored) => {
                        assert_eq!((stored.offset, stored.frame.sequence), (next, next))
                    }
                    other => panic!("{other:?}"),
                }
                next += 1;
            }
            let all = read_disk(&dir);
            assert!(all.len() as u64 >= next);
            assert!(all.iter().copied().eq(0..all.len() as u64));
        }
    });
    for batch in 0..1_000 {
        let frames = (0..20).map(|index| routine(&origin(1, 1), batch * 20 + index));
        running.append(frames.collect()).await;
    }
    let mut watermark = running.archive.watermark();
    watermark.wait_for(|offset| *offset == 20_000).await.unwrap();
    tokio::task::spawn_blocking(|| reader.join()).await.unwrap().unwrap();
    assert!(running.archive.stats().rotations.load(std::sync::atomic::Ordering::Relaxed) > 5);
    running.finish().await;
}
