//! What a replay cannot send is named in its report, and its exit code is 1.

use std::net::TcpListener;

use rustix::process::Signal;

use super::{Replay, archive_of, assert_same, recording, replay, simulate};
use crate::support::{Daemon, Port};

#[test]
fn expired_frames_of_the_range_are_named_and_end_a_resumed_replay() {
    let mut recorded = Daemon::start("");
    simulate(&recorded, "--satellites 1 --replays 0 --frames 1200 --payload 16000");
    recorded.stop();
    let archive = archive_of(&recorded);
    let names =
        std::fs::read_dir(&archive).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut bases: Vec<u64> = names.filter_map(|name| name.strip_suffix(".seg")?.parse().ok()).collect();
    bases.sort_unstable();
    assert!(bases.len() > 1, "{bases:?}");
    let (oldest, removed) = (bases[1], format!("offsets 0..{} were removed by retention", bases[1]));
    std::fs::remove_file(archive.join(format!("{:020}.seg", 0))).unwrap();

    let mut daemon = Daemon::start("");
    let asked = replay(&archive, daemon.address(), &["--speed", "max", "--from-offset", "0"], 1);
    assert_eq!(
        (&asked["problems"][0], &asked["acked"]),
        (&removed.as_str().into(), &(1_200 - oldest).into())
    );
    let epoch = asked["epoch"].to_string();
    let again = replay(&archive, daemon.address(), &["--speed", "max", "--epoch", &epoch], 1);
    let problem = again["problems"][0].as_str().unwrap();
    assert!(
        problem.starts_with(&removed) && problem.contains(&format!("--from-offset {oldest} ")),
        "{again}"
    );
    assert_eq!((&again["sent"], &again["already"]), (&0.into(), &0.into()), "{again}");

    // Without either option the replay begins with the oldest frame. The command for continuing names that frame.
    let whole = Replay::start(&archive, daemon.address(), &["--speed", "max"]);
    let command = whole.wait_line("to continue after an interruption");
    assert!(command.contains(&format!(" --from-offset {oldest} --to-offset 1200 --epoch ")), "{command}");
    let (report, _) = whole.wait(0);
    assert_eq!(report["acked"], 1_200 - oldest, "{report}");
    daemon.stop();
}

#[test]
fn a_wrong_token_ends_the_replay_and_is_named() {
    let recorded = recording();
    let archive = archive_of(&recorded);
    let mut daemon = Daemon::start("[[ingest.tokens]]\ntoken = \"open sesame\"\nsources = []");
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    let args = ["--token-file", token_file.to_str().unwrap(), "--speed", "1"];
    std::fs::write(&token_file, "guessed\n").unwrap();
    let report = replay(&archive, daemon.address(), &args, 1);
    assert_eq!(report["acked"], 0);
    // The server refuses the token on one stream. The replay then ends all streams.
    let errors = report["streams"].as_array().unwrap().iter().map(|stream| stream["error"].as_str().unwrap());
    assert!(errors.into_iter().any(|error| error.contains("unauthorized")), "{report}");
    assert!(!report.to_string().contains("guessed"), "{report}");

    std::fs::write(&token_file, "open sesame\n").unwrap();
    replay(&archive, daemon.address(), &[&args[..2], &["--speed", "max"]].concat(), 0);
    daemon.stop();
    assert_same(&daemon.archived(), &recorded.archived());
}

#[test]
fn damage_is_named_and_readable_frames_arrive() {
    let mut recorded = Daemon::start("");
    simulate(&recorded, "--satellites 1 --replays 0 --frames 50");
    simulate(&recorded, "--satellites 1 --replays 0 --frames 50 --payload 999 --epoch 9000000000000");
    simulate(&recorded, "--satellites 1 --replays 0 --frames 50 --epoch 9000000000001");
    recorded.stop();
    let frames = recorded.archived();
    let segment = std::fs::read_dir(archive_of(&recorded)).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|ext| ext == "seg")).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let lost = &frames[75].payload;
    let at = bytes.windows(lost.len()).position(|window| window == &lost[..]).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let mut daemon = Daemon::start("");
    let report = replay(&archive_of(&recorded), daemon.address(), &["--speed", "max"], 1);
    assert!(report["problems"][0].as_str().unwrap().contains("damaged"), "{report}");
    assert!(report["sent"] == report["acked"] && report["acked"].as_u64() >= Some(100), "{report}");
    let books = daemon.stop();
    assert_eq!(books.archived, report["acked"].as_u64().unwrap());
}

#[test]
fn a_misnamed_newest_segment_is_named_and_fails_the_replay() {
    let mut recorded = Daemon::start("[archive]\nsegment_size = \"8 MiB\"\nreserve = \"2 MiB\"");
    simulate(&recorded, "--satellites 1 --replays 0 --frames 12000 --payload 1000 --rate 0");
    recorded.stop();
    let archive = archive_of(&recorded);
    let segments = std::fs::read_dir(&archive).unwrap().map(|entry| entry.unwrap().path());
    let newest = segments.filter(|path| path.extension().is_some_and(|ext| ext == "seg")).max().unwrap();
    let misnamed = archive.join("00000000000000000050.seg");
    std::fs::rename(&newest, &misnamed).unwrap();
    let daemon = Daemon::start("");
    let report = replay(&archive, daemon.address(), &["--speed", "max"], 1);
    let problem = report["problems"][0].as_str().unwrap();
    assert!(
        problem.contains(&misnamed.display().to_string()) && problem.contains("archive repair"),
        "{problem}"
    );
}

#[test]
fn a_missing_daemon_and_a_range_without_frames_are_reported_at_once() {
    let mut recorded = Daemon::start("");
    simulate(&recorded, "--satellites 1 --replays 0 --frames 20");
    recorded.stop();
    let archive = archive_of(&recorded);
    let port = Port::hold();
    let free = port.address();
    let replay = Replay::start(&archive, free, &["--speed", "max", "--linger", "0s"]);
    replay.wait_line(&format!("no connection: cannot connect to {free}: "));
    replay.wait_line("offset 20 of 20, read 20, acked 0, ");
    replay.signal(Signal::INT);
    replay.wait(1);
    // A server that accepts the connection and sends nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let replay = Replay::start(&archive, silent.local_addr().unwrap(), &["--speed", "max", "--linger", "0s"]);
    replay.wait_line("no connection: no answer yet");
    replay.signal(Signal::INT);
    replay.wait(1);
    let (report, lines) = Replay::start(&archive, free, &["--source", "9"]).wait(0);
    assert_eq!(report["read"], 0);
    assert!(lines.last().unwrap().contains("no frame of the range matches"), "{lines:?}");
}
