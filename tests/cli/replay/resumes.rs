//! A replay that was interrupted continues: after a kill of the daemon, after a signal, after a kill of the replay.

use rustix::process::Signal;
use serde_json::Value;

use super::{Replay, archive_of, assert_same, recording, replay, simulate};
use crate::support::{Daemon, Port};

/// Kills the daemon in the middle of a replay and restarts it. The replay must still finish.
fn killed_in_the_middle(config: &str) -> (Daemon, Daemon, Value) {
    let port = Port::hold();
    let mut recorded = Daemon::start("");
    simulate(&recorded, "--satellites 3 --replays 0 --frames 8000 --emergency-ratio 0.1 --payload 100");
    recorded.stop();
    let config = format!("[ingest]\nlisten = \"{}\"\n[log]\nlevel = \"debug\"\n{config}", port.address());
    let daemon = Daemon::start(&config);
    let replay = Replay::start(&archive_of(&recorded), daemon.address(), &["--speed", "max"]);
    daemon.wait_line(" seq=500 ");
    let daemon = daemon.kill_and_restart();
    let (report, _) = replay.wait(0);
    assert!(report["reconnects"].as_u64() > Some(0), "nothing was interrupted: {report}");
    (recorded, daemon, report)
}

#[test]
fn a_killed_daemon_gets_the_rest_after_its_restart() {
    let (recorded, mut daemon, _) = killed_in_the_middle("");
    daemon.stop();
    assert_same(&daemon.archived(), &recorded.archived());
}

#[test]
fn a_killed_daemon_without_stored_replays_gets_the_unacknowledged_frames() {
    let (_, mut daemon, report) = killed_in_the_middle("[archive]\nstore_replays = false");
    assert_eq!((&report["complete"], &report["acked"]), (&true.into(), &24_000.into()), "{report}");
    let books = daemon.stop();
    assert_eq!((books.archived, books.not_stored), (0, books.received));
}

#[test]
fn an_interrupted_replay_resumes_where_it_stopped() {
    let mut recorded = Daemon::start("");
    simulate(&recorded, "--satellites 3 --replays 0 --frames 200 --rate 400 --emergency-ratio 0.2");
    recorded.stop();
    let archive = archive_of(&recorded);
    let mut daemon = Daemon::start("[log]\nlevel = \"debug\"");
    // At this speed the whole replay would take minutes.
    let first = Replay::start(&archive, daemon.address(), &["--speed", "0.005"]);
    daemon.wait_line(" processed ");
    first.signal(Signal::INT);
    let (report, lines) = first.wait(1);
    let (acked, epoch) = (report["acked"].as_u64().unwrap(), report["epoch"].to_string());
    assert!(0 < acked && acked < 600 && report["sent"] == report["acked"], "{report}");
    let skip_to = report["go_on_from"].to_string();
    let command = lines.last().unwrap();
    assert!(
        command.ends_with(&format!("--from-offset 0 --to-offset 600 --epoch {epoch} --skip-to {skip_to}")),
        "{command}"
    );

    let args = ["--speed", "max", "--skip-to", &skip_to, "--epoch", &epoch];
    let second = replay(&archive, daemon.address(), &args, 0);
    assert_eq!(second["sent"], 600 - acked, "{second}");
    daemon.stop();
    assert_same(&daemon.archived(), &recorded.archived());
}

#[test]
fn a_killed_replay_resumes_with_the_epoch_of_its_first_line() {
    let recorded = recording();
    let archive = archive_of(&recorded);
    let mut daemon = Daemon::start("[log]\nlevel = \"debug\"");
    let first = Replay::start(&archive, daemon.address(), &["--speed", "0.01"]);
    let line = first.wait_line("to continue after an interruption");
    let (_, epoch) = line.rsplit_once("--epoch ").unwrap();
    daemon.wait_line(" processed ");
    first.signal(Signal::KILL);
    assert_eq!(first.child.wait_with_output().unwrap().status.code(), None, "it had ended before");

    let report = replay(&archive, daemon.address(), &["--speed", "max", "--epoch", epoch], 0);
    assert!(report["already"].as_u64() > Some(0), "nothing had arrived: {report}");
    daemon.stop();
    assert_same(&daemon.archived(), &recorded.archived());
}

#[test]
fn a_replay_resumed_after_an_epoch_does_not_take_new_frames_for_old_ones() {
    let mut recorded = Daemon::start("");
    for epoch in ["9000000000000", "9000000000001"] {
        let args = "--satellites 1 --replays 0 --frames 50 --emergency-ratio 0 --epoch";
        simulate(&recorded, &format!("{args} {epoch}"));
    }
    recorded.stop();
    let archive = archive_of(&recorded);
    // As if the replay had been interrupted between the epochs, and within the second. Sequences begin at 0 in both.
    for done in [50, 60] {
        let mut daemon = Daemon::start("");
        let done_text = done.to_string();
        let first = replay(&archive, daemon.address(), &["--speed", "max", "--to-offset", &done_text], 0);
        let epoch = first["epoch"].to_string();
        let args = ["--speed", "max", "--epoch", &epoch, "--skip-to", &done_text];
        let second = replay(&archive, daemon.address(), &args, 0);
        assert_eq!((&second["sent"], &second["already"]), (&(100 - done).into(), &0.into()), "{second}");
        daemon.stop();
        assert_same(&daemon.archived(), &recorded.archived());
    }
}

#[test]
fn an_epoch_below_that_of_another_replay_is_refused_and_counts_no_frame() {
    let mut recorded = Daemon::start("");
    simulate(&recorded, "--satellites 2 --replays 0 --frames 50");
    recorded.stop();
    let archive = archive_of(&recorded);
    let mut daemon = Daemon::start("");
    replay(&archive, daemon.address(), &["--speed", "max", "--source", "1"], 0);
    let report = replay(&archive, daemon.address(), &["--speed", "max", "--source", "1", "--epoch", "5"], 1);
    assert_eq!((&report["acked"], &report["already"]), (&0.into(), &0.into()), "{report}");
    let error = report["streams"][0]["error"].as_str().unwrap();
    assert!(
        error.contains(
            "with --epoch 5: another replay came in \
                            between"
        ) && error.contains("without --epoch"),
        "{error}"
    );
    daemon.stop();
}

#[test]
fn the_resume_command_keeps_its_range_in_a_growing_log() {
    let mut daemon = Daemon::start("");
    simulate(&daemon, "--satellites 1 --replays 0 --frames 50");
    let archive = archive_of(&daemon);
    let first = Replay::start(&archive, daemon.address(), &["--speed", "max"]);
    let line = first.wait_line("to continue after an interruption");
    let (_, range) = line.split_once(" --from-offset ").unwrap();
    let args: Vec<_> = ["--speed", "max", "--from-offset"].into_iter().chain(range.split(' ')).collect();
    first.wait(0);
    // The daemon's log also holds the replay by this time. The line still names the original range.
    let again = replay(&archive, daemon.address(), &args, 0);
    assert_eq!((&again["sent"], &again["already"]), (&0.into(), &50.into()), "{again}");
    daemon.stop();
    assert_eq!(daemon.archived().len(), 100);
}
