//! A daemon that can open no more files: emergencies continue, routine waits, no frame is lost and no connection
//! ends.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::equipment::{self, packet};
use crate::software;
use crate::support::{Client, Daemon, EMERGENCY, Hello, ROUTINE, Subscribe, Subscriber, wait_until};

/// A segment of the tests' defaults holds some hundreds of frames of this size.
const PAYLOAD_BYTES: usize = 15_000;
/// More connections than the limit of open files allows.
const SILENT: usize = 64;

fn open_files(daemon: &Daemon) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count() as u64
}

fn sockets(daemon: &Daemon) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let leads_to = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    leads_to.filter(|path| path.to_string_lossy().starts_with("socket:")).count()
}

fn segments(daemon: &Daemon) -> usize {
    let names = std::fs::read_dir(daemon.archive_dir()).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|it| it == "seg")).count()
}

/// Sends one frame and waits until it is durable.
fn deliver(client: &mut Client, lane: usize, next: &mut [u64; 2]) {
    client.deliver(lane, next[lane], &vec![lane as u8 + 1; PAYLOAD_BYTES]);
    next[lane] += 1;
}

/// Sends emergencies until a further segment has begun.
fn fill_segment(daemon: &Daemon, client: &mut Client, next: &mut [u64; 2]) {
    let before = segments(daemon);
    while segments(daemon) == before {
        deliver(client, EMERGENCY, next);
    }
}

/// Sets how many files the daemon may open, and returns the previous limit.
fn set_limit(daemon: &Daemon, files: u64) -> u64 {
    let pid = Pid::from_raw(daemon.pid() as i32);
    let maximum = getrlimit(Resource::Nofile).maximum;
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: Some(files), maximum }).unwrap();
    before.current.unwrap_or(4_096)
}

#[test]
fn silent_sockets_that_use_all_open_files_stop_no_emergency_and_lose_nothing() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    let mut next = [0; 2];
    deliver(&mut client, ROUTINE, &mut next);

    // Lower the limit of the running process: the daemon does not start with fewer files than it may need.
    let limit = open_files(&daemon) + 4;
    let before = set_limit(&daemon, limit);
    let silent: Vec<_> = (0..SILENT).map(|_| TcpStream::connect(daemon.http()).unwrap()).collect();
    daemon.wait_line("accepting a connection failed");
    // Fill the segment to its end. The reserve becomes the next segment.
    fill_segment(&daemon, &mut client, &mut next);

    // A rotation closes files and could open its next ones in their place. This limit prevents that too.
    set_limit(&daemon, 3);
    fill_segment(&daemon, &mut client, &mut next);
    let line = daemon.wait_line("archive degraded");
    assert!(line.contains("no file can be opened") && line.contains("LimitNOFILE"), "{line}");
    for _ in 0..20 {
        deliver(&mut client, EMERGENCY, &mut next);
    }
    assert!(daemon.is_running());

    drop(silent);
    set_limit(&daemon, before);
    daemon.wait_line("the archive can open files again");
    for _ in 0..20 {
        deliver(&mut client, ROUTINE, &mut next);
    }
    assert_eq!(client.bye(next), next);
    let books = daemon.stop();
    assert_eq!(books.archived, next.iter().sum::<u64>());
}

#[test]
fn a_subscriber_waits_for_open_files_and_gets_no_storage_error() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    let mut next = [0; 2];
    for _ in 0..5 {
        deliver(&mut client, ROUTINE, &mut next);
    }
    let mut subscribers = Vec::new();
    for subscribe in [Subscribe::earliest(), Subscribe::received(0)] {
        let known = sockets(&daemon);
        let mut subscriber = Subscriber::connect(daemon.feed());
        wait_until("the daemon's end of the connection", || match sockets(&daemon) {
            open if open > known => Ok(()),
            open => Err(format!("{open} sockets")),
        });
        let before = set_limit(&daemon, 3);
        subscriber.ask(&subscribe);
        daemon.wait_line("a subscriber waits until files can be opened again");
        set_limit(&daemon, before);
        subscriber.expect_subscribed();
        subscriber.expect_frames(5);
        // Keep the subscriber open: if it closed, one socket fewer would count against the limit.
        subscribers.push(subscriber);
    }
    daemon.stop();
}

/// Processor time that the daemon has used.
fn cpu_time(daemon: &Daemon) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    // The name of the process stands in parentheses before these fields.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    // proc_pid_stat(5): in USER_HZ, which is 100.
    Duration::from_millis(10 * ticks.sum::<u64>())
}

#[test]
fn links_and_outputs_go_on_while_all_open_files_are_used() {
    const OUTPUT: &str = "start = \"earliest\"\nclients = 2";
    /// A wait for accepts that fail, in which a daemon that tries without a pause would use one core.
    const WATCH: Duration = Duration::from_secs(1);
    let link = "station = \"KIRUNA\"\nframing = { kind = \"packet\", max = 2000 }\nsource = 9";
    let config = equipment::listening("modem", link) + &software::listening("yamcs", OUTPUT);
    let mut daemon = Daemon::start(&config);
    let mut modem = equipment::connect(&daemon, "modem");
    modem.write_all(&packet(1, 0, b"before")).unwrap();
    let mut reader = software::connect(&daemon, "yamcs");
    assert_eq!(software::read_packet(&mut reader), packet(1, 0, b"before"));

    let before = set_limit(&daemon, open_files(&daemon) + 4);
    let silent: Vec<_> = (0..SILENT).map(|_| TcpStream::connect(daemon.http()).unwrap()).collect();
    daemon.wait_line("accepting a connection failed");
    // Both wait in the kernel, because the daemon cannot accept them.
    let mut newer_modem = equipment::connect(&daemon, "modem");
    let address = software::address_of(&daemon, "yamcs");
    let mut newer_reader = software::with_limit(TcpStream::connect(address).unwrap());
    let used = cpu_time(&daemon);
    let began = Instant::now();
    let mut count = 1;
    while began.elapsed() < WATCH {
        modem.write_all(&packet(1, count, b"while no file can be opened")).unwrap();
        assert_eq!(software::read_packet(&mut reader), packet(1, count, b"while no file can be opened"));
        count += 1;
        // A pace, not a wait: the daemon has little to do beside the accepts.
        std::thread::sleep(WATCH / 20);
    }
    let used = cpu_time(&daemon) - used;
    assert!(used < WATCH / 4, "the daemon used {used:?} of {WATCH:?}");
    assert!(daemon.is_running());

    drop(silent);
    set_limit(&daemon, before);
    newer_modem.write_all(&packet(1, count, b"after")).unwrap();
    for number in 0..=count {
        let packet = software::read_packet(&mut newer_reader);
        assert_eq!(packet[2..4], (0xC000 | number).to_be_bytes(), "the new reader gets every packet");
    }
    assert_eq!(software::read_packet(&mut reader), packet(1, count, b"after"));
    for name in ["link=\"modem\"", "output=\"yamcs\""] {
        daemon.wait_line(&format!("cannot accept a connection {name}"));
    }
    let books = daemon.stop();
    assert_eq!(books.archived, u64::from(count) + 1);
}
