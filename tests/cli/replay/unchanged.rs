//! The frames of a replay arrive unchanged and once.

use super::{Replay, archive_of, assert_same, recording, replay, simulate};
use crate::support::{Archived, Daemon};

#[test]
fn a_recording_arrives_unchanged_and_a_second_replay_adds_nothing() {
    let recorded = recording();
    for connections in ["64", "1"] {
        let mut daemon = Daemon::start("");
        let (archive, connect) = (archive_of(&recorded), daemon.address());
        let report = replay(&archive, connect, &["--speed", "max", "--connections", connections], 0);
        let frames = recorded.archived();
        assert_eq!((&report["complete"], &report["acked"]), (&true.into(), &frames.len().into()), "{report}");
        assert_eq!((&report["sent"], &report["already"]), (&frames.len().into(), &0.into()), "{report}");
        let streams = report["streams"].as_array().unwrap();
        assert_eq!(streams.len(), 4, "{report}");
        assert!(
            streams.iter().any(|stream| stream["epochs"].as_u64() > Some(1)),
            "no epoch changed: {report}"
        );

        // The archive holds every frame. The server recognizes a second replay under the same epoch, also in later
        // epochs.
        let epoch = report["epoch"].to_string();
        let again = replay(&archive, connect, &["--speed", "max", "--epoch", &epoch], 0);
        assert_eq!((&again["sent"], &again["already"]), (&0.into(), &frames.len().into()), "{again}");
        daemon.stop();
        assert_same(&daemon.archived(), &frames);
    }
}

#[test]
fn filters_choose_what_is_replayed() {
    let recorded = recording();
    let mut daemon = Daemon::start("");
    let args = ["--speed", "max", "--source", "1", "--source", "2", "--priority", "emergency"];
    replay(&archive_of(&recorded), daemon.address(), &args, 0);
    daemon.stop();
    let is_chosen = |frame: &Archived| matches!(frame.source_id, 1 | 2) && frame.lane == 0;
    let chosen: Vec<_> = recorded.archived().into_iter().filter(is_chosen).collect();
    assert!(!chosen.is_empty());
    assert_same(&daemon.archived(), &chosen);
}

#[test]
fn a_daemon_accepts_a_replay_of_its_own_archive() {
    let mut daemon = Daemon::start("");
    simulate(&daemon, "--satellites 2 --replays 0 --frames 500");
    let report = replay(&archive_of(&daemon), daemon.address(), &["--speed", "max"], 0);
    assert_eq!(report["acked"], 1_000, "{report}");
    daemon.stop();
    let (replayed, live): (Vec<_>, Vec<_>) = daemon.archived().into_iter().partition(|frame| frame.kind == 1);
    assert_same(&replayed, &live);
}

#[test]
fn replays_that_are_not_stored_are_acknowledged_and_the_books_balance() {
    let recorded = recording();
    let frames = recorded.archived();
    let mut daemon = Daemon::start("[archive]\nstore_replays = false");
    let replay = Replay::start(&archive_of(&recorded), daemon.address(), &["--speed", "max"]);
    simulate(&daemon, "--satellites 3 --replays 0 --stations 2 --frames 2000 --emergency-ratio 0.1");
    let (report, _) = replay.wait(0);
    assert_eq!((&report["acked"], &report["sent"]), (&frames.len().into(), &frames.len().into()));
    let books = daemon.stop();
    assert_eq!((books.archived, books.not_stored), (6_000, frames.len() as u64));
    assert!(daemon.archived().iter().all(|frame| frame.kind == 0), "a replay was archived");

    // The daemon remembers nothing of the replay after a restart, so the replay can be sent a second time.
    let mut daemon = daemon.restart();
    let epoch = report["epoch"].to_string();
    let args = ["--speed", "max", "--epoch", &epoch];
    let again = self::replay(&archive_of(&recorded), daemon.address(), &args, 0);
    assert_eq!((&again["already"], &again["sent"]), (&0.into(), &frames.len().into()), "{again}");
    assert_eq!(daemon.stop().not_stored, frames.len() as u64);
}
