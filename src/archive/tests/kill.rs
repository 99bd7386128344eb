//! kill -9 of a real process that writes to a real disk.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::support::*;
use crate::archive::{Commit, Config, DiskStorage, Filter, Item, Reader, open};

/// Tells the child where to write; without it the test below does nothing.
const CHILD_DIR: &str = "ARCHIVE_TEST_CHILD_DIR";
const ACKNOWLEDGED: &str = "acknowledged below ";

fn config_in(dir: PathBuf) -> Config {
    Config { dir, ..config() }
}

/// The child: writes for ever, and says what is acknowledged.
#[tokio::test]
#[ignore = "runs as a child of the next test"]
async fn child_that_writes() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let observer = |commit: &Commit<'_>| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{ACKNOWLEDGED}{}", commit.next_offset).unwrap();
    };
    let (appender, _archive, recovery) = open(config_in(dir.into()), DiskStorage, observer).unwrap();
    let origin = origin(1, 1);
    let mut sequence = recovery.next_offset;
    loop {
        let size = sequence % 40 + 1;
        let frames = (sequence..sequence + size).map(|sequence| routine(&origin, sequence));
        appender.append(frames.collect()).await.unwrap();
        sequence += size;
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_it_acknowledged() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("archive");
    for round in 1..=8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "archive::tests::kill::child_that_writes"])
            .env(CHILD_DIR, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = lines.map_while(Result::ok).filter_map(|line| {
            let offset = line.strip_prefix(ACKNOWLEDGED)?;
            offset.parse::<u64>().ok()
        });
        let some = acknowledged.nth(20 * round).unwrap();
        child.kill().unwrap();
        // What it still managed to say counts as well.
        let last = acknowledged.last().unwrap_or(some);
        child.wait().unwrap();

        let running = start_on(config_in(dir.clone()), DiskStorage);
        let recovery = running.recovery.clone();
        assert!(recovery.next_offset >= last, "{} < {last}", recovery.next_offset);
        assert!(recovery.holes.is_empty(), "{:?}", recovery.holes);
        assert_eq!(recovery.positions[0].1.next, [0, recovery.next_offset]);
        running.finish().await;
        let mut next = 0;
        for item in Reader::open(&dir, Filter::default()).unwrap() {
            match item.unwrap() {
                Item::Frame(stored) => {
                    assert_eq!((stored.offset, stored.frame.sequence), (next, next))
                }
                Item::Damage(damage) => panic!("{damage:?}"),
            }
            next += 1;
        }
        assert_eq!(next, recovery.next_offset);
    }
}
