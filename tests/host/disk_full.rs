//! A real file system that is full: routine waits at its senders, emergencies continue, no frame is lost.
//!
//! Each test mounts its own tmpfs. Where that is not allowed, the test runs itself in its own user and mount
//! namespaces. Where namespaces are not allowed either, the test reports that it did not run.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sim::Plan;

use crate::support::fleet::{Fleet, FleetLog};
use crate::support::http::{get, get_json};
use crate::support::mount::Tmpfs;
use crate::support::{
    Books, Client, Daemon, EMERGENCY, Frame, Hello, LIMIT, ROUTINE, Received, Server, Subscribe, Subscriber,
    code, cost, not_tested, wait_until,
};

/// Small messages and few streams let the reserve be small.
const CONFIG: &str = r#"
[ingest]
max_message = "4 KiB"
max_streams = 16
routine_window = "256 KiB"
emergency_window = "64 KiB"
[archive]
segment_size = "8 MiB"
reserve = "3 MiB"
"#;

/// Room for two segments and the reserve.
const DISK_BYTES: u64 = 24 << 20;

const PAYLOAD_BYTES: usize = 4_000;

/// Runs `test` with a tmpfs of [`DISK_BYTES`], see [`with_tmpfs_of`].
fn with_tmpfs(name: &str, test: impl FnOnce(&Tmpfs)) {
    with_tmpfs_of(DISK_BYTES, name, test);
}

/// Runs `test` with a tmpfs of `bytes`, directly or in its own namespaces.
fn with_tmpfs_of(bytes: u64, name: &str, test: impl FnOnce(&Tmpfs)) {
    const WITHIN: &str = "DISK_FULL_WITHIN_NAMESPACE";
    if rustix::process::geteuid().is_root()
        && let Some(tmpfs) = Tmpfs::mount(bytes)
    {
        return test(&tmpfs);
    }
    assert!(std::env::var_os(WITHIN).is_none(), "no tmpfs even in a mount namespace of its own");
    let works = |command: &mut Command| command.output().is_ok_and(|ran| ran.status.success());
    let mount_works = "mount -t tmpfs tmpfs /mnt";
    if !works(Command::new("unshare").args(["-rm", "sh", "-c", mount_works])) {
        return not_tested(format_args!("{name}: neither a tmpfs nor namespaces are allowed here"));
    }
    let this = std::env::current_exe().expect("the test binary");
    let mut again = Command::new("unshare");
    again
        .arg("-rm")
        .arg(this)
        .args(["--exact", &format!("disk_full::{name}"), "--nocapture"])
        .env(WITHIN, "1");
    assert!(again.status().expect("unshare").success(), "{name} failed in its own namespaces, see above");
}

fn payload(lane: usize, sequence: u64) -> Vec<u8> {
    let mut payload = sequence.to_be_bytes().to_vec();
    payload.resize(PAYLOAD_BYTES, lane as u8 + 1);
    payload
}

/// A client that records everything it sent.
struct Sender {
    client: Client,
    next: [u64; 2],
}

impl Sender {
    fn open(daemon: &Daemon, epoch: u64) -> Self {
        let (client, welcome) = Client::open(daemon.address(), &Hello::new(1).epoch(epoch));
        Self { client, next: welcome.resume_next }
    }

    fn frame(&self, lane: usize) -> Frame {
        Frame::new(lane, self.next[lane], &payload(lane, self.next[lane]))
    }

    /// Sends one frame. The credit must allow it.
    fn send(&mut self, lane: usize) {
        let frame = self.frame(lane);
        self.client.send_frame(&frame);
        self.next[lane] += 1;
    }

    fn has_credit(&self, lane: usize) -> bool {
        self.client.credit(lane) >= cost(self.frame(lane).body().len())
    }

    /// Sends as much as credit allows, until the server grants no credit and acknowledges nothing for `silence`.
    /// Returns the number of frames that are sent and not acknowledged.
    fn send_until_stuck(&mut self, lane: usize, silence: Duration) -> u64 {
        let started = Instant::now();
        loop {
            while self.has_credit(lane) {
                self.send(lane);
            }
            match self.client.receive(silence) {
                Received::Message(Server::Ack(_)) => {}
                Received::Message(Server::Ping(nonce)) => {
                    self.client.send(&crate::support::message::pong(nonce))
                }
                Received::Silence => break,
                other => panic!("sending until stuck, but: {other:?}"),
            }
            assert!(started.elapsed() < 3 * LIMIT, "it never gets stuck");
        }
        assert!(!self.has_credit(lane));
        self.next[lane] - self.client.ack(lane).durable_next
    }

    /// Sends an emergency and waits for its acknowledgement.
    fn emergency(&mut self) -> Duration {
        let started = Instant::now();
        self.send(EMERGENCY);
        self.client.wait_durable(EMERGENCY, self.next[EMERGENCY]);
        started.elapsed()
    }

    /// Waits until credit allows one frame, and sends it.
    fn send_within_credit(&mut self, lane: usize) {
        self.client.wait_credit(lane, self.client.spent(lane) + cost(PAYLOAD_BYTES + 20));
        self.send(lane);
    }

    /// Sends BYE and stops the daemon. Asserts that the archive holds every sent frame, in order and intact.
    fn finish(self, mut daemon: Daemon) -> Books {
        let next = self.next;
        assert_eq!(self.client.bye(next), next);
        let books = daemon.stop();
        assert_archived(&daemon, next);
        books
    }

    fn wait_all_durable(&mut self) {
        for lane in [EMERGENCY, ROUTINE] {
            self.client.wait_durable(lane, self.next[lane]);
        }
    }
}

/// Asserts that the archive holds exactly `next` frames of each lane, in order and intact.
fn assert_archived(daemon: &Daemon, next: [u64; 2]) {
    let mut found = [0_u64; 2];
    for frame in daemon.archived() {
        assert_eq!(frame.sequence, found[frame.lane], "lane {}", frame.lane);
        assert_eq!(frame.payload, payload(frame.lane, frame.sequence));
        found[frame.lane] += 1;
    }
    assert_eq!(found, next, "[emergencies, routine frames] in the archive");
}

#[test]
fn emergencies_bypass_routine_that_waits_for_a_full_disk() {
    with_tmpfs("emergencies_bypass_routine_that_waits_for_a_full_disk", |tmpfs| {
        let daemon = Daemon::start_at(tmpfs.home(), CONFIG);
        let mut sender = Sender::open(&daemon, 1);
        let before = sender.emergency();
        tmpfs.fill();
        let waiting = sender.send_until_stuck(ROUTINE, Duration::from_secs(1));
        assert!(waiting * cost(PAYLOAD_BYTES) > 200 << 10, "only {waiting} routine frames wait");
        let line = daemon.wait_line("archive degraded");
        for part in ["no space", &daemon.archive_dir().display().to_string(), "bytes free"] {
            assert!(line.contains(part), "{part:?} is missing in: {line}");
        }
        daemon.wait_line("the reserve is in use, routine frames wait");

        let routine_durable = sender.client.ack(ROUTINE).durable_next;
        for _ in 0..50 {
            let during = sender.emergency();
            assert!(during < Duration::from_secs(1), "an emergency took {during:?}, {before:?} before");
        }
        assert_eq!(sender.client.ack(ROUTINE).durable_next, routine_durable, "routine still waits");
        assert!(!sender.has_credit(ROUTINE));

        tmpfs.free();
        sender.wait_all_durable();
        daemon.wait_line("the archive has space again");
        for _ in 0..100 {
            sender.send_within_credit(ROUTINE);
        }
        let next = sender.next;
        assert_eq!(sender.finish(daemon).archived, next[0] + next[1]);
    });
}

#[test]
fn a_disk_full_of_held_frames_names_the_output_and_has_space_when_it_is_removed() {
    let name = "a_disk_full_of_held_frames_names_the_output_and_has_space_when_it_is_removed";
    with_tmpfs_of(40 << 20, name, |tmpfs| {
        let config = format!("{CONFIG}retention_size = \"20 MiB\"\n");
        let output = "[[outputs]]\nname = \"bus\"\nnats = \"nats://127.0.0.1:1\"\nstream = \"T\"\nretention_hold = true\n";
        let daemon = Daemon::start_at(tmpfs.home(), &format!("{config}{output}"));
        let mut sender = Sender::open(&daemon, 1);
        sender.send_until_stuck(ROUTINE, Duration::from_secs(2));
        daemon.wait_line("archive degraded");
        let ready = get(daemon.http(), "/readyz");
        assert_eq!(ready.status, 503);
        let reason = ready.json()["reasons"][0].as_str().unwrap().to_owned();
        assert!(reason.starts_with("archive degraded: "), "{reason}");
        assert!(
            reason.ends_with("retention_hold keeps what bus has not forwarded, see /api/v1/outputs"),
            "{reason}"
        );
        sender.emergency();

        daemon.reload(&config);
        sender.wait_all_durable();
        daemon.wait_line("the archive has space again");
    });
}

/// 48 satellites fill 64 MiB completely with telemetry. One more satellite sends only emergencies.
#[test]
fn a_fleet_that_fills_the_disk_loses_nothing_and_delays_no_emergency() {
    let name = "a_fleet_that_fills_the_disk_loses_nothing_and_delays_no_emergency";
    with_tmpfs_of(64 << 20, name, |tmpfs| {
        let config = CONFIG.replace("max_streams = 16", "max_streams = 64");
        let mut daemon = Daemon::start_at(tmpfs.home(), &config);
        tmpfs.take(24 << 20);
        let plan = Plan {
            connect: daemon.address().to_string(),
            replays: 0,
            frames: Some(900),
            payload_bytes: 1_115,
            emergency_ratio: 0.0,
            linger: 2 * LIMIT,
            ..Plan::default()
        };
        let fleet = Fleet::start(plan.clone());
        let hello = Hello::new(1_000).epoch(1);
        let (mut client, _) = Client::open(daemon.address(), &hello);
        let (mut next, mut slowest) = (0, Duration::ZERO);
        let mut emergency = |client: &mut Client| {
            let started = Instant::now();
            client.deliver(EMERGENCY, next, &payload(EMERGENCY, next));
            next += 1;
            slowest = slowest.max(started.elapsed());
        };
        let is_full = |line: &String| line.contains("the reserve is in use, routine frames wait");
        while !daemon.lines().iter().any(is_full) {
            emergency(&mut client);
        }
        let stuck = fleet.counts().acked;
        for _ in 0..100 {
            emergency(&mut client);
        }
        assert!(stuck < 48 * 900, "the fleet was done before the disk was full");
        assert!(tmpfs.free_bytes() < 1 << 20, "{} bytes are free on a full disk", tmpfs.free_bytes());

        tmpfs.free();
        daemon.wait_line("the archive has space again");
        for _ in 0..100 {
            emergency(&mut client);
        }
        let report = fleet.wait();
        assert!(report.is_complete(), "{report:?}");
        println!("{next} emergencies acknowledged on the way, the slowest after {slowest:?}");
        assert_eq!(client.bye([next, 0]), [next, 0]);
        let books = daemon.stop();
        assert_eq!(books.archived, 48 * 900 + next);
        let mut emergencies = 0;
        let of_fleet = FleetLog::read(&plan, &daemon.archive_dir(), |frame| {
            assert_eq!((frame.source_id, frame.sequence), (1_000, emergencies));
            emergencies += 1;
        });
        assert_eq!((of_fleet, emergencies), (48 * 900, next));
    });
}

#[test]
fn with_a_full_reserve_emergencies_wait_and_nothing_crashes() {
    with_tmpfs("with_a_full_reserve_emergencies_wait_and_nothing_crashes", |tmpfs| {
        let mut daemon = Daemon::start_at(tmpfs.home(), CONFIG);
        let mut sender = Sender::open(&daemon, 1);
        sender.emergency();
        tmpfs.fill();
        sender.send_until_stuck(ROUTINE, Duration::from_secs(1));
        let durable_before = sender.client.ack(EMERGENCY).durable_next;
        let waiting = sender.send_until_stuck(EMERGENCY, Duration::from_secs(1));
        let landed = sender.client.ack(EMERGENCY).durable_next - durable_before;
        println!("{landed} emergencies of {PAYLOAD_BYTES} bytes in the reserve, {waiting} wait");
        assert!(landed * PAYLOAD_BYTES as u64 > 1 << 20, "the reserve took only {landed} emergencies");
        assert!(waiting > 0);
        assert!(daemon.is_running());
        sender.client.settle(7);

        tmpfs.free();
        sender.wait_all_durable();
        sender.finish(daemon);
    });
}

#[test]
fn a_restart_on_the_full_disk_accepts_emergencies_and_continues_when_space_returns() {
    with_tmpfs("a_restart_on_the_full_disk_accepts_emergencies_and_continues_when_space_returns", |tmpfs| {
        let daemon = Daemon::start_at(tmpfs.home(), CONFIG);
        let mut sender = Sender::open(&daemon, 1);
        sender.emergency();
        tmpfs.fill();
        sender.send_until_stuck(ROUTINE, Duration::from_secs(1));
        sender.emergency();
        let acked = [sender.client.ack(EMERGENCY).durable_next, sender.client.ack(ROUTINE).durable_next];

        // The waiting frames were not acknowledged, so the client resends them.
        let daemon = daemon_killed_and_started_on(daemon, tmpfs);
        let mut sender = Sender::open(&daemon, 1);
        for lane in [EMERGENCY, ROUTINE] {
            assert!(sender.next[lane] >= acked[lane], "resume {:?} below {acked:?}", sender.next);
        }
        sender.emergency();
        tmpfs.free();
        while sender.next[ROUTINE] < acked[ROUTINE] + 200 {
            sender.send_within_credit(ROUTINE);
        }
        sender.wait_all_durable();
        sender.finish(daemon);
    });
}

fn wait_goaway(client: &mut Client) {
    loop {
        match client.next_answering() {
            Server::GoAway { .. } => return,
            Server::Ack(_) => {}
            other => panic!("GOAWAY is due, not {other:?}"),
        }
    }
}

/// Kills the daemon with kill -9 and starts a new one. The disk stays full throughout.
fn daemon_killed_and_started_on(daemon: Daemon, tmpfs: &Tmpfs) -> Daemon {
    let started = Instant::now();
    let daemon = daemon.kill_and_restart();
    println!("started on a full disk in {:?}, {} bytes free", started.elapsed(), tmpfs.free_bytes());
    daemon
}

#[test]
fn a_kill_with_a_full_reserve_is_recovered_on_the_full_disk() {
    with_tmpfs("a_kill_with_a_full_reserve_is_recovered_on_the_full_disk", |tmpfs| {
        let daemon = Daemon::start_at(tmpfs.home(), CONFIG);
        let mut sender = Sender::open(&daemon, 1);
        tmpfs.fill();
        sender.send_until_stuck(ROUTINE, Duration::from_millis(500));
        sender.send_until_stuck(EMERGENCY, Duration::from_millis(500));
        // Take the space that the daemon has freed, too.
        tmpfs.fill();
        let acked = [sender.client.ack(EMERGENCY).durable_next, sender.client.ack(ROUTINE).durable_next];

        let daemon = daemon_killed_and_started_on(daemon, tmpfs);
        let mut sender = Sender::open(&daemon, 1);
        for (lane, acked) in acked.into_iter().enumerate() {
            assert!(sender.next[lane] >= acked, "resume {:?} below {acked} on lane {lane}", sender.next);
        }
        tmpfs.free();
        sender.emergency();
        sender.client.wait_credit(ROUTINE, cost(PAYLOAD_BYTES + 20));
        sender.send(ROUTINE);
        sender.wait_all_durable();
        sender.finish(daemon);
    });
}

#[test]
fn a_drain_on_a_full_disk_names_the_stragglers_and_exits_with_3() {
    with_tmpfs("a_drain_on_a_full_disk_names_the_stragglers_and_exits_with_3", |tmpfs| {
        let mut daemon = Daemon::start_at(tmpfs.home(), CONFIG);
        let mut sender = Sender::open(&daemon, 1);
        sender.emergency();
        tmpfs.fill();
        let waiting = sender.send_until_stuck(ROUTINE, Duration::from_millis(500));
        let acked = sender.client.ack(ROUTINE).durable_next;
        daemon.signal(Signal::TERM);
        let exit = daemon.wait_exit(LIMIT);
        assert_eq!(exit.code, Some(3), "exit code with accepted frames that are not archived");
        assert!(exit.elapsed < Duration::from_millis(5_200), "it took {:?}", exit.elapsed);
        let line = daemon.wait_line("drain cut short");
        for part in ["session 1 from 127.0.0.1:", "processor"] {
            assert!(line.contains(part), "{part:?} is not among the stragglers: {line}");
        }
        let books = daemon.final_books();
        books.assert_balanced();
        assert_eq!(books.undelivered, waiting, "{books:?}");
        assert_eq!(books.archived, acked + 1, "{books:?}");

        // No client has an ACK for these frames. The clients resend them to the next daemon.
        tmpfs.free();
        let daemon = daemon.restart();
        let mut sender = Sender::open(&daemon, 1);
        assert_eq!(sender.next, [1, acked], "what is durable, and no more");
        for _ in 0..waiting {
            sender.send_within_credit(ROUTINE);
        }
        sender.finish(daemon);
    });
}

#[test]
fn a_second_signal_ends_a_drain_stalled_by_a_full_disk() {
    with_tmpfs("a_second_signal_ends_a_drain_stalled_by_a_full_disk", |tmpfs| {
        let mut daemon = Daemon::start_at(tmpfs.home(), CONFIG);
        let mut sender = Sender::open(&daemon, 1);
        tmpfs.fill();
        sender.send_until_stuck(ROUTINE, Duration::from_millis(500));
        daemon.signal(Signal::TERM);
        daemon.wait_line(" draining ");
        wait_goaway(&mut sender.client);
        daemon.signal(Signal::TERM);
        let exit = daemon.wait_exit(LIMIT);
        assert!(exit.elapsed < Duration::from_secs(1), "it took {:?}", exit.elapsed);
        assert!(matches!(exit.code, Some(1 | 3)), "exit {:?}", exit.code);
    });
}

#[test]
fn space_that_returns_during_a_drain_lets_it_finish() {
    with_tmpfs("space_that_returns_during_a_drain_lets_it_finish", |tmpfs| {
        let mut daemon = Daemon::start_at(tmpfs.home(), CONFIG);
        let mut sender = Sender::open(&daemon, 1);
        tmpfs.fill();
        sender.send_until_stuck(ROUTINE, Duration::from_millis(500));
        daemon.signal(Signal::TERM);
        wait_goaway(&mut sender.client);
        tmpfs.free();
        sender.client.expect_error(code::DRAINING);
        assert_eq!(
            sender.client.ack(ROUTINE).durable_next,
            sender.next[ROUTINE],
            "the last ACK before the end"
        );
        assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
        assert_archived(&daemon, sender.next);
    });
}

/// Equipment has no credit and never waits. Its link drops the routine for which there is no room, and delivers what is
/// an emergency.
#[test]
fn a_link_that_drops_routine_delivers_emergencies_on_a_full_disk() {
    with_tmpfs("a_link_that_drops_routine_delivers_emergencies_on_a_full_disk", |tmpfs| {
        let link = "[[links]]\nname = \"modem\"\nlisten = \"127.0.0.1:0\"\nsource = 9\nwhen_full = \"drop-routine\"\n\
                    framing = { kind = \"packet\", max = 2000 }\nemergency = [{ apid = [77] }]";
        let mut daemon = Daemon::start_at(tmpfs.home(), &format!("{CONFIG}{link}"));
        let line = daemon.wait_line("link ready");
        let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let mut modem = TcpStream::connect(address.expect("an address")).expect("the link listens");
        modem.set_write_timeout(Some(LIMIT)).expect("a write timeout");
        let mut send = |apid: u16| {
            let mut packet = [[8, apid as u8], [0xC0, 0], 999_u16.to_be_bytes()].concat();
            packet.resize(1_006, 0xAA);
            modem.write_all(&packet).expect("the link reads on");
        };
        tmpfs.fill();
        wait_until("routine that is dropped", || {
            (0..100).for_each(|_| send(1));
            let counts = get_json(daemon.http(), "/api/v1/links")["links"][0]["counts"].take();
            if counts["full_dropped"].as_u64() > Some(0) { Ok(()) } else { Err(counts.to_string()) }
        });
        let subscribe = Subscribe::earliest().priorities(1);
        let (mut subscriber, _) = Subscriber::open(daemon.feed(), &subscribe);
        for _ in 0..20 {
            (0..100).for_each(|_| send(1));
            send(77);
            assert_eq!(subscriber.expect_frame().lane, EMERGENCY);
        }
        tmpfs.free();
        drop(modem);
        let books = daemon.stop();
        assert_eq!(books.received, books.archived);
    });
}
