//! A connection uses a slot until the queue of its stream is empty. A stream uses one slot, however often its client
//! reconnects. A client without a valid HELLO uses none.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use config::Config;
use ingest::IngestConfig;
use rustix::net::sockopt::set_socket_linger;

use crate::support::inside::Held;
use crate::support::message::Server;
use crate::support::{
    Client, Daemon, EMERGENCY, Feed, Heard, Hello, LIMIT, ROUTINE, Received, Subscribe, Subscriber, code,
    connect_from, wait_until,
};

fn held() -> Held {
    Held::start(IngestConfig { max_connections: 3, ..Config::default().ingest_config() })
}

/// Connects as soon as there is a slot.
fn open(held: &Held, source_id: u32) -> Client {
    Client::open_when_free(held.address, &Hello::new(source_id)).0
}

/// Leaves a frame in the queue of `source_id` and disconnects.
fn leave_a_frame(held: &Held, source_id: u32, sequence: u64) {
    let mut client = open(held, source_id);
    client.frame(ROUTINE, sequence, b"waits");
    client.settle(1);
    client.half_close();
    drop(client);
}

#[test]
fn a_client_that_reconnects_repeatedly_takes_one_slot() {
    let mut held = held();
    let (mut first, _) = Client::open(held.address, &Hello::new(1));
    first.frame(ROUTINE, 0, b"occupies the processor");
    held.next_batch();
    for sequence in 0..20 {
        leave_a_frame(&held, 2, sequence);
    }
    let mut other = open(&held, 3);
    other.frame(EMERGENCY, 0, b"gets in");
    held.release(100);
    other.wait_durable(EMERGENCY, 1);
}

#[test]
fn queued_frames_of_a_closed_connection_keep_its_slot_until_they_leave() {
    let mut held = held();
    let (mut first, _) = Client::open(held.address, &Hello::new(1));
    first.frame(ROUTINE, 0, b"occupies the processor");
    held.next_batch();
    leave_a_frame(&held, 2, 0);
    leave_a_frame(&held, 3, 0);
    Client::refused(held.address, &Hello::new(4), code::BUSY);
    held.release(100);
    first.wait_durable(ROUTINE, 1);
    // The queues are empty as soon as the processor has taken the frames. Then the slots are free.
    let mut client = open(&held, 5);
    client.deliver(ROUTINE, 0, b"in");
}

/// Silent connections. When the daemon closes one, this opens another.
struct Flood {
    stop: Arc<AtomicBool>,
    running: Vec<JoinHandle<u64>>,
}

impl Flood {
    /// Opens `count` connections from each address in `from`. Returns when all of them have been made.
    fn start(to: SocketAddr, from: &[[u8; 4]], count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready_tx, ready) = mpsc::channel();
        let mut running = Vec::new();
        for from in from.iter().copied() {
            let (stop, ready_tx) = (Arc::clone(&stop), ready_tx.clone());
            running.push(std::thread::spawn(move || {
                let mut sockets: Vec<_> = (0..count).map(|_| silent_from(from, to)).collect();
                let mut made = count as u64;
                ready_tx.send(()).expect("the test waits for it");
                while !stop.load(Ordering::Relaxed) {
                    for socket in sockets.iter_mut().filter(|socket| is_closed(socket)) {
                        *socket = silent_from(from, to);
                        made += 1;
                    }
                }
                made
            }));
        }
        for _ in from {
            ready.recv_timeout(LIMIT).expect("the flood does not get through");
        }
        Self { stop, running }
    }

    /// Stops the flood and returns how many connections it made.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.running.into_iter().map(|running| running.join().expect("the flood panicked")).sum()
    }
}

/// Whether the daemon closed the connection, or announced that it will.
fn is_closed(socket: &TcpStream) -> bool {
    !matches!(socket.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Opens a silent connection. Dropping it resets it, which frees its port.
fn silent_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = connect_from(from, to);
    set_socket_linger(&socket, Some(Duration::ZERO)).expect("a linger time");
    socket.set_nonblocking(true).expect("a socket that does not block");
    socket
}

const TOKENS: &str = "[[ingest.tokens]]\ntoken = \"right\"\n[[feed.tokens]]\ntoken = \"right\"\n";

#[test]
fn silent_connections_do_not_keep_sources_out() {
    let daemon = Daemon::start(TOKENS);
    let flood = Flood::start(daemon.address(), &[[127, 0, 0, 2], [127, 0, 0, 3]], 160);
    for attempt in 0..60 {
        let mut client = Client::connect(daemon.address());
        client.send(&Hello::new(attempt).token("right").bytes());
        match client.next() {
            Server::Welcome(_) => {}
            other => panic!("attempt {attempt}: {other:?}"),
        }
    }
    let made = flood.stop();
    assert!(made > 512, "{made} connections are no flood");
}

#[test]
fn silent_connections_do_not_keep_subscribers_out() {
    let daemon = Daemon::start(TOKENS);
    let flood = Flood::start(daemon.feed(), &[[127, 0, 0, 2], [127, 0, 0, 3]], 160);
    let subscribe = Subscribe::live().token("right");
    for attempt in 0..60 {
        wait_until("a slot", || {
            let mut subscriber = Subscriber::connect(daemon.feed());
            subscriber.ask(&subscribe);
            match subscriber.receive(LIMIT) {
                Heard::Message(Feed::Subscribed(_)) => Ok(()),
                // The slot of an earlier attempt is free as soon as the daemon has noticed that the attempt is gone.
                Heard::Message(Feed::Error(error))
                    if error.code == code::BUSY && error.text.contains("feed.max") =>
                {
                    Err(error.text)
                }
                other => panic!("attempt {attempt}: {other:?}"),
            }
        });
    }
    flood.stop();
}

#[test]
fn a_fleet_gets_in_through_the_address_of_a_flood() {
    let daemon = Daemon::start(TOKENS);
    let from = [127, 0, 0, 2];
    let flood = Flood::start(daemon.address(), &[from], 256);
    let address = daemon.address();
    let fleet: Vec<_> = (0..48)
        .map(|source_id| {
            std::thread::spawn(move || {
                let deadline = Instant::now() + LIMIT;
                while Instant::now() < deadline {
                    let mut client = Client::over(connect_from(from, address));
                    if client.try_send(&Hello::new(source_id).token("right").bytes()).is_ok()
                        && let Received::Message(Server::Welcome(_)) = client.receive(LIMIT)
                    {
                        return Some(client);
                    }
                }
                None
            })
        })
        .collect();
    let inside: Vec<_> = fleet.into_iter().map(|client| client.join().expect("a client panicked")).collect();
    assert!(
        inside.iter().all(Option::is_some),
        "shut out: {}",
        inside.iter().filter(|one| one.is_none()).count()
    );
    flood.stop();
}

#[test]
fn a_fleet_larger_than_the_budget_reconnects_at_once_through_one_address() {
    const FLEET: u32 = 400;
    let limits = format!("[ingest]\nmax_connections = {FLEET}\nmax_connections_per_address = {FLEET}\n");
    let daemon = Daemon::start(&format!(
        "{limits}routine_window = \"128 KiB\"\nemergency_window = \"128 KiB\"\n{TOKENS}"
    ));
    let mut fleet: Vec<_> = (0..FLEET)
        .map(|source_id| {
            let mut client = Client::connect(daemon.address());
            client.send(&Hello::new(source_id).token("right").bytes());
            client
        })
        .collect();
    for client in &mut fleet {
        client.expect_welcome();
    }
    Client::refused(daemon.address(), &Hello::new(FLEET).token("right"), code::BUSY);
}

#[test]
fn a_silent_connection_is_evicted_with_busy() {
    let daemon = Daemon::start("[ingest]\nhello_timeout = \"60s\"");
    let mut oldest = Client::connect(daemon.address());
    let _others: Vec<_> = (0..256).map(|_| Client::connect(daemon.address())).collect();
    let error = oldest.expect_error(code::BUSY);
    assert_eq!(error.flags & 1, 1, "retryable");
    assert!(error.text.contains("HELLO"), "{error:?}");
}

#[test]
fn connections_without_a_valid_hello_take_no_slot() {
    let daemon = Daemon::start(&format!("[ingest]\nmax_connections = 1\n{TOKENS}"));
    let _silent: Vec<_> = (0..20).map(|_| Client::connect(daemon.address())).collect();
    // These clients receive the ERROR and wait for the end of the connection without reading.
    let _refused: Vec<_> = (0..20)
        .map(|_| {
            let mut client = Client::connect(daemon.address());
            client.send(&Hello::new(9).token("wrong").bytes());
            assert!(matches!(client.next(), Server::Error(error) if error.code == code::UNAUTHORIZED));
            client
        })
        .collect();
    let mut client = Client::connect(daemon.address());
    client.send(&Hello::new(1).token("right").bytes());
    client.expect_welcome();
}

#[test]
fn a_takeover_uses_the_slot_of_its_predecessor() {
    let limits = "[ingest]\nmax_connections = 2\nmax_connections_per_address = 2";
    let daemon = Daemon::start(limits);
    let address = daemon.address();
    let (_other, _) = Client::open(address, &Hello::new(1));
    let mut current = Client::open(address, &Hello::new(2).epoch(5)).0;
    // The same epoch, and higher ones. The previous connections stay open for their last messages, and use no slot.
    let mut predecessors = Vec::new();
    for epoch in [5, 6, 6, 7] {
        let (mut newer, _) = Client::open(address, &Hello::new(2).epoch(epoch));
        newer.deliver(ROUTINE, 1 + predecessors.len() as u64, b"mine");
        predecessors.push(std::mem::replace(&mut current, newer));
    }
    // A connection of another stream or of an older epoch takes over nothing.
    Client::refused(address, &Hello::new(2).station("other"), code::BUSY);
    Client::refused(address, &Hello::new(2).epoch(4), code::BUSY);
    // The number of slots in use is unchanged.
    Client::refused(address, &Hello::new(3), code::BUSY);
    current.deliver(ROUTINE, 9, b"still mine");
}

#[test]
fn a_fleet_that_takes_over_all_its_streams_at_once_gets_in() {
    const FLEET: u32 = 60;
    let limits = format!("[ingest]\nmax_connections = {FLEET}\nmax_connections_per_address = {FLEET}");
    let daemon = Daemon::start(&limits);
    let open = |source| Client::open(daemon.address(), &Hello::new(source).epoch(5)).0;
    // As if the networks of these clients were down: the clients neither read nor close.
    let dead: Vec<Client> = (0..FLEET).map(open).collect();
    for source in 0..FLEET {
        open(source).deliver(ROUTINE, 0, b"back");
    }
    drop(dead);
}
