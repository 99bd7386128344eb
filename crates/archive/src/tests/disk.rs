//! Tests on the real file system: the gate on a small tmpfs, the lock, and a reader beside the writer.

use std::path::{Path, PathBuf};

use super::direct::space::{FanIn, full_and_back};
use super::support::*;
use crate::{Config, DirectIo, DiskStorage, Filter, Item, Reader};

/// A mounted tmpfs of 1 MiB. Requires the right to mount.
pub(super) struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    pub(super) fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "archive-test"])
            .arg(dir.path())
            .output();
        let mounted = mount.is_ok_and(|output| output.status.success());
        mounted.then_some(Self(dir))
    }

    pub(super) fn path(&self) -> &Path {
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
    for direct_io in [DirectIo::Auto, DirectIo::Off] {
        let Some(tmpfs) = Tmpfs::mount() else {
            return not_tested(format_args!("a full tmpfs, for none can be mounted"));
        };
        let ballast = tmpfs.path().join("ballast");
        std::fs::write(&ballast, vec![1; 400 << 10]).unwrap();
        let dir = tmpfs.path().join("data/archive");
        let config = Config { dir: dir.clone(), direct_io, ..config() };
        let fan_in = FanIn::new(start_on(config, DiskStorage));
        let passed = full_and_back(fan_in, 50, move || std::fs::remove_file(ballast).unwrap()).await;
        assert_eq!(read_disk(&dir), (0..passed).collect::<Vec<_>>());
    }
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
    let second = crate::open(config.clone(), DiskStorage, |_: &crate::Commit<'_>| {});
    assert!(matches!(second, Err(crate::OpenError::Locked(_))));
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
            // One reader follows the end of the log. Each time it reaches the end, another reader reads from the start.
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
