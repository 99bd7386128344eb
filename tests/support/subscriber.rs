//! A blocking feed subscriber over a plain socket, which only follows `protocol.md`.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::message::{self, ErrorMessage, framed, text, u16_at, u32_at, u64_at};
use super::{Archived, LIMIT};

/// Longest body of a handshake.
const HANDSHAKE_BYTES_MAX: usize = 4096;
/// Most bytes by which a DELIVER may exceed `max_message_bytes`.
const DELIVER_EXCESS_BYTES: usize = 96;
/// Bytes of DELIVER before the station.
const DELIVER_FIXED_BYTES: usize = 52;

/// GAP reasons.
pub mod reason {
    pub const SKIPPED: u8 = 1;
    pub const EXPIRED: u8 = 2;
    pub const DAMAGED: u8 = 3;
}

/// A SUBSCRIBE. The test can set every field.
#[derive(Clone, Debug)]
pub struct Subscribe {
    pub version_min: u8,
    pub version_max: u8,
    pub policy: u8,
    pub magic: [u8; 4],
    pub start: u8,
    pub priorities: u8,
    pub kinds: u8,
    pub zero: u8,
    pub position: u64,
    pub log_id: u64,
    pub sources: Vec<u32>,
    pub token: Vec<u8>,
    /// Bytes after the last field.
    pub trailing: Vec<u8>,
}

impl Subscribe {
    fn new(start: u8, position: u64) -> Self {
        Self {
            version_min: 1,
            version_max: 1,
            policy: 0,
            magic: *b"TMA1",
            start,
            priorities: 0,
            kinds: 0,
            zero: 0,
            position,
            log_id: 0,
            sources: Vec::new(),
            token: Vec::new(),
            trailing: Vec::new(),
        }
    }

    /// All frames from the current end of the log on, as a complete subscription.
    pub fn live() -> Self {
        Self::new(0, 0)
    }

    /// All frames from this offset on, as a complete subscription.
    pub fn offset(offset: u64) -> Self {
        Self::new(1, offset)
    }

    /// All frames from this time of receipt on, as a complete subscription.
    pub fn received(from_ns: i64) -> Self {
        Self::new(2, from_ns as u64)
    }

    /// All frames from the oldest on, as a complete subscription.
    pub fn earliest() -> Self {
        Self::new(3, 0)
    }

    pub fn timely(mut self) -> Self {
        self.policy = 1;
        self
    }

    pub fn log(mut self, log_id: u64) -> Self {
        self.log_id = log_id;
        self
    }

    pub fn sources(mut self, sources: &[u32]) -> Self {
        self.sources = sources.to_vec();
        self
    }

    pub fn priorities(mut self, mask: u8) -> Self {
        self.priorities = mask;
        self
    }

    pub fn kinds(mut self, mask: u8) -> Self {
        self.kinds = mask;
        self
    }

    pub fn token(mut self, token: &str) -> Self {
        self.token = token.as_bytes().to_vec();
        self
    }

    pub fn versions(mut self, min: u8, max: u8) -> Self {
        (self.version_min, self.version_max) = (min, max);
        self
    }

    /// Whether the subscription selects every frame. Its offsets then have no hole except those that a GAP names.
    fn is_all(&self) -> bool {
        self.sources.is_empty() && matches!(self.priorities & 3, 0 | 3) && matches!(self.kinds & 3, 0 | 3)
    }

    /// The body, without the length before it.
    pub fn body(&self) -> Vec<u8> {
        let mut body = vec![0x10, self.version_min, self.version_max, self.policy];
        body.extend_from_slice(&self.magic);
        body.extend_from_slice(&[self.start, self.priorities, self.kinds, self.zero]);
        body.extend_from_slice(&(self.sources.len() as u16).to_be_bytes());
        body.extend_from_slice(&(self.token.len() as u16).to_be_bytes());
        body.extend_from_slice(&self.position.to_be_bytes());
        body.extend_from_slice(&self.log_id.to_be_bytes());
        body.extend(self.sources.iter().flat_map(|source| source.to_be_bytes()));
        body.extend_from_slice(&self.token);
        body.extend_from_slice(&self.trailing);
        body
    }

    /// The message as it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        framed(&self.body())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    pub version: u8,
    pub heartbeat_s: u16,
    pub max_message_bytes: u32,
    pub log_id: u64,
    pub start_offset: u64,
    pub head_offset: u64,
}

/// A message from the server to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feed {
    Subscribed(Subscribed),
    Deliver(Archived),
    Gap {
        reason: u8,
        from: u64,
        /// Exclusive.
        to: u64,
    },
    Progress(u64),
    Ping(u64),
    Pong(u64),
    Error(ErrorMessage),
}

impl Feed {
    /// Decodes a body. The sizes in protocol.md are exact in version 1, so another size is an error of the server.
    pub fn decode(body: &[u8]) -> Self {
        let kind = *body.first().expect("the server sent an empty body");
        let size = |expected: usize| {
            assert_eq!(body.len(), expected, "size of message {kind:#04x}: {body:02x?}");
        };
        match kind {
            0x05 | 0x06 => {
                size(9);
                let nonce = u64_at(body, 1);
                if kind == 0x05 { Self::Ping(nonce) } else { Self::Pong(nonce) }
            }
            0x09 => Self::Error(ErrorMessage::decode(body)),
            0x11 => {
                size(32);
                Self::Subscribed(Subscribed {
                    version: body[1],
                    heartbeat_s: u16_at(body, 2),
                    max_message_bytes: u32_at(body, 4),
                    log_id: u64_at(body, 8),
                    start_offset: u64_at(body, 16),
                    head_offset: u64_at(body, 24),
                })
            }
            0x12 => Self::Deliver(deliver(body)),
            0x13 => {
                size(24);
                assert!((1..=3).contains(&body[1]), "reason of a GAP: {body:02x?}");
                assert_eq!(&body[2..8], [0; 6], "zero field of a GAP: {body:02x?}");
                let (from, to) = (u64_at(body, 8), u64_at(body, 16));
                assert!(from < to, "a GAP from {from} to {to} names nothing");
                Self::Gap { reason: body[1], from, to }
            }
            0x94 => {
                size(16);
                assert_eq!(&body[1..8], [0; 7], "zero field of a PROGRESS: {body:02x?}");
                Self::Progress(u64_at(body, 8))
            }
            other => panic!("the server sent message {other:#04x}, which no subscriber expects: {body:02x?}"),
        }
    }
}

fn deliver(body: &[u8]) -> Archived {
    let (header_len, station_len) = (usize::from(body[2]), usize::from(body[49]));
    assert!(body[1] <= 1, "priority of a DELIVER: {body:02x?}");
    assert!(body[48] <= 1, "source kind of a DELIVER: {body:02x?}");
    assert_eq!(&body[50..52], [0, 0], "zero field of a DELIVER: {body:02x?}");
    assert_eq!(header_len, DELIVER_FIXED_BYTES + station_len, "header_len of a DELIVER: {body:02x?}");
    assert!(header_len <= 116, "header_len of a DELIVER: {header_len}");
    Archived {
        offset: u64_at(body, 8),
        source_id: u32_at(body, 4),
        kind: body[48],
        station: text(&body[DELIVER_FIXED_BYTES..header_len]),
        epoch: u64_at(body, 24),
        lane: usize::from(body[1]),
        flags: body[3],
        sequence: u64_at(body, 16),
        ert_ns: u64_at(body, 32) as i64,
        received_ns: u64_at(body, 40) as i64,
        payload: body[header_len..].to_vec(),
    }
}

/// The result of waiting for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Message(Feed),
    /// The server closed its side in order.
    End,
    /// The connection was reset. The last bytes from the server may be lost.
    Reset,
    /// No message came within the given time.
    Silence,
}

/// One connection to the feed.
///
/// Asserts the rules for every sequence of messages: offsets ascend, an unfiltered feed has no hole except those that
/// a GAP names, PROGRESS never falls and covers only frames that have come, and no message follows ERROR.
pub struct Subscriber {
    socket: TcpStream,
    unread: Vec<u8>,
    /// The position in `unread` where the next message begins.
    at: usize,
    is_all: bool,
    subscribed: Option<Subscribed>,
    /// Every offset below was delivered, filtered out or named in a GAP, according to DELIVER and GAP.
    next: u64,
    progress: u64,
    has_ended: bool,
}

impl Subscriber {
    /// Connects and sends nothing.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, LIMIT).expect("the feed cannot be connected to"))
    }

    /// Uses a socket that is already connected.
    pub fn over(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("TCP_NODELAY");
        socket.set_write_timeout(Some(LIMIT)).expect("a write timeout");
        Self {
            socket,
            unread: Vec::new(),
            at: 0,
            is_all: false,
            subscribed: None,
            next: 0,
            progress: 0,
            has_ended: false,
        }
    }

    /// Connects, sends `subscribe` and reads SUBSCRIBED.
    pub fn open(address: SocketAddr, subscribe: &Subscribe) -> (Self, Subscribed) {
        let mut subscriber = Self::connect(address);
        let subscribed = subscriber.subscribe(subscribe);
        (subscriber, subscribed)
    }

    /// Sends `subscribe` and reads SUBSCRIBED.
    pub fn subscribe(&mut self, subscribe: &Subscribe) -> Subscribed {
        self.ask(subscribe);
        self.expect_subscribed()
    }

    /// Sends `subscribe`.
    pub fn ask(&mut self, subscribe: &Subscribe) {
        self.try_ask(subscribe).expect("the daemon does not take what is sent");
    }

    /// Sends `subscribe`. Returns an error if the server does not take it all.
    pub fn try_ask(&mut self, subscribe: &Subscribe) -> std::io::Result<()> {
        self.is_all = subscribe.is_all();
        self.try_send(&subscribe.bytes())
    }

    pub fn expect_subscribed(&mut self) -> Subscribed {
        match self.next() {
            Feed::Subscribed(subscribed) => subscribed,
            other => panic!("SUBSCRIBED is due, not {other:?}"),
        }
    }

    /// Connects, sends `subscribe` and expects ERROR `code`.
    pub fn refused(address: SocketAddr, subscribe: &Subscribe, code: u16) -> ErrorMessage {
        let mut subscriber = Self::connect(address);
        subscriber.ask(subscribe);
        subscriber.expect_error(code)
    }

    /// Allows holes for any filter: the server may not report every missing frame to this subscriber.
    pub fn expect_holes(&mut self) {
        self.is_all = false;
    }

    /// Writes bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the daemon does not take what is sent");
    }

    /// Writes bytes as they are. Returns an error if the server does not take them all.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// The socket itself.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The offset from which a new connection would continue.
    pub fn next_offset(&self) -> u64 {
        self.next.max(self.progress)
    }

    /// The log of this connection.
    pub fn log_id(&self) -> u64 {
        self.subscribed.expect("SUBSCRIBED has come").log_id
    }

    /// The next message, or the end of the connection.
    pub fn receive(&mut self, within: Duration) -> Heard {
        let deadline = Instant::now() + within;
        loop {
            if let Some(message) = self.take_message() {
                return Heard::Message(message);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::Silence;
            }
            self.unread.drain(..self.at);
            self.at = 0;
            self.socket.set_read_timeout(Some(left)).expect("a read timeout");
            let mut chunk = [0; 64 * 1024];
            match self.socket.read(&mut chunk) {
                Ok(0) if self.unread.is_empty() => return Heard::End,
                // A killed daemon can leave part of a message. A test that waits for an orderly end must not accept
                // that.
                Ok(0) => return Heard::Reset,
                Ok(count) => self.unread.extend_from_slice(&chunk[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Heard::Reset,
                },
            }
        }
    }

    fn take_message(&mut self) -> Option<Feed> {
        let (length, rest) = self.unread[self.at..].split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let announced = self.subscribed.map(|subscribed| subscribed.max_message_bytes as usize);
        let bytes_max = announced.map_or(HANDSHAKE_BYTES_MAX, |bytes| bytes + DELIVER_EXCESS_BYTES);
        assert!(length <= bytes_max, "the server sent a message of {length} bytes");
        let message = Feed::decode(rest.get(..length)?);
        self.at += 4 + length;
        self.note(&message);
        Some(message)
    }

    fn note(&mut self, message: &Feed) {
        assert!(!self.has_ended, "the server sends after its last message: {message:?}");
        assert_eq!(
            self.subscribed.is_some(),
            !matches!(message, Feed::Subscribed(_) | Feed::Error(_)) || self.subscribed.is_some(),
            "SUBSCRIBED comes first: {message:?}"
        );
        match message {
            Feed::Subscribed(subscribed) => {
                assert_eq!(self.subscribed.replace(*subscribed), None, "a second SUBSCRIBED");
                self.next = subscribed.start_offset;
            }
            Feed::Deliver(frame) => self.pass(frame.offset, frame.offset + 1),
            Feed::Gap { from, to, .. } => self.pass(*from, *to),
            Feed::Progress(offset) => {
                assert!(*offset >= self.progress, "PROGRESS falls from {} to {offset}", self.progress);
                let is_known = !self.is_all || *offset <= self.next;
                assert!(is_known, "PROGRESS {offset}, but {} was not delivered", self.next);
                self.progress = *offset;
            }
            Feed::Error(_) => self.has_ended = true,
            Feed::Ping(_) | Feed::Pong(_) => {}
        }
    }

    fn pass(&mut self, from: u64, to: u64) {
        let next = self.next_offset();
        assert!(from >= next, "offset {from} although all offsets below {next} were covered");
        assert!(!self.is_all || from == next, "offsets {next} to {from} are missing, and no GAP names them");
        self.next = to;
    }

    /// The next message. Panics at the end of the connection and after [`LIMIT`].
    pub fn next(&mut self) -> Feed {
        match self.receive(LIMIT) {
            Heard::Message(message) => message,
            other => panic!("a message is due, but: {other:?}"),
        }
    }

    /// The next DELIVER, GAP or ERROR. Answers PINGs, skips PONG and PROGRESS.
    pub fn next_of_the_log(&mut self) -> Feed {
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < LIMIT, "nothing but heartbeats comes behind {}", self.next);
            match self.next() {
                Feed::Ping(nonce) => self.send(&message::pong(nonce)),
                Feed::Pong(_) | Feed::Progress(_) => {}
                other => return other,
            }
        }
    }

    /// The next frame. Only heartbeats may come before it.
    pub fn expect_frame(&mut self) -> Archived {
        match self.next_of_the_log() {
            Feed::Deliver(frame) => frame,
            other => panic!("a frame is due, not {other:?}"),
        }
    }

    /// The next `count` frames.
    pub fn expect_frames(&mut self, count: usize) -> Vec<Archived> {
        (0..count).map(|_| self.expect_frame()).collect()
    }

    /// The next GAP. Only heartbeats may come before it.
    pub fn expect_gap(&mut self) -> (u8, u64, u64) {
        match self.next_of_the_log() {
            Feed::Gap { reason, from, to } => (reason, from, to),
            other => panic!("a GAP is due, not {other:?}"),
        }
    }

    /// Sends PING with `nonce` and expects its PONG without a frame before it. The server has processed everything
    /// sent before.
    pub fn settle(&mut self, nonce: u64) {
        self.send(&message::ping(nonce));
        loop {
            match self.next() {
                Feed::Pong(answer) if answer == nonce => return,
                Feed::Ping(nonce) => self.send(&message::pong(nonce)),
                Feed::Progress(_) => {}
                other => panic!("waiting for PONG {nonce}, but: {other:?}"),
            }
        }
    }

    /// Reads up to ERROR `code`, and expects the orderly end after it. Skips heartbeats.
    pub fn expect_error(&mut self, code: u16) -> ErrorMessage {
        match self.frames_to_error(code) {
            (frames, error) if frames.is_empty() => error,
            (frames, error) => panic!("{error:?} came behind frames: {frames:?}"),
        }
    }

    /// Reads frames up to ERROR `code`, and expects the orderly end after it.
    pub fn frames_to_error(&mut self, code: u16) -> (Vec<Archived>, ErrorMessage) {
        let mut frames = Vec::new();
        loop {
            match self.receive(LIMIT) {
                Heard::Message(Feed::Error(error)) => {
                    assert_eq!(error.code, code, "another error than expected: {error:?}");
                    assert_eq!(self.receive(LIMIT), Heard::End);
                    return (frames, error);
                }
                Heard::Message(Feed::Deliver(frame)) => frames.push(frame),
                Heard::Message(Feed::Ping(_) | Feed::Pong(_) | Feed::Progress(_)) => {}
                other => panic!("ERROR {code} is due, but: {other:?}"),
            }
        }
    }
}
