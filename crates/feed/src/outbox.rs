//! What a subscriber has not taken yet: whole messages, in order. Messages shared with other subscribers are
//! not copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use tls::Socket;

/// An outbox with this many bytes is full: nothing more is added.
pub const FULL_BYTES: usize = 256 << 10;
/// Most pieces per write.
const SLICES_MAX: usize = 16;

/// Messages on their way to the socket.
#[derive(Default)]
pub struct Outbox {
    /// The messages. The first piece may begin within a message.
    pieces: VecDeque<Bytes>,
    /// Bytes of all pieces.
    bytes: usize,
}

impl Outbox {
    /// Appends whole messages.
    pub fn push(&mut self, messages: Bytes) {
        if !messages.is_empty() {
            self.bytes += messages.len();
            self.pieces.push_back(messages);
        }
    }

    /// Returns all bytes that are not written. They may begin within a message.
    pub fn into_rest(self) -> BytesMut {
        let mut rest = BytesMut::with_capacity(self.bytes);
        self.pieces.iter().for_each(|piece| rest.extend_from_slice(piece));
        rest
    }

    /// The bytes that are not written.
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether [`FULL_BYTES`] wait to be written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES
    }

    /// Writes as many bytes as the socket takes, and returns their number.
    pub fn write_to(&mut self, socket: &mut Socket) -> io::Result<usize> {
        let mut written = 0;
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
            }
            let count = slices.len().min(self.pieces.len());
            match socket.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written(count);
                    written += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Removes the first `count` bytes.
    fn written(&mut self, count: usize) {
        self.bytes -= count;
        let mut left = count;
        while let Some(piece) = self.pieces.front_mut() {
            if left < piece.len() {
                piece.advance(left);
                return;
            }
            left -= piece.len();
            self.pieces.pop_front();
        }
    }
}
