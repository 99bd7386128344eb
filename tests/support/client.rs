//! A blocking client.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::message::{
    self, Ack, EMERGENCY, ErrorMessage, Frame, Hello, ROUTINE, Server, Welcome, code, cost,
};
use super::stream::Stream;
use super::{LIMIT, wait_until};

/// Longest message that a server may send to a source, by the default of `max_message_bytes` in protocol.md.
const BODY_BYTES_MAX: usize = 128 * 1024;

/// The result of waiting for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    Message(Server),
    /// The server closed its side in order.
    End,
    /// The connection was reset. The last bytes from the server may be lost.
    Reset,
    /// No message came within the given time.
    Silence,
}

/// One connection to the daemon.
///
/// Keeps the newest ACK of each lane. Asserts the rules for every sequence of messages: `durable_next`, `duplicates`
/// and `credit_limit` never fall, and no message follows ERROR or BYE.
pub struct Client {
    stream: Stream,
    unread: Vec<u8>,
    acks: [Option<Ack>; 2],
    /// Cost of the frames sent with [`Client::send_frame`], per lane.
    spent: [u64; 2],
    has_ended: bool,
}

impl Client {
    /// Connects and sends nothing.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, LIMIT).expect("the daemon cannot be connected to"))
    }

    /// Uses a socket that is already connected.
    pub fn over(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("TCP_NODELAY");
        socket.set_write_timeout(Some(LIMIT)).expect("a write timeout");
        Self::with(Stream::new(socket))
    }

    fn with(stream: Stream) -> Self {
        Self { stream, unread: Vec::new(), acks: [None; 2], spent: [0; 2], has_ended: false }
    }

    /// Connects, sends `hello` and reads WELCOME.
    pub fn welcomed(address: SocketAddr, hello: &Hello) -> (Self, Welcome) {
        let mut client = Self::connect(address);
        client.send(&hello.bytes());
        let welcome = client.expect_welcome();
        (client, welcome)
    }

    /// Like [`Self::welcomed`], and reads the first ACK of each lane.
    pub fn open(address: SocketAddr, hello: &Hello) -> (Self, Welcome) {
        let (mut client, welcome) = Self::welcomed(address, hello);
        client.expect_first_acks();
        (client, welcome)
    }

    /// Repeats [`Self::open`] while the answer is `busy`: the daemon may not have noticed yet that a client is gone.
    #[track_caller]
    pub fn open_when_free(address: SocketAddr, hello: &Hello) -> (Self, Welcome) {
        let (mut client, welcome) = wait_until("a free place", || {
            let mut client = Self::connect(address);
            client.send(&hello.bytes());
            match client.next() {
                Server::Welcome(welcome) => Ok((client, welcome)),
                Server::Error(error) if error.code == code::BUSY => Err(error.text),
                other => panic!("WELCOME or busy is due, not {other:?}"),
            }
        });
        client.expect_first_acks();
        (client, welcome)
    }

    /// Connects, sends `hello` and expects ERROR `code`.
    pub fn refused(address: SocketAddr, hello: &Hello, code: u16) -> ErrorMessage {
        let mut client = Self::connect(address);
        client.send(&hello.bytes());
        client.expect_error(code)
    }

    /// Writes bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the daemon does not take what is sent");
    }

    /// Writes bytes as they are. Returns an error if the server does not take them all.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a frame and counts its cost. Does not check the credit.
    pub fn send_frame(&mut self, frame: &Frame) {
        self.spent[usize::from(frame.priority)] += cost(frame.body().len());
        self.send(&frame.bytes());
    }

    /// Sends a plain frame, like [`Self::send_frame`].
    pub fn frame(&mut self, lane: usize, sequence: u64, payload: &[u8]) {
        self.send_frame(&Frame::new(lane, sequence, payload));
    }

    /// Waits until credit allows a plain frame, and sends it.
    pub fn frame_within_credit(&mut self, lane: usize, sequence: u64, payload: &[u8]) {
        let frame = Frame::new(lane, sequence, payload);
        self.wait_credit(lane, self.spent[lane] + cost(frame.body().len()));
        self.send_frame(&frame);
    }

    /// Sends a frame and waits until it is durable.
    pub fn deliver(&mut self, lane: usize, sequence: u64, payload: &[u8]) {
        self.frame(lane, sequence, payload);
        self.wait_durable(lane, sequence + 1);
    }

    /// Closes the writing side.
    pub fn half_close(&mut self) {
        self.stream.half_close().expect("the socket cannot be shut down");
    }

    /// The TCP connection.
    pub fn socket(&self) -> &TcpStream {
        self.stream.tcp()
    }

    /// Another client on the same connection, for a thread that writes.
    pub fn twin(&self) -> Self {
        Self::with(self.stream.twin())
    }

    /// Counts the cost of a frame that the test sends in another way.
    pub fn spend(&mut self, lane: usize, cost: u64) {
        self.spent[lane] += cost;
    }

    /// Cost of the frames sent so far on `lane`.
    pub fn spent(&self, lane: usize) -> u64 {
        self.spent[lane]
    }

    /// The newest ACK of `lane`.
    pub fn ack(&self, lane: usize) -> Ack {
        self.acks[lane].expect("no ACK of this lane yet")
    }

    /// The cost that the credit still allows on `lane`.
    pub fn credit(&self, lane: usize) -> u64 {
        self.ack(lane).credit_limit - self.spent[lane]
    }

    /// The next message, or the end of the connection.
    pub fn receive(&mut self, within: Duration) -> Received {
        let deadline = Instant::now() + within;
        loop {
            if let Some(message) = self.take_message() {
                return Received::Message(message);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Received::Silence;
            }
            self.socket().set_read_timeout(Some(left)).expect("a read timeout");
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    assert!(
                        self.unread.is_empty(),
                        "the server closed within a message: {:02x?}",
                        self.unread
                    );
                    return Received::End;
                }
                Ok(count) => self.unread.extend_from_slice(&chunk[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    ErrorKind::Interrupted => {}
                    _ => return Received::Reset,
                },
            }
        }
    }

    fn take_message(&mut self) -> Option<Server> {
        let (length, rest) = self.unread.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        assert!(length <= BODY_BYTES_MAX, "the server sent a message of {length} bytes");
        let message = Server::decode(rest.get(..length)?);
        self.unread.drain(..4 + length);
        self.note(&message);
        Some(message)
    }

    fn note(&mut self, message: &Server) {
        assert!(!self.has_ended, "the server sends after its last message: {message:?}");
        match message {
            Server::Ack(ack) => {
                if let Some(before) = self.acks[ack.lane].replace(*ack) {
                    assert!(
                        ack.durable_next >= before.durable_next,
                        "durable_next falls: {before:?}, {ack:?}"
                    );
                    assert!(ack.credit_limit >= before.credit_limit, "credit falls: {before:?}, {ack:?}");
                    assert!(ack.duplicates >= before.duplicates, "duplicates fall: {before:?}, {ack:?}");
                }
            }
            Server::Error(_) | Server::Bye(_) => self.has_ended = true,
            _ => {}
        }
    }

    /// The next message. Panics at the end of the connection and after [`LIMIT`].
    pub fn next(&mut self) -> Server {
        match self.receive(LIMIT) {
            Received::Message(message) => message,
            other => panic!("a message is due, but: {other:?}"),
        }
    }

    /// The next message other than PING. Answers each PING.
    pub fn next_answering(&mut self) -> Server {
        loop {
            match self.next() {
                Server::Ping(nonce) => self.send(&message::pong(nonce)),
                other => return other,
            }
        }
    }

    pub fn expect_welcome(&mut self) -> Welcome {
        match self.next() {
            Server::Welcome(welcome) => welcome,
            other => panic!("WELCOME is due, not {other:?}"),
        }
    }

    /// Reads the two ACKs after WELCOME: one per lane, and no other message.
    pub fn expect_first_acks(&mut self) -> [Ack; 2] {
        for _ in 0..2 {
            match self.next() {
                Server::Ack(_) => {}
                other => panic!("the first ACK of each lane is due, not {other:?}"),
            }
        }
        // If both ACKs belong to one lane, the other lane has none, and this panics.
        [self.ack(EMERGENCY), self.ack(ROUTINE)]
    }

    /// Reads ACKs until the ACK of `lane` satisfies `is_met`.
    pub fn wait_ack(&mut self, lane: usize, what: &str, is_met: impl Fn(&Ack) -> bool) -> Ack {
        while !self.acks[lane].is_some_and(|ack| is_met(&ack)) {
            match self.next_answering() {
                Server::Ack(_) | Server::Pong(_) | Server::Catalog { .. } | Server::GoAway { .. } => {}
                other => panic!("waiting for {what} on lane {lane}, but: {other:?}; ACKs {:?}", self.acks),
            }
        }
        self.ack(lane)
    }

    /// Waits until everything below `next` is durable.
    pub fn wait_durable(&mut self, lane: usize, next: u64) -> Ack {
        self.wait_ack(lane, &format!("durable_next {next}"), |ack| ack.durable_next >= next)
    }

    /// Waits until the credit of `lane` covers `cost` in total.
    pub fn wait_credit(&mut self, lane: usize, cost: u64) -> Ack {
        self.wait_ack(lane, &format!("credit {cost}"), |ack| ack.credit_limit >= cost)
    }

    /// Sends PING with `nonce` and reads up to its PONG. Everything that the server wrote before the PONG is read
    /// then.
    pub fn settle(&mut self, nonce: u64) {
        self.send(&message::ping(nonce));
        loop {
            match self.next_answering() {
                Server::Pong(answer) if answer == nonce => return,
                Server::Ack(_) => {}
                other => panic!("waiting for PONG {nonce}, but: {other:?}"),
            }
        }
    }

    /// Reads up to ERROR `code`, and expects the orderly end after it. Skips other messages.
    pub fn expect_error(&mut self, code: u16) -> ErrorMessage {
        loop {
            match self.receive(LIMIT) {
                Received::Message(Server::Error(error)) => {
                    assert_eq!(error.code, code, "another error than expected: {error:?}");
                    self.expect_end();
                    return error;
                }
                Received::Message(
                    Server::Ack(_)
                    | Server::Ping(_)
                    | Server::Pong(_)
                    | Server::Catalog { .. }
                    | Server::GoAway { .. },
                ) => {}
                other => panic!("ERROR {code} is due, but: {other:?}"),
            }
        }
    }

    /// Reads up to BYE and the end after it. Returns the positions in BYE.
    pub fn expect_bye(&mut self) -> [u64; 2] {
        loop {
            match self.next_answering() {
                Server::Bye(next) => {
                    self.expect_end();
                    return next;
                }
                Server::Ack(_) | Server::Pong(_) | Server::Catalog { .. } | Server::GoAway { .. } => {}
                other => panic!("BYE is due, but: {other:?}"),
            }
        }
    }

    /// Expects that the server sends nothing more and closes its side in order.
    pub fn expect_end(&mut self) {
        match self.receive(LIMIT) {
            Received::End => {}
            other => panic!("the end of the connection is due, but: {other:?}"),
        }
    }

    /// Asserts that no reset follows the orderly end. Over a real network a reset may destroy the bytes before it.
    pub fn assert_not_reset(&self) {
        let error = self.socket().take_error().expect("the state of the socket");
        assert!(error.is_none(), "the server closed with input unread: {error:?}");
    }

    /// Reads all messages up to the end or a reset.
    pub fn read_to_end(&mut self) -> (Vec<Server>, Received) {
        let mut messages = Vec::new();
        loop {
            match self.receive(LIMIT) {
                Received::Message(message) => messages.push(message),
                end => return (messages, end),
            }
        }
    }

    /// Sends BYE with these positions. Returns the positions of the server's BYE.
    pub fn bye(mut self, next: [u64; 2]) -> [u64; 2] {
        self.send(&message::bye(next));
        self.expect_bye()
    }
}
