//! `telemetry-aggregator replay` as a child process: it plays recordings of one daemon into another.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use bytes::BytesMut;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::command::{aggregator, expect_exit, uplink_sim};
use support::{Archived, Daemon, LIMIT, Port};
use telemetry_aggregator::frame::{FramePriority, Lanes};
use telemetry_aggregator::wire::{Ack, Bye, ClientMessage, Hello, ServerMessage, Welcome, next_body};

/// A replay that runs while the test runs.
struct Replay {
    child: Child,
    lines: Receiver<String>,
    reader: JoinHandle<()>,
}

impl Replay {
    fn start(archive: &Path, connect: SocketAddr, args: &[&str]) -> Self {
        let connect = connect.to_string();
        let mut command = aggregator(["replay", "--connect", &connect, "--report", "json", "--archive"]);
        command.arg(archive).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (line_tx, lines) = channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                drop(line_tx.send(line));
            }
        });
        Self { child, lines, reader }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The next line on stderr that contains `text`.
    fn wait_line(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("no line with {text:?} ({error}): {seen:#?}"),
            }
        }
    }

    /// Waits until the replay exits with `code`. Returns the report and the rest of stderr.
    fn wait(self, code: i32) -> (Value, Vec<String>) {
        let Self { child, lines, reader } = self;
        let output = child.wait_with_output().unwrap();
        reader.join().unwrap();
        let lines: Vec<_> = lines.try_iter().collect();
        let report = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{report}\n{lines:#?}");
        (serde_json::from_str(&report).unwrap(), lines)
    }
}

fn replay(archive: &Path, connect: SocketAddr, args: &[&str], code: i32) -> Value {
    Replay::start(archive, connect, args).wait(code).0
}

/// Lets `uplink-sim` send to `daemon`. The daemon must acknowledge every frame.
fn simulate(daemon: &Daemon, args: &str) {
    let connect = daemon.address().to_string();
    expect_exit(uplink_sim(["--connect", &connect]).args(args.split_whitespace()), 0);
}

/// A stopped daemon with a recording of several sources. The recording has emergencies, packets of a real spacecraft
/// where the data is present, and one stream in two epochs.
fn recording() -> Daemon {
    let mut daemon = Daemon::start("");
    simulate(
        &daemon,
        "--satellites 3 --replays 1 --stations 2 --frames 300 --emergency-ratio 0.2 --payload 100",
    );
    let packets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/europa_clipper.ccsds");
    if packets.exists() {
        let packets = packets.to_str().unwrap();
        simulate(&daemon, &format!("--satellites 1 --replays 0 --stations 2 --input {packets}"));
    } else {
        simulate(&daemon, "--satellites 1 --replays 0 --stations 2 --frames 1000");
    }
    daemon.stop();
    daemon
}

/// The fields of a frame that a replay keeps.
type Content = (u64, u8, i64, Vec<u8>);

/// The frames of each stream and lane, in their order, for live and replayed streams alike.
fn by_stream(frames: &[Archived]) -> BTreeMap<(u32, String, usize), Vec<Content>> {
    let mut streams: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for frame in frames {
        let stream = (frame.source_id, frame.station.clone(), frame.lane);
        let content = (frame.sequence, frame.flags, frame.ert_ns, frame.payload.clone());
        streams.entry(stream).or_default().push(content);
    }
    streams
}

/// Asserts that both are equal. `assert_eq` would print every payload.
fn assert_same(replayed: &[Archived], recorded: &[Archived]) {
    assert!(replayed.iter().all(|frame| frame.kind == 1), "a replayed frame is not of kind replay");
    let (replayed, recorded) = (by_stream(replayed), by_stream(recorded));
    assert_eq!(replayed.keys().collect::<Vec<_>>(), recorded.keys().collect::<Vec<_>>());
    for (stream, frames) in &recorded {
        let found = &replayed[stream];
        let differs = found.iter().zip(frames).position(|(found, frame)| found != frame);
        assert!(
            differs.is_none() && found.len() == frames.len(),
            "{stream:?}: {} recorded, {} replayed, the first that differs: {differs:?}",
            frames.len(),
            found.len()
        );
    }
}

fn archive_of(daemon: &Daemon) -> PathBuf {
    daemon.archive_dir()
}

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
    let Replay { child, reader, .. } = first;
    assert_eq!(child.wait_with_output().unwrap().status.code(), None, "it had ended before");
    reader.join().unwrap();

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
fn a_second_interrupt_stops_at_once() {
    let recorded = recording();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let replay = Replay::start(&archive_of(&recorded), listener.local_addr().unwrap(), &["--speed", "max"]);
    // The replay uses up this credit, and the peer acknowledges no frame.
    let mut peer = Peer::accept(&listener, 1 << 20);
    assert!(matches!(peer.next(), ClientMessage::Frame(_)));
    replay.signal(Signal::INT);
    replay.wait_line("stopping");
    replay.signal(Signal::INT);
    replay.wait_line("stopped at once; to continue: ");
    let output = replay.child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true));
}

/// A replay of 30 frames, paused after its credit for ten frames is used up. The archive exists as long as the daemon
/// value.
fn paused_after_ten() -> (Daemon, TcpListener, Replay, Peer) {
    let mut recorded = Daemon::start("");
    simulate(&recorded, "--satellites 1 --replays 0 --frames 30 --emergency-ratio 0");
    recorded.stop();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let replay = Replay::start(&archive_of(&recorded), listener.local_addr().unwrap(), &["--speed", "max"]);
    let mut peer = Peer::accept(&listener, 10 * 276);
    for sequence in 0..10 {
        assert!(matches!(peer.next(), ClientMessage::Frame(frame) if frame.sequence == sequence));
    }
    replay.signal(Signal::USR1);
    replay.wait_line("paused");
    (recorded, listener, replay, peer)
}

/// Checks that the paused replay sends nothing. Resumes it and expects the frames from `first` on and BYE. Returns
/// the report.
fn goes_on(replay: Replay, mut peer: Peer, first: u64) -> serde_json::Value {
    // If the replay sent frames, they would come between the two answers at the latest.
    for nonce in [1, 2] {
        peer.send(&ServerMessage::Ping(nonce));
        assert_eq!(peer.next(), ClientMessage::Pong(nonce));
    }
    replay.signal(Signal::USR1);
    replay.wait_line("resumed");
    for sequence in first..30 {
        assert!(matches!(peer.next(), ClientMessage::Frame(frame) if frame.sequence == sequence));
    }
    assert_eq!(peer.next(), ClientMessage::Bye(Bye { next: Lanes::new(0, 30) }));
    peer.send(&ServerMessage::Bye(Bye { next: Lanes::new(0, 30) }));
    replay.wait(0).0
}

#[test]
fn a_signal_pauses_and_the_next_one_resumes() {
    let (_recorded, _listener, replay, mut peer) = paused_after_ten();
    peer.credit(1 << 30);
    let report = goes_on(replay, peer, 10);
    assert_eq!((&report["acked"], &report["sent"]), (&30.into(), &30.into()));
}

#[test]
fn a_connection_lost_in_a_pause_is_reopened_and_sends_no_frame() {
    let (_recorded, listener, replay, peer) = paused_after_ten();
    drop(peer);
    let peer = Peer::accept(&listener, 1 << 30);
    let report = goes_on(replay, peer, 0);
    assert_eq!((&report["acked"], &report["sent"], &report["resent"]), (&30.into(), &30.into(), &10.into()));
}

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

/// The server's end of one connection, past WELCOME.
struct Peer {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    /// Accepts one connection and grants `credit_limit` on both lanes.
    fn accept(listener: &TcpListener, credit_limit: u64) -> Self {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut peer = Self { socket, buffer: BytesMut::new() };
        let hello = Hello::decode(&peer.body()).unwrap();
        peer.send(&ServerMessage::Welcome(Welcome {
            version: 1,
            heartbeat_s: 15,
            max_message_bytes: 16 << 10,
            session_id: 1,
            epoch: hello.epoch,
            resume_next: Lanes::default(),
            server_time_ns: 0,
        }));
        peer.credit(credit_limit);
        peer
    }

    fn credit(&mut self, credit_limit: u64) {
        for priority in FramePriority::ALL {
            self.send(&ServerMessage::Ack(Ack { priority, duplicates: 0, durable_next: 0, credit_limit }));
        }
    }

    fn send(&mut self, message: &ServerMessage) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        self.socket.write_all(&out).unwrap();
    }

    fn body(&mut self) -> bytes::Bytes {
        let mut read = [0; 4096];
        loop {
            if let Some(body) = next_body(&mut self.buffer, 16 << 10).unwrap() {
                return body;
            }
            let count = self.socket.read(&mut read).unwrap();
            assert_ne!(count, 0, "the client closed");
            self.buffer.extend_from_slice(&read[..count]);
        }
    }

    fn next(&mut self) -> ClientMessage {
        ClientMessage::decode(self.body()).unwrap()
    }
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
