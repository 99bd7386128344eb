//! Subscribers with little work, in a separate process: they split by length, count and discard.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::BytesMut;
use frame::Selection;
use wire::{Policy, Start, Subscribe, SubscriberMessage, kind};

use super::support::own_thread_cpu_ns;

/// First argument of the process that holds the subscribers.
pub const SERVE: &str = "--subscribers";
/// Bytes of one read.
const READ_BYTES: usize = 512 << 10;
/// Position of the offset in a DELIVER with its prefix.
const OFFSET_AT: std::ops::Range<usize> = 12..20;
/// Position of the nonce in a PING with its prefix.
const NONCE_AT: std::ops::Range<usize> = 5..13;

/// The results of all subscribers together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Got {
    pub frames: u64,
    pub bytes: u64,
    /// CPU time of the subscribers that have reached their end.
    pub cpu_ns: u64,
}

/// The process with the subscribers. Dropping this kills it.
pub struct Subscribers {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Subscribers {
    /// Starts `count` subscribers. Returns when each has received SUBSCRIBED.
    pub fn start(address: SocketAddr, count: usize, start: Start, until: u64) -> Self {
        let start = if matches!(start, Start::Live) { "live" } else { "earliest" };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(SERVE)
            .args([address.to_string(), count.to_string(), start.to_owned(), until.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut subscribers = Self { child, lines };
        assert_eq!(subscribers.line(), "subscribed");
        subscribers
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The results so far.
    pub fn got(&mut self) -> Got {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let line = self.line();
        let mut figures = line.split(' ').map(|figure| figure.parse().unwrap());
        let mut figure = || figures.next().unwrap();
        Got { frames: figure(), bytes: figure(), cpu_ns: figure() }
    }

    /// Returns when all subscribers have reached their end.
    pub fn done(&mut self) {
        assert_eq!(self.line(), "done");
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Counters {
    frames: AtomicU64,
    bytes: AtomicU64,
    cpu_ns: AtomicU64,
}

/// Runs the process. Its arguments are `[address, count, start, until]`.
pub fn serve(args: &[String]) {
    let address: SocketAddr = args[0].parse().unwrap();
    let count: usize = args[1].parse().unwrap();
    let start = if args[2] == "live" { Start::Live } else { Start::Earliest };
    let until: u64 = args[3].parse().unwrap();
    let counters = Arc::new(Counters::default());
    let (subscribed_tx, subscribed) = mpsc::channel();
    let (done_tx, done) = mpsc::channel();
    for _ in 0..count {
        let events = (subscribed_tx.clone(), done_tx.clone());
        let counters = Arc::clone(&counters);
        thread::spawn(move || subscribe(address, start, until, &counters, &events));
    }
    (0..count).for_each(|_| subscribed.recv().unwrap());
    println!("subscribed");
    if until < u64::MAX {
        (0..count).for_each(|_| done.recv().unwrap());
        println!("done");
    }
    for line in std::io::stdin().lines() {
        line.unwrap();
        let Counters { frames, bytes, cpu_ns } = &*counters;
        let [frames, bytes, cpu_ns] = [frames, bytes, cpu_ns].map(|count| count.load(Ordering::Relaxed));
        println!("{frames} {bytes} {cpu_ns}");
    }
}

fn subscribe(
    address: SocketAddr,
    start: Start,
    until: u64,
    counters: &Counters,
    (subscribed, done): &(mpsc::Sender<()>, mpsc::Sender<()>),
) {
    let mut socket = TcpStream::connect(address).unwrap();
    let mut out = BytesMut::new();
    Subscribe::new(Policy::Complete, start, Selection::default()).encode(&mut out);
    socket.write_all(&out).unwrap();
    let mut buffer = vec![0; READ_BYTES];
    let (mut filled, mut next_offset, mut is_done) = (0, 0, false);
    loop {
        // The bench kills the daemon after the measurement.
        let Ok(count @ 1..) = socket.read(&mut buffer[filled..]) else { return };
        filled += count;
        let (mut at, mut frames) = (0, 0);
        while let Some(message) = message(&buffer[at..filled]) {
            match message[4] {
                kind::DELIVER => {
                    frames += 1;
                    next_offset = u64_at(message, OFFSET_AT) + 1;
                }
                kind::SUBSCRIBED => subscribed.send(()).unwrap(),
                kind::PING => {
                    let mut pong = BytesMut::new();
                    SubscriberMessage::Pong(u64_at(message, NONCE_AT)).encode(&mut pong);
                    socket.write_all(&pong).unwrap();
                }
                kind::PROGRESS => {}
                other => panic!("message of type 0x{other:02x}"),
            }
            at += message.len();
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        counters.frames.fetch_add(frames, Ordering::Relaxed);
        counters.bytes.fetch_add(count as u64, Ordering::Relaxed);
        if next_offset >= until && !is_done {
            is_done = true;
            counters.cpu_ns.fetch_add(own_thread_cpu_ns(), Ordering::Relaxed);
            done.send(()).unwrap();
        }
    }
}

/// The first message in `bytes` with its prefix, or `None` if it is not complete.
fn message(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    bytes.get(..4 + length)
}

fn u64_at(message: &[u8], at: std::ops::Range<usize>) -> u64 {
    u64::from_be_bytes(message[at].try_into().unwrap())
}
