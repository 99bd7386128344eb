//! Sources that send by the clock. One thread sends for all sources, another reads the answers.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use frame::{FrameFlags, FramePriority, SourceKind};
use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use wire::{Ack, ClientMessage, FrameMessage, ServerMessage, kind};

use super::support::hello;

/// Mean time between two emergencies. Each comes from one of the sources.
const EMERGENCY_GAP: Duration = Duration::from_millis(50);
const READ_BYTES: usize = 64 << 10;
const EVENTS_MAX: usize = 256;
/// Time between two checks of the reading thread whether it must end.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Position of the sequence in a FRAME, counted from its length prefix.
const SEQUENCE_AT: std::ops::Range<usize> = 8..16;

/// The load that the sources produce.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub sources: usize,
    /// Rate of each source, in Hz.
    pub frames_per_s: u64,
    pub payload_bytes: usize,
}

/// The result of a load.
pub struct Paced {
    pub frames: u64,
    /// Turns of a source that passed without a frame because credit was missing.
    pub held: u64,
    /// Nanoseconds from the frame to its ACK, `[emergency, routine]`. Empty if the receiver sends no ACKs.
    pub latencies: [Histogram<u64>; 2],
}

/// Connected sources.
pub struct Sources {
    sources: Vec<Source>,
    /// The next sequence of each source and lane.
    next: Vec<[u64; 2]>,
    pace: Pace,
}

struct Source {
    socket: TcpStream,
    lanes: [Lane; 2],
}

struct Lane {
    credit_limit: AtomicU64,
    /// For each frame without ACK: the position that the ACK must reach, and the moment the frame came to exist.
    waiting: Mutex<VecDeque<(u64, Instant)>>,
}

impl Lane {
    fn new(credit_limit: u64) -> Self {
        Self { credit_limit: AtomicU64::new(credit_limit), waiting: Mutex::default() }
    }
}

/// One encoded frame of each lane. The source changes the sequence and sends it repeatedly.
struct Encoded {
    bytes: [Vec<u8>; 2],
    cost: u64,
}

impl Encoded {
    fn new(payload_bytes: usize) -> Self {
        let payload = Bytes::from(vec![7; payload_bytes]);
        let frame = |priority| FrameMessage::new(priority, FrameFlags::default(), 0, 0, payload.clone());
        let bytes = FramePriority::ALL.map(|priority| {
            let mut encoded = BytesMut::new();
            frame(priority).encode(&mut encoded);
            encoded.to_vec()
        });
        Self { bytes, cost: frame(FramePriority::Routine).cost }
    }

    fn numbered(&mut self, lane: usize, sequence: u64) -> &[u8] {
        let bytes = &mut self.bytes[lane];
        bytes[SEQUENCE_AT].copy_from_slice(&sequence.to_be_bytes());
        bytes
    }
}

impl Sources {
    /// Connects all sources to a daemon, or to a loop that grants no credit.
    pub fn connect(address: SocketAddr, pace: Pace, is_daemon: bool) -> Self {
        let open = |at: usize| if is_daemon { open(address, at as u32 + 1) } else { open_raw(address) };
        let sources = (0..pace.sources).map(open).collect();
        Self { sources, next: vec![[0; 2]; pace.sources], pace }
    }

    /// Sends for `time`. The turns of the sources are spread evenly over the period.
    pub fn run(&mut self, time: Duration) -> Paced {
        let is_over = AtomicBool::new(false);
        thread::scope(|threads| {
            let Self { sources, next, pace } = self;
            let reading = threads.spawn(|| read(sources, &is_over));
            let (frames, held) = send(sources, next, *pace, time);
            is_over.store(true, Relaxed);
            Paced { frames, held, latencies: reading.join().unwrap() }
        })
    }
}

/// Returns the number of frames sent, and the number of turns without a frame.
fn send(sources: &[Source], next: &mut [[u64; 2]], pace: Pace, time: Duration) -> (u64, u64) {
    let mut encoded = Encoded::new(pace.payload_bytes);
    let gap = Duration::from_secs_f64(1.0 / (pace.frames_per_s as f64 * sources.len() as f64));
    let (mut frames, mut held) = (0, 0);
    let started = Instant::now();
    let mut emergency_at = started + some(EMERGENCY_GAP);
    for turn in 0_u32.. {
        let due = started + gap * turn;
        let now = Instant::now();
        if now < due {
            thread::sleep(due - now);
        }
        if started.elapsed() >= time {
            break;
        }
        let at = turn as usize % sources.len();
        let is_emergency = now >= emergency_at;
        if is_emergency {
            emergency_at = now + some(EMERGENCY_GAP);
        }
        let lane = usize::from(!is_emergency);
        match sources[at].send(lane, &mut next[at][lane], &mut encoded) {
            true => frames += 1,
            false => held += 1,
        }
    }
    (frames, held)
}

impl Source {
    /// Sends the frame `next`. Returns `false` if credit is missing.
    fn send(&self, lane: usize, next: &mut u64, encoded: &mut Encoded) -> bool {
        if (*next + 1) * encoded.cost > self.lanes[lane].credit_limit.load(Relaxed) {
            return false;
        }
        if self.lanes[lane].credit_limit.load(Relaxed) < u64::MAX {
            self.lanes[lane].waiting.lock().unwrap().push_back((*next + 1, Instant::now()));
        }
        let mut bytes = encoded.numbered(lane, *next);
        while !bytes.is_empty() {
            match (&self.socket).write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) => panic!("the peer takes no more: {error}"),
            }
        }
        *next += 1;
        true
    }
}

/// A random time between 0.5 and 1.5 of `mean`, so that no source stays in step with the daemon.
fn some(mean: Duration) -> Duration {
    mean.mul_f64(rand::random_range(0.5..1.5))
}

fn open_raw(address: SocketAddr) -> Source {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    Source { socket, lanes: [Lane::new(u64::MAX), Lane::new(u64::MAX)] }
}

/// Connects to a daemon and returns when the first ACK of each lane has come.
fn open(address: SocketAddr, source_id: u32) -> Source {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut out = BytesMut::new();
    hello(source_id, SourceKind::LiveUplink, 0).encode(&mut out);
    socket.write_all(&out).unwrap();
    let mut credit = [0; 2];
    while credit.contains(&0) {
        let mut length = [0; 4];
        socket.read_exact(&mut length).unwrap();
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        socket.read_exact(&mut body).unwrap();
        match ServerMessage::decode(body.into()).unwrap() {
            ServerMessage::Ack(ack) => credit[ack.priority as usize] = ack.credit_limit,
            ServerMessage::Welcome(_) => {}
            other => panic!("the daemon does not do as it should: {other:?}"),
        }
    }
    socket.set_nonblocking(true).unwrap();
    Source { socket, lanes: credit.map(Lane::new) }
}

/// Reads the answers until `is_over`. Returns the times until the ACKs.
fn read(sources: &[Source], is_over: &AtomicBool) -> [Histogram<u64>; 2] {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    for (at, source) in sources.iter().enumerate() {
        epoll::add(&epoll, &source.socket, EventData::new_u64(at as u64), EventFlags::IN).unwrap();
    }
    let mut latencies = [const { None }; 2].map(|_: Option<()>| Histogram::new(3).unwrap());
    let mut buffer = vec![0; READ_BYTES];
    let mut events = Vec::with_capacity(EVENTS_MAX);
    // For each source, the beginning of a message whose rest has not arrived.
    let mut partial = vec![Vec::new(); sources.len()];
    while !is_over.load(Relaxed) {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&LOOK)).unwrap();
        for event in &events {
            let at = event.data.u64() as usize;
            let count = (&sources[at].socket).read(&mut buffer).unwrap();
            assert!(count > 0, "the peer closed in the middle");
            if sources[at].lanes[0].credit_limit.load(Relaxed) == u64::MAX {
                continue;
            }
            partial[at].extend_from_slice(&buffer[..count]);
            let taken = sources[at].take_in(&partial[at], &mut latencies);
            partial[at].drain(..taken);
        }
    }
    latencies
}

impl Source {
    /// Processes every whole message in `bytes`. Returns the number of bytes of these messages.
    fn take_in(&self, bytes: &[u8], latencies: &mut [Histogram<u64>; 2]) -> usize {
        let mut at = 0;
        while let Some((length, rest)) = bytes[at..].split_first_chunk::<4>()
            && let Some(body) = rest.get(..u32::from_be_bytes(*length) as usize)
        {
            match body[0] {
                kind::ACK => self.note(&Ack::decode(body).unwrap(), latencies),
                kind::PING => {
                    let mut pong = BytesMut::new();
                    ClientMessage::Pong(u64::from_be_bytes(body[1..9].try_into().unwrap())).encode(&mut pong);
                    (&self.socket).write_all(&pong).unwrap();
                }
                other => panic!("message of type 0x{other:02x}"),
            }
            at += 4 + body.len();
        }
        at
    }

    fn note(&self, ack: &Ack, latencies: &mut [Histogram<u64>; 2]) {
        let lane = &self.lanes[ack.priority as usize];
        lane.credit_limit.store(ack.credit_limit, Relaxed);
        let (now, mut waiting) = (Instant::now(), lane.waiting.lock().unwrap());
        while let Some((_, since)) = waiting.pop_front_if(|(next, _)| *next <= ack.durable_next) {
            latencies[ack.priority as usize].record((now - since).as_nanos() as u64).unwrap();
        }
    }
}
