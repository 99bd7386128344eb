//! One source on the wire, with as little work as the protocol allows.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use frame::{FrameFlags, FramePriority, SourceKind, Station, StreamKey};
use tls::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use wire::{Ack, Bye, ClientMessage, FrameMessage, Hello, HelloFlags, ServerMessage, kind};

use super::frames::Frames;

/// The same value as in the daemon's own clients. Bytes that are not yet in the socket can be overtaken by an
/// emergency.
const NOTSENT_LOWAT_BYTES: u32 = 32 << 10;
const READ_BYTES: usize = 4 << 10;
const EMERGENCY: usize = FramePriority::Emergency as usize;
const ROUTINE: usize = FramePriority::Routine as usize;

/// Whether the peer is a daemon that grants credit, or a sink that takes all bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credit {
    Obeyed,
    Unlimited,
}

/// The frames sent on a lane, and the answers to them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lane {
    pub sent_next: u64,
    pub durable_next: u64,
    cost_sent: u64,
    credit_limit: u64,
}

/// A connection of one source. See the module.
pub struct Connection {
    socket: Socket,
    incoming: BytesMut,
    lanes: [Lane; 2],
    frames: Frames,
    /// The part of `frames` that is not yet written.
    pending: Range<usize>,
    /// Whole messages that are written before `pending`. They wait only for the rest of a frame that is partly
    /// written.
    urgent: BytesMut,
    said_bye: bool,
    has_ended: bool,
    pings: u64,
    /// Whether the last turn moved bytes without waiting.
    has_moved: bool,
}

/// HELLO of the source `source_id`.
pub fn hello(source_id: u32, source_kind: SourceKind, heartbeat_s: u16) -> Hello {
    let stream = StreamKey { source_id, source_kind, station: Station::new("Svalbard").unwrap() };
    Hello { heartbeat_s, ..Hello::new(stream, 1) }
}

impl Connection {
    /// Connects to a daemon and returns when WELCOME and the first ACK of each lane have come.
    pub async fn open(address: SocketAddr, hello: &Hello, frames: Frames) -> Self {
        Self::open_with(address, None, hello, frames).await
    }

    /// Like [`Connection::open`], over TLS if `tls` is given.
    pub async fn open_with(
        address: SocketAddr,
        tls: Option<&tls::Client>,
        hello: &Hello,
        frames: Frames,
    ) -> Self {
        let mut connection = Self::connect(address, tls, frames).await;
        hello.encode(&mut connection.urgent);
        connection.socket.write_all_buf(&mut connection.urgent).await.unwrap();
        connection.socket.flush().await.unwrap();
        while connection.lanes.iter().any(|lane| lane.credit_limit == 0) {
            connection.incoming.reserve(READ_BYTES);
            let bytes = connection.socket.read_buf(&mut connection.incoming).await.unwrap();
            assert!(bytes > 0, "the daemon closed before its first ACKs");
            connection.take_in();
        }
        connection
    }

    /// Connects to a sink, which grants no credit and sends nothing.
    pub async fn open_raw(address: SocketAddr, frames: Frames) -> Self {
        let mut connection = Self::connect(address, None, frames).await;
        connection.lanes[ROUTINE].credit_limit = u64::MAX;
        connection
    }

    async fn connect(address: SocketAddr, tls: Option<&tls::Client>, frames: Frames) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        socket2::SockRef::from(&tcp).set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES).unwrap();
        let socket = Socket::connected(tcp, &address.to_string(), tls).unwrap();
        Self {
            socket,
            incoming: BytesMut::new(),
            lanes: [Lane::default(); 2],
            frames,
            pending: 0..0,
            urgent: BytesMut::new(),
            said_bye: false,
            has_ended: false,
            pings: 0,
            has_moved: false,
        }
    }

    pub fn emergency(&self) -> &Lane {
        &self.lanes[EMERGENCY]
    }

    pub fn routine(&self) -> &Lane {
        &self.lanes[ROUTINE]
    }

    /// The number of PINGs from the daemon so far.
    pub fn pings(&self) -> u64 {
        self.pings
    }

    /// Whether the daemon has sent its BYE, or the sink has closed.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the socket has taken all emergencies and answers.
    pub fn is_urgent_written(&self) -> bool {
        self.urgent.is_empty()
    }

    /// Whether the socket has taken everything to be written.
    pub fn is_written(&self) -> bool {
        self.urgent.is_empty() && self.pending.is_empty()
    }

    /// Prepares up to `count` routine frames, limited by credit and buffer. Returns their number. Prepares none while
    /// earlier frames are not completely written.
    pub fn take_routine(&mut self, count: u64) -> u64 {
        if !self.pending.is_empty() || self.said_bye {
            return 0;
        }
        let lane = &mut self.lanes[ROUTINE];
        let allowed = (lane.credit_limit - lane.cost_sent) / self.frames.cost();
        let count = count.min(allowed).min(self.frames.count());
        self.pending = 0..self.frames.number(lane.sent_next, count);
        lane.sent_next += count;
        lane.cost_sent += count * self.frames.cost();
        count
    }

    /// Prepares one emergency and returns its sequence. The emergency overtakes routine that is not yet in the
    /// socket. Returns `None` if credit is missing.
    pub fn take_emergency(&mut self, payload: &Bytes) -> Option<u64> {
        let lane = &mut self.lanes[EMERGENCY];
        let sequence = lane.sent_next;
        let frame =
            FrameMessage::new(FramePriority::Emergency, FrameFlags::default(), sequence, 0, payload.clone());
        if lane.cost_sent + frame.cost > lane.credit_limit {
            return None;
        }
        lane.cost_sent += frame.cost;
        lane.sent_next += 1;
        frame.encode(&mut self.urgent);
        Some(sequence)
    }

    /// Writes the prepared frames, then announces the end: BYE to a daemon, the end of the stream to a sink.
    pub async fn say_bye(&mut self, credit: Credit) {
        assert!(self.is_written(), "a frame would follow BYE");
        self.said_bye = true;
        match credit {
            Credit::Obeyed => {
                let next = [self.lanes[EMERGENCY].sent_next, self.lanes[ROUTINE].sent_next];
                ClientMessage::Bye(Bye { next: next.into() }).encode(&mut self.urgent);
            }
            Credit::Unlimited => self.socket.shutdown().await.unwrap(),
        }
    }

    /// Moves the bytes that can be moved. If there are none, waits for some, or until `wake_at`.
    ///
    /// # Cancel safety
    /// Cancel safe: the method moves bytes only between waits.
    pub async fn turn(&mut self, wake_at: Option<Instant>) {
        // A socket that stays ready never makes its task wait, so the task yields to the others here. The caller has
        // already seen the bytes that came. An emergency never waits for a yield.
        if std::mem::take(&mut self.has_moved) && self.urgent.is_empty() {
            tokio::task::yield_now().await;
        }
        let has_written = !self.is_written() && self.write();
        if self.read() || has_written {
            self.has_moved = true;
            return;
        }
        let writes = !self.is_written();
        let ready = self.socket.ready(true, writes);
        match wake_at {
            None => drop(ready.await.unwrap()),
            Some(at) => tokio::select! {
                ready = ready => drop(ready.unwrap()),
                () = sleep_until(at) => {}
            },
        }
    }

    /// Writes as much as the socket takes. Returns `true` if that was everything.
    fn write(&mut self) -> bool {
        loop {
            let (bytes, is_urgent) = next_write(&self.pending, &self.urgent, &self.frames);
            if bytes.is_empty() {
                return true;
            }
            match self.socket.try_write(bytes) {
                Ok(written) if is_urgent => self.urgent.advance(written),
                Ok(written) => self.pending.start += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("the peer takes no more: {error}"),
            }
        }
    }

    /// Reads the bytes in the socket. Returns `true` if there were any.
    fn read(&mut self) -> bool {
        self.incoming.reserve(READ_BYTES);
        match self.socket.try_read_buf(&mut self.incoming) {
            Ok(0) => {
                assert!(self.said_bye, "the peer closed in the middle");
                self.has_ended = true;
                true
            }
            Ok(_) => {
                self.take_in();
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("the peer is gone: {error}"),
        }
    }

    /// Processes every whole message that was read.
    fn take_in(&mut self) {
        while let Some((length, rest)) = self.incoming.split_first_chunk::<4>()
            && let length = u32::from_be_bytes(*length) as usize
            && let Some(body) = rest.get(..length)
        {
            match body[0] {
                kind::ACK => {
                    let ack = Ack::decode(body).unwrap();
                    let lane = &mut self.lanes[ack.priority as usize];
                    (lane.durable_next, lane.credit_limit) = (ack.durable_next, ack.credit_limit);
                }
                kind::BYE => self.has_ended = true,
                _ => match ServerMessage::decode(Bytes::copy_from_slice(body)).unwrap() {
                    ServerMessage::Welcome(welcome) => {
                        for (lane, next) in self.lanes.iter_mut().zip(welcome.resume_next.into_values()) {
                            lane.sent_next = next;
                        }
                    }
                    ServerMessage::Ping(nonce) => {
                        self.pings += 1;
                        ClientMessage::Pong(nonce).encode(&mut self.urgent);
                    }
                    ServerMessage::Pong(_) => {}
                    other => panic!("the daemon does not do as it should: {other:?}"),
                },
            }
            self.incoming.advance(4 + length);
        }
    }
}

/// The bytes to write next, and whether they belong to `urgent`.
fn next_write<'a>(pending: &Range<usize>, urgent: &'a BytesMut, frames: &'a Frames) -> (&'a [u8], bool) {
    let Range { start, end } = *pending;
    let boundary = start.next_multiple_of(frames.frame_bytes());
    if urgent.is_empty() {
        (&frames.bytes()[start..end], false)
    } else if start < end && start < boundary {
        (&frames.bytes()[start..boundary], false)
    } else {
        (urgent, true)
    }
}
