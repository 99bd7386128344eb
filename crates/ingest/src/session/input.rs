//! The bytes read from a connection and not yet decoded.

use std::io;
use std::sync::Arc;

use bytes::BufMut;
use tls::Socket;

use frame::{BufferPool, ReadBuffer};
use wire::framing::{PREFIX_BYTES, missing_bytes};

/// Most bytes read before they are decoded, unless a message is longer.
pub const READ_BYTES: usize = 64 << 10;
/// A session lets one read take at least this many bytes, even if the windows have less room.
pub(super) const READ_BYTES_MIN: usize = 4 << 10;
/// Longest first part of an incomplete message, in bytes, that is copied into the next buffer of the pool. A longer
/// first part stays in the buffer that it was read into, and the next read appends to it.
pub(crate) const MOVED_BYTES_MAX: usize = (16 << 10) + PREFIX_BYTES;

/// Reads into buffers of the pool, and keeps the first part of an incomplete message.
///
/// A connection that is idle between two messages holds no memory here.
#[derive(Debug)]
pub(super) struct Input {
    /// The pool of the buffers.
    pool: Arc<BufferPool>,
    /// The first part of an incomplete message. May be empty.
    partial: Vec<u8>,
    /// Most bytes of a message body.
    body_bytes_max: usize,
}

/// The result of one read.
#[derive(Debug)]
pub(super) struct Read {
    /// The bytes to decode. They may contain nothing new.
    pub(super) buffer: ReadBuffer,
    /// Bytes that were read.
    pub(super) bytes: usize,
    /// The peer will send no more, or the connection broke.
    pub(super) end: Option<io::Result<()>>,
}

impl Input {
    /// `rest` came behind HELLO. Message bodies have up to `body_bytes_max` bytes.
    pub(super) const fn new(pool: Arc<BufferPool>, rest: Vec<u8>, body_bytes_max: usize) -> Self {
        Self { pool, partial: rest, body_bytes_max }
    }

    /// The pool of the buffers.
    pub(super) const fn pool(&self) -> &Arc<BufferPool> {
        &self.pool
    }

    /// Reads once from the socket: at most `bytes_max` bytes, and at most the free room of the buffer.
    ///
    /// The session hands over all frames of one read together, each lane to its own queue. So an emergency
    /// overtakes the routine frames of the same read.
    pub(super) fn read_from(&mut self, socket: &mut Socket, bytes_max: usize) -> Read {
        let mut buffer = self.buffer();
        let room = (buffer.bytes.capacity() - buffer.bytes.len()).min(bytes_max);
        let (bytes, end) = match socket.try_read_buf(&mut (&mut buffer.bytes).limit(room)) {
            Ok(0) => (0, Some(Ok(()))),
            Ok(count) => (count, None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, None),
            Err(error) => (0, Some(Err(error))),
        };
        Read { buffer, bytes, end }
    }

    /// Keeps the bytes of `buffer` from `end` on, the first part of a message, for the next read.
    pub(super) fn keep(&mut self, buffer: &mut ReadBuffer, end: usize) {
        if end == 0 && buffer.bytes.len() > MOVED_BYTES_MAX {
            std::mem::swap(&mut self.partial, &mut buffer.bytes);
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(&buffer.bytes[end..]);
        }
    }

    /// Returns a buffer that begins with the kept bytes and has room for the rest of the message.
    ///
    /// A message whose claimed length exceeds the limit gets no room, because it will be refused.
    pub(super) fn buffer(&mut self) -> ReadBuffer {
        let mut buffer = if self.partial.len() > MOVED_BYTES_MAX {
            ReadBuffer { bytes: std::mem::take(&mut self.partial), ..ReadBuffer::default() }
        } else {
            let mut buffer = self.pool.take();
            buffer.bytes.extend_from_slice(&self.partial);
            self.partial.clear();
            buffer
        };
        let missing = missing_bytes(&buffer.bytes);
        if missing <= PREFIX_BYTES + self.body_bytes_max {
            buffer.bytes.reserve_exact(missing.max(1));
        }
        buffer
    }

    /// Frees the memory that an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        self.partial.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests;
