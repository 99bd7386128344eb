//! Good clients that connect repeatedly, and the books of the daemon.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use frame::{Selection, SourceKind};
use serde_json::Value;
use wire::{FeedMessage, Policy, ServerMessage, Start, Subscribe, next_body};

use super::support::hello;

const EVERY: Duration = Duration::from_millis(200);
/// Longest wait for an answer. After that the client counts as refused.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Ids of the good sources. There are so many that no source reconnects often enough to exceed the limit on
/// takeovers.
const SOURCES: std::ops::Range<u32> = 2_000..2_016;
const BODY_BYTES_MAX: usize = 1 << 20;

/// The results of connections of one kind.
#[derive(Debug, Default)]
pub struct Greetings {
    pub all: u64,
    /// The reason of each refusal.
    pub refused: Vec<String>,
    pub slowest: Duration,
}

/// Good clients that connect to both listeners until they are stopped.
pub struct Good {
    is_over: Arc<AtomicBool>,
    threads: [JoinHandle<Greetings>; 2],
}

impl Good {
    pub fn start(ingest: SocketAddr, feed: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut ids = SOURCES.cycle();
        let source = move || {
            let mut message = BytesMut::new();
            hello(ids.next().unwrap(), SourceKind::LiveUplink, 0).encode(&mut message);
            let answer =
                ServerMessage::decode(answer(ingest, &message)?).map_err(|error| error.to_string())?;
            if matches!(answer, ServerMessage::Welcome(_)) { Ok(()) } else { Err(format!("{answer:?}")) }
        };
        let subscriber = move || {
            let mut message = BytesMut::new();
            Subscribe::new(Policy::Complete, Start::Live, Selection::default()).encode(&mut message);
            let answer = FeedMessage::decode(answer(feed, &message)?).map_err(|error| error.to_string())?;
            if matches!(answer, FeedMessage::Subscribed(_)) { Ok(()) } else { Err(format!("{answer:?}")) }
        };
        let threads = [
            again_and_again(source, Arc::clone(&is_over)),
            again_and_again(subscriber, Arc::clone(&is_over)),
        ];
        Self { is_over, threads }
    }

    pub fn stop(self) -> [Greetings; 2] {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.map(|thread| thread.join().unwrap())
    }
}

fn again_and_again(
    mut greet: impl FnMut() -> Result<(), String> + Send + 'static,
    is_over: Arc<AtomicBool>,
) -> JoinHandle<Greetings> {
    std::thread::spawn(move || {
        let mut greetings = Greetings::default();
        while !is_over.load(Ordering::Relaxed) {
            let began = Instant::now();
            let greeted = greet();
            greetings.all += 1;
            greetings.slowest = greetings.slowest.max(began.elapsed());
            greetings.refused.extend(greeted.err());
            std::thread::sleep(EVERY);
        }
        greetings
    })
}

/// Sends `message` and returns the first message that the server answers.
fn answer(address: SocketAddr, message: &[u8]) -> Result<Bytes, String> {
    let lost = |error: std::io::Error| error.to_string();
    let mut socket = TcpStream::connect_timeout(&address, WAIT_MAX).map_err(lost)?;
    socket.set_read_timeout(Some(WAIT_MAX)).map_err(lost)?;
    socket.write_all(message).map_err(lost)?;
    let (mut buffer, mut piece) = (BytesMut::new(), [0; 4096]);
    loop {
        if let Some(body) = next_body(&mut buffer, BODY_BYTES_MAX).map_err(|error| error.to_string())? {
            return Ok(body);
        }
        match socket.read(&mut piece).map_err(lost)? {
            0 => return Err("closed without a word".to_owned()),
            read => buffer.extend_from_slice(&piece[..read]),
        }
    }
}

/// The books of a daemon.
#[derive(Clone, Copy, Debug)]
pub struct Books {
    pub received: u64,
    settled: u64,
}

impl Books {
    /// Whether received = archived + not stored + duplicates + rejected + in flight.
    pub fn are_balanced(&self) -> bool {
        self.received == self.settled
    }
}

/// Reads the books. Repeats the request while HTTP does not answer, because the attack has only just ended.
pub fn books(http: SocketAddr) -> Books {
    let began = Instant::now();
    let stats = loop {
        match stats(http) {
            Some(stats) => break stats,
            None => assert!(began.elapsed() < 3 * WAIT_MAX, "HTTP does not answer"),
        }
        std::thread::sleep(EVERY);
    };
    let number = |name: &str| stats["frames"][name].as_u64().unwrap();
    let parts = ["archived", "not_stored", "duplicates", "rejected", "in_flight"];
    Books { received: number("received"), settled: parts.into_iter().map(number).sum() }
}

fn stats(http: SocketAddr) -> Option<Value> {
    let mut socket = TcpStream::connect_timeout(&http, WAIT_MAX).ok()?;
    socket.set_read_timeout(Some(WAIT_MAX)).ok()?;
    write!(socket, "GET /api/v1/stats HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}
