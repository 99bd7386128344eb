//! SIGTERM under load: the daemon archives every accepted frame, informs every client, and ends within five seconds.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sim::Plan;
use socket2::{Domain, Socket, Type};

use crate::alone;
use crate::support::fleet::{Fleet, FleetLog, for_each_frame};
use crate::support::process::{rss_max_kib, send_queue_bytes};
use crate::support::{
    Books, Client, Daemon, EMERGENCY, Frame, Hello, LIMIT, NO_ACK, ROUTINE, Received, Server, code, cost,
    message,
};

/// The limits of the shipped configuration, where the defaults of the tests are smaller.
const SHIPPED: &str =
    "[ingest]\nmax_message = \"128 KiB\"\n[archive]\nsegment_size = \"256 MiB\"\nreserve = \"64 MiB\"";

/// Longest duration of a drain: five seconds, plus the time in which a busy machine notices the end.
const DRAIN_MAX: Duration = Duration::from_millis(5_200);

/// Source ids that no source of a fleet has.
const SILENT: u32 = 1_000;
const DEAF: u32 = 1_001;
const UNACKED: u32 = 1_002;

/// How long a kernel may wait before it confirms bytes that it has received, with time to spare for a busy machine.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(500);

#[test]
fn five_million_frames_flat_out_stay_within_256_mib() {
    let _alone = alone();
    let mut daemon = Daemon::start(SHIPPED);
    let plan = Plan {
        connect: daemon.address().to_string(),
        frames: Some(100_000),
        payload_bytes: 64,
        linger: Duration::from_secs(60),
        ..Plan::default()
    };
    assert_eq!((plan.satellites, plan.replays), (48, 2));
    let report = Fleet::start(plan.clone()).wait();
    println!("{report}");
    assert!(report.is_complete(), "{report}");
    assert_eq!((report.sent, report.acked), (5_000_000, 5_000_000));
    let rss_max_kib = rss_max_kib(daemon.pid());
    println!("VmHWM of the daemon: {} MiB", rss_max_kib / 1024);
    assert!(rss_max_kib < 256 * 1024, "the daemon took {rss_max_kib} KiB");
    let books = drain(&mut daemon, Signal::TERM);
    assert_eq!((books.received, books.archived), (5_000_000, 5_000_000));
    assert_eq!(FleetLog::read(&plan, &daemon.archive_dir(), |frame| panic!("{frame:?}")), 5_000_000);
}

#[test]
fn sigterm_with_difficult_clients_loses_nothing() {
    difficult_clients(Signal::TERM);
}

#[test]
fn sigint_with_difficult_clients_loses_nothing() {
    difficult_clients(Signal::INT);
}

fn difficult_clients(signal: Signal) {
    let _alone = alone();
    let mut daemon = Daemon::start(SHIPPED);
    let address = daemon.address();
    let plan = Plan {
        connect: address.to_string(),
        satellites: 10,
        payload_bytes: 64,
        linger: Duration::from_millis(200),
        ..Plan::default()
    };
    let deaf = Deaf::start(address).wait_deaf();
    let fleet = Fleet::start(plan.clone());
    let silent = std::thread::spawn(move || Silent::run(address));
    let unacked = std::thread::spawn(move || unacked_flat_out(address, || {}));
    fleet.wait_acked_in_all(100_000, LIMIT);

    let books = drain(&mut daemon, signal);
    println!("{books:?}");
    assert_eq!((books.rejected, books.duplicates), (0, 0), "{books:?}");
    let report = fleet.stop();
    let silent = silent.join().expect("the silent client panicked");
    let written_by_deaf = deaf.finish();
    let written_unacked = unacked.join().expect("the client without ACKs panicked");

    let mut next = std::collections::HashMap::new();
    let mut others = 0_u64;
    let fleet_frames = FleetLog::read(&plan, &daemon.archive_dir(), |frame| {
        others += 1;
        let next = next.entry((frame.source_id, frame.priority as usize)).or_insert(0_u64);
        assert_eq!(frame.sequence, *next, "a frame is missing, doubled or out of order: {frame:?}");
        assert_eq!(frame.payload, payload(frame.source_id, frame.sequence), "payload of {frame:?}");
        *next += 1;
    });
    assert_eq!(fleet_frames + others, books.archived, "frames in the archive");
    assert!(
        fleet_frames >= report.acked,
        "{} frames were acknowledged, {fleet_frames} are there",
        report.acked
    );
    let archived = |id, lane| next.get(&(id, lane)).copied().unwrap_or(0);

    assert!(silent.durable_next[ROUTINE] > 0, "the silent client got nothing acknowledged");
    for lane in [EMERGENCY, ROUTINE] {
        // The drain ends with the last ACKs, so the archive holds exactly the acknowledged frames.
        assert_eq!(archived(SILENT, lane), silent.durable_next[lane], "lane {lane} of the silent client");
    }
    assert!(silent.saw_goaway && silent.error == Some(code::DRAINING), "{silent:?}");
    assert!(archived(DEAF, ROUTINE) > 0 && archived(DEAF, ROUTINE) <= written_by_deaf);
    let unacked = archived(UNACKED, ROUTINE);
    assert!(
        unacked > 1_000 && unacked <= written_unacked,
        "{unacked} of {written_unacked} frames without ACK"
    );
}

/// Sends the signal to the daemon and expects a clean end.
fn drain(daemon: &mut Daemon, signal: Signal) -> Books {
    daemon.signal(signal);
    let exit = daemon.wait_exit(LIMIT);
    println!("drained in {:?}", exit.elapsed);
    assert_eq!(exit.code, Some(0), "exit code after {signal:?}");
    assert!(exit.elapsed < DRAIN_MAX, "the drain took {:?}", exit.elapsed);
    let books = daemon.final_books();
    books.assert_balanced();
    assert_eq!(books.undelivered, 0, "accepted frames were lost: {books:?}");
    books
}

fn payload(source_id: u32, sequence: u64) -> Vec<u8> {
    let mut payload = source_id.to_be_bytes().to_vec();
    payload.extend_from_slice(&sequence.to_be_bytes());
    payload.resize(64, sequence as u8);
    payload
}

/// A client that reads and sends, but never sends BYE.
#[derive(Debug, Default)]
struct Silent {
    durable_next: [u64; 2],
    saw_goaway: bool,
    error: Option<u16>,
}

impl Silent {
    fn run(address: SocketAddr) -> Self {
        let (mut client, _) = Client::open(address, &Hello::new(SILENT));
        let (mut silent, mut next) = (Self::default(), [0_u64; 2]);
        loop {
            for lane in [EMERGENCY, ROUTINE] {
                while !silent.saw_goaway && client.credit(lane) >= cost(84) {
                    client.frame(lane, next[lane], &payload(SILENT, next[lane]));
                    next[lane] += 1;
                }
            }
            match client.receive(LIMIT) {
                Received::Message(Server::Ack(ack)) => silent.durable_next[ack.lane] = ack.durable_next,
                Received::Message(Server::GoAway { code, deadline_ms, .. }) => {
                    assert_eq!(code, code::DRAINING);
                    assert!(deadline_ms <= 5_000, "GOAWAY announces {deadline_ms} ms");
                    silent.saw_goaway = true;
                }
                Received::Message(Server::Error(error)) => {
                    silent.error = Some(error.code);
                    client.expect_end();
                    return silent;
                }
                other => panic!("the silent client got {other:?}"),
            }
        }
    }
}

/// A client that stops reading after the first ACKs. The server's answers fill its receive buffer. The client keeps
/// sending within its credit.
struct Deaf {
    state: Arc<(Mutex<DeafState>, Condvar)>,
    thread: std::thread::JoinHandle<u64>,
}

#[derive(Default)]
struct DeafState {
    is_deaf: bool,
    finish: bool,
}

impl Deaf {
    fn start(address: SocketAddr) -> Self {
        let state = Arc::<(Mutex<DeafState>, Condvar)>::default();
        let thread = std::thread::spawn({
            let state = Arc::clone(&state);
            move || Self::run(address, &state)
        });
        Self { state, thread }
    }

    /// Waits until the server can write no more bytes to the client.
    fn wait_deaf(self) -> Self {
        let (state, changed) = &*self.state;
        let state = state.lock().expect("the deaf client panicked");
        let (state, waited) = changed
            .wait_timeout_while(state, LIMIT, |state| !state.is_deaf)
            .expect("the deaf client panicked");
        assert!(!waited.timed_out(), "the receive buffer of the deaf client does not fill");
        drop(state);
        self
    }

    /// Closes the connection and returns the number of frames written.
    fn finish(self) -> u64 {
        let (state, changed) = &*self.state;
        state.lock().expect("the deaf client panicked").finish = true;
        changed.notify_all();
        self.thread.join().expect("the deaf client panicked")
    }

    fn run(address: SocketAddr, shared: &(Mutex<DeafState>, Condvar)) -> u64 {
        // Both buffers on the way to the client are as small as the system allows.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(1).expect("SO_RCVBUF");
        socket.set_tcp_mss(536).expect("TCP_MAXSEG");
        // The kernel confirms small segments late. A large send buffer keeps that from slowing the client's own
        // sending.
        socket.set_send_buffer_size(4 << 20).expect("SO_SNDBUF");
        socket.connect(&address.into()).expect("the daemon cannot be connected to");
        let (mut client, local) = {
            let socket = TcpStream::from(socket);
            let local = socket.local_addr().expect("an address");
            (Client::over(socket), local)
        };
        client.send(&Hello::new(DEAF).bytes());
        client.expect_welcome();
        client.expect_first_acks();
        let (state, changed) = shared;
        let mut sequence = 0;
        let mut spent = 0;
        let mut is_deaf = false;
        while !state.lock().expect("the test panicked").finish {
            // The pings are sent one by one: of several PINGs in one read, the server answers only the newest.
            for nonce in 0..if is_deaf { 2 } else { 100 } {
                if client.try_send(&message::ping(nonce)).is_err() {
                    return sequence;
                }
                // A pace, not a wait.
                std::thread::sleep(Duration::from_micros(200));
            }
            if !is_deaf && is_receive_buffer_full(address, local) {
                is_deaf = true;
                state.lock().expect("the test panicked").is_deaf = true;
                changed.notify_all();
            }
            if (is_deaf || sequence == 0) && client.credit(ROUTINE) >= spent + cost(84) {
                let frame = Frame::new(ROUTINE, sequence, &payload(DEAF, sequence));
                if client.try_send(&frame.bytes()).is_err() {
                    return sequence;
                }
                spent += cost(84);
                sequence += 1;
            }
            if is_deaf {
                // A pace, not a wait: some credit is left when the drain begins.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        sequence
    }
}

/// Whether bytes of the server wait for room at the client, not only for the confirmation of its kernel. The caller
/// sends nothing meanwhile. How many bytes wait does not matter: a client whose receive buffer is full drops the
/// confirmations that come with data, so its own pings, and with them the answers, can come to a halt.
fn is_receive_buffer_full(server: SocketAddr, client: SocketAddr) -> bool {
    let waits = || send_queue_bytes(server, client) > 0;
    waits() && {
        // Bytes that still wait after this time wait for room.
        std::thread::sleep(CONFIRMED_WITHIN);
        waits()
    }
}

/// Writes as fast as TCP accepts bytes, until the server closes. Returns the number of frames that are written at
/// least in part.
fn unacked_flat_out(address: SocketAddr, began: impl FnOnce()) -> u64 {
    let (client, _) = Client::welcomed(address, &Hello::new(UNACKED).flags(NO_ACK).epoch(0));
    began();
    let mut socket = client.socket();
    let mut next = 0;
    loop {
        let burst: Vec<u8> = (next..next + 100)
            .flat_map(|sequence| message::frame(ROUTINE, sequence, &payload(UNACKED, sequence)))
            .collect();
        next += 100;
        if socket.write_all(&burst).is_err() {
            return next;
        }
    }
}

#[test]
fn a_second_signal_stops_at_once() {
    let _alone = alone();
    let mut daemon = Daemon::start("");
    let address = daemon.address();
    // The drain reads for as long as this client sends. That leaves two seconds for the second signal.
    let (began_tx, began) = mpsc::channel();
    let flood =
        std::thread::spawn(move || unacked_flat_out(address, || began_tx.send(()).expect("the test waits")));
    began.recv_timeout(LIMIT).expect("the flood does not begin");
    daemon.signal(Signal::TERM);
    daemon.wait_line(" draining ");
    daemon.signal(Signal::TERM);
    let exit = daemon.wait_exit(LIMIT);
    assert!(exit.elapsed < Duration::from_secs(1), "it took {:?}", exit.elapsed);
    assert!(!matches!(exit.code, Some(0)), "stopped at once, but exit {:?}", exit.code);
    daemon.wait_line("second signal");
    flood.join().expect("the flood panicked");
    // The daemon may be in any state of the drain. The next start must succeed in each case.
    let mut daemon = daemon.restart();
    for_each_frame(&daemon.archive_dir(), |frame| assert_eq!(frame.source_id, UNACKED));
    daemon.stop();
}

#[test]
fn an_idle_daemon_stops_quickly() {
    let _alone = alone();
    let mut daemon = Daemon::start("");
    let started = Instant::now();
    daemon.stop();
    assert!(started.elapsed() < Duration::from_secs(1), "it took {:?}", started.elapsed());
}
