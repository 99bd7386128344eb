//! The bytes read from a connection and not yet decoded.

use std::io;

use bytes::BytesMut;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::wire::HANDSHAKE_BODY_BYTES_MAX;
use crate::wire::framing::{PREFIX_BYTES, missing_bytes};

/// Room made at first, in bytes; an idle connection keeps no more.
const ROOM_BYTES_MIN: usize = 1024;
/// Most bytes read before they are decoded: the longest message, within these limits.
const READ_BYTES_MAX: std::ops::RangeInclusive<usize> = 16 * 1024..=64 * 1024;

/// A buffer that grows with the traffic.
///
/// Payloads are slices of it, so room is used up before new room is made: what a waiting frame pins is what
/// was received, not what could have been.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) bytes: BytesMut,
    room_bytes: usize,
    body_bytes_max: usize,
    read_bytes_max: usize,
    /// What a slice of the last bytes read keeps in memory.
    allocation_bytes: usize,
}

/// What a round of reading came to.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) bytes: usize,
    /// The peer will send no more, or the connection broke.
    pub(super) end: Option<io::Result<()>>,
}

impl Input {
    /// Nothing is read yet, and the handshake's limit is in force.
    pub(super) fn new() -> Self {
        let read_bytes_max = *READ_BYTES_MAX.start();
        let body_bytes_max = HANDSHAKE_BODY_BYTES_MAX;
        let bytes = BytesMut::new();
        Self { bytes, room_bytes: ROOM_BYTES_MIN, body_bytes_max, read_bytes_max, allocation_bytes: 0 }
    }

    /// From now on bodies of up to `body_bytes_max` may come.
    pub(super) fn set_limit(&mut self, body_bytes_max: usize) {
        self.body_bytes_max = body_bytes_max;
        self.read_bytes_max = body_bytes_max.clamp(*READ_BYTES_MAX.start(), *READ_BYTES_MAX.end());
    }

    /// What a payload sliced from the bytes read last keeps in memory.
    pub(super) const fn pinned_bytes(&self) -> usize {
        self.allocation_bytes
    }

    /// Reads what is there, up to a limit: an emergency among it overtakes the rest.
    pub(super) fn read_from(&mut self, socket: &TcpStream) -> Read {
        let mut read = 0;
        while read < self.read_bytes_max {
            let room = self.make_room();
            match self.read_once(socket, room) {
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

    /// One read into `room` bytes. Less than that has emptied the socket, and its readiness is used up: looking again
    /// would cost a call that finds nothing.
    fn read_once(&mut self, socket: &TcpStream, room: usize) -> io::Result<usize> {
        let mut read = Err(io::ErrorKind::WouldBlock.into());
        // The outcome is in `read`; what `try_io` is told decides about the readiness alone.
        let _ = socket.try_io(Interest::READABLE, || {
            read = socket.try_read_buf(&mut self.bytes);
            match read {
                Ok(count) if 0 < count && count < room => Err(io::Error::from(io::ErrorKind::WouldBlock)),
                _ => Ok(()),
            }
        });
        read
    }

    /// Makes room for the next read, and says how much there is.
    ///
    /// Nothing is made for a message whose claimed length is beyond the limit: it will be refused.
    fn make_room(&mut self) -> usize {
        let needed = missing_bytes(&self.bytes);
        let needed = if needed > PREFIX_BYTES + self.body_bytes_max { 0 } else { needed };
        if self.bytes.capacity() - self.bytes.len() < (self.room_bytes / 4).max(1) {
            self.bytes.reserve(self.room_bytes.max(needed));
            self.allocation_bytes = self.bytes.capacity();
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

#[cfg(test)]
mod tests;
