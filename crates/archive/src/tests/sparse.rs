//! Tests of segments that consist mostly of file holes: readers do not read bytes that were never written.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::support::{config, frame, origin, start_with};
use super::watched::Watched;
use crate::format::names::segment_name;
use crate::read::index::{IndexState, check};
use crate::recover::proof_behind;
use crate::storage::dir::Dir;
use crate::storage::dir::list_segments;
use crate::{Config, DiskStorage, Filter, Item, Reader};
use frame::FramePriority::Routine;

const TIB: u64 = 1 << 40;
/// Far more than the archive holds, and far less than a file hole.
const READ_BYTES_MAX: u64 = 64 << 20;

/// Creates an archive of a few segments on the disk. Returns its segments.
async fn archive(dir: &Path) -> Vec<PathBuf> {
    let config = Config { dir: dir.to_owned(), ..config() };
    let mut running = start_with(config, DiskStorage, None);
    for first in (0..40).map(|commit| commit * 40) {
        let frames = (first..first + 40).map(|index| frame(&origin(1, 7), Routine, index, 200));
        running.commit(frames.collect()).await;
    }
    running.finish().await;
    let bases = list_segments(&DiskStorage, dir).unwrap();
    assert!(bases.len() > 2, "{bases:?}");
    bases.into_iter().map(|base| dir.join(segment_name(base))).collect()
}

fn lengthen(path: &Path) {
    File::options().write(true).open(path).unwrap().set_len(TIB).unwrap();
}

#[tokio::test]
async fn a_hole_of_a_tebibyte_is_passed_over_by_reader_check_and_recovery() {
    let home = tempfile::tempdir().unwrap();
    let segments = archive(home.path()).await;
    let watched = Watched::new(DiskStorage);
    for segment in [&segments[1], segments.last().unwrap()] {
        lengthen(segment);
    }
    let mut reader = Reader::open_on(Arc::new(watched.clone()), home.path(), Filter::default()).unwrap();
    let frames = reader.by_ref().filter(|item| matches!(item, Ok(Item::Frame(_)))).count();
    assert_eq!((frames, reader.torn_bytes().unwrap()), (1_600, 0));
    let dir = Dir::new(Arc::new(watched.clone()), home.path().to_owned());
    for base in &dir.segments().unwrap()[..2] {
        assert_eq!(check(&dir, *base).unwrap(), IndexState::Missing);
    }
    let config = Config { dir: home.path().to_owned(), ..config() };
    let running = start_with(config, watched.clone(), None);
    assert_eq!(running.recovery.next_offset, 1_600);
    running.finish().await;
    let read = watched.take_read_bytes();
    assert!(read < READ_BYTES_MAX, "{read} bytes were read");
}

#[tokio::test]
async fn blocks_behind_a_file_hole_are_found() {
    let home = tempfile::tempdir().unwrap();
    let segments = archive(home.path()).await;
    let newest = segments.last().unwrap();
    lengthen(newest);
    File::options().write(true).open(newest).unwrap().write_all_at(b"torn", TIB - 4).unwrap();
    let watched = Watched::new(DiskStorage);
    let dir = Dir::new(Arc::new(watched.clone()), home.path().to_owned());
    let scanner = dir.scan(*dir.segments().unwrap().last().unwrap()).unwrap();
    assert_eq!(scanner.content_end(1 << 30).unwrap(), TIB);
    assert!(proof_behind(&scanner, Some(1), 1 << 30).unwrap().is_none());
    let config = Config { dir: home.path().to_owned(), ..config() };
    let running = start_with(config, watched.clone(), None);
    assert_eq!(running.recovery.next_offset, 1_600);
    assert!(running.recovery.torn_bytes > TIB / 2);
    running.finish().await;
    assert!(newest.metadata().unwrap().len() < TIB, "the torn tail is cut off");
    let read = watched.take_read_bytes();
    assert!(read < READ_BYTES_MAX, "{read} bytes were read");
}
