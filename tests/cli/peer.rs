//! The server's end of a client's connection, as the test writes it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use bytes::BytesMut;
use frame::{FramePriority, Lanes};
use wire::{Ack, Bye, ClientMessage, Hello, ServerMessage, Welcome, next_body};

use crate::support::LIMIT;

/// Longest message that the server takes.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// The server's end of one connection, past WELCOME.
pub struct Peer {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    /// Accepts one connection and grants `credit_limit` on both lanes.
    pub fn accept(listener: &TcpListener, credit_limit: u64) -> Self {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut peer = Self { socket, buffer: BytesMut::new() };
        let hello = Hello::decode(&peer.body()).unwrap();
        peer.send(&ServerMessage::Welcome(Welcome {
            version: 1,
            heartbeat_s: 15,
            max_message_bytes: MESSAGE_BYTES_MAX as u32,
            session_id: 1,
            epoch: hello.epoch,
            resume_next: Lanes::default(),
            server_time_ns: 0,
            takes_zstd: None,
        }));
        peer.credit(credit_limit);
        peer
    }

    pub fn credit(&mut self, credit_limit: u64) {
        for priority in FramePriority::ALL {
            self.send(&ServerMessage::Ack(Ack { priority, duplicates: 0, durable_next: 0, credit_limit }));
        }
    }

    pub fn send(&mut self, message: &ServerMessage) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        self.socket.write_all(&out).unwrap();
    }

    fn body(&mut self) -> bytes::Bytes {
        let mut read = [0; 4096];
        loop {
            if let Some(body) = next_body(&mut self.buffer, MESSAGE_BYTES_MAX).unwrap() {
                return body;
            }
            let count = self.socket.read(&mut read).unwrap();
            assert_ne!(count, 0, "the client closed");
            self.buffer.extend_from_slice(&read[..count]);
        }
    }

    pub fn next(&mut self) -> ClientMessage {
        ClientMessage::decode(self.body()).unwrap()
    }

    /// Reads everything up to BYE. Returns the number of frames and the BYE.
    pub fn read_to_bye(&mut self) -> (usize, Bye) {
        let mut frames = 0;
        loop {
            match self.next() {
                ClientMessage::Bye(bye) => return (frames, bye),
                _ => frames += 1,
            }
        }
    }
}
