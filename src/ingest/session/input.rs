//! The bytes read from a connection and not yet decoded.

use std::io;

use bytes::BytesMut;
use tokio::net::TcpStream;

use crate::wire::framing::missing_bytes;

/// Room made at first, in bytes; an idle connection keeps no more.
const ROOM_BYTES_MIN: usize = 4 * 1024;
/// Most bytes read before they are decoded: the longest message, within these limits.
const READ_BYTES_MAX: std::ops::RangeInclusive<usize> = 16 * 1024..=128 * 1024;

/// A buffer that grows with the traffic.
///
/// Payloads are slices of it, so room is used up before new room is made: what a waiting frame pins is what
/// was received, not what could have been.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) bytes: BytesMut,
    room_bytes: usize,
    read_bytes_max: usize,
}

/// What a round of reading came to.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) bytes: usize,
    /// The peer will send no more, or the connection broke.
    pub(super) end: Option<io::Result<()>>,
}

impl Input {
    /// Nothing is read yet; `message_bytes_max` is the longest message to come.
    pub(super) fn new(message_bytes_max: usize) -> Self {
        let read_bytes_max = message_bytes_max.clamp(*READ_BYTES_MAX.start(), *READ_BYTES_MAX.end());
        Self { bytes: BytesMut::new(), room_bytes: ROOM_BYTES_MIN, read_bytes_max }
    }

    /// Reads what is there, up to a limit: an emergency among it overtakes the rest.
    pub(super) fn read_from(&mut self, socket: &TcpStream) -> Read {
        let mut read = 0;
        while read < self.read_bytes_max {
            let room = self.make_room();
            match socket.try_read_buf(&mut self.bytes) {
                Ok(0) => return Read { bytes: read, end: Some(Ok(())) },
                Ok(count) => {
                    read += count;
                    if count < room {
                        break;
                    }
                    self.room_bytes = (self.room_bytes * 2).min(self.read_bytes_max / 2);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Read { bytes: read, end: Some(Err(error)) },
            }
        }
        Read { bytes: read, end: None }
    }

    /// Makes room for the next read, and says how much there is.
    fn make_room(&mut self) -> usize {
        let needed = missing_bytes(&self.bytes);
        if self.bytes.capacity() - self.bytes.len() < (self.room_bytes / 4).max(1) {
            self.bytes.reserve(self.room_bytes.max(needed));
        }
        self.bytes.capacity() - self.bytes.len()
    }

    /// Gives back what an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        if self.bytes.is_empty() {
            (self.bytes, self.room_bytes) = (BytesMut::new(), ROOM_BYTES_MIN);
        }
    }
}
