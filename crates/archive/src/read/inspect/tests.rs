use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::format::names::segment_name;
use crate::tests::support::{config, origin, routine, start_with};
use crate::{Config, build_indexes};

/// Writes an archive of four segments without indexes to `dir`. Returns the base of each segment and the end offset.
async fn four_segments(dir: &Path) -> Vec<u64> {
    let mut running = start_with(Config { dir: dir.to_owned(), ..config() }, DiskStorage, None);
    let mut next = 0;
    while running.archive.stats().rotations.load(Relaxed) < 3 {
        running.commit((next..next + 60).map(|sequence| routine(&origin(1, 7), sequence)).collect()).await;
        next += 60;
    }
    running.finish().await;
    list_segments(dir).unwrap().into_iter().chain([next]).collect()
}

#[tokio::test]
async fn segments_are_described_up_to_the_last_block() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    assert!(!holds_archive(dir).unwrap());
    let offsets = four_segments(dir).await;
    assert!(holds_archive(dir).unwrap());
    assert_eq!(oldest_offset(dir).unwrap(), 0);
    build_indexes(Arc::new(DiskStorage), dir).unwrap();
    let described: Vec<_> = segments(dir).unwrap().map(Result::unwrap).collect();
    for (segment, range) in described.iter().zip(offsets.windows(2)) {
        assert_eq!([segment.base_offset, segment.next_offset], [range[0], range[1]]);
        assert_eq!(segment.header.map(|header| header.base_offset), Some(range[0]));
    }
    assert_eq!(described[0].received_ns, Some(7..=(offsets[1] - 1) as i64 * 1_000 + 7));
    assert_eq!(described[3].received_ns, None, "the newest segment has no index");
}

#[tokio::test]
async fn a_segment_that_retention_removes_is_passed_over_and_any_other_is_missed() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let offsets = four_segments(dir).await;
    let listed = segments(dir).unwrap();
    std::fs::remove_file(dir.join(segment_name(0))).unwrap();
    let described: Vec<_> = listed.map(|segment| segment.unwrap().base_offset).collect();
    assert_eq!(described, offsets[1..4]);
    let listed = segments(dir).unwrap();
    std::fs::remove_file(dir.join(segment_name(offsets[2]))).unwrap();
    let failed: Vec<_> = listed.map(|segment| segment.is_err()).collect();
    assert_eq!(failed, [false, true, false]);
}

#[tokio::test]
async fn a_misnamed_segment_hides_its_frames_unless_another_has_them() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let offsets = four_segments(dir).await;
    let (path, wrong) = (dir.join(segment_name(offsets[1])), dir.join(segment_name(offsets[1] + 1)));
    std::fs::copy(&path, &wrong).unwrap();
    let [found] = &misnamed_segments(dir).unwrap()[..] else { panic!("one is misnamed") };
    assert_eq!((&found.segment, found.header_offset), (&wrong, offsets[1]));
    assert!(found.is_duplicate() && found.explain().ends_with("move this one out of the archive"));
    assert_eq!(found.hidden_offsets().unwrap(), 0);
    std::fs::remove_file(path).unwrap();
    assert!(!found.is_duplicate() && found.explain().ends_with("archive repair recovers its frames"));
    assert_eq!(found.hidden_offsets().unwrap(), offsets[2] - offsets[1]);
    // The misnamed segment is skipped.
    let states: Vec<_> = check_indexes(dir).unwrap().map(|index| index.unwrap().state).collect();
    assert_eq!(states, [IndexState::Missing; 2]);
}
