//! Archives for the tests of the commands. The library writes them as in the daemon.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use clap::Parser;

use super::super::{Command, CommandError, run};
use archive::{Appender, Archive, Commit, Config, DiskStorage, Recovery, open};
use frame::{Frame, FramePriority, batches_of};

pub(super) use frame::sample::{emergency, frame, origin, routine};

/// A command line `archive ...`.
#[derive(Parser)]
pub(super) struct Line {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Runs `archive <line>` on `dir` and returns its result and output.
pub(super) fn archive(line: &str, dir: &Path) -> (Result<bool, CommandError>, String) {
    let mut words: Vec<_> = ["archive"].into_iter().chain(line.split(' ')).collect();
    let dir = dir.to_str().unwrap();
    words.insert(2, dir);
    let mut out = Vec::new();
    let result = run(&Line::try_parse_from(words).unwrap().command, &mut out);
    (result, String::from_utf8(out).unwrap())
}

/// A running archive.
pub(super) struct Running {
    appender: Appender,
    archive: Archive,
    pub(super) recovery: Recovery,
}

/// Opens the archive directory `dir` with small segments, so that little data causes many rotations.
pub(super) fn start(dir: &Path) -> Running {
    let config = Config {
        commit_delay: Duration::ZERO,
        segment_bytes: 192 << 10,
        reserve_bytes: 128 << 10,
        ..Config::new(dir.to_owned(), 16, 256)
    };
    let (appender, archive, recovery) = open(config, DiskStorage, |_: &Commit<'_>| {}).unwrap();
    Running { appender, archive, recovery }
}

impl Running {
    /// Appends `frames` and waits until they are durable.
    pub(super) async fn commit(&mut self, frames: Vec<Frame>) {
        let mut watermark = self.archive.watermark();
        let next = *watermark.borrow() + frames.len() as u64;
        for batch in batches_of(frames) {
            self.appender.append(batch).await.unwrap();
        }
        watermark.wait_for(|offset| *offset >= next).await.unwrap();
    }

    pub(super) async fn finish(self) {
        drop(self.appender);
        self.archive.finish().await.unwrap();
    }
}

/// A data directory with an archive of three frames, still running.
pub(super) async fn three_frames(data_dir: &Path) -> Running {
    let mut running = start(&data_dir.join("archive"));
    running.commit(vec![routine(&origin(1, 7), 1), frame(&origin(2, 8), FramePriority::Routine, 2, 3)]).await;
    running.commit(vec![emergency(&origin(1, 7), 3)]).await;
    running
}

/// Leaves a closed archive of three segments without any index. The first two are sealed.
pub(super) async fn three_segments(data_dir: &Path) {
    let dir = data_dir.join("archive");
    let mut running = start(&dir);
    let mut sequence = 0;
    while running.archive.stats().rotations.load(Relaxed) < 2 {
        let batch = (sequence..sequence + 60).map(|sequence| routine(&origin(1, 7), sequence));
        running.commit(batch.collect()).await;
        sequence += 60;
    }
    running.finish().await;
    // The archive may have written indexes.
    for path in std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|extension| extension == "idx") {
            std::fs::remove_file(path).unwrap();
        }
    }
}
