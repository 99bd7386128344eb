//! The exports of full segments: together they hold each frame once, in order, whatever happened meanwhile.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::audit::frames;
use crate::scene::RECOVERY_MAX;
use crate::setup::{names, segments};
use crate::support::wait::wait_within;
use crate::track::{Faults, Track};

/// The directory of the exports, beside that of the data.
const DIR: &str = "export";

/// The keys of `[archive]` that export each full segment.
pub fn keys() -> String {
    format!("export = \"{DIR}\"\nexport_format = \"jsonl\"\n")
}

/// Waits until every full segment is exported.
pub fn wait(archive_dir: &Path) {
    wait_within(RECOVERY_MAX, "the exports of all full segments", || {
        let mut missing = segments(archive_dir);
        missing.pop();
        let marks = names(archive_dir, ".exported");
        missing.retain(|segment| !marks.contains(&segment.replace(".seg", ".exported")));
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are not exported")) }
    });
}

/// Reads all exports below `home`, from the first offset on. Returns what is wrong, and the number of frames.
pub fn check(home: &Path) -> (Faults, u64) {
    let (mut track, mut next_offset) = (Track::default(), 0);
    for files in by_segment(&home.join(DIR)).values() {
        // A segment has a file for each day.
        let open = |path: &PathBuf| frames(File::open(path).expect("an export"));
        let mut of_segment: Vec<_> = files.iter().flat_map(open).collect();
        of_segment.sort_by_key(|frame| frame.offset);
        for frame in of_segment {
            if frame.offset != next_offset {
                let gap = frame.offset.abs_diff(next_offset);
                track.faults.lose(gap, format!("in exports offset {} follows {next_offset}", frame.offset));
            }
            next_offset = frame.offset + 1;
            track.take(&frame);
        }
    }
    (track.faults, next_offset)
}

/// The exported files by the first offset of their segment.
fn by_segment(dir: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for day in std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        for name in names(&day.path(), ".jsonl") {
            files.entry(name.clone()).or_default().push(day.path().join(name));
        }
    }
    files
}
