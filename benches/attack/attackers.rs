//! The attackers: helper processes of the bench, each with the lowest priority.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use frame::{FrameFlags, FramePriority, SourceKind};
use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use socket2::{Domain, Socket, Type};
use wire::{FrameMessage, ServerMessage, next_body};

use super::support::{Receiver, hello};

/// Argument that makes a process an attacker. Its kind and the addresses of the daemon follow.
const WORD: &str = "--attacker";
const KINDS: [&str; 4] = ["memory", "files", "slots", "stderr"];

/// Source addresses of the attackers. Good clients connect from 127.0.0.1.
const SILENT: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
const STORMING: [Ipv4Addr; 1] = [Ipv4Addr::new(127, 0, 0, 4)];
const FLOODING: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

const SILENT_SOURCES: usize = 256;
const SILENT_SUBSCRIBERS: usize = 80;
const SILENT_HTTP: usize = 600;
/// Time between two checks of the silent connections, and the number of connections that each check renews.
const LOOK: Duration = Duration::from_millis(100);
const RENEWED: usize = 4;

const STORMS: usize = 8;

const FLOODS: u32 = 24;
const FIRST_SOURCE: u32 = 3_000;
const EMERGENCIES: usize = 11;
const PAYLOAD_BYTES: usize = 4 << 10;
const BURST_EVERY: Duration = Duration::from_secs(15);
/// Bytes of a burst of one connection.
const BURST_BYTES: usize = (128 << 20) / FLOODS as usize;

/// Starts one process of each kind. Dropping them ends the processes.
pub fn start(addresses: [SocketAddr; 3]) -> Vec<Receiver> {
    let own = std::env::current_exe().unwrap();
    let start = |kind| {
        let mut command = Command::new(&own);
        command.args([WORD, kind]).args(addresses.map(|address| address.to_string()));
        Receiver::spawn(command.stdin(Stdio::piped()))
    };
    KINDS.map(start).into()
}

/// Returns whether this process is an attacker. An attacker attacks until it is killed or the bench has ended.
pub fn is_one() -> bool {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [word, kind, addresses @ ..] = &args[..] else { return false };
    if word != WORD {
        return false;
    }
    nice(19).unwrap();
    // The bench holds the other end of the pipe until the bench ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let [ingest, feed, http] = addresses[..] else { panic!("three addresses, not {addresses:?}") };
    std::thread::scope(|threads| match kind.as_str() {
        "memory" => {
            (0..FLOODS).for_each(|index| drop(threads.spawn(move || flood(ingest, FIRST_SOURCE + index))))
        }
        "files" => drop(threads.spawn(move || silent(http, SILENT_HTTP))),
        "slots" => {
            threads.spawn(move || silent(ingest, SILENT_SOURCES));
            threads.spawn(move || silent(feed, SILENT_SUBSCRIBERS));
        }
        "stderr" => (0..STORMS).for_each(|_| drop(threads.spawn(move || storm(ingest)))),
        other => panic!("there is no attacker {other:?}"),
    });
    true
}

fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(1))?;
    Ok(socket.into())
}

/// Holds `count` silent connections. Reopens closed ones and renews the oldest.
fn silent(to: SocketAddr, count: usize) {
    let mut sockets: Vec<TcpStream> = Vec::new();
    let mut from = SILENT.into_iter().cycle();
    loop {
        sockets.retain(is_open);
        sockets.drain(..RENEWED.min(sockets.len()));
        while sockets.len() < count {
            // The next check repeats a refused connection.
            let Ok(socket) = from.next().map(|from| connect(from, to)).unwrap() else { break };
            socket.set_nonblocking(true).unwrap();
            sockets.push(socket);
        }
        std::thread::sleep(LOOK);
    }
}

fn is_open(mut socket: &TcpStream) -> bool {
    matches!(socket.read(&mut [0; 512]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Sends HELLOs of an unknown version.
fn storm(to: SocketAddr) {
    let mut message = BytesMut::new();
    let mut hello = hello(1, SourceKind::LiveUplink, 0);
    (hello.version_min, hello.version_max) = (9, 9);
    hello.encode(&mut message);
    for from in STORMING.into_iter().cycle() {
        if let Ok(mut socket) = connect(from, to) {
            let _ = socket.set_read_timeout(Some(Duration::from_secs(1)));
            let _ = socket.write_all(&message);
            let _ = socket.read(&mut [0; 512]);
        }
    }
}

/// Floods within its credit. Reconnects when the daemon closes the connection.
fn flood(to: SocketAddr, source_id: u32) {
    loop {
        if let Ok(socket) = connect(FLOODING, to) {
            // Both a result and an error lead to the next connection.
            let _ = Flood::new(socket).run(source_id);
        }
        std::thread::sleep(LOOK);
    }
}

struct Flood {
    socket: TcpStream,
    incoming: BytesMut,
    /// The next sequence of each lane.
    next: [u64; 2],
    cost: [u64; 2],
    limit: [u64; 2],
}

impl Flood {
    fn new(socket: TcpStream) -> Self {
        Self { socket, incoming: BytesMut::new(), next: [0; 2], cost: [0; 2], limit: [0; 2] }
    }

    fn run(mut self, source_id: u32) -> std::io::Result<()> {
        let mut message = BytesMut::new();
        hello(source_id, SourceKind::LiveUplink, 0).encode(&mut message);
        self.socket.write_all(&message)?;
        self.socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
        let (mut began, mut sent) = (Instant::now(), 0);
        loop {
            self.take_in()?;
            if began.elapsed() >= BURST_EVERY {
                (began, sent) = (Instant::now(), 0);
            }
            while sent < BURST_BYTES
                && let Some(burst) = self.next_write(&payload)
            {
                self.socket.write_all(&burst)?;
                sent += burst.len();
            }
        }
    }

    /// Emergencies and one empty routine frame, if credit allows all of them.
    fn next_write(&mut self, payload: &Bytes) -> Option<BytesMut> {
        let lanes = std::iter::repeat_n((FramePriority::Emergency, payload.clone()), EMERGENCIES)
            .chain([(FramePriority::Routine, Bytes::new())]);
        let (mut next, mut cost) = (self.next, self.cost);
        let mut out = BytesMut::new();
        for (priority, payload) in lanes {
            let lane = priority as usize;
            let frame = FrameMessage::new(priority, FrameFlags::default(), next[lane], 0, payload);
            next[lane] += 1;
            cost[lane] += frame.cost;
            frame.encode(&mut out);
        }
        let is_granted = (0..2).all(|lane| cost[lane] <= self.limit[lane]);
        is_granted.then(|| {
            (self.next, self.cost) = (next, cost);
            out
        })
    }

    fn take_in(&mut self) -> std::io::Result<()> {
        let mut piece = [0; 4096];
        match self.socket.read(&mut piece) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => self.incoming.extend_from_slice(&piece[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        while let Some(body) = next_body(&mut self.incoming, 1 << 20).map_err(std::io::Error::other)? {
            match ServerMessage::decode(body).map_err(std::io::Error::other)? {
                ServerMessage::Welcome(welcome) => self.next = welcome.resume_next.into(),
                ServerMessage::Ack(ack) => self.limit[ack.priority as usize] = ack.credit_limit,
                ServerMessage::Error(_) | ServerMessage::Bye(_) => {
                    return Err(ErrorKind::ConnectionAborted.into());
                }
                // PINGs need no answer. Only silence for three heartbeats ends a connection, and this client sends.
                _ => {}
            }
        }
        Ok(())
    }
}
