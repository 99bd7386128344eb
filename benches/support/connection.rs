//! One source on the wire, as lean as the protocol allows.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use telemetry_aggregator::frame::{FrameFlags, FramePriority, SourceKind, Station, StreamKey};
use telemetry_aggregator::wire::{
    Ack, Bye, ClientMessage, FrameMessage, Hello, HelloFlags, ServerMessage, VERSION, kind,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::frames::Frames;

/// As the daemon's own clients have it: what is not in the socket yet, an emergency still overtakes.
const NOTSENT_LOWAT_BYTES: u32 = 32 << 10;
const READ_BYTES: usize = 4 << 10;
const EMERGENCY: usize = FramePriority::Emergency as usize;
const ROUTINE: usize = FramePriority::Routine as usize;

/// Whether the peer is a daemon that grants credit, or takes bytes as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credit {
    Obeyed,
    Unlimited,
}

/// What was sent on a lane, and what came back for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lane {
    pub sent_next: u64,
    pub durable_next: u64,
    cost_sent: u64,
    credit_limit: u64,
}

/// See the module.
pub struct Connection {
    socket: TcpStream,
    incoming: BytesMut,
    lanes: [Lane; 2],
    frames: Frames,
    /// The part of `frames` that is still to be written.
    pending: Range<usize>,
    /// Whole messages that go ahead of `pending`, as soon as no frame of it is cut in two.
    urgent: BytesMut,
    said_bye: bool,
    has_ended: bool,
    pings: u64,
    /// The last turn moved bytes without waiting.
    has_moved: bool,
}

/// HELLO of a source of its own.
pub fn hello(source_id: u32, source_kind: SourceKind, heartbeat_s: u16) -> Hello {
    Hello {
        version_min: VERSION,
        version_max: VERSION,
        stream: StreamKey { source_id, source_kind, station: Station::new("Svalbard").unwrap() },
        flags: HelloFlags::default(),
        heartbeat_s,
        epoch: 1,
        token: String::new(),
    }
}

impl Connection {
    /// Connects to a daemon and returns when WELCOME and the first ACK of each lane have come.
    pub async fn open(address: SocketAddr, hello: &Hello, frames: Frames) -> Self {
        let mut connection = Self::connect(address, frames).await;
        hello.encode(&mut connection.urgent);
        connection.socket.write_all_buf(&mut connection.urgent).await.unwrap();
        while connection.lanes.iter().any(|lane| lane.credit_limit == 0) {
            connection.incoming.reserve(READ_BYTES);
            let bytes = connection.socket.read_buf(&mut connection.incoming).await.unwrap();
            assert!(bytes > 0, "the daemon closed before its first ACKs");
            connection.take_in();
        }
        connection
    }

    /// Connects to what grants no credit and says nothing.
    pub async fn open_raw(address: SocketAddr, frames: Frames) -> Self {
        let mut connection = Self::connect(address, frames).await;
        connection.lanes[ROUTINE].credit_limit = u64::MAX;
        connection
    }

    async fn connect(address: SocketAddr, frames: Frames) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        socket2::SockRef::from(&socket).set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES).unwrap();
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

    /// PINGs of the daemon so far.
    pub fn pings(&self) -> u64 {
        self.pings
    }

    /// Whether the daemon has said its BYE, or the sink has closed.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the socket has taken all emergencies and answers.
    pub fn is_urgent_written(&self) -> bool {
        self.urgent.is_empty()
    }

    /// Whether the socket has taken all there was to write.
    pub fn is_written(&self) -> bool {
        self.urgent.is_empty() && self.pending.is_empty()
    }

    /// Takes up to `count` routine frames in hand, as credit and buffer allow, and returns how many; none while some of
    /// those before are still to be written.
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

    /// Takes one emergency in hand and returns its sequence; it goes ahead of routine that is not in the socket yet.
    /// `None` without credit.
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

    /// Says that no more comes, once what is in hand is written: BYE to a daemon, the end of the stream to a sink.
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

    /// Moves what bytes can be moved, or waits until some can; until `wake_at` at most.
    ///
    /// Cancel safe: bytes are moved between waits.
    pub async fn turn(&mut self, wake_at: Option<Instant>) {
        // A socket that stays ready never makes its task wait: the others have their turn. The caller has by then seen
        // what came, and an emergency waits for nobody.
        if std::mem::take(&mut self.has_moved) && self.urgent.is_empty() {
            tokio::task::yield_now().await;
        }
        let has_written = !self.is_written() && self.write();
        if self.read() || has_written {
            self.has_moved = true;
            return;
        }
        let interest =
            if self.is_written() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        let ready = self.socket.ready(interest);
        match wake_at {
            None => drop(ready.await.unwrap()),
            Some(at) => tokio::select! {
                ready = ready => drop(ready.unwrap()),
                () = sleep_until(at) => {}
            },
        }
    }

    /// Writes what the socket takes. True if that was all.
    fn write(&mut self) -> bool {
        loop {
            let (bytes, is_urgent) = self.next_write();
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

    /// What is written next, and whether it is of `urgent`.
    fn next_write(&self) -> (&[u8], bool) {
        let Range { start, end } = self.pending;
        let boundary = start.next_multiple_of(self.frames.frame_bytes());
        if self.urgent.is_empty() {
            (&self.frames.bytes()[start..end], false)
        } else if start < end && start < boundary {
            (&self.frames.bytes()[start..boundary], false)
        } else {
            (&self.urgent, true)
        }
    }

    /// Reads what the socket has. True if that was anything.
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

    /// Takes in every whole message that was read.
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
